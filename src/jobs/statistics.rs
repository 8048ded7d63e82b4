//! Statistics of the inputs of a model's linear layers, written for another program that computes scores or masks from them.
//!
//! The file is one of safetensors. Each linear layer of the blocks has, under the name of its weight without `.weight`:
//! `.input_squares`, `.input_means` and `.input_variances` (F64, one value per input), and with `gram` also `.gram` (F32, inputs by
//! inputs). They are those of the dense model, and have the names and the meanings that formulas have for them
//! ([`Quantity`](crate::prune::score::Quantity)).

use super::begins;
use crate::backend::moments::Needs;
use crate::calibrate::passes;
use crate::calibrate::statistics::Factoring;
use crate::cell::{Opened, Work, calibration_windows};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::plan::Experiment;
use crate::files::{Access, Staging};
use crate::hub::{Parts, datasets};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::TensorFile;
use crate::model::forward::Ends;
use crate::model::layer_file::MODEL_WEIGHTS;
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::spec::{ModelSpec, Tap};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file while it is made.
const FILE: &str = "statistics.safetensors";

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
/// `out`; Gram matrices, too, if `gram`.
///
/// # Errors
/// Unusable inputs, something at `out`, or a disk that refuses; nothing is left under `out` then.
pub fn export(experiment: &Experiment, out: &Path, gram: bool, progress: &dyn Progress) -> Result<Exported> {
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
    let metadata = metadata(experiment, &inputs, seed, &windows);
    let layout = layout(checkpoint.spec(), gram);
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
            gram,
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
    Ok(Exported {
        layers: layout.len() / (3 + usize::from(gram)),
        tokens: windows.ids().len(),
        bytes: layout.iter().map(bytes).sum(),
    })
}

/// The tensors of the file, with their types and shapes.
fn layout(spec: &ModelSpec, gram: bool) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut all = Vec::new();
    for index in 0..spec.blocks {
        let block = spec.block(index);
        for linear in &block.linears {
            let stem = stem(&block.weight_of(index, linear));
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
fn metadata(experiment: &Experiment, inputs: &Inputs, seed: u64, windows: &TokenWindows) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        ("zprune".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        (
            "made_from".to_string(),
            "the inputs of the dense model's linear layers".to_string(),
        ),
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
    gram: bool,
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
            gram,
            file,
            progress,
        } = self;
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
