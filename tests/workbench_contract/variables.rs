//! Claim: after a change of variables, all statistics of a layer are those of the new inputs, on the CPU and on every tier, also in
//! another order of columns; and a layer that is put back has its own weights bit for bit where nobody changed them.

use super::with_goal::{SEQUENCES, on_layer};
use super::{criterion, normal, on_every_tier};
use ndarray::{Array1, Array2, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::adapter::Tier;
use zprune::backend::moments::Needs;
use zprune::calibrate::variables::{InputChange, Shifts};
use zprune::prune::layer::run_steps;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::solver::SOLVERS;
use zprune::prune::transform::{Change, Scale};
use zprune::prune::workbench::{Finished, Workbench, Workpiece};
use zprune::tensor::StorageType;

/// A layer, its inputs and the inputs whose outputs are to be reproduced, all of which have means.
struct Case {
    weight: Array2<f32>,
    x: Array2<f32>,
    goal: Array2<f32>,
}

impl Case {
    fn new(rows: usize, columns: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(columns as u64);
        let weight = normal(&mut random, rows, columns);
        let offsets = normal(&mut random, 2, columns).mapv(|offset| 2.0 * offset);
        let x = normal(&mut random, 3 * columns / 4 * 4, columns) + offsets.row(0);
        let goal = 0.5 * &x + normal(&mut random, x.nrows(), columns) + offsets.row(1);
        Case { weight, x, goal }
    }

    /// Calls `test` with the layer on a workbench, and returns what is left of it.
    fn on<B: Workbench>(
        &self,
        backend: &B,
        storage: StorageType,
        test: impl FnOnce(&mut dyn Workpiece),
    ) -> (Finished, Array2<f32>) {
        let needs = Needs {
            cross: true,
            goal_gram: true,
            ..Needs::GRAM.and(Needs::MEANS)
        };
        let Case { weight, x, goal } = self;
        on_layer(backend, needs, weight, (x, goal), storage, |piece| {
            test(piece);
            piece.finish().expect("computes")
        })
    }
}

fn close(place: &str, got: impl IntoIterator<Item = f64>, want: &[f64], within: f64) {
    let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let got: Vec<f64> = got.into_iter().collect();
    assert_eq!(got.len(), want.len(), "{place}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= within * largest,
            "{place}, {index}: {got}, not {want}"
        );
    }
}

/// Checks that the statistics of a piece are those of inputs in other variables.
fn check(place: &str, piece: &dyn Workpiece, x: &Array2<f64>, goal: &Array2<f64>, within: f64) {
    let flat = |matrix: Array2<f64>| matrix.into_iter().collect::<Vec<f64>>();
    let product = |a: &Array2<f64>, b: &Array2<f64>| flat(a.t().dot(b) / SEQUENCES as f64);
    let read = |matrix| piece.read(&matrix).expect("there").into_iter().map(f64::from);
    let at = |what: &str| format!("{place}, {what}");
    let squares = x.mapv(|value| value * value).sum_axis(Axis(0)) / SEQUENCES as f64;
    close(
        &at("squares"),
        piece.squared_norms().expect("gathered").to_vec(),
        &squares.to_vec(),
        within,
    );
    close(
        &at("gram"),
        read(piece.gram().expect("gathered")),
        &product(x, x),
        within,
    );
    close(
        &at("cross"),
        read(piece.cross().expect("gathered")),
        &product(x, goal),
        within,
    );
    close(
        &at("goal"),
        read(piece.goal_gram().expect("gathered")),
        &product(goal, goal),
        within,
    );
    let mean = |of: &Array2<f64>| of.mean_axis(Axis(0)).expect("there are tokens");
    let largest = mean(x).iter().fold(1e-3f64, |largest, value| largest.max(value.abs()));
    let means = piece.means().expect("gathered");
    // A mean that became 0 is held against what the inputs are.
    let spread = x.std(0.0).max(largest);
    let apart = |got: &[f64], want: Array1<f64>| {
        got.iter()
            .zip(&want)
            .map(|(got, want)| (got - want).abs())
            .fold(0.0, f64::max)
    };
    assert!(apart(&means.mean, mean(x)) <= within * spread, "{place}, means");
    assert!(
        apart(piece.goal_means().expect("gathered"), mean(goal)) <= within * spread,
        "{place}, means of the goal"
    );
    let variance = x.var_axis(Axis(0), 1.0);
    close(
        &at("variance"),
        means.variance.clone(),
        &variance.to_vec(),
        10.0 * within,
    );
    let centred = |of: &Array2<f64>| of - &mean(of);
    let grams = piece.centred().expect("gathered");
    close(
        &at("centred gram"),
        read(grams.gram),
        &product(&centred(x), &centred(x)),
        within,
    );
    close(
        &at("centred cross"),
        read(grams.cross),
        &product(&centred(x), &centred(goal)),
        within,
    );
}

