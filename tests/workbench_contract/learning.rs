//! Claim: what comes back from the outputs of a masked block are the derivatives of their distance from the dense block's, and scales and
//! shifts that are learned from them lower it, on the CPU and on the GPU alike.

use super::gpu;
use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeMap;
use std::path::Path;
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::data::windows::TokenWindows;
use zprune::linalg::Provider;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends, Hidden, of_distance};
use zprune::prune::criterion::{Criterion, Magnitude, Obs, Wanda};
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::OneShot;
use zprune::prune::transform::{
    Centre, Learn, Learned, Learning, Masked, Refresh, SparsityInduction, Start, Transform, learn,
};
use zprune::prune::workbench::Workbench;
use zprune::spec::LinearId;

fn model() -> (Checkpoint, TokenWindows) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/llama_gqa_tied");
    let checkpoint = Checkpoint::open(&folder, read_spec(&folder).expect("supported")).expect("a golden checkpoint");
    let windows = TokenWindows::new((0..192).map(|t| t * 37 % 89).collect(), 24).expect("eight windows");
    (checkpoint, windows)
}

/// The derivatives with respect to the bias and to the weights of each layer, for all windows together, and half the squared distance.
type Derivatives = BTreeMap<LinearId, (Array1<f64>, Array2<f64>)>;

#[test]
fn what_comes_back_are_the_derivatives() {
    let (checkpoint, windows) = model();
    let spec = checkpoint.spec();
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let hidden = Hidden::embed(&Cpu, spec, &ends, &windows).expect("room");
    let dense = Block::load(&Cpu, &checkpoint, 0).expect("room");
    let mut masked = dense.copy(&Cpu).expect("room");
    let layers = masked.layers();
    for (id, ..) in &layers {
        let each = masked.weight_mut(*id).indexed_iter_mut();
        each.for_each(|((row, column), weight)| {
            if (row + column).is_multiple_of(2) {
                *weight = 0.0;
            }
        });
    }
    let distance = |masked: &Block<Cpu>, derivatives: &mut Derivatives| -> f64 {
        let window = |window: usize| {
            of_distance(&Cpu, spec, &hidden, (&dense, masked), window, |id, x, dy, factor| {
                let dy = dy.mapv(|dy| f64::from(dy) * f64::from(factor));
                let (bias, weight) = (dy.sum_axis(Axis(0)), dy.t().dot(&x.mapv(f64::from)));
                let into = derivatives.entry(id);
                let (biases, weights) = into.or_insert_with(|| (0.0 * &bias, 0.0 * &weight));
                *biases += &bias;
                *weights += &weight;
                Ok(())
            })
            .expect("computes")
        };
        (0..windows.count())
            .map(window)
            .collect::<Vec<f64>>()
            .iter()
            .sum::<f64>()
            / 2.0
    };
    let mut derivatives = Derivatives::new();
    let loss = distance(&masked, &mut derivatives);
    assert!(loss > 0.0);
    let none = &mut Derivatives::new();
    for (id, name, _) in layers {
        let (bias, weight) = &derivatives[&id];
        // Along the derivative itself, as far as changes the loss by a thousandth.
        let norm = bias.dot(bias);
        let step = 0.001 * loss / norm;
        let before = masked.bias(id).cloned();
        let zeros = || Array1::zeros(bias.len());
        let moved = |sign: f64| before.clone().unwrap_or_else(zeros) + bias.mapv(|value| (sign * step * value) as f32);
        let mut at = |sign: f64| {
            masked.replace_bias(&Cpu, id, moved(sign)).expect("room");
            distance(&masked, none)
        };
        let found = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!(
            (found / norm - 1.0).abs() < 0.02,
            "{name}: {found} along the bias, not {norm}"
        );
        at(0.0);
        let norm = (weight * weight).sum();
        let step = 0.001 * loss / norm;
        let before = masked.weight(id).clone();
        let mut at = |sign: f64| {
            *masked.weight_mut(id) = &before + &weight.mapv(|value| (sign * step * value) as f32);
            distance(&masked, none)
        };
        let found = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!(
            (found / norm - 1.0).abs() < 0.02,
            "{name}: {found} along the weights, not {norm}"
        );
        at(0.0);
    }
}

/// What is learned of block 0.
fn learned<B: Workbench>(backend: &B, criterion: &dyn Criterion, pattern: Pattern, learning: &Learning) -> Learned {
    let (checkpoint, windows) = model();
    let spec = checkpoint.spec();
    let ends = Ends::upload(backend, &checkpoint).expect("room");
    let hidden = Hidden::embed(backend, spec, &ends, &windows).expect("room");
    let mut block = Block::load(backend, &checkpoint, 0).expect("room");
    let target = Target {
        pattern,
        group: Group::Row,
        selection: Selection::Exact,
    };
    let layers = block.layers().into_iter().map(|(id, _, storage)| Masked {
        id,
        storage,
        target,
        learns: true,
    });
    let layers: Vec<Masked> = layers.collect();
    let stream = (&hidden, &windows);
    let provider = Provider::Faer.into();
    learn(
        backend, spec, stream, &mut block, &layers, criterion, learning, provider,
    )
    .expect("computes")
}

fn learning(parameters: toml::Table) -> Learning {
    let transform: SparsityInduction = toml::Value::Table(parameters).try_into().expect("legal");
    transform.learning().expect("it learns")
}

const PATTERNS: [Pattern; 2] = [
    Pattern::Unstructured { sparsity: 0.5 },
    Pattern::NofM { keep: 2, of: 4 },
];

