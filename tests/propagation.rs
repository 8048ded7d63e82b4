//! Claims about whose outputs a block's calibration statistics come from.

#[path = "gpu/mod.rs"]
mod gpu;

use ndarray::{Array1, Array2, Axis, s};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::backend::{Backend, Compute};
use zprune::calibrate::passes::dense_moments;
use zprune::calibrate::{Goal, Stage};
use zprune::cell::{Prepared, Runner, Sharing, Treatment};
use zprune::data::windows::TokenWindows;
use zprune::eval::perplexity::PerplexityScorer;
use zprune::linalg::Provider;
use zprune::memory::Room;
use zprune::model::checkpoint::{Checkpoint, LinearWeights};
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends, Hidden};
use zprune::progress::Silent;
use zprune::prune::compensation::Bias;
use zprune::prune::criterion::CRITERIA;
use zprune::prune::model::{Calibration, PrunedBlock, first_statistics, prune_model};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::{SOLVERS, Solver};
use zprune::prune::values::Values;
use zprune::prune::workbench::{Workbench, Workpiece};
use zprune::spec::{Tap, TapPlace};

const HALF: Pattern = Pattern::Unstructured { sparsity: 0.5 };

fn checkpoint() -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/llama_gqa_tied");
    Checkpoint::open(&folder, read_spec(&folder).expect("supported")).expect("a golden checkpoint")
}

fn windows() -> TokenWindows {
    TokenWindows::new((0..96).map(|t| t * 37 % 89).collect(), 24).expect("four windows")
}

fn method(criterion: &str, solver: &str) -> Recipe {
    let none = toml::Table::new();
    let criterion = (CRITERIA.find(criterion).expect("registered").item)(&none)
        .expect("defaults")
        .component;
    Recipe {
        group: Group::Row,
        solver: (SOLVERS.find(solver).expect("registered").item)(&none)
            .expect("defaults")
            .component,
        allocator: (zprune::prune::allocator::ALLOCATORS
            .find("uniform")
            .expect("registered")
            .item)(&none)
        .expect("defaults")
        .component,
        criterion,
        transform: None,
        permutation: None,
        refiner: None,
        compensation: None,
        selection: Selection::Exact,
        provider: Default::default(),
        stage: Default::default(),
        goal: Default::default(),
    }
}

/// More tokens than one batch holds.
fn many_windows() -> TokenWindows {
    let ids = (0..128 * 72u32).map(|t| (t * 7 + t / 11) % 89).collect();
    TokenWindows::new(ids, 128).expect("whole windows")
}

fn pruned(checkpoint: &Checkpoint, method: &Recipe, calibration: &Calibration<Cpu>) -> Vec<Vec<LinearWeights>> {
    let ends = Ends::upload(&Cpu, checkpoint).expect("room");
    let mut blocks = Vec::new();
    prune_model(&Cpu, checkpoint, &ends, method, HALF, calibration, |pruned| {
        blocks.push(pruned.weights().collect::<Result<_, _>>()?);
        Ok(())
    })
    .expect("prunable");
    blocks
}

fn equal(a: &[LinearWeights], b: &[LinearWeights]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.weight == b.weight)
}

#[test]
fn a_cell_with_dense_statistics_does_not_see_what_other_cells_reproduce() {
    let checkpoint = checkpoint();
    let mut model = Prepared::new(&checkpoint);
    model.calibration = [(0, windows())].into();
    let recipe = Recipe {
        stage: Stage::Dense,
        ..method("wanda", "least-squares")
    };
    let other = Recipe {
        stage: Stage::Separate,
        goal: Goal::Dense,
        ..method("wanda", "least-squares")
    };
    assert!(
        other.needs().cross,
        "the claim needs a cell that reproduces the dense model's outputs"
    );
    let weights = |needs: Needs| {
        let sharing = Sharing {
            cells_per_seed: 2,
            needs,
            ..Sharing::NONE
        };
        let treatment = Treatment {
            recipe: &recipe,
            pattern: HALF,
            seed: Some(0),
            file: None,
        };
        let mut runner = Runner::new(&Cpu, &model, sharing).expect("room");
        let mut blocks: Vec<Vec<LinearWeights>> = Vec::new();
        let findings = runner.run(Some(treatment), &Silent, |pruned| {
            blocks.push(pruned.weights().collect::<Result<_, _>>()?);
            Ok(())
        });
        findings.expect("prunable");
        blocks
    };
    let (alone, beside) = (weights(recipe.needs()), weights(recipe.needs().and(other.needs())));
    assert!(alone.len() > 1 && alone.iter().zip(&beside).all(|(a, b)| equal(a, b)));
}

