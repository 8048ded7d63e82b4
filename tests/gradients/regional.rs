//! Claims about gradients of the norms of blocks' outputs (Wanda++): they equal those of transformers and PyTorch's autograd in float64
//! (`tests/golden/gradients/regional.safetensors`), for every family, on the CPU and on the GPU; a pruned model loses the weights that
//! they say; what has no calibration text for them is refused. And about gradients from a file: they do what the same gradients do when they
//! are computed, in the checkpoint's own layout, and what a model cannot use is refused by name.

use super::criteria::{PATTERNS, by_row, criterion, golden, opened, swapped};
use super::{EVERYTHING, floats, gpu, models, tokens};
use ndarray::Array2;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::{GradientNeeds, GradientSum};
use zprune::backend::{Backend, Compute};
use zprune::calibrate::Stage;
use zprune::calibrate::gradients::ModelGradients;
use zprune::cell::{Prepared, Runner, Sharing, Treatment};
use zprune::model::backward::of_outputs;
use zprune::model::blocks;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::forward::{Block, Ends, Hidden};
use zprune::model::layer_file::{Content, LayerFile};
use zprune::progress::Silent;
use zprune::prune::limits::Limits;
use zprune::prune::mask::{Mask, select};
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::Pattern;
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::OneShot;

/// Every how many entries of a tensor the golden file has one.
const STEP: usize = 17;

const SQUARES: GradientNeeds = GradientNeeds {
    squares: true,
    ..GradientNeeds::NOTHING
};

fn compare<B: Backend>(backend: &B, place: &str) {
    let bytes = std::fs::read(golden("gradients/regional.safetensors")).expect("committed");
    let file = SafeTensors::deserialize(&bytes).expect("golden files are valid");
    let (mut compared, mut worst) = (0, 0.0f64);
    for folder in models() {
        let model = folder.file_name().expect("a folder has a name").to_string_lossy();
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let checkpoint = opened(&folder);
        let spec = checkpoint.spec();
        let ends = Ends::upload(backend, &checkpoint).expect("room");
        let mut hidden = Hidden::embed(backend, spec, &ends, &windows).expect("room");
        blocks::each(backend, &checkpoint, |index, block| {
            for (id, sums) in of_outputs(backend, spec, (&hidden, &windows), &block, SQUARES)?.into_layers() {
                let linear = block.spec().linear(id);
                let name = block.spec().weight_of(index, linear);
                let mut got = backend.download(&sums.squares.expect("it was asked for"))?;
                if linear.transposed {
                    got = got.reversed_axes().as_standard_layout().into_owned();
                }
                let want = floats(&file, &format!("{model}/{name}"));
                let largest = f64::from(floats(&file, &format!("{model}/largest/{name}"))[0]);
                let got: Vec<f32> = got.iter().copied().step_by(STEP).collect();
                assert_eq!(got.len(), want.len(), "{place}, {model}, {name}");
                for (got, want) in got.iter().zip(&want) {
                    let error = (f64::from(*got) - f64::from(*want)).abs() / largest;
                    assert!(error <= 2e-4, "{place}, {model}, {name}: {got}, not {want}");
                    worst = worst.max(error);
                }
                compared += 1;
            }
            hidden.advance(backend, spec, &block, |_, _| Ok(()))
        })
        .expect("computes");
    }
    println!("{place}: {compared} weights, squares to {worst:.1e} of the largest");
    assert_eq!(2 * compared, file.len(), "every stored gradient is compared");
}

#[test]
fn gradients_of_outputs_equal_autograd_on_the_cpu() {
    compare(&Cpu, "CPU");
}

#[test]
fn gradients_of_outputs_equal_autograd_on_the_gpu() {
    let Some(tier) = gpu::best_tier() else { return };
    compare(&gpu::open(tier, Compute::F32), "GPU");
}

/// Wanda++'s score with gradients that outweigh the norms of inputs.
fn by_outputs(stage: Stage) -> Recipe {
    let criterion = criterion("wanda-pp", toml::toml! { alpha = 1e12 });
    Recipe {
        stage,
        ..Recipe::new(criterion, Box::new(OneShot {}))
    }
}