#[test]
fn learning_brings_the_outputs_of_the_masked_block_nearer() {
    for pattern in PATTERNS {
        for (name, criterion) in [
            ("magnitude", &Magnitude {} as &dyn Criterion),
            ("wanda", &Wanda {}),
            ("obs", &Obs {}),
        ] {
            for learn in ["both", "shifts", "scales"] {
                let mut table = toml::toml! { epochs = 8 learning_rate = 0.01 batch = 2 };
                table.insert("learn".to_string(), learn.into());
                let found = learned(&Cpu, criterion, pattern, &learning(table));
                let (first, last) = (found.losses[0], found.losses[7]);
                println!("{name}, {pattern}, {learn}: {first:.4} in the first epoch, {last:.4} in the last");
                assert!(last < first, "{name}, {pattern}, {learn}: {:?}", found.losses);
                let shifted = |change: &zprune::prune::transform::Change| change.inputs.shifts.is_some();
                assert!(
                    found
                        .changes
                        .values()
                        .all(|change| shifted(change) == (learn != "scales"))
                );
            }
        }
    }
}

#[test]
fn without_a_step_worth_the_name_the_variables_are_those_of_the_start() {
    for (start, zero) in [("means", false), ("zero", true)] {
        let mut table = toml::toml! { epochs = 1 learning_rate = 1e-8 };
        table.insert("start".to_string(), start.into());
        let found = learned(&Cpu, &Wanda {}, PATTERNS[0], &learning(table));
        for change in found.changes.values() {
            let shifts = change.inputs.shifts.as_ref().expect("shifted");
            assert!(shifts.own.iter().all(|shift| (shift.abs() < 1e-5) == zero || !zero));
            let scales = change.scales.as_ref().expect("scaled");
            assert!(scales.iter().all(|scale| (scale - 1.0).abs() < 1e-6));
        }
    }
    let change = |refresh| {
        let learning = Learning {
            refresh,
            ..learning(toml::toml! { epochs = 1 learning_rate = 0.01 })
        };
        learned(&Cpu, &Magnitude {}, PATTERNS[0], &learning).changes
    };
    for (published, equivalent) in change(Refresh::Published)
        .values()
        .zip(change(Refresh::Equivalent).values())
    {
        assert!(published.inputs.factors.iter().all(|factor| *factor == 1.0));
        let scales = equivalent.scales.as_ref().expect("scaled");
        for (factor, scale) in equivalent.inputs.factors.iter().zip(scales) {
            assert!((factor * f64::from(*scale) - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn the_gpu_learns_what_the_cpu_learns() {
    let Some(tier) = gpu::best_tier() else { return };
    let gpu = gpu::open(tier, Compute::F32);
    let learning = learning(toml::toml! { epochs = 2 learning_rate = 0.01 });
    for pattern in PATTERNS {
        let want = learned(&Cpu, &Wanda {}, pattern, &learning);
        let got = learned(&gpu, &Wanda {}, pattern, &learning);
        for (got, want) in got.losses.iter().zip(&want.losses) {
            assert!(
                (got - want).abs() <= 2e-2 * want,
                "{pattern}: a loss of {got}, not {want}"
            );
        }
        let (mut apart, mut all) = (0.0, 0.0);
        for (id, want) in &want.changes {
            let logs = |change: &zprune::prune::transform::Change| -> Vec<f64> {
                let scales = change.scales.as_ref().expect("scaled").iter();
                scales.map(|scale| f64::from(scale.ln())).collect()
            };
            for (got, want) in logs(&got.changes[id]).iter().zip(logs(want)) {
                apart += (got - want).abs();
                all += want.abs();
            }
        }
        println!(
            "{pattern}: logarithms of scales differ by {:.1e} of what they are",
            apart / all
        );
        // A step of AdamW has the size of the rate however small a gradient is, so that rounding may turn some around.
        assert!(apart <= 0.2 * all, "{pattern}: {apart} of {all}");
    }
}

#[test]
fn a_model_is_pruned_in_learned_variables() {
    let (checkpoint, windows) = model();
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let errors = |transform: Option<Box<dyn Transform>>, pattern: Pattern| -> f64 {
        let recipe = Recipe {
            transform,
            ..Recipe::new(Box::new(Wanda {}), Box::new(OneShot {}))
        };
        let calibration = Calibration::Windows(&windows);
        let (records, _) =
            prune_model(&Cpu, &checkpoint, &ends, &recipe, pattern, &calibration, |_| Ok(())).expect("prunable");
        let biased = records.iter().all(|record| record.compensated.is_some());
        assert_eq!(biased, recipe.transform.as_deref().is_some_and(Transform::shifts));
        records.iter().filter_map(|record| record.output_error).sum()
    };
    for pattern in PATTERNS {
        let learned = |learn| SparsityInduction {
            learn,
            learning_rate: 0.01,
            ..SparsityInduction::default()
        };
        let plain = errors(None, pattern);
        let centred = errors(Some(Box::new(Centre::default())), pattern);
        let both = errors(Some(Box::new(learned(Learn::Both))), pattern);
        let scales = errors(Some(Box::new(learned(Learn::Scales))), pattern);
        println!(
            "{pattern}: errors of layers {plain:.4}, centred {centred:.4}, learned {both:.4}, scales alone {scales:.4}"
        );
        assert!(centred < plain, "the means of outputs stay");
    }
    let recipe = Recipe {
        transform: Some(Box::new(SparsityInduction {
            start: Start::Zero,
            ..SparsityInduction::default()
        })),
        ..Recipe::new(Box::new(Magnitude {}), Box::new(OneShot {}))
    };
    let nothing = Calibration::Nothing;
    let error = prune_model(&Cpu, &checkpoint, &ends, &recipe, PATTERNS[0], &nothing, |_| Ok(()));
    let error = error.expect_err("nothing to learn from").to_string();
    assert!(error.contains("no calibration windows to learn on"), "{error}");
}