#[test]
fn dense_and_block_propagation_agree_on_the_first_block_and_differ_later() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    for (criterion, solver) in [("wanda", "one-shot"), ("obs", "obs")] {
        let method = method(criterion, solver);
        let moments = dense_moments(&Cpu, &checkpoint, &ends, &windows, method.needs()).expect("finite");
        let shared = Calibration::Dense {
            moments: &moments,
            sequences: windows.count(),
        };
        let dense = pruned(&checkpoint, &method, &shared);
        let block = pruned(&checkpoint, &method, &Calibration::Windows(&windows));
        assert!(dense.len() > 1, "the claim needs a second block");
        assert!(
            equal(&dense[0], &block[0]),
            "{criterion}: block 0 sees the same inputs either way"
        );
        assert!(
            !equal(&dense[1], &block[1]),
            "{criterion}: block 1 sees pruned inputs only in one of them"
        );
    }
}

#[test]
fn one_dense_pass_serves_methods_that_need_less_than_it_holds() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let wanda = method("wanda", "one-shot");
    let result = |needs| {
        let moments = dense_moments(&Cpu, &checkpoint, &ends, &windows, needs).expect("finite");
        let shared = Calibration::Dense {
            moments: &moments,
            sequences: windows.count(),
        };
        pruned(&checkpoint, &wanda, &shared)
    };
    let alone = result(wanda.needs());
    let beside_sparsegpt = result(wanda.needs().and(method("obs", "obs").needs()));
    assert!(alone.iter().zip(&beside_sparsegpt).all(|(a, b)| equal(a, b)));
}

#[test]
fn statistics_of_block_0_made_for_all_methods_change_no_weight_of_any_block() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let methods = [
        method("wanda", "one-shot"),
        method("ria", "one-shot"),
        method("obs", "obs"),
    ];
    let needs = methods
        .iter()
        .fold(Needs::NOTHING, |needs, method| needs.and(method.needs()));
    let first = first_statistics(&Cpu, &checkpoint, &ends, &windows, needs, Provider::Faer.into()).expect("finite");
    for method in &methods {
        let shared = Calibration::Continued {
            windows: &windows,
            first: &first,
        };
        // Twice, since the first cell leaves the factors it made.
        for _ in 0..2 {
            let found = pruned(&checkpoint, method, &shared);
            let alone = pruned(&checkpoint, method, &Calibration::Windows(&windows));
            assert!(found.iter().zip(&alone).all(|(a, b)| equal(a, b)));
        }
    }
}

#[test]
fn moments_are_the_same_bits_whatever_else_is_accumulated() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let of = |needs| dense_moments(&Cpu, &checkpoint, &ends, &windows, needs).expect("finite");
    let (squares, all) = (of(Needs::SQUARES), of(Needs::GRAM));
    assert_eq!(squares.len(), checkpoint.spec().blocks);
    for (block, (squares, all)) in squares.iter().zip(&all).enumerate() {
        for ((tap, squares), (_, all)) in squares.taps().zip(all.taps()) {
            assert_eq!(squares.squares, all.squares, "block {block}, {tap:?}");
            assert!(squares.squares.iter().any(|sum| *sum > 0.0));
        }
    }
}