#[test]
fn statistics_are_those_of_the_new_inputs() {
    for (rows, columns) in [(5, 24), (37, 130)] {
        let case = Case::new(rows, columns);
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut vector =
            |least: f64, most: f64| -> Vec<f64> { (0..columns).map(|_| random.random_range(least..most)).collect() };
        let (factors, own, goal) = (vector(0.25, 4.0), vector(-1.0, 1.0), vector(-1.0, 1.0));
        let wide = |of: &Array2<f32>| of.mapv(f64::from);
        let means = |of: &Array2<f32>| wide(of).mean_axis(Axis(0)).expect("there are tokens").to_vec();
        let order: Vec<usize> = (0..columns).map(|column| (column * 7 + 3) % columns).collect();
        for (name, shifts) in [
            ("factors", None),
            ("any shifts", Some(Shifts { own, goal })),
            (
                "means",
                Some(Shifts {
                    own: means(&case.x),
                    goal: means(&case.goal),
                }),
            ),
        ] {
            let change = InputChange {
                factors: factors.clone(),
                shifts,
            };
            let moved = |of: &Array2<f32>, shifts: Option<&Vec<f64>>| {
                let shifts = shifts.cloned().unwrap_or_else(|| vec![0.0; columns]);
                (wide(of) - &Array1::from_vec(shifts)) * &Array1::from_vec(factors.clone())
            };
            let x = moved(&case.x, change.shifts.as_ref().map(|shifts| &shifts.own));
            let goal = moved(&case.goal, change.shifts.as_ref().map(|shifts| &shifts.goal));
            let test = |place: &str, piece: &mut dyn Workpiece, within: f64| {
                let place = format!("{place}, {name}");
                piece.change_inputs(&change).expect("as many features");
                check(&place, piece, &x, &goal, within);
                piece.reorder(&order).expect("each once");
                let moved = |of: &Array2<f64>| of.select(Axis(1), &order);
                check(&format!("{place}, reordered"), piece, &moved(&x), &moved(&goal), within);
            };
            case.on(&Cpu, StorageType::F32, |piece| test("CPU", piece, 2e-6));
            on_every_tier(|gpu, tier| {
                // Sums and the products of means are subtracted in single precision.
                case.on(gpu, StorageType::F32, |piece| {
                    test(&format!("tier {tier}"), piece, 3e-4)
                });
            });
        }
        let fewer = InputChange {
            factors: vec![1.0; columns - 1],
            shifts: None,
        };
        let refused = |piece: &mut dyn Workpiece| {
            let error = piece.change_inputs(&fewer).expect_err("too few").to_string();
            assert!(error.contains("input features for a layer of"), "{error}");
        };
        case.on(&Cpu, StorageType::F32, refused);
        on_every_tier(|gpu, _| drop(case.on(gpu, StorageType::F32, refused)));
    }
}

