//! Pruning one model into a directory of its own.
//!
//! The output is a dense Hugging Face directory with the source's files, shards, tensors and types, and
//! [`PRUNING`] beside them. It appears under its name when it is complete.

use crate::error::{Error, Located, Result};
use crate::experiment::identity::Identity;
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::plan::{Experiment, Pruning};
use crate::files::{Staging, input};
use crate::hub::Parts;
use crate::memory;
use crate::model::export::{ModelWriter, PRUNING};
use crate::progress::Progress;
use crate::prune::LayerRecord;
use crate::prune::workbench::Workbench;
use crate::run::{Findings, Opened, PreparedModel, Runner, identify};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the layout of [`PruningFile`].
pub const SCHEMA: u32 = 1;

/// What `pruning.json` says: how the weights beside it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruningFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of zprune.
    pub zprune: String,
    /// Label of the method.
    pub method: String,
    /// The protocol it was asked for under, if any; what that sets is part of `cell`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Everything that decided the weights: hashes of the source, method, pattern, calibration, seed.
    pub cell: Identity,
    /// Fraction of prunable weights removed.
    pub sparsity: f64,
    /// SHA-256 of the calibration tokens, as little-endian 32-bit words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<String>,
    /// What happened to every layer.
    pub layers: Vec<LayerRecord>,
}

impl PruningFile {
    /// Reads the file of a pruned model directory; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be understood.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(PRUNING);
        let Some(text) = input::read_text_if_there(&path, input::SMALL)? else {
            return Ok(None);
        };
        let file: PruningFile = serde_json::from_str(&text)
            .map_err(|error| Error::input(format!("not a record of pruning: {error}")).at(path.display()))?;
        if file.schema != SCHEMA {
            let message = format!("has schema {}, but this zprune reads schema {SCHEMA}", file.schema);
            return Err(Error::input(message).at(path.display()));
        }
        Ok(Some(file))
    }
}

/// What pruning did, for the user.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// The content of `pruning.json`.
    pub file: PruningFile,
    /// Forward passes for statistics and propagation, in seconds.
    pub calibrate_seconds: f64,
    /// Scoring, selecting, updating, in seconds.
    pub prune_seconds: f64,
    /// The largest resident set, in bytes, where the system tells.
    pub peak_resident_bytes: Option<u64>,
}

/// Prunes the experiment's one model with its one method, pattern and seed into the directory `out`.
///
/// # Errors
/// Unusable inputs, arithmetic that breaks down, a disk that refuses; nothing is left under `out` then.
///
/// # Panics
/// The experiment does not have exactly one pruning cell: a mistake of the caller.
pub fn prune(experiment: &Experiment, out: &Path, progress: &dyn Progress) -> Result<Pruned> {
    let staging = Staging::new(out)?;
    inputs::fetch(experiment, Parts::Everything, progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    inputs.require_all()?;
    let cells = experiment.cells();
    let mut pruning = cells
        .iter()
        .zip(identify(experiment, &inputs))
        .filter_map(|(cell, identity)| cell.pruning.zip(identity));
    let (pruning, identity) = match (pruning.next(), pruning.next()) {
        (Some(only), None) => only,
        _ => panic!("a pruning job has exactly one pruning cell"),
    };
    let input = inputs.models[0].as_ref().expect("all inputs are there");
    let model = PreparedModel::new(experiment, &inputs, 0, input, progress)?;
    let mut writer = ModelWriter::begin(
        &input.checkpoint,
        &inputs.folders[0].as_ref().expect("all inputs are there").path,
        &staging,
    )?;
    progress.start(1, input.checkpoint.spec().blocks);
    let name = &experiment.methods[pruning.method].name;
    progress.cell(&format!("{name}, {}", pruning.pattern));
    let findings = match Opened::new(&experiment.machine)? {
        Opened::Cpu(cpu) => pruned(&cpu, experiment, &model, &pruning, &mut writer, progress),
        Opened::CpuBf16(cpu) => pruned(&cpu, experiment, &model, &pruning, &mut writer, progress),
        Opened::Gpu(gpu) => pruned(gpu.as_ref(), experiment, &model, &pruning, &mut writer, progress),
    };
    let findings = findings.at(experiment.models[0].path.display())?;
    progress.stage("writing");
    writer.finish()?;
    let file = PruningFile {
        schema: SCHEMA,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        method: name.clone(),
        protocol: experiment.protocol.clone(),
        cell: identity,
        sparsity: findings.sparsity.unwrap_or(0.0),
        calibration_tokens: findings.calibration_tokens,
        layers: findings.layers,
    };
    let mut text = serde_json::to_string_pretty(&file).map_err(|error| Error::output(out, error))?;
    text.push('\n');
    staging.write(PRUNING, text.as_bytes())?;
    staging.commit()?;
    progress.finish();
    Ok(Pruned {
        file,
        calibrate_seconds: findings.time.passes().as_secs_f64(),
        prune_seconds: findings.time.prune.as_secs_f64(),
        peak_resident_bytes: memory::peak_resident(),
    })
}

/// Prunes on a backend; every block is written as soon as it is ready.
fn pruned<B: Workbench>(
    backend: &B,
    experiment: &Experiment,
    model: &PreparedModel,
    pruning: &Pruning,
    writer: &mut ModelWriter,
    progress: &dyn Progress,
) -> Result<Findings> {
    Runner::new(backend, experiment, model)?.pruned(pruning, progress, |pruned| {
        pruned.weights().try_for_each(|linear| writer.put(&linear?))
    })
}