#[test]
fn a_layers_output_error_is_what_its_formula_says() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let spec = checkpoint.spec();
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let mut inputs = BTreeMap::new();
    let hidden = Hidden::embed(&Cpu, spec, &ends, &windows).expect("room");
    let block = Block::load(&Cpu, &checkpoint, 0).expect("a good checkpoint");
    let keep = |tap, x: &Array2<f32>, _: Option<&Array2<f32>>| {
        // A sequence is shorter than a sample, so all of the first one counts.
        inputs.insert(tap, x.slice(s![..windows.length(), ..]).mapv(f64::from));
        Ok(())
    };
    hidden
        .observe(
            &Cpu,
            spec,
            &block,
            None,
            spec.block(0).tap(TapPlace::MlpMiddle).expect("it has an MLP"),
            keep,
        )
        .expect("computes");
    for (criterion, solver) in [("wanda", "one-shot"), ("obs", "obs")] {
        let method = method(criterion, solver);
        let mut after = Vec::new();
        let calibration = Calibration::Windows(&windows);
        let take = |pruned: PrunedBlock<Cpu>| {
            if pruned.index == 0 {
                after = pruned.weights().collect::<Result<Vec<_>, _>>()?;
            }
            Ok(())
        };
        let (records, _) = prune_model(&Cpu, &checkpoint, &ends, &method, HALF, &calibration, take).expect("prunable");
        for ((linear, after), record) in spec.block(0).linears.iter().zip(&after).zip(&records) {
            let before = checkpoint.linear(0, linear).expect("there").weight.mapv(f64::from);
            let x = &inputs[&linear.tap()];
            let square = |weight: &Array2<f64>| x.dot(&weight.t()).iter().map(|y| y * y).sum::<f64>();
            let want = square(&(&before - &after.weight.mapv(f64::from))) / square(&before);
            let found = record.output_error.expect("there was calibration");
            assert!(
                (found / want - 1.0).abs() < 1e-4,
                "{}: {found}, not {want}",
                record.tensor
            );
            assert!(want > 1e-3 && want < 1.0, "{}: {want}", record.tensor);
        }
    }
}

#[test]
fn a_method_that_looks_at_weights_only_needs_no_calibration_and_reports_no_output_error() {
    let checkpoint = checkpoint();
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let magnitude = method("magnitude", "one-shot");
    assert!(!magnitude.needs().anything());
    let nothing = Calibration::Nothing;
    let (records, _) = prune_model(&Cpu, &checkpoint, &ends, &magnitude, HALF, &nothing, |_| Ok(())).expect("prunable");
    assert!(!records.is_empty() && records.iter().all(|record| record.output_error.is_none()));
}

/// The weights of every block after pruning, and the means of the windows' log-likelihoods.
fn pruned_and_scored<B: Workbench>(
    backend: &B,
    checkpoint: &Checkpoint,
    windows: &TokenWindows,
    room: Option<Room>,
) -> (Vec<Vec<LinearWeights>>, Vec<f64>) {
    let ends = Ends::upload(backend, checkpoint).expect("room");
    let ends = match room {
        Some(room) => ends.within(room),
        None => ends,
    };
    let mut scorer = PerplexityScorer::new(backend, checkpoint.spec(), &ends, windows).expect("room");
    let mut weights = Vec::new();
    let (method, calibration) = (method("obs", "obs"), Calibration::Windows(windows));
    prune_model(backend, checkpoint, &ends, &method, HALF, &calibration, |pruned| {
        weights.push(pruned.weights().collect::<Result<Vec<_>, _>>()?);
        scorer.advance(backend, checkpoint.spec(), pruned.block)
    })
    .expect("prunable");
    let means = scorer.finish(backend, &ends, |_| ()).expect("finite");
    (weights, means)
}