#[test]
fn weights_that_nobody_changed_come_back_bit_for_bit() {
    let (rows, columns) = (21, 77);
    let case = Case::new(rows, columns);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let scales: Vec<f32> = (0..columns).map(|_| random.random_range(0.01f32..50.0)).collect();
    let half = |row: usize, column: usize| (row + 2 * column).is_multiple_of(3);
    let order: Vec<usize> = (0..columns).rev().collect();
    let test = |place: &str, storage: StorageType, (finished, after): (Finished, Array2<f32>)| {
        assert!(finished.fault.is_none(), "{place}: {:?}", finished.fault);
        for ((row, column), got) in after.indexed_iter() {
            let want = storage.round(case.weight[[row, column]]);
            let want = if half(row, column) { 0.0 } else { want };
            assert_eq!(
                got.to_bits(),
                want.to_bits(),
                "{place}, {row}, {column}: {got}, not {want}"
            );
        }
    };
    let there_and_back = |reordered: bool| {
        let (scales, order) = (&scales, &order);
        move |piece: &mut dyn Workpiece| {
            let kept = Array2::from_shape_fn((rows, columns), |(row, column)| f32::from(!half(row, column)));
            piece.keep(&piece.matrix(kept.view()).expect("room")).expect("fits");
            let applied = Change::scaled(scales.clone()).apply(piece).expect("as many features");
            let scaled = piece.read(&piece.weight().expect("room")).expect("there");
            for ((_, column), got) in scaled.indexed_iter() {
                assert!(got.is_finite() && scales[column] > 0.0);
            }
            if reordered {
                piece.reorder(order).expect("each once");
            }
            piece.remove().expect("computes");
            applied.expect("weights were scaled").undo(piece).expect("computes");
        }
    };
    for reordered in [false, true] {
        let place = format!("reordered {reordered}");
        test(
            &place,
            StorageType::F32,
            case.on(&Cpu, StorageType::F32, there_and_back(reordered)),
        );
        on_every_tier(|gpu, tier| {
            let done = case.on(gpu, StorageType::F32, there_and_back(reordered));
            test(&format!("tier {tier}, {place}"), StorageType::F32, done);
        });
        if super::gpu::best_tier().is_some_and(|best| best >= Tier::F16) {
            let gpu = super::gpu::open(Tier::F16, Compute::F16);
            let done = case.on(&gpu, StorageType::F16, there_and_back(reordered));
            test(&format!("half precision, {place}"), StorageType::F16, done);
        }
    }
}

#[test]
fn a_layer_pruned_in_other_variables_is_the_cpus() {
    let case = Case::new(24, 200);
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: Group::Row,
        selection: Selection::Exact,
    };
    for name in ["one-shot", "obs", "least-squares"] {
        let solver = SOLVERS.build(name, &toml::Table::new()).expect("legal").component;
        let magnitude = criterion("magnitude");
        let steps = Steps {
            transform: Some(&Scale { beta: 1.0 }),
            ..Steps::new(magnitude.as_ref(), solver.as_ref())
        };
        let prune = |piece: &mut dyn Workpiece| {
            run_steps(piece, steps, &target).expect("prunes");
        };
        let (want, kept) = case.on(&Cpu, StorageType::F32, prune);
        on_every_tier(|gpu, tier| {
            let place = format!("tier {tier}, {name}");
            let (got, there) = case.on(gpu, StorageType::F32, prune);
            let differ = (0..24).flat_map(|row| (0..200).map(move |column| (row, column)));
            let differ =
                differ.filter(|(row, column)| got.mask.removes(*row, *column) != want.mask.removes(*row, *column));
            assert!(
                differ.count() <= 4,
                "{place}: norms in single precision decide a few near ties"
            );
            let close = |(got, want): (&f32, &f32)| (got - want).abs() <= 1e-3 * want.abs().max(0.5);
            let differ = there.iter().zip(&kept).filter(|pair| !close(*pair)).count();
            assert!(differ * 100 <= there.len(), "{place}: {differ} weights differ");
        });
    }
}
