//! Claim: the GPU prunes as the CPU does. Given the same scores it removes the same weights, ties
//! included; given the same weights and inputs, sums agree to rounding, masks differ only among scores
//! that rounding cannot tell apart, and updated weights agree where the masks do.

#[path = "../gpu/mod.rs"]
mod gpu;
mod compensations;
mod learning;
mod orders;
mod swaps;
mod variables;
mod vocabulary;
mod with_goal;

use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::Gpu;
use zprune::backend::gpu::adapter::Tier;
use zprune::backend::moments::Needs;
use zprune::backend::{Backend, Compute};
use zprune::calibrate::gradients::{LayerGradients, Loss};
use zprune::calibrate::statistics::LayerStatistics;
use zprune::linalg::{Provider, SolveFailure};
use zprune::prune::criterion::{CRITERIA, Criterion, WithGradients};
use zprune::prune::formula::{Binary, Formula};
use zprune::prune::layer::run_steps;
use zprune::prune::mask::{Mask, select};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::score::{Quantity, Score, resolve};
use zprune::prune::solver::SOLVERS;
use zprune::prune::values::{Operand, Over, Values};
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

/// Rows and columns: no multiple of a word, a workgroup or a column block; one that is; and an odd number of columns.
const SIZES: [(usize, usize); 4] = [(37, 200), (130, 24), (64, 256), (21, 77)];

fn targets(columns: usize) -> Vec<Target> {
    let mut targets = Vec::new();
    for group in [Group::Matrix, Group::Row, Group::ColumnBlock] {
        for selection in [Selection::Exact, Selection::Reference] {
            for sparsity in [0.001, 0.3, 0.5, 0.97] {
                targets.push(Target {
                    pattern: Pattern::Unstructured { sparsity },
                    group,
                    selection,
                });
            }
        }
    }
    targets.extend([0.3, 0.6].map(|sparsity| Target {
        pattern: Pattern::Unstructured { sparsity },
        group: Group::RowShare,
        selection: Selection::Exact,
    }));
    for (keep, of) in [(2, 4), (4, 8), (1, 3), (3, 24)] {
        if columns.is_multiple_of(of) {
            targets.push(Target {
                pattern: Pattern::NofM { keep, of },
                group: Group::Row,
                selection: Selection::Exact,
            });
        }
    }
    targets
}

fn normal(random: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |_| (0..6).map(|_| random.random::<f32>() - 0.5).sum())
}

fn criterion(name: &str) -> Box<dyn Criterion> {
    let entry = CRITERIA.find(name).expect("registered");
    (entry.item)(&toml::Table::new()).expect("defaults are legal").component
}

fn on_every_tier(test: impl Fn(&Gpu, Tier)) {
    let Some(best) = gpu::best_tier() else { return };
    for tier in [Tier::Base, Tier::Subgroups, Tier::F16, Tier::Cooperative] {
        if tier <= best {
            test(&gpu::open(tier, Compute::F32), tier);
        }
    }
}

#[test]
fn equal_scores_give_equal_masks_ties_included() {
    on_every_tier(|gpu, tier| {
        for (case, levels) in [("distinct", 0), ("ties", 7), ("two values", 2), ("all equal", 1)] {
            for (rows, columns) in SIZES {
                let mut random = ChaCha8Rng::seed_from_u64(3 + levels);
                let scores = match levels {
                    0 => normal(&mut random, rows, columns).mapv(f32::abs),
                    _ => Array2::from_shape_fn((rows, columns), |_| random.random_range(0..levels) as f32 * 0.5),
                };
                let none = gpu.no_statistics();
                let mut weight = gpu.upload_weight(scores.clone()).expect("room");
                let mut piece = gpu.workpiece(&mut weight, StorageType::F32, &none);
                for target in targets(columns) {
                    let place = format!("tier {tier}, {case}, {rows} x {columns}, {target:?}");
                    let want = select(scores.view(), &target).expect("fits");
                    let given = Score::Leaf(Quantity::Given(scores.to_shared().into()));
                    let score = resolve(&given, piece.as_ref()).expect("fits");
                    piece
                        .select(&score, &target)
                        .unwrap_or_else(|error| panic!("{place}: {error}"));
                    let got = piece.finish().expect("computes").mask.unpacked();
                    assert!(got == want, "{place}: {} places differ", different(&got, &want));
                }
            }
        }
    });
}

