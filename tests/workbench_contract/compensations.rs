//! Claim: what steps see of the means of inputs is the same on every backend, and a whole model gets the same biases and the same
//! logits with them.

use super::with_goal::{SEQUENCES, on_layer};
use super::{gpu, normal, on_every_tier};
use ndarray::{Array1, Array2, Axis};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use zprune::backend::Compute;
use zprune::backend::cpu::{Cpu, CpuBf16};
use zprune::backend::moments::Needs;
use zprune::calibrate::Goal;
use zprune::data::windows::TokenWindows;
use zprune::eval::perplexity::PerplexityScorer;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::prune::compensation::{Bias, Compensation};
use zprune::prune::criterion::Wanda;
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::Pattern;
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::LeastSquares;
use zprune::prune::workbench::{Grams, Workbench, Workpiece};
use zprune::tensor::StorageType;

/// Calls `test` with a layer whose inputs have means, and with the means of the outputs that are to be reproduced.
fn with<B: Workbench>(
    backend: &B,
    weight: &Array2<f32>,
    (x, goal): (&Array2<f32>, &Array2<f32>),
    test: impl Fn(&mut dyn Workpiece),
) {
    let needs = Needs {
        cross: true,
        ..Needs::GRAM.and(Needs::MEANS)
    };
    on_layer(backend, needs, weight, (x, goal), StorageType::F32, test);
}

fn wide(array: &Array2<f32>) -> Array2<f64> {
    array.mapv(f64::from)
}

fn close(place: &str, got: &Array2<f64>, want: &Array2<f64>, within: f64) {
    let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for ((entry, got), want) in got.indexed_iter().zip(want) {
        assert!(
            (got - want).abs() <= within * largest,
            "{place}, {entry:?}: {got}, not {want}"
        );
    }
}

#[test]
fn inputs_without_their_means_are_the_same_everywhere() {
    for (rows, columns) in [(5, 24), (37, 130)] {
        let mut random = ChaCha8Rng::seed_from_u64(columns as u64);
        let weight = normal(&mut random, rows, columns);
        let offsets = normal(&mut random, 2, columns).mapv(|offset| 2.0 * offset);
        let part = |values: Array2<f32>, row: usize| values + offsets.row(row);
        let x = part(normal(&mut random, 3 * columns / 4 * 4, columns), 0);
        let goal = part(0.5 * &x + normal(&mut random, x.nrows(), columns), 1);
        let centred = |values: &Array2<f32>| {
            let wide = wide(values);
            let means = wide.mean_axis(Axis(0)).expect("there are tokens");
            (&wide - &means, means)
        };
        let ((x_only, means), (goal_only, goal_means)) = (centred(&x), centred(&goal));
        let products = |with: &Array2<f64>| x_only.t().dot(with) / SEQUENCES as f64;
        let outputs = |means: &Array1<f64>| wide(&weight).dot(means).insert_axis(Axis(0));
        let order: Vec<usize> = (0..columns).map(|column| (column * 7 + 3) % columns).collect();
        let test = |place: &str, piece: &mut dyn Workpiece, within: f64| {
            let read = |matrix: &_| wide(&piece.read(matrix).expect("there"));
            let Grams { gram, cross } = piece.centred().expect("gathered");
            close(&format!("{place}, gram"), &read(&gram), &products(&x_only), within);
            close(&format!("{place}, cross"), &read(&cross), &products(&goal_only), within);
            let bias = Bias::default();
            let row = |values: Vec<f64>| Array2::from_shape_vec((1, rows), values).expect("one per output");
            let [wanted, given] = [bias.wanted(piece), bias.given(piece)].map(|it| row(it.expect("gathered")));
            close(&format!("{place}, wanted"), &wanted, &outputs(&goal_means), within);
            close(&format!("{place}, given"), &given, &outputs(&means), within);
            // In another order of columns, the products are those of that order, and outputs stay what they are.
            piece.reorder(&order).expect("each once");
            let Grams { gram, cross } = piece.centred().expect("gathered");
            let moved = |of: Array2<f64>| of.select(Axis(0), &order).select(Axis(1), &order);
            let read = |matrix: &_| wide(&piece.read(matrix).expect("there"));
            close(
                &format!("{place}, moved"),
                &read(&gram),
                &moved(products(&x_only)),
                within,
            );
            close(
                &format!("{place}, moved"),
                &read(&cross),
                &moved(products(&goal_only)),
                within,
            );
            let wanted = row(bias.wanted(piece).expect("gathered"));
            close(&format!("{place}, moved"), &wanted, &outputs(&goal_means), within);
        };
        with(&Cpu, &weight, (&x, &goal), |piece| test("CPU", piece, 1e-6));
        on_every_tier(|gpu, tier| {
            // Sums and the products of means are subtracted in single precision.
            with(gpu, &weight, (&x, &goal), |piece| {
                test(&format!("tier {tier}"), piece, 3e-4)
            });
        });
    }
}

