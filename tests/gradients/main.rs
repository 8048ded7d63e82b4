//! Claim: gradients of a language model's loss equal those of an independent implementation (PyTorch's autograd in float64), for every
//! family, on the CPU and on the GPU: losses to 1e-5; gradients and sums of magnitudes to 1e-4, sums of squares to 2e-4 of the largest
//! entry of the tensor.
//!
//! `tools/cut_golden_gradients.py` says what `tests/golden/gradients` holds.

mod criteria;
mod regional;
#[path = "../gpu/mod.rs"]
mod gpu;

use ndarray::Array2;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::GradientNeeds;
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::memory::Room;
use zprune::model::backward::{BlockGradients, Way, gradients, gradients_by};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::{Backward, Block, Ends, Hidden, Tape};

/// Fewer models than this means the golden files are not there, not that all is well.
const MODELS: usize = 9;

/// Every how many entries of a tensor the golden files have one.
const STEP: usize = 17;

const EVERYTHING: GradientNeeds = GradientNeeds {
    sum: true,
    squares: true,
    magnitudes: true,
};

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    // The checkpoints in `units` have gradients, too.
    let entries = ["gradients", "units"]
        .map(|folder| std::fs::read_dir(root.join(folder)).expect("golden files are in the repository"));
    let entries = entries.into_iter().flatten();
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    models.retain(|path| path.join("golden.safetensors").is_file());
    models.sort();
    assert!(models.len() >= MODELS, "only {} golden models", models.len());
    models
}