fn different(a: &Mask, b: &Mask) -> usize {
    a.entries().iter().zip(b.entries()).filter(|(a, b)| a != b).count()
}

#[test]
fn sums_and_counts_agree() {
    on_every_tier(|gpu, tier| {
        for (rows, columns) in [(37, 200), (700, 300)] {
            let mut random = ChaCha8Rng::seed_from_u64(9);
            let mut on_host = normal(&mut random, rows, columns);
            let none = Cpu.no_statistics();
            let mut on_device = gpu.upload_weight(on_host.clone()).expect("room");
            let there = gpu.no_statistics();
            let want = Cpu.workpiece(&mut on_host, StorageType::F32, &none);
            let got = gpu.workpiece(&mut on_device, StorageType::F32, &there);
            let w = || Formula::Leaf(Operand::Weight);
            let formulas = [
                w(),
                w().abs(),
                w().square(),
                w().abs().root().cube() - 0.5 * w().sign(),
                w().inverse().minimum(3.0),
            ];
            let mut wanted: Vec<(Over, Values)> = Vec::new();
            for over in [Over::Row, Over::Column] {
                wanted.extend(formulas.iter().map(|formula| (over, formula.clone().into())));
                for bound in [0.0, 0.1, 0.73, 9.0] {
                    wanted.push((over, w().abs().below(bound).into()));
                }
                // Nine vectors together are more than one kernel has room for.
                for set in 0..3 {
                    let vector = |index: usize| Formula::Leaf(Operand::Column(index));
                    let vectors = (0..3).map(|index| vec![(3 * set + index + 1) as f32; columns]);
                    wanted.push((
                        over,
                        Values {
                            formula: w().abs() * vector(0) + w().square() * vector(1) + vector(2),
                            matrices: Vec::new(),
                            vectors: vectors.collect(),
                        },
                    ));
                }
            }
            let (got, want) = (
                got.sums(&wanted).expect("computes"),
                want.sums(&wanted).expect("computes"),
            );
            for ((over, values), (got, want)) in wanted.iter().zip(got.iter().zip(&want)) {
                let place = format!("tier {tier}, {over:?}, {:?}", values.formula);
                assert_eq!(got.len(), if *over == Over::Row { rows } else { columns }, "{place}");
                assert_eq!(got.len(), want.len(), "{place}");
                // Counts agree exactly, however the bound is rounded.
                let exact = matches!(values.formula, Formula::Binary(Binary::Below, ..));
                let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (got, want) in got.iter().zip(want) {
                    let within = if exact { 0.0 } else { 1e-6 * largest };
                    assert!((got - want).abs() <= within, "{place}: {got}, not {want}");
                }
            }
        }
    });
}

/// Sums of gradients, for criteria that use some.
fn gradients((rows, columns): (usize, usize)) -> [LayerGradients; 2] {
    let sum = normal(&mut ChaCha8Rng::seed_from_u64(31), rows, columns);
    let sums = [sum.clone(), sum.mapv(|g| g * g), sum.mapv(f32::abs)];
    let sums = sums.map(|sum| Some(sum.into_shared()));
    [Loss::Likelihood, Loss::Outputs].map(|loss| LayerGradients::new(loss, sums.clone(), 4))
}