#[test]
fn activations_that_a_gpu_has_no_memory_for_change_no_bit_in_a_scratch_file() {
    let Some(tier) = gpu::best_tier() else { return };
    let backend = gpu::open(tier, Compute::F32);
    let (checkpoint, windows) = (checkpoint(), many_windows());
    let (weights, means) = pruned_and_scored(&backend, &checkpoint, &windows, None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let room = Room::new(u64::MAX, folder.path());
    match backend.free_bytes() {
        Some(free) => room.leave_on_device(free + 1),
        None => println!("{}: the device does not tell its memory", backend.name()),
    }
    let (spilled_weights, spilled_means) = pruned_and_scored(&backend, &checkpoint, &windows, Some(room.clone()));
    assert_eq!(spilled_means, means);
    assert!(weights.iter().zip(&spilled_weights).all(|(a, b)| equal(a, b)));
    assert_eq!(room.spilled() > 0, backend.free_bytes().is_some());
}

#[test]
fn activations_in_a_scratch_file_change_no_bit() {
    let (checkpoint, windows) = (checkpoint(), many_windows());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (weights, means) = pruned_and_scored(&Cpu, &checkpoint, &windows, None);
    // Nothing fits; one batch of the first stream to ask does.
    let batch = 4 * 4096 * checkpoint.spec().width as u64;
    for bytes in [0, batch] {
        let room = Room::new(bytes, folder.path());
        let (spilled_weights, spilled_means) = pruned_and_scored(&Cpu, &checkpoint, &windows, Some(room.clone()));
        assert_eq!(spilled_means, means);
        assert!(weights.iter().zip(&spilled_weights).all(|(a, b)| equal(a, b)));
        assert!(room.spilled() > batch, "{} bytes", room.spilled());
        assert!(room.reserve(bytes).is_some(), "all room was given back");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    }
}

/// The ids that `tools/make_golden_staged.py` makes.
fn made_windows(first: u64) -> TokenWindows {
    let id = |t: u64| ((t * 7919 + (t / 13) * 104_729) % 1999 + 3) as u32;
    TokenWindows::new((first..first + 32 * 128).map(id).collect(), 128).expect("whole windows")
}

#[test]
fn staged_sparsegpt_is_that_of_pytorch() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(root.join("tests/golden/staged/sparsegpt.safetensors")).expect("readable");
    let golden = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let folder = root.join("models/tiny-llama");
    let checkpoint = Checkpoint::open(&folder, read_spec(&folder).expect("supported")).expect("a model");
    let spec = checkpoint.spec();
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let mut method = method("obs", "obs");
    method.group = Group::ColumnBlock;
    let (windows, held) = (made_windows(0), made_windows(1 << 20));
    let run = |calibration: &Calibration<Cpu>| {
        let mut scorer = PerplexityScorer::new(&Cpu, spec, &ends, &held).expect("room");
        let mut blocks = Vec::new();
        prune_model(&Cpu, &checkpoint, &ends, &method, HALF, calibration, |pruned| {
            blocks.push(pruned.weights().collect::<Result<Vec<_>, _>>()?);
            scorer.advance(&Cpu, spec, pruned.block)
        })
        .expect("prunable");
        let means = scorer.finish(&Cpu, &ends, |_| ()).expect("finite");
        (blocks, means.iter().sum::<f64>() / means.len() as f64)
    };
    let (blocks, loss) = run(&Calibration::Staged(&windows));
    let (mut compared, mut rows_compared, mut worst) = (0, 0, 0.0f32);
    for linear in blocks.iter().take(2).flatten() {
        let name = linear
            .name
            .trim_start_matches("model.layers.")
            .trim_end_matches(".weight");
        let removed = golden
            .tensor(&format!("{name}.removed"))
            .expect("a layer of the golden file");
        let (rows, columns) = linear.weight.dim();
        let bytes_a_row = columns.div_ceil(8);
        let same = |((row, column), weight): ((usize, usize), &f32)| {
            let bit = removed.data()[row * bytes_a_row + column / 8] >> (column % 8) & 1;
            (*weight == 0.0) == (bit == 1)
        };
        let agreeing = linear.weight.indexed_iter().filter(|entry| same(*entry)).count();
        let share = agreeing as f64 / (rows * columns) as f64;
        // Scores closer to each other than single precision tells apart may be ordered either way, and every such place
        // changes what comes after it a little.
        let least = if name.starts_with("0.") { 0.9999 } else { 0.99 };
        assert!(share > least, "{name}: the masks agree in {share}");
        // A flipped place changes what the update does to the rest of its row.
        let want = golden
            .tensor(&format!("{name}.rows"))
            .expect("a layer of the golden file");
        let want: Vec<f32> = want
            .data()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect();
        for (row, want) in want.chunks_exact(columns).enumerate() {
            let got = linear.weight.row(row);
            if got
                .iter()
                .enumerate()
                .all(|(column, weight)| same(((row, column), weight)))
            {
                let errors = got
                    .iter()
                    .zip(want)
                    .map(|(got, want)| (got - want).abs() / want.abs().max(0.1));
                worst = errors.fold(worst, f32::max);
                rows_compared += 1;
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 14);
    // The few places that differ earlier in a block change the inputs of what comes after them.
    println!("{rows_compared} rows, the largest error of a weight {worst}");
    assert!(worst < 0.02, "a weight is off by {worst}");
    assert!(rows_compared > 28, "only {rows_compared} of 56 rows have the same mask");
    let want = golden.tensor("loss").expect("there");
    let want = f64::from_le_bytes(want.data().try_into().expect("one number"));
    assert!((loss - want).abs() < 2e-3 * want, "loss {loss}, not {want}");
    // A block at a time is another method, and the first layers' statistics are the same in both.
    let (at_once, other) = run(&Calibration::Windows(&windows));
    assert!(
        equal(&blocks[0][..3], &at_once[0][..3]),
        "queries, keys and values are pruned first"
    );
    assert!(!equal(&blocks[0][3..], &at_once[0][3..]));
    assert!(
        (other - want).abs() > (loss - want).abs(),
        "{other} is as near to {want} as {loss}"
    );
}

/// The statistics that a solver is given for each layer, in their order.
type Given = Arc<Mutex<Vec<(Array2<f32>, Array2<f32>)>>>;

/// Removes weights, and notes the Gram matrix and the products with the inputs whose outputs are the goal.
struct Noting(Given);

impl Solver for Noting {
    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn solve(&self, piece: &mut dyn Workpiece, _: Option<&Values>, _: &Target) -> zprune::error::Result<Option<f64>> {
        let read = |matrix| piece.read(&matrix);
        let given = (read(piece.gram()?)?, read(piece.cross()?)?);
        self.0.lock().expect("one thread").push(given);
        piece.remove()?;
        Ok(None)
    }
}

/// `X^T Y / 4` of the four windows.
fn products(x: &Array2<f32>, y: &Array2<f32>) -> Array2<f64> {
    x.mapv(f64::from).t().dot(&y.mapv(f64::from)) / 4.0
}

#[test]
fn a_dense_goal_has_the_dense_models_inputs_of_the_same_tokens() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let (spec, ends) = (checkpoint.spec(), Ends::upload(&Cpu, &checkpoint).expect("room"));
    for separate in [false, true] {
        let given = Given::default();
        let recipe = Recipe {
            solver: Box::new(Noting(given.clone())),
            goal: Goal::Dense,
            ..method("wanda", "one-shot")
        };
        let calibration = match separate {
            false => Calibration::Staged(&windows),
            true => Calibration::Separate(&windows),
        };
        let embedded = || Hidden::embed(&Cpu, spec, &ends, &windows).expect("room");
        let (mut dense, mut sparse) = (embedded(), embedded());
        // The inputs of every layer in the dense model, and in the model whose blocks were pruned.
        let mut want = Vec::new();
        prune_model(&Cpu, &checkpoint, &ends, &recipe, HALF, &calibration, |pruned| {
            let before = Block::load(&Cpu, &checkpoint, pruned.index)?;
            let inputs = |hidden: &Hidden<Cpu>, block: &Block<Cpu>| {
                let mut inputs = BTreeMap::new();
                let last = *spec.block(pruned.index).taps().iter().max().expect("taps");
                let keep = |tap, x: &Array2<f32>, _: Option<&Array2<f32>>| {
                    inputs.insert(tap, x.clone());
                    Ok(())
                };
                hidden.observe(&Cpu, spec, block, None, last, keep).map(|()| inputs)
            };
            let (there, here) = (inputs(&dense, &before)?, inputs(&sparse, pruned.block)?);
            for linear in &spec.block(pruned.index).linears {
                want.push((here[&linear.tap()].clone(), there[&linear.tap()].clone()));
            }
            dense.advance(&Cpu, spec, &before, |_, _| Ok(()))?;
            let through = if separate { &before } else { pruned.block };
            sparse.advance(&Cpu, spec, through, |_, _| Ok(()))
        })
        .expect("prunable");
        let given = given.lock().expect("one thread");
        assert_eq!(given.len(), want.len());
        let mut apart = 0;
        for ((gram, cross), (here, there)) in given.iter().zip(&want) {
            for (got, want) in [(gram, products(here, here)), (cross, products(here, there))] {
                let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (got, want) in got.iter().zip(&want) {
                    assert!((f64::from(*got) - want).abs() <= 1e-6 * largest, "{got}, not {want}");
                }
            }
            apart += usize::from(gram != cross);
        }
        // Only the first layers of a block see what the dense model's see: in block 0, or in every block.
        let same = if separate { 3 * spec.blocks } else { 3 };
        assert_eq!(apart, want.len() - same, "separate: {separate}");
    }
    let recipe = Recipe {
        solver: Box::new(Noting(Given::default())),
        goal: Goal::Dense,
        ..method("wanda", "one-shot")
    };
    let calibration = Calibration::Windows(&windows);
    let pruned = prune_model(&Cpu, &checkpoint, &ends, &recipe, HALF, &calibration, |_| Ok(()));
    let error = pruned.expect_err("statistics of a whole block").to_string();
    assert!(error.contains("stage = \"staged\""), "{error}");
}

#[test]
fn a_bias_restores_the_means_of_the_outputs_that_are_the_goal() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let (spec, ends) = (checkpoint.spec(), Ends::upload(&Cpu, &checkpoint).expect("room"));
    for (solver, goal) in [
        ("one-shot", Goal::Pruned),
        ("one-shot", Goal::Dense),
        ("obs", Goal::Dense),
    ] {
        let recipe = Recipe {
            compensation: Some(Box::new(Bias::default())),
            goal,
            ..method("wanda", solver)
        };
        let embedded = || Hidden::embed(&Cpu, spec, &ends, &windows).expect("room");
        let (mut dense, mut sparse) = (embedded(), embedded());
        let calibration = Calibration::Staged(&windows);
        let take = |pruned: PrunedBlock<Cpu>| {
            let before = Block::load(&Cpu, &checkpoint, pruned.index)?;
            let last = *spec.block(pruned.index).taps().iter().max().expect("taps");
            let inputs = |hidden: &Hidden<Cpu>, block: &Block<Cpu>| {
                let mut inputs = BTreeMap::new();
                let keep = |tap, x: &Array2<f32>, _: Option<&Array2<f32>>| {
                    inputs.insert(tap, x.mapv(f64::from).mean_axis(Axis(0)).expect("there are tokens"));
                    Ok(())
                };
                hidden.observe(&Cpu, spec, block, None, last, keep)?;
                Ok(inputs)
            };
            let given = inputs(&sparse, pruned.block)?;
            let wanted = match goal {
                Goal::Pruned => given.clone(),
                Goal::Dense => inputs(&dense, &before)?,
            };
            for (id, linear) in spec.block(pruned.index).layers() {
                let mean = |block: &Block<Cpu>, inputs: &BTreeMap<Tap, Array1<f64>>| {
                    let mean = block.weight(id).mapv(f64::from).dot(&inputs[&linear.tap()]);
                    mean + block
                        .bias(id)
                        .map_or(Array1::zeros(linear.outputs), |bias| bias.mapv(f64::from))
                };
                let (want, got) = (mean(&before, &wanted), mean(pruned.block, &given));
                let size = want
                    .mapv(f64::abs)
                    .fold(0.0, |largest, value| f64::max(largest, *value));
                for (got, want) in got.iter().zip(&want) {
                    let place = format!("{solver}, {goal:?}, block {}, {}", pruned.index, linear.tensor);
                    assert!((got - want).abs() < 1e-5 * size, "{place}: {got}, not {want}");
                }
            }
            dense.advance(&Cpu, spec, &before, |_, _| Ok(()))?;
            sparse.advance(&Cpu, spec, pruned.block, |_, _| Ok(()))
        };
        prune_model(&Cpu, &checkpoint, &ends, &recipe, HALF, &calibration, take).expect("prunable");
    }
}