#[test]
fn models_of_every_family_lose_what_gradients_of_outputs_say() {
    for folder in models() {
        let name = folder.display();
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let checkpoint = opened(&folder);
        let spec = checkpoint.spec();
        let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
        for (_, pattern) in PATTERNS {
            // With separate blocks all inputs are the dense model's.
            let mut hidden = Hidden::embed(&Cpu, spec, &ends, &windows).expect("room");
            let calibration = Calibration::Separate(&windows);
            let recipe = by_outputs(Stage::Separate);
            let (mut swaps, mut masks) = (0, 0);
            prune_model(&Cpu, &checkpoint, &ends, &recipe, pattern, &calibration, |pruned| {
                let dense = Block::load(&Cpu, &checkpoint, pruned.index)?;
                let sums = of_outputs(&Cpu, spec, (&hidden, &windows), &dense, SQUARES)?.into_layers();
                for ((id, sums), linear) in sums.into_iter().zip(pruned.weights()) {
                    let mut scores = dense.weight(id).mapv(f32::abs);
                    let squares = sums.squares.expect("it was asked for");
                    scores.zip_mut_with(&squares, |score, square| *score *= square.sqrt());
                    let want = select(scores.view(), &by_row(pattern))?;
                    let got = Mask::from_entries(linear?.weight.mapv(|weight| weight == 0.0));
                    swaps += swapped(&format!("{name}, {pattern}"), &scores, &got, &want);
                    masks += 1;
                }
                hidden.advance(&Cpu, spec, &dense, |_, _| Ok(()))
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(masks >= 8 && swaps < 8, "{name}: {masks} masks, {swaps} swaps");
        }
    }
}

#[test]
fn gradients_of_outputs_need_text_that_comes_to_the_block() {
    let half = Pattern::Unstructured { sparsity: 0.5 };
    for stage in [Stage::Block, Stage::Staged, Stage::Separate] {
        by_outputs(stage).check(half, &Limits::NONE).expect("possible");
    }
    let error = by_outputs(Stage::Dense)
        .check(half, &Limits::NONE)
        .expect_err("no text")
        .to_string();
    assert!(error.contains("stage = \"dense\""), "{error}");
    let checkpoint = opened(&golden("gradients/llama_gqa_tied"));
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let recipe = by_outputs(Stage::Block);
    let refused = prune_model(&Cpu, &checkpoint, &ends, &recipe, half, &Calibration::Nothing, |_| {
        Ok(())
    });
    let error = refused.expect_err("no text").to_string();
    assert!(error.contains("not gathered"), "{error}");
}

/// Matrices by the names of weights.
type Matrices = BTreeMap<String, Array2<f32>>;

/// A file of matrices.
fn write(path: &Path, matrices: &Matrices) {
    let bytes: BTreeMap<&String, Vec<u8>> = matrices
        .iter()
        .map(|(name, matrix)| (name, matrix.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = matrices.iter().map(|(name, matrix)| {
        let view = TensorView::new(Dtype::F32, vec![matrix.nrows(), matrix.ncols()], &bytes[name]);
        (name, view.expect("as many bytes as values"))
    });
    let file = safetensors::serialize(views, None).expect("a small file");
    std::fs::write(path, file).expect("room");
}

/// The roots of the sums of squares of the gradients of a model, as its checkpoint has its weights.
fn sizes(checkpoint: &Checkpoint, gradients: &ModelGradients) -> Matrices {
    let mut all = BTreeMap::new();
    for index in 0..checkpoint.spec().blocks {
        let block = checkpoint.spec().block(index);
        for (id, linear) in block.layers() {
            let found = gradients.layer(index, id, SQUARES).expect("gathered");
            let size = found.sum(GradientSum::Squares).expect("gathered").mapv(f32::sqrt);
            let size = match linear.transposed {
                true => size.reversed_axes().as_standard_layout().into_owned(),
                false => size,
            };
            all.insert(block.weight_of(index, linear), size);
        }
    }
    all
}

#[test]
fn gradients_from_a_file_do_what_computed_ones_do() {
    let scratch = tempfile::tempdir().expect("room");
    let mut transposed = 0;
    for folder in models() {
        let name = folder.display();
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let checkpoint = opened(&folder);
        let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
        let gathered = ModelGradients::gather(&Cpu, &checkpoint, &ends, &windows, EVERYTHING).expect("computes");
        let path = scratch.path().join("gradients.safetensors");
        write(&path, &sizes(&checkpoint, &gathered));
        let file = LayerFile::open_whole(&path, checkpoint.spec(), Content::Gradients)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut model = Prepared::new(&checkpoint);
        model.calibration = [(0, windows.clone())].into();
        let mut from_file = Prepared::new(&checkpoint);
        from_file.calibration = [(0, windows)].into();
        from_file.gradients = Some(Arc::new(file));
        for (_, pattern) in PATTERNS {
            let recipe = Recipe::new(criterion("gblm", toml::Table::new()), Box::new(OneShot {}));
            let treatment = Treatment {
                recipe: &recipe,
                pattern,
                seed: Some(0),
                file: None,
            };
            let pruned = |model: &Prepared| {
                let mut weights = Vec::new();
                let mut runner = Runner::new(&Cpu, model, Sharing::NONE).expect("room");
                let run = runner.run(Some(treatment), &Silent, |pruned| {
                    for linear in pruned.weights() {
                        weights.push(linear?);
                    }
                    Ok(())
                });
                run.unwrap_or_else(|error| panic!("{name}: {error}"));
                weights
            };
            for (got, want) in pruned(&from_file).iter().zip(&pruned(&model)) {
                transposed += usize::from(got.transposed);
                let differ = got
                    .weight
                    .iter()
                    .zip(&want.weight)
                    .filter(|(got, want)| got != want)
                    .count();
                // The root of a square is not always the number itself.
                assert!(
                    500 * differ <= got.weight.len(),
                    "{name}, {}: {differ} differ",
                    got.name
                );
            }
        }
    }
    assert!(
        transposed > 0,
        "a model whose checkpoint has transposed weights is among them"
    );
}

#[test]
fn files_of_gradients_that_do_not_fit_are_refused_by_the_name_of_the_weight() {
    let scratch = tempfile::tempdir().expect("room");
    let path = scratch.path().join("gradients.safetensors");
    let checkpoint = opened(&golden("gradients/llama_gqa_tied"));
    let mut whole = BTreeMap::new();
    for index in 0..checkpoint.spec().blocks {
        let block = checkpoint.spec().block(index);
        for linear in &block.linears {
            let ones = Array2::ones((linear.outputs, linear.inputs));
            whole.insert(block.weight_of(index, linear), ones);
        }
    }
    let name = "model.layers.1.mlp.up_proj.weight";
    let opened = |matrices: &Matrices| {
        write(&path, matrices);
        LayerFile::open_whole(&path, checkpoint.spec(), Content::Gradients)
    };
    opened(&whole).unwrap_or_else(|error| panic!("{error}"));
    let refused = |change: &dyn Fn(&mut Matrices), says: &str| {
        let mut other = whole.clone();
        change(&mut other);
        let Err(error) = opened(&other) else { panic!("{says}") };
        let error = error.to_string();
        assert!(
            error.contains(name) && error.contains(says) && error.contains("gradients.safetensors"),
            "{error}"
        );
    };
    refused(&|all| drop(all.remove(name)), "is missing");
    refused(
        &|all| drop(all.insert(name.into(), Array2::ones((48, 96)))),
        "shape [48, 96]",
    );
    refused(&|all| all.get_mut(name).expect("there")[[3, 4]] = f32::NAN, "NaN");
    refused(&|all| all.get_mut(name).expect("there")[[0, 0]] = f32::INFINITY, "inf");
    std::fs::write(&path, b"no such file").expect("room");
    let Err(error) = LayerFile::open_whole(&path, checkpoint.spec(), Content::Gradients) else {
        panic!("no safetensors")
    };
    assert!(error.to_string().contains("gradients.safetensors"), "{error}");
}
