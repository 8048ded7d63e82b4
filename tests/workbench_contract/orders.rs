//! Claim: columns that are put into another order keep their statistics and come back into their places, means and variances
//! agree with the CPU's, and what was set in single precision is what later steps see, on the CPU and on every tier.

use super::{criterion, normal, on_every_tier};
use ndarray::{Array2, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::adapter::Tier;
use zprune::backend::moments::Needs;
use zprune::calibrate::statistics::{Factoring, Means};
use zprune::linalg::Provider;
use zprune::prune::formula::Formula;
use zprune::prune::layer::run_steps;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::score::resolve;
use zprune::prune::solver::SOLVERS;
use zprune::prune::workbench::{Finished, Workbench, Workpiece};
use zprune::tensor::StorageType;

const ROWS: usize = 24;
const COLUMNS: usize = 200;

/// Weights, and correlated inputs with means, one of them loud.
fn layer() -> (Array2<f32>, Array2<f32>) {
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let weight = normal(&mut random, ROWS, COLUMNS);
    let mut inputs = normal(&mut random, 600, COLUMNS);
    for column in 1..COLUMNS {
        let before = inputs.column(column - 1).to_owned();
        inputs.column_mut(column).scaled_add(0.6, &before);
    }
    inputs += 0.3;
    inputs.column_mut(5).mapv_inplace(|x| 20.0 * x);
    (weight, inputs)
}

/// Takes a layer to a workbench, changes it there, and returns what came of it.
fn changed<B: Workbench>(
    backend: &B,
    storage: StorageType,
    change: impl FnOnce(&mut dyn Workpiece),
) -> (Finished, Array2<f32>) {
    let (weight, inputs) = layer();
    let mut moments = backend.moments(COLUMNS, Needs::GRAM.and(Needs::MEANS)).expect("room");
    let x = backend.upload(inputs.view()).expect("room");
    backend.accumulate(&mut moments, &x).expect("computes");
    backend
        .accumulate_sums(&mut moments, &x, &[150.0; 4])
        .expect("computes");
    let factoring = Factoring {
        damping: 0.02,
        ..Provider::Faer.into()
    };
    let statistics = backend.statistics(&moments, 4, factoring).expect("finite");
    let mut there = backend.upload_weight(weight).expect("room");
    let mut piece = backend.workpiece(&mut there, storage, &statistics);
    change(piece.as_mut());
    let finished = piece.finish().expect("computes");
    drop(piece);
    (finished, backend.download_weight(&there).expect("there"))
}

fn order(seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..COLUMNS).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

fn reordered_columns_come_back_on<B: Workbench>(backend: &B, place: &str) {
    let (weight, _) = layer();
    let (first, second) = (order(1), order(2));
    let both: Vec<usize> = second.iter().map(|from| first[*from]).collect();
    let (finished, after) = changed(backend, StorageType::F32, |piece| {
        let read = |piece: &dyn Workpiece, matrix| piece.read(&matrix).expect("there");
        let gram = read(piece, piece.gram().expect("gathered"));
        let squares = piece.squared_norms().expect("gathered").to_vec();
        let means = piece.means().expect("gathered").clone();
        let kept = Array2::from_shape_fn((ROWS, COLUMNS), |(row, column)| f32::from((row + column) % 3 > 0));
        piece.keep(&piece.matrix(kept.view()).expect("room")).expect("fits");
        piece.reorder(&first).expect("an order");
        piece.reorder(&second).expect("an order");
        let moved = |matrix: &Array2<f32>| matrix.select(Axis(1), &both);
        assert_eq!(read(piece, piece.weight().expect("room")), moved(&weight), "{place}");
        assert_eq!(read(piece, piece.kept().expect("room")), moved(&kept), "{place}");
        assert_eq!(
            read(piece, piece.gram().expect("room")),
            moved(&gram).select(Axis(0), &both),
            "{place}"
        );
        let vector = |values: &[f64]| -> Vec<f64> { both.iter().map(|from| values[*from]).collect() };
        assert_eq!(piece.squared_norms().expect("gathered"), vector(&squares), "{place}");
        assert_eq!(
            piece.means().expect("gathered").within,
            vector(&means.within),
            "{place}"
        );
        piece.remove().expect("computes");
        let error = piece.reorder(&vec![0; COLUMNS]).expect_err("no order").to_string();
        assert!(error.contains("does not name each"), "{error}");
    });
    assert_eq!(finished.order, Some(both), "{place}");
    for ((row, column), got) in after.indexed_iter() {
        let kept = (row + column) % 3 > 0;
        assert_eq!(*got, if kept { weight[[row, column]] } else { 0.0 }, "{place}");
        assert_eq!(finished.mask.removes(row, column), !kept, "{place}");
    }
    // There and back again is no other order.
    let (finished, _) = changed(backend, StorageType::F32, |piece| {
        let mut back = vec![0; COLUMNS];
        first.iter().enumerate().for_each(|(place, from)| back[*from] = place);
        piece.reorder(&first).expect("an order");
        piece.reorder(&back).expect("an order");
    });
    assert_eq!(finished.order, None, "{place}");
}

#[test]
fn reordered_columns_come_back() {
    reordered_columns_come_back_on(&Cpu, "CPU");
    on_every_tier(|gpu, tier| reordered_columns_come_back_on(gpu, &format!("tier {tier}")));
}

/// SparseGPT's update with these parameters, of Wanda's mask.
fn update(piece: &mut dyn Workpiece, pattern: Pattern, group: Group, table: &toml::Table) {
    let solver = SOLVERS.build("obs", table).expect("legal").component;
    let wanda = criterion("wanda");
    let target = Target {
        pattern,
        group,
        selection: Selection::Exact,
    };
    run_steps(piece, Steps::new(wanda.as_ref(), solver.as_ref()), &target).expect("computes");
}

#[test]
fn an_update_in_the_order_of_losses_is_the_cpus() {
    let update = |piece: &mut dyn Workpiece, pattern, table| update(piece, pattern, Group::Row, &table);
    let loss = || toml::toml! { order = "loss" };
    for pattern in [
        Pattern::Unstructured { sparsity: 0.5 },
        Pattern::NofM { keep: 2, of: 4 },
    ] {
        let (want, kept) = changed(&Cpu, StorageType::F32, |piece| update(piece, pattern, loss()));
        let (plain, other) = changed(&Cpu, StorageType::F32, |piece| {
            update(piece, pattern, toml::Table::new())
        });
        assert!(want.order.is_some() && plain.order.is_none());
        assert!(
            want.mask == plain.mask && kept != other,
            "the mask was chosen before, the weights come later"
        );
        on_every_tier(|gpu, tier| {
            let (got, there) = changed(gpu, StorageType::F32, |piece| update(piece, pattern, loss()));
            let place = format!("tier {tier}, {pattern}");
            assert_eq!(got.mask, want.mask, "{place}");
            for (got, want) in there.iter().zip(&kept) {
                assert!(
                    (got - want).abs() <= 5e-5 * want.abs().max(0.5),
                    "{place}: {got}, not {want}"
                );
            }
        });
    }
}

#[test]
fn an_update_that_scores_anew_is_the_cpus() {
    let rescore = toml::toml! { order = "rescore" };
    let update = |piece: &mut dyn Workpiece, pattern| update(piece, pattern, Group::Matrix, &rescore);
    for pattern in [
        Pattern::Unstructured { sparsity: 0.5 },
        Pattern::NofM { keep: 2, of: 4 },
    ] {
        let (want, kept) = changed(&Cpu, StorageType::F32, |piece| update(piece, pattern));
        assert_eq!(want.mask.removed(), ROWS * COLUMNS / 2);
        assert!(want.order.is_none() && want.fault.is_none());
        on_every_tier(|gpu, tier| {
            let (got, there) = changed(gpu, StorageType::F32, |piece| update(piece, pattern));
            let place = format!("tier {tier}, {pattern}");
            assert_eq!(got.mask.removed(), ROWS * COLUMNS / 2, "{place}");
            // The second block is chosen from weights that were updated in single precision.
            let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-3 * want.abs().max(0.5);
            let differ = there.iter().zip(&kept).filter(|pair| !close(*pair)).count();
            assert!(differ * 500 <= ROWS * COLUMNS, "{place}: {differ} weights differ");
        });
    }
}

#[test]
fn means_and_variances_are_the_cpus() {
    fn means<B: Workbench>(backend: &B) -> Means {
        let mut means = None;
        changed(backend, StorageType::F32, |piece| means = piece.means().ok().cloned());
        means.expect("gathered")
    }
    let want = means(&Cpu);
    assert!(want.variance.iter().all(|variance| *variance > 0.0));
    on_every_tier(|gpu, tier| {
        let got = means(gpu);
        for (what, got, want) in [
            ("mean", &got.mean, &want.mean),
            ("variance", &got.variance, &want.variance),
            ("within", &got.within, &want.within),
        ] {
            for (got, want) in got.iter().zip(want) {
                assert!(
                    (got - want).abs() <= 1e-5 * want.abs().max(1e-2),
                    "tier {tier}, {what}: {got}, not {want}"
                );
            }
        }
    });
}

/// Weights in half precision have a working copy in single precision, which every later step must use.
#[test]
fn later_steps_see_what_was_set() {
    let Some(best) = super::gpu::best_tier().filter(|best| *best >= Tier::F16) else {
        return println!("no tier with half precision here");
    };
    let gpu = super::gpu::open(best, Compute::F16);
    let steps = |piece: &mut dyn Workpiece, reconstruct: bool| {
        let target = Target {
            pattern: Pattern::Unstructured { sparsity: 0.5 },
            group: Group::Row,
            selection: Selection::Exact,
        };
        let wanda = criterion("wanda");
        let score = resolve(&wanda.score(), piece).expect("gathered");
        piece.select(&score, &target).expect("usable");
        let negative = Formula::Leaf(zprune::prune::values::Operand::Weight) * -1.0;
        let negative = piece.map(piece.dim(), &negative.into()).expect("room");
        piece.set_weight(&negative).expect("fits");
        match reconstruct {
            true => drop(piece.reconstruct(None, &target).expect("computes")),
            false => piece.remove().expect("computes"),
        }
    };
    for reconstruct in [false, true] {
        let (_, want) = changed(&Cpu, StorageType::F16, |piece| steps(piece, reconstruct));
        let (got, there) = changed(&gpu, StorageType::F16, |piece| steps(piece, reconstruct));
        assert!(got.fault.is_none(), "{:?}", got.fault);
        let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 4e-3 * want.abs().max(0.5);
        let differ = there.iter().zip(&want).filter(|pair| !close(*pair)).count();
        // Inputs are in half precision on the device, too, so some rows have other masks.
        assert!(
            differ * 20 <= ROWS * COLUMNS,
            "{differ} weights differ, reconstruct {reconstruct}"
        );
    }
}