/// One layer pruned by a backend.
fn pruned<B: Workbench>(
    backend: &B,
    (weight, inputs): (&Array2<f32>, &Array2<f32>),
    storage: StorageType,
    (criterion_name, solver): (&str, &str),
    target: &Target,
) -> (Mask, Array2<f32>, usize) {
    let criterion = criterion(criterion_name);
    let solver = (SOLVERS.find(solver).expect("registered").item)(&toml::Table::new())
        .expect("defaults are legal")
        .component;
    let needs = criterion.needs().and(solver.needs()).and(Needs::SQUARES);
    let criterion = WithGradients::new(criterion.as_ref(), &gradients(weight.dim())).expect("all there are");
    let mut moments = backend.moments(inputs.ncols(), needs).expect("room");
    let x = backend.upload(inputs.view()).expect("room");
    backend.accumulate(&mut moments, &x).expect("computes");
    let lengths = [inputs.nrows() as f64 / 4.0; 4];
    backend.accumulate_sums(&mut moments, &x, &lengths).expect("computes");
    let statistics = backend.statistics(&moments, 4, Provider::Faer).expect("finite");
    let mut there = backend.upload_weight(weight.clone()).expect("room");
    let mut piece = backend.workpiece(&mut there, storage, &statistics);
    let place = format!("{criterion_name}, {target:?}");
    let steps = Steps::new(&criterion, solver.as_ref());
    run_steps(piece.as_mut(), steps, target).unwrap_or_else(|error| panic!("{place}: {error}"));
    let finished = piece.finish().expect("computes");
    drop(piece);
    finished
        .mask
        .check(target)
        .unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(finished.fault.is_none(), "{place}: {:?}", finished.fault);
    let weight = backend.download_weight(&there).expect("there");
    let zeros = weight.iter().filter(|weight| **weight == 0.0).count();
    assert_eq!(zeros, finished.zeros, "{place}");
    (finished.mask.unpacked(), weight, zeros)
}

#[test]
fn methods_prune_as_on_the_cpu() {
    on_every_tier(|gpu, tier| {
        let mut random = ChaCha8Rng::seed_from_u64(12);
        for (rows, columns) in [(48, 264), (96, 120)] {
            let weight = normal(&mut random, rows, columns);
            let mut inputs = normal(&mut random, 600, columns);
            // Correlated features, one loud and one that is never active.
            for column in 1..columns {
                let before = inputs.column(column - 1).to_owned();
                inputs.column_mut(column).scaled_add(0.6, &before);
            }
            inputs.column_mut(5).mapv_inplace(|x| 20.0 * x);
            inputs.column_mut(17).fill(0.0);
            for method in [
                ("magnitude", "one-shot"),
                ("wanda", "one-shot"),
                ("ria", "one-shot"),
                ("z-pruner", "one-shot"),
                ("wanda-variant", "one-shot"),
                ("stade", "one-shot"),
                ("nowag", "one-shot"),
                ("d2prune", "obs"),
                ("gblm", "obs"),
                ("pruner-zero", "one-shot"),
                ("obs", "one-shot"),
                ("wanda", "obs"),
                ("obs", "obs"),
            ] {
                for target in targets(columns) {
                    for storage in [StorageType::F32, StorageType::F16, StorageType::BF16] {
                        if storage != StorageType::F32 && target.pattern.sparsity() != 0.5 {
                            continue;
                        }
                        let case = format!("tier {tier}, {method:?}, {rows} x {columns}, {storage:?}, {target:?}");
                        let data = (&weight, &inputs);
                        let (want, kept, _) = pruned(&Cpu, data, storage, method, &target);
                        let (got, there, _) = pruned(gpu, data, storage, method, &target);
                        // A flipped place changes what an update does to the rest of its row.
                        let flips = different(&got, &want);
                        assert!(flips * 500 <= rows * columns, "{case}: {flips} places differ");
                        let mut compared = 0;
                        for row in 0..rows {
                            if got.entries().row(row) != want.entries().row(row) {
                                continue;
                            }
                            for (got, want) in there.row(row).iter().zip(kept.row(row)) {
                                let step = match storage {
                                    StorageType::F32 => 2e-5,
                                    StorageType::F16 => 1e-3,
                                    StorageType::BF16 => 8e-3,
                                };
                                let close = (got - want).abs() <= step * want.abs().max(0.5);
                                assert!(close, "{case}: weight {got}, not {want}");
                                compared += 1;
                            }
                        }
                        assert!(
                            compared * 2 > rows * columns,
                            "{case}: only {compared} weights compared"
                        );
                    }
                }
            }
        }
    });
}

