//! Statistics of the inputs of a model's linear layers, written for another program that computes scores or masks from them; or gradients
//! of its loss, for methods that calibrate on another text.
//!
//! The file is one of safetensors. Each linear layer of the blocks has, under the name of its weight without `.weight`:
//! `.input_squares`, `.input_means` and `.input_variances` (F64, one value per input), and with `gram` also `.gram` (F32, inputs by
//! inputs). They are those of the dense model, and have the names and the meanings that formulas have for them
//! ([`Quantity`](crate::prune::score::Quantity)). Gradients (F32) have the names and the shapes of the weights.

use super::begins;
use crate::backend::Backend;
use crate::backend::gradient::{GradientNeeds, GradientSum};
use crate::backend::moments::Needs;
use crate::calibrate::passes;
use crate::calibrate::statistics::Factoring;
use crate::cell::{Opened, Work, calibration_windows};
use crate::choices;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::plan::Experiment;
use crate::files::{Access, Staging};
use crate::hub::{Parts, datasets};
use crate::model::backward::gradients;
use crate::model::checkpoint::Checkpoint;
use crate::model::export::TensorFile;
use crate::model::forward::Ends;
use crate::model::layer_file::MODEL_WEIGHTS;
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::spec::{ModelSpec, Tap};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file while it is made.
const FILE: &str = "statistics.safetensors";

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// Squares, means and variances of inputs, and their Gram matrices, if `gram`.
    Inputs {
        /// Whether there are Gram matrices.
        gram: bool,
    },
    /// Gradients of the model's loss.
    Gradients(Added),
}

/// How the gradients of sequences are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Added {
    /// The mean of the gradients.
    Mean,
    /// The root of the sum of their squares.
    L2,
    /// The sum of their magnitudes.
    L1,
}

impl Added {
    /// The sum that it is made of.
    fn sum(self) -> GradientSum {
        match self {
            Added::Mean => GradientSum::Plain,
            Added::L2 => GradientSum::Squares,
            Added::L1 => GradientSum::Magnitudes,
        }
    }