fn floats(golden: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = golden.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let values = tensor.data().as_chunks().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The tokens, and the losses of their sequences.
fn tokens(golden: &SafeTensors) -> (TokenWindows, Vec<f64>) {
    let ids = golden.tensor("ids").expect("golden files hold ids");
    let length = ids.shape()[1];
    let ids = ids.data().as_chunks().0.iter();
    let ids = ids.map(|bytes| i64::from_le_bytes(*bytes) as u32).collect();
    let losses = golden.tensor("loss_per_sequence").expect("golden files hold losses");
    let losses = losses.data().as_chunks().0.iter();
    let losses = losses.map(|bytes| f64::from_le_bytes(*bytes)).collect();
    (TokenWindows::new(ids, length).expect("whole windows"), losses)
}

/// Compares all gradients of a model; `tolerance` multiplies the tolerances.
fn compare<B: Backend>(backend: &B, folder: &Path, tolerance: f64) -> Result<()> {
    let name = folder.file_name().expect("a folder has a name").to_string_lossy();
    let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
    let golden = SafeTensors::deserialize(&bytes).expect("golden files are valid");
    let (windows, wanted) = tokens(&golden);
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let ends = Ends::upload(backend, &checkpoint)?;
    let mut worst = [("grad", 1e-4, 0.0f64), ("gradsq", 2e-4, 0.0), ("gradabs", 1e-4, 0.0)];
    let mut compared = 0;
    let losses = gradients(
        backend,
        &checkpoint,
        &ends,
        &windows,
        EVERYTHING,
        |index, block, sums| {
            for (id, sums) in sums.into_layers() {
                let linear = block.spec().linear(id);
                let weight = block.spec().weight_of(index, linear);
                let all = [(sums.sum, 0.25), (sums.squares, 1.0), (sums.magnitudes, 1.0)];
                for ((kind, bound, worst), (sum, factor)) in worst.iter_mut().zip(all) {
                    let mut got = backend.download(&sum.expect("all sums were asked for"))?;
                    if linear.transposed {
                        got = got.reversed_axes().as_standard_layout().into_owned();
                    }
                    let want = floats(&golden, &format!("{kind}/{weight}"));
                    let largest = f64::from(floats(&golden, &format!("largest/{kind}/{weight}"))[0]);
                    let got: Vec<f64> = got
                        .iter()
                        .step_by(STEP)
                        .map(|value| factor * f64::from(*value))
                        .collect();
                    assert_eq!(got.len(), want.len(), "{name}: {kind} of {weight}");
                    let differences = got.iter().zip(&want).map(|(got, want)| (got - f64::from(*want)).abs());
                    let error = differences.fold(
                        0.0,
                        |worst: f64, it| if it.is_nan() { f64::INFINITY } else { worst.max(it) },
                    );
                    let error = error / largest;
                    *worst = worst.max(error);
                    assert!(
                        error <= *bound * tolerance,
                        "{name}: {kind} of {weight} differs by {error:.1e}"
                    );
                    compared += 1;
                }
            }
            Ok(())
        },
    )?;
    let stored = golden.names().iter().filter(|name| name.starts_with("grad")).count();
    assert_eq!(compared, stored, "{name}: every stored gradient is compared");
    for (sequence, (got, want)) in losses.iter().zip(&wanted).enumerate() {
        let error = (got - want).abs();
        assert!(
            error <= 1e-5 * tolerance,
            "{name}: the loss of sequence {sequence} is {got}, not {want}"
        );
    }
    println!("{name}: {worst:?}");
    Ok(())
}

#[test]
fn gradients_equal_autograd_on_the_cpu() {
    for model in models() {
        compare(&Cpu, &model, 1.0).expect("the CPU computes");
    }
}

/// All sums of a model's gradients, and the losses, by a way.
fn by_way(way: Way, folder: &Path) -> (Vec<Array2<f32>>, Vec<f64>) {
    let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
    let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
    let checkpoint = Checkpoint::open(folder, read_spec(folder).expect("a model")).expect("a model");
    let ends = Ends::upload(&Cpu, &checkpoint).expect("memory");
    let mut all = Vec::new();
    let mut order = Vec::new();
    let losses = gradients_by(way, &Cpu, &checkpoint, &ends, &windows, EVERYTHING, |index, _, sums| {
        order.push(index);
        for (_, sums) in sums.into_layers() {
            all.extend([sums.sum, sums.squares, sums.magnitudes].into_iter().flatten());
        }
        Ok(())
    });
    let last_first: Vec<usize> = (0..checkpoint.spec().blocks).rev().collect();
    assert_eq!(order, last_first, "{}", folder.display());
    (all, losses.expect("the CPU computes"))
}

#[test]
fn rounds_and_what_is_kept_change_no_gradient() {
    let scratch = tempfile::tempdir().expect("room");
    for folder in models() {
        let name = folder.display();
        let rounds = |windows: usize, bytes: u64| {
            let room = Room::new(bytes, scratch.path());
            let found = by_way(
                Way::InRounds {
                    windows,
                    room: room.clone(),
                },
                &folder,
            );
            assert!(room.reserve(bytes).is_some(), "{name}: something is still kept");
            found
        };
        let (want, losses) = by_way(Way::ByBlocks, &folder);
        // All windows are one round: the same sums in the same order, whether everything is kept, or some blocks, or nothing.
        for bytes in [1 << 40, 30_000, 0] {
            assert!(
                rounds(1000, bytes) == (want.clone(), losses.clone()),
                "{name}, {bytes} bytes"
            );
        }
        // Rounds of one window are added up in another order.
        for bytes in [1 << 40, 0] {
            let (got, found) = rounds(1, bytes);
            assert_eq!(got.len(), want.len(), "{name}");
            for (got, want) in got.iter().zip(&want) {
                let largest = want.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let worst = (got - want).iter().fold(0.0f32, |worst, value| worst.max(value.abs()));
                assert!(worst <= 1e-5 * largest, "{name}: {worst:e} of {largest:e}");
            }
            for (got, want) in found.iter().zip(&losses) {
                assert!((got - want).abs() <= 1e-6, "{name}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn gradients_equal_autograd_on_the_gpu() {
    let Some(tier) = gpu::best_tier() else { return };
    let gpu = gpu::open(tier, Compute::F32);
    for model in models() {
        compare(&gpu, &model, 1.0).expect("the GPU computes");
    }
}

fn states(hidden: &Hidden<Cpu>) -> Array2<f64> {
    hidden.states(&Cpu, None).expect("memory").mapv(f64::from)
}

/// Half the squared distance of a block's outputs from others.
fn distance(
    checkpoint: &Checkpoint,
    ends: &Ends<Cpu>,
    windows: &TokenWindows,
    block: &Block<Cpu>,
    wanted: &Hidden<Cpu>,
) -> f64 {
    let spec = checkpoint.spec();
    let mut hidden = Hidden::embed(&Cpu, spec, ends, windows).expect("memory");
    hidden.advance(&Cpu, spec, block, |_, _| Ok(())).expect("memory");
    let away = states(&hidden) - states(wanted);
    0.5 * away.mapv(|value| value * value).sum()
}

#[test]
fn a_blocks_gradient_is_the_slope_of_its_distance() {
    for folder in models() {
        let name = folder
            .file_name()
            .expect("a folder has a name")
            .to_string_lossy()
            .to_string();
        let checkpoint = Checkpoint::open(&folder, read_spec(&folder).expect("a model")).expect("a model");
        let spec = checkpoint.spec();
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let ends = Ends::upload(&Cpu, &checkpoint).expect("memory");
        // The outputs of block 1 on the same inputs are what block 0 is to reproduce.
        let embed = || Hidden::embed(&Cpu, spec, &ends, &windows).expect("memory");
        let load = |index| Block::load(&Cpu, &checkpoint, index).expect("a block");
        let (mut wanted, mut output) = (embed(), embed());
        wanted.advance(&Cpu, spec, &load(1), |_, _| Ok(())).expect("memory");
        let mut block = load(0);
        let mut tape = Tape::default();
        tape.advance(&Cpu, &ends, spec, &mut output, &block).expect("memory");
        let mut backward = Backward::of_difference(&Cpu, spec, tape, output, &wanted).expect("memory");
        let mut sums = BlockGradients::new(&Cpu, block.spec(), GradientNeeds::SUM).expect("memory");
        backward
            .retreat(&Cpu, spec, &block, |id, x, dy, windows| {
                sums.add(&Cpu, id, (x, dy), windows, 1.0)
            })
            .expect("memory");
        for (id, sums) in sums.into_layers() {
            let gradient: Array2<f32> = sums.sum.expect("it was asked for");
            // Along the gradient itself, where a step changes the distance most. The distance is computed in single precision, and has
            // corners where it is made of rectifiers.
            let length = gradient
                .iter()
                .map(|value| f64::from(*value).powi(2))
                .sum::<f64>()
                .sqrt();
            let step = 3e-3;
            let mut at = |step: f64| {
                block.weight_mut(id).scaled_add((step / length) as f32, &gradient);
                let found = distance(&checkpoint, &ends, &windows, &block, &wanted);
                block.weight_mut(id).scaled_add((-step / length) as f32, &gradient);
                found
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!(
                (slope - length).abs() <= 5e-3 * length,
                "{name}, {id:?}: slope {slope}, gradient {length}"
            );
        }
    }
}

/// The sums of a model's gradients with these weights of tokens, and the losses.
fn weighed(checkpoint: &Checkpoint, windows: &TokenWindows, weights: Option<Vec<f32>>) -> (Vec<Array2<f32>>, Vec<f64>) {
    let ends = Ends::upload(&Cpu, checkpoint).expect("memory");
    let windows = match weights {
        Some(weights) => windows.clone().weighted(weights).expect("good weights"),
        None => windows.clone(),
    };
    let mut sums = Vec::new();
    let losses = gradients(&Cpu, checkpoint, &ends, &windows, GradientNeeds::SUM, |_, _, layers| {
        sums.extend(
            layers
                .into_layers()
                .into_iter()
                .map(|(_, it)| it.sum.expect("asked for")),
        );
        Ok(())
    });
    (sums, losses.expect("computes"))
}

#[test]
fn the_tokens_of_answers_count_and_others_do_not() {
    for folder in models() {
        let checkpoint = Checkpoint::open(&folder, read_spec(&folder).expect("a model")).expect("a model");
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let (length, count) = (windows.length(), windows.ids().len());
        let plain = weighed(&checkpoint, &windows, None);
        assert_eq!(
            weighed(&checkpoint, &windows, Some(vec![1.0; count])),
            plain,
            "{}",
            folder.display()
        );
        // A third of each window is its answer, which counts twice; the loss of the window is that of the answer and of the rest.
        let answer = |token: usize| (10..21).contains(&(token % length));
        let of = |weight: &dyn Fn(usize) -> f32| weighed(&checkpoint, &windows, Some((0..count).map(weight).collect()));
        let (answers, of_answers) = of(&|token| if answer(token) { 2.0 } else { 0.0 });
        let (rest, of_rest) = of(&|token| if answer(token) { 0.0 } else { 1.0 });
        let all = (length - 1) as f32;
        for (sequence, whole) in plain.1.iter().enumerate() {
            let parts =
                (11.0 / 2.0 * of_answers[sequence] + (f64::from(all) - 11.0) * of_rest[sequence]) / f64::from(all);
            assert!(
                (whole - parts).abs() < 1e-6,
                "{}: {whole} and not {parts}",
                folder.display()
            );
        }
        for ((whole, answers), rest) in plain.0.iter().zip(&answers).zip(&rest) {
            let parts = (answers * (11.0 / 2.0) + rest * (all - 11.0)) / all;
            let largest = whole.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let apart = (whole - &parts)
                .iter()
                .fold(0.0f32, |apart, value| apart.max(value.abs()));
            assert!(apart <= 1e-4 * largest, "{}: {apart} of {largest}", folder.display());
            assert!((answers - rest).iter().any(|it| it.abs() > 1e-3 * largest));
        }
    }
}

#[test]
fn a_window_whose_first_token_alone_counts_has_no_loss() {
    let folder = &models()[0];
    let checkpoint = Checkpoint::open(folder, read_spec(folder).expect("a model")).expect("a model");
    let ends = Ends::upload(&Cpu, &checkpoint).expect("memory");
    let windows = TokenWindows::new(vec![1, 2, 3, 4], 2).expect("whole windows");
    let windows = windows.weighted(vec![1.0, 0.0, 1.0, 1.0]).expect("good weights");
    let losses = gradients(&Cpu, &checkpoint, &ends, &windows, GradientNeeds::SUM, |_, _, _| Ok(()));
    let losses = losses.expect("computes");
    assert!(losses[0] == 0.0 && losses[1] > 0.0, "{losses:?}");
}