/// `||X (W - V)^T||^2 / ||X W^T||^2`.
fn relative_error(weight: &Array2<f32>, new: &Array2<f32>, inputs: &Array2<f32>) -> f64 {
    let x = inputs.mapv(f64::from);
    let energy = |weight: Array2<f64>| x.dot(&weight.t()).mapv(|value| value * value).sum();
    energy((weight - new).mapv(f64::from)) / energy(weight.mapv(f64::from))
}

/// Solvers that iterate: masks may differ where values are as good as equal, the error hardly. They take thousands of
/// operations, which are held against the CPU's on every tier one by one; here the best tier must do.
#[test]
fn iterative_solvers_reach_the_same_error_as_on_the_cpu() {
    let Some(tier) = gpu::best_tier() else { return };
    let gpu = gpu::open(tier, Compute::F32);
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let (rows, columns) = (24, 136);
    let weight = normal(&mut random, rows, columns);
    let mut inputs = normal(&mut random, 400, columns);
    for column in 1..columns {
        let before = inputs.column(column - 1).to_owned();
        inputs.column_mut(column).scaled_add(0.6, &before);
    }
    inputs.column_mut(5).mapv_inplace(|x| 20.0 * x);
    inputs.column_mut(17).fill(0.0);
    // How far the error may be off, and how much of the masks may differ: ALPS chooses its path by small differences.
    for (solver, within, differing) in [
        ("least-squares", 1e-3, 0.002),
        ("row-scale", 1e-3, 0.002),
        ("admm", 1e-3, 0.005),
        ("fista", 1e-3, 0.005),
        ("alps", 1e-2, 0.03),
    ] {
        for (pattern, group, storage) in [
            (Pattern::Unstructured { sparsity: 0.6 }, Group::Matrix, StorageType::F32),
            (Pattern::NofM { keep: 2, of: 4 }, Group::Row, StorageType::BF16),
        ] {
            let target = Target {
                pattern,
                group,
                selection: Selection::Exact,
            };
            let case = format!("tier {tier}, {solver}, {storage:?}, {target:?}");
            let (data, method) = ((&weight, &inputs), ("wanda", solver));
            let (want, on_host, _) = pruned(&Cpu, data, storage, method, &target);
            let (got, on_device, _) = pruned(&gpu, data, storage, method, &target);
            let flips = different(&got, &want) as f64 / (rows * columns) as f64;
            assert!(flips <= differing, "{case}: {flips:.4} of the mask differs");
            let want = relative_error(&weight, &on_host, &inputs);
            let got = relative_error(&weight, &on_device, &inputs);
            println!("{case}: {flips:.4} of the mask, error {:+.1e}", got / want - 1.0);
            assert!(
                (got / want - 1.0).abs() <= within,
                "{case}: error {got:e}, not {want:e}"
            );
        }
    }
}

#[test]
fn inverse_factors_agree() {
    on_every_tier(|gpu, tier| {
        for inputs in [1, 4, 31, 64, 65, 130, 264] {
            let mut random = ChaCha8Rng::seed_from_u64(inputs as u64);
            let mut x = normal(&mut random, 3 * inputs, inputs);
            for column in 1..inputs {
                let before = x.column(column - 1).to_owned();
                x.column_mut(column).scaled_add(0.6, &before);
            }
            x.column_mut(inputs / 2).fill(0.0);
            let mut want = Cpu.moments(inputs, Needs::GRAM).expect("room");
            Cpu.accumulate(&mut want, &x).expect("computes");
            let want = LayerStatistics::new(&want, 2, Provider::Faer);
            let want = want.inverse_factor().expect("positive definite");
            let mut got = gpu.moments(inputs, Needs::GRAM).expect("room");
            let there = gpu.upload(x.view()).expect("room");
            gpu.accumulate(&mut got, &there).expect("computes");
            let got = gpu.statistics(&got, 2, Provider::Faer).expect("finite");
            let mut weight = gpu.upload_weight(Array2::zeros((1, inputs))).expect("room");
            let piece = gpu.workpiece(&mut weight, StorageType::F32, &got);
            let got = piece.pivots().expect("positive definite");
            for (j, got) in got.into_iter().enumerate() {
                let place = format!("tier {tier}, {inputs} inputs, feature {j}");
                match got {
                    None => assert!(want.dead[j], "{place}"),
                    Some(got) => {
                        let want = want.upper[[j, j]];
                        assert!((got / want - 1.0).abs() < 2e-5, "{place}: {got}, not {want}");
                    }
                }
            }
        }
    });
}