    /// What becomes of an entry of the sum over `count` sequences.
    fn of(self, entry: f32, count: usize) -> f32 {
        match self {
            Added::Mean => entry / count as f32,
            Added::L2 => entry.sqrt(),
            Added::L1 => entry,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Number of linear layers.
    pub layers: usize,
    /// Number of tokens that were looked at.
    pub tokens: usize,
    /// Number of bytes of all tensors.
    pub bytes: u64,
}

/// Gathers the statistics of the experiment's only model on its calibration text, for its only seed, and writes them to the new file
/// `out`.
///
/// # Errors
/// Unusable inputs, something at `out`, or a disk that refuses; nothing is left under `out` then.
pub fn export(experiment: &Experiment, out: &Path, wanted: Statistics, progress: &dyn Progress) -> Result<Exported> {
    let staging = Staging::for_file(out, FILE)?;
    inputs::fetch(experiment, Parts::Everything, progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    inputs.require_all()?;
    let missing = || inputs.lacks();
    let input = inputs.models.first().and_then(Option::as_ref).ok_or_else(missing)?;
    let machine = experiment.machine_here()?;
    progress.stage("tokenising");
    let windows = calibration_windows(experiment, &inputs, 0)?.pop_first();
    let (seed, windows) = windows.ok_or_else(|| Error::config("there is nothing to calibrate on"))?;
    let checkpoint = &input.checkpoint;
    progress.stage("checking the weights");
    checkpoint.check_finite()?;
    let metadata = metadata(experiment, &inputs, seed, &windows, wanted);
    let layout = layout(checkpoint.spec(), wanted);
    let listed = layout
        .iter()
        .map(|(name, dtype, shape)| (name.as_str(), *dtype, shape.as_slice()));
    let mut access = Access::OPEN;
    for path in checkpoint.files().paths() {
        access = access.and(Access::of(path)?);
    }
    let mut file = staging.tensors(FILE, listed, &metadata, access)?;
    let begins = begins::changing(
        experiment,
        "is looked at",
        checkpoint.spec(),
        Some(&windows),
        Some(seed),
    );
    progress.begins(&begins, None);
    progress.start(1, checkpoint.spec().blocks);
    progress.cell("statistics", checkpoint.spec().blocks);
    Opened::new(&experiment.machine, machine)?
        .run(Gather {
            checkpoint,
            windows: &windows,
            factoring: Factoring::from(experiment.linear_algebra),
            wanted,
            file: &mut file,
            progress,
        })
        .at(experiment.models[0].path.display())
        .map_err(|error| staging.renamed(error))?;
    file.finish()?;
    inputs.unchanged(0)?;
    staging.commit()?;
    progress.finish();
    let bytes = |(_, dtype, shape): &(String, Dtype, Vec<usize>)| {
        (shape.iter().product::<usize>() * dtype.bitsize() / 8) as u64
    };
    let blocks = 0..checkpoint.spec().blocks;
    Ok(Exported {
        layers: blocks.map(|index| checkpoint.spec().block(index).linears.len()).sum(),
        tokens: windows.ids().len(),
        bytes: layout.iter().map(bytes).sum(),
    })
}

/// The tensors of the file, with their types and shapes.
fn layout(spec: &ModelSpec, wanted: Statistics) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut all = Vec::new();
    for index in 0..spec.blocks {
        let block = spec.block(index);
        for linear in &block.linears {
            let weight = block.weight_of(index, linear);
            let Statistics::Inputs { gram } = wanted else {
                all.push((weight, Dtype::F32, linear.stored_shape().to_vec()));
                continue;
            };
            let stem = stem(&weight);
            for what in ["input_squares", "input_means", "input_variances"] {
                all.push((format!("{stem}.{what}"), Dtype::F64, vec![linear.inputs]));
            }
            if gram {
                all.push((format!("{stem}.gram"), Dtype::F32, vec![linear.inputs; 2]));
            }
        }
    }
    all
}

/// The name of a layer, from that of its weight.
fn stem(weight: &str) -> String {
    weight.strip_suffix(".weight").unwrap_or(weight).to_string()
}

/// Where the statistics come from.
fn metadata(
    experiment: &Experiment,
    inputs: &Inputs,
    seed: u64,
    windows: &TokenWindows,
    wanted: Statistics,
) -> BTreeMap<String, String> {
    let made_from = match wanted {
        Statistics::Inputs { .. } => "the inputs of the dense model's linear layers".to_string(),
        Statistics::Gradients(added) => format!("gradients of the dense model's loss, {}", choices::name(&added)),
    };
    let mut all = BTreeMap::from([
        ("zprune".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("made_from".to_string(), made_from),
        ("seed".to_string(), seed.to_string()),
        ("sequences".to_string(), windows.count().to_string()),
        ("length".to_string(), windows.length().to_string()),
        ("tokens_sha256".to_string(), windows.digest()),
    ]);
    if let Some(model) = inputs.models.first().and_then(Option::as_ref) {
        all.insert("model_config_sha256".to_string(), model.identity.config.clone());
        all.insert(MODEL_WEIGHTS.to_string(), model.identity.weights.clone());
    }
    if let (Some(plan), Some(file)) = (&experiment.calibration, inputs.calibration.get(&seed)) {
        all.insert("calibration".to_string(), datasets::name(&plan.file(seed)));
        all.insert("calibration_sha256".to_string(), file.digest.clone());
    }
    all
}

/// The pass through the model that gathers and writes.
struct Gather<'a> {
    checkpoint: &'a Checkpoint,
    windows: &'a TokenWindows,
    factoring: Factoring,
    wanted: Statistics,
    file: &'a mut TensorFile,
    progress: &'a dyn Progress,
}

impl Work for Gather<'_> {
    type Output = ();

    fn on<B: Workbench>(self, backend: &B) -> Result<()> {
        let Gather {
            checkpoint,
            windows,
            factoring,
            wanted,
            file,
            progress,
        } = self;
        let gram = match wanted {
            Statistics::Inputs { gram } => gram,
            Statistics::Gradients(added) => return put_gradients(backend, checkpoint, windows, added, file, progress),
        };
        let needs = Needs::SQUARES.and(Needs::MEANS);
        let needs = if gram { needs.and(Needs::GRAM) } else { needs };
        let ends = Ends::upload(backend, checkpoint)?;
        passes::dense(
            backend,
            checkpoint,
            &ends,
            windows,
            needs,
            |index, mut block, moments| {
                let mut statistics: BTreeMap<Tap, B::Statistics> = BTreeMap::new();
                for (tap, moments) in moments.taps() {
                    statistics.insert(tap, backend.statistics(moments, windows.count(), factoring)?);
                }
                let layers = block.layers();
                let taps: Vec<Tap> = layers.iter().map(|(id, ..)| block.spec().linear(*id).tap()).collect();
                for ((weight, (_, name, storage)), tap) in block.weights_mut().zip(&layers).zip(&taps) {
                    let piece = backend.workpiece(weight, *storage, &statistics[tap]);
                    let stem = stem(name);
                    let means = piece.means().at(name)?;
                    let vectors = [
                        ("input_squares", piece.squared_norms().at(name)?),
                        ("input_means", &means.mean[..]),
                        ("input_variances", &means.variance[..]),
                    ];
                    for (what, values) in vectors {
                        let bytes: Vec<u8> = values.iter().copied().flat_map(f64::to_le_bytes).collect();
                        file.put(&format!("{stem}.{what}"), &bytes)?;
                    }
                    if gram {
                        let values = piece.read(&piece.gram().at(name)?)?;
                        let bytes: Vec<u8> = values.iter().copied().flat_map(f32::to_le_bytes).collect();
                        file.put(&format!("{stem}.gram"), &bytes)?;
                    }
                }
                progress.step().at(format_args!("block {index}"))
            },
        )
    }
}

/// Writes the gradients with respect to every layer's weight as it is stored.
fn put_gradients<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    windows: &TokenWindows,
    added: Added,
    file: &mut TensorFile,
    progress: &dyn Progress,
) -> Result<()> {
    let ends = Ends::upload(backend, checkpoint)?;
    let needs = GradientNeeds::only(added.sum());
    gradients(backend, checkpoint, &ends, windows, needs, |index, block, found| {
        for (id, sums) in found.into_layers() {
            let linear = block.spec().linear(id);
            let name = block.spec().weight_of(index, linear);
            let sum = match added.sum() {
                GradientSum::Plain => sums.sum,
                GradientSum::Squares => sums.squares,
                GradientSum::Magnitudes => sums.magnitudes,
            };
            let missing = || Error::numeric("the gradient was not gathered");
            let sum = backend.download(&sum.ok_or_else(missing).at(&name)?)?;
            if sum.iter().any(|entry| !entry.is_finite()) {
                return Err(Error::numeric("its gradient is not finite").at(&name));
            }
            let sum = if linear.transposed { sum.reversed_axes() } else { sum };
            let values = sum.iter().map(|entry| added.of(*entry, windows.count()));
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            file.put(&name, &bytes)?;
        }
        progress.step().at(format_args!("block {index}"))
    })?;
    Ok(())
}