/// The biases of all layers, and the losses of windows under the pruned model.
fn pruned<B: Workbench>(backend: &B, goal: Goal) -> (Vec<Array1<f32>>, Vec<f64>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/llama_gqa_tied");
    let checkpoint = Checkpoint::open(&folder, read_spec(&folder).expect("supported")).expect("a golden checkpoint");
    let windows = |first: u32| TokenWindows::new((first..first + 96).map(|t| t * 37 % 89).collect(), 24).expect("four");
    let (calibration, held) = (windows(0), windows(1000));
    let recipe = Recipe {
        compensation: Some(Box::new(Bias::default())),
        goal,
        ..Recipe::new(
            Box::new(Wanda {}),
            Box::new(LeastSquares {
                centred: true,
                damping: 0.1,
                ..LeastSquares::default()
            }),
        )
    };
    let ends = Ends::upload(backend, &checkpoint).expect("room");
    let mut scorer = PerplexityScorer::new(backend, checkpoint.spec(), &ends, &held).expect("room");
    let mut biases = Vec::new();
    let half = Pattern::Unstructured { sparsity: 0.5 };
    let calibration = Calibration::Staged(&calibration);
    prune_model(backend, &checkpoint, &ends, &recipe, half, &calibration, |pruned| {
        for linear in pruned.weights() {
            biases.push(linear?.bias.expect("every layer has one now"));
        }
        scorer.advance(backend, checkpoint.spec(), pruned.block)
    })
    .expect("prunable");
    (biases, scorer.finish(backend, &ends, |_| ()).expect("finite"))
}

#[test]
fn a_whole_model_gets_the_same_biases_on_every_backend() {
    for goal in [Goal::Pruned, Goal::Dense] {
        let (want, losses) = pruned(&Cpu, goal);
        let near = |place: &str, (biases, found): (Vec<Array1<f32>>, Vec<f64>), within: f64| {
            assert_eq!(biases.len(), want.len(), "{place}");
            let squares = |of: &Array1<f32>| of.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
            let off: f64 = biases.iter().zip(&want).map(|(got, want)| squares(&(got - want))).sum();
            let off = (off / want.iter().map(squares).sum::<f64>()).sqrt();
            println!("{place}, {goal:?}: biases differ by {off:.1e} of their norm");
            assert!(
                off <= within,
                "{place}, {goal:?}: biases differ by {off:.1e} of their norm"
            );
            for (got, want) in found.iter().zip(&losses) {
                assert!(
                    (got - want).abs() < within * want,
                    "{place}, {goal:?}: {got}, not {want}"
                );
            }
        };
        near("CPU in bfloat16", pruned(&CpuBf16::new(), goal), 0.3);
        if let Some(tier) = gpu::best_tier() {
            near("GPU", pruned(&gpu::open(tier, Compute::F32), goal), 1e-2);
        }
    }
}