#[test]
fn an_indefinite_matrix_is_refused_with_its_pivot() {
    on_every_tier(|gpu, tier| {
        for (inputs, place) in [(6, 3), (100, 0), (150, 149), (150, 70)] {
            let mut gram = Array2::<f32>::eye(inputs);
            gram[[place, place]] = -1.0;
            let there = gpu.hardware().allocate((inputs * inputs * 4) as u64).expect("room");
            let bytes: Vec<u8> = gram.iter().flat_map(|value| value.to_le_bytes()).collect();
            gpu.hardware().upload(&there, &bytes).expect("there");
            let failure = gpu.inverse_factor(&there, inputs, 1.0, 0.01).expect("computes").err();
            let want = SolveFailure::NotPositiveDefinite { pivot: place };
            assert_eq!(failure, Some(want), "tier {tier}, {inputs} inputs");
        }
    });
}

#[test]
fn an_unusable_score_is_refused_with_its_place() {
    on_every_tier(|gpu, _| {
        let mut weight = Array2::from_elem((3, 40), 1.0f32);
        weight[[1, 33]] = f32::INFINITY;
        let none = gpu.no_statistics();
        let mut there = gpu.upload_weight(weight.clone()).expect("room");
        let mut piece = gpu.workpiece(&mut there, StorageType::F32, &none);
        let score = resolve(&criterion("magnitude").score(), piece.as_ref()).expect("no statistics needed");
        let target = targets(40)[1];
        // Where it is told is the device's choice, but not later than at the end.
        let selected = piece.select(&score, &target);
        let error = selected.and_then(|()| piece.finish()).expect_err("infinite");
        let said = error.to_string();
        assert!(said.starts_with("the score at row 1, column 33 is inf; "), "{said}");
    });
}

#[test]
fn negative_scores_are_refused_in_every_group() {
    // The selection counts keys in bins, and a key with a sign would be outside of them.
    let weight = normal(&mut ChaCha8Rng::seed_from_u64(33), 37, 200);
    let first = weight
        .iter()
        .position(|weight| *weight < 0.0)
        .expect("a negative weight");
    let says = format!("the score at row {}, column {} is ", first / 200, first % 200);
    for target in targets(200) {
        let error = ranked(&Cpu, &weight, &zprune::prune::score::weight(), &target).expect_err("negative");
        assert!(
            error.starts_with(&says) && error.contains(" is -"),
            "CPU, {target:?}: {error}"
        );
    }
    on_every_tier(|gpu, tier| {
        for target in targets(200) {
            let error = ranked(gpu, &weight, &zprune::prune::score::weight(), &target).expect_err("negative");
            // The weight may have been removed when the host looks at it.
            let told = error.contains(" is -") || error.contains("is negative or not finite");
            assert!(error.starts_with(&says) && told, "tier {tier}, {target:?}: {error}");
        }
    });
    // All scores the same and none of them usable.
    let equal = || zprune::prune::score::weight() * 0.0 - 1.0;
    let target = targets(200)[1];
    let error = ranked(&Cpu, &weight, &equal(), &target).expect_err("negative");
    assert!(error.contains("is -1; "), "{error}");
    on_every_tier(|gpu, _| assert_eq!(ranked(gpu, &weight, &equal(), &target), Err(error.clone())));
}

#[test]
fn a_choice_by_an_unusable_score_is_refused_at_the_end_at_the_latest() {
    let mut weight = Array2::from_elem((3, 40), 1.0f32);
    weight[[1, 33]] = -2.0;
    for target in targets(40) {
        assert!(chosen_by_weight(&Cpu, &weight, &target).is_err(), "CPU, {target:?}");
    }
    on_every_tier(|gpu, tier| {
        for target in targets(40) {
            let error = chosen_by_weight(gpu, &weight, &target)
                .expect_err("negative")
                .to_string();
            let says = "the score at row 1, column 33 is ";
            assert!(error.starts_with(says), "tier {tier}, {target:?}: {error}");
        }
        for target in targets(40) {
            chosen_by_weight(gpu, &Array2::ones((3, 40)), &target).expect("all scores are usable");
        }
    });
}

/// Keeps what a target chooses with the weights as scores, and ends the layer.
fn chosen_by_weight<B: Workbench>(backend: &B, weight: &Array2<f32>, target: &Target) -> zprune::error::Result<()> {
    let none = backend.no_statistics();
    let mut there = backend.upload_weight(weight.clone()).expect("room");
    let mut piece = backend.workpiece(&mut there, StorageType::F32, &none);
    let kept = piece.choose(&Values::from(Formula::Leaf(Operand::Weight)), target)?;
    piece.keep(&kept)?;
    piece.remove()?;
    piece.finish().map(drop)
}

/// Weights in a workbench's memory, with a formula over them and its group.
fn ranked<B: Workbench>(backend: &B, weight: &Array2<f32>, score: &Score, target: &Target) -> Result<(), String> {
    let none = backend.no_statistics();
    let mut there = backend.upload_weight(weight.clone()).expect("room");
    let mut piece = backend.workpiece(&mut there, StorageType::F32, &none);
    let values = resolve(score, piece.as_ref()).expect("no statistics needed");
    let checked = piece.check_ranking(&values, target, "the formula `f`");
    let selected = checked.and_then(|()| piece.select(&values, target));
    let removed = selected.and_then(|()| piece.remove());
    let concluding = removed.and_then(|()| piece.conclude(target));
    drop(piece);
    let found = concluding.and_then(|concluding| backend.concluded(vec![(concluding, &there)]));
    let found = found.and_then(|found| found.into_iter().collect::<Result<Vec<_>, _>>());
    found.map(drop).map_err(|error| error.to_string())
}

#[test]
fn scores_that_rank_nothing_are_refused() {
    use zprune::prune::score::{row_sums, weight};
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let ordinary = normal(&mut random, 37, 200);
    let zero = Array2::zeros(ordinary.dim());
    let mut last = zero.clone();
    last[[36, 199]] = 0.5;
    let given = |values: Array2<f32>| Score::Leaf(Quantity::Given(values.into_shared().into()));
    let ones = || Array2::from_elem(ordinary.dim(), 1.0);
    let by_row = || row_sums(weight().abs()) + weight().abs().minimum(1e-30);
    // The score, the weights, whether all weights have the same one, and whether those of a row have.
    let cases = [
        ("hidden", weight().abs().maximum(1e9), &ordinary, true, true),
        ("hidden by a sum", weight().abs() + 1e9, &ordinary, true, true),
        ("too small", weight().abs() * 1e-60, &ordinary, true, true),
        ("given, all 1", given(ones()), &ordinary, true, true),
        ("one for each row", by_row(), &ordinary, false, true),
        ("one differs, of the last weight", weight().abs(), &last, false, false),
        ("ordinary", weight().abs(), &ordinary, false, false),
        (
            "given, all 0, as gradients may be",
            weight() * given(ones() * 0.0),
            &ordinary,
            false,
            false,
        ),
        ("a layer of zeros", weight().abs().maximum(1e9), &zero, false, false),
    ];
    for (case, score, weights, all, rows) in &cases {
        for target in targets(200) {
            let by_row = !matches!(
                (target.pattern, target.group),
                (Pattern::Unstructured { .. }, Group::Matrix | Group::ColumnBlock)
            );
            let wanted = if by_row { *rows } else { *all };
            // Of no weights or all, none is chosen.
            let removes = match target.pattern {
                Pattern::Unstructured { sparsity } if by_row => sparsity * 200.0 >= 1.0,
                _ => true,
            };
            let check = |told: Result<(), String>, place: &str| match told {
                Err(error) => {
                    assert!(wanted && removes, "{place}: {error}");
                    assert!(
                        error.contains("the formula `f` cannot rank weights: "),
                        "{place}: {error}"
                    );
                    let says = match (target.pattern, target.group) {
                        (Pattern::NofM { .. }, _) => "neighbouring inputs of an output",
                        (_, Group::Matrix) => "all weights of this layer have the same score",
                        (_, Group::ColumnBlock) => "128 neighbouring inputs of all outputs",
                        _ => "the inputs of one output",
                    };
                    assert!(error.contains(says), "{place}: {error}");
                }
                Ok(()) => assert!(!(wanted && removes), "{place}: nothing was said"),
            };
            check(
                ranked(&Cpu, weights, score, &target),
                &format!("CPU, {case}, {target:?}"),
            );
        }
    }
    on_every_tier(|gpu, tier| {
        for (case, score, weights, ..) in &cases {
            for target in targets(200) {
                let place = format!("tier {tier}, {case}, {target:?}");
                assert_eq!(
                    ranked(gpu, weights, score, &target),
                    ranked(&Cpu, weights, score, &target),
                    "{place}"
                );
            }
        }
    });
}

/// Prunes weights with a formula, given a layer's inputs.
fn with_inputs<B: Workbench>(backend: &B, formula: &str, inputs: f32, needs: Needs) -> Result<(), String> {
    let table = toml::Table::from_iter([("expression".to_string(), formula.into())]);
    let criterion = CRITERIA.build("expression", &table).expect("a formula").component;
    let (solver, columns) = (
        SOLVERS
            .build("one-shot", &toml::Table::new())
            .expect("no parameters")
            .component,
        24,
    );
    let mut moments = backend.moments(columns, needs).expect("room");
    let x = backend
        .upload(Array2::from_elem((4, columns), inputs).view())
        .expect("room");
    if needs.anything() {
        backend.accumulate(&mut moments, &x).expect("computes");
    }
    let statistics = backend.statistics(&moments, 1, Provider::Faer).expect("finite");
    let weight = normal(&mut ChaCha8Rng::seed_from_u64(32), 6, columns);
    let mut there = backend.upload_weight(weight).expect("room");
    let mut piece = backend.workpiece(&mut there, StorageType::F32, &statistics);
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: Group::Row,
        selection: Selection::Exact,
    };
    let taken = run_steps(piece.as_mut(), Steps::new(criterion.as_ref(), solver.as_ref()), &target);
    let finished = taken.and_then(|_| piece.finish());
    finished.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_layer_without_inputs_is_no_error_of_a_formula_that_uses_them() {
    let cases = [
        ("abs(w) * sqrt(x2)", 0.0, Needs::SQUARES, true),
        ("abs(w) * sqrt(x2)", 1.0, Needs::SQUARES, true),
        ("max(abs(w), 1e9) + x2", 1.0, Needs::SQUARES, false),
        // What was not gathered says nothing of the inputs.
        ("max(abs(w), 1e9)", 1.0, Needs::NOTHING, false),
        ("max(abs(w), 1e9)", 0.0, Needs::SQUARES, false),
    ];
    for (formula, inputs, needs, fine) in cases {
        let place = format!("CPU, {formula}, inputs {inputs}");
        assert_eq!(with_inputs(&Cpu, formula, inputs, needs).is_ok(), fine, "{place}");
    }
    on_every_tier(|gpu, tier| {
        for (formula, inputs, needs, fine) in cases {
            let place = format!("tier {tier}, {formula}, inputs {inputs}");
            assert_eq!(with_inputs(gpu, formula, inputs, needs).is_ok(), fine, "{place}");
        }
    });
}
