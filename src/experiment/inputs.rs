//! The files an experiment names: which are there, what they hash to, whether they fit the plan.
//!
//! Opens checkpoints (headers, hashes) and hashes corpora; loads no weights into memory. What is missing
//! is collected, not fatal: a plan can be shown without any weights.

use super::identity::ModelIdentity;
use super::plan::{Experiment, ModelPlan};
use crate::data::digest;
use crate::error::{Error, Located, Result};
use crate::model::checkpoint::Checkpoint;
use crate::model::families::read_spec;
use crate::model::weights::WeightFiles;
use crate::spec::ModelSpec;
use std::path::Path;

/// A model directory that is there and fits.
pub struct ModelInput {
    /// Hashes of its files.
    pub identity: ModelIdentity,
    /// The opened checkpoint.
    pub checkpoint: Checkpoint,
}

/// An evaluation corpus that is there.
pub struct EvaluationInput {
    /// SHA-256 of the file.
    pub digest: String,
}

/// All inputs of an experiment; `None` where a file is not there.
pub struct Inputs {
    /// One per model.
    pub models: Vec<Option<ModelInput>>,
    /// The calibration corpus.
    pub calibration: Option<String>,
    /// All evaluation corpora, if all are there.
    pub evaluations: Option<Vec<EvaluationInput>>,
    /// What is missing, and how to get it.
    pub missing: Vec<String>,
}

impl Inputs {
    /// Looks at every file the experiment names.
    ///
    /// # Errors
    /// A file is there but cannot be used, or contradicts the plan.
    pub fn inspect(experiment: &Experiment) -> Result<Inputs> {
        let mut missing = Vec::new();
        let mut models = Vec::new();
        for plan in &experiment.models {
            models.push(model(experiment, plan, &mut missing)?);
        }
        let calibration = match &experiment.calibration {
            Some(plan) => corpus("calibration corpus", &plan.corpus, plan.obtain.as_deref(), &mut missing)?,
            None => None,
        };
        let mut evaluations = Vec::new();
        for plan in &experiment.evaluations {
            evaluations.extend(corpus(
                "evaluation corpus",
                &plan.corpus,
                plan.obtain.as_deref(),
                &mut missing,
            )?);
        }
        let complete = evaluations.len() == experiment.evaluations.len();
        let evaluations = evaluations
            .into_iter()
            .map(|digest| EvaluationInput { digest })
            .collect();
        Ok(Inputs {
            models,
            calibration,
            evaluations: complete.then_some(evaluations),
            missing,
        })
    }

    /// Refuses to go on while anything is missing.
    ///
    /// # Errors
    /// Lists every missing file and how to get it.
    pub fn require_all(&self) -> Result<()> {
        match &self.missing[..] {
            [] => Ok(()),
            missing => Err(Error::input(missing.join("\n"))),
        }
    }
}

fn absent(what: &str, path: &Path, obtain: Option<&str>) -> String {
    let how = match obtain {
        Some(obtain) => format!("to get it: {obtain}"),
        None => "paths are relative to the folder zprune is started in".to_string(),
    };
    format!("{what} {} is not there; {how}", path.display())
}

/// A model directory. Its configuration is held against the plan even where the larger files are missing.
fn model(experiment: &Experiment, plan: &ModelPlan, missing: &mut Vec<String>) -> Result<Option<ModelInput>> {
    let (config, tokenizer) = (plan.path.join("config.json"), plan.path.join("tokenizer.json"));
    let obtain = plan.obtain.as_deref();
    if !config.exists() {
        missing.push(absent("model", &config, obtain));
        return Ok(None);
    }
    let spec = read_spec(&plan.path)?;
    check_fit(experiment, plan, &spec)?;
    let (weights_there, tokenizer_there) = (WeightFiles::is_in(&plan.path), tokenizer.exists());
    if !weights_there {
        missing.push(absent("checkpoint", &plan.path.join("model.safetensors"), obtain));
    }
    if !tokenizer_there {
        missing.push(absent("tokenizer", &tokenizer, obtain));
    }
    if !(weights_there && tokenizer_there) {
        return Ok(None);
    }
    let checkpoint = Checkpoint::open(&plan.path, spec)?;
    let identity = ModelIdentity {
        config: digest::of_file(&config)?,
        weights: checkpoint.files().digest(),
        tokenizer: digest::of_file(&tokenizer)?,
    };
    Ok(Some(ModelInput { identity, checkpoint }))
}

fn corpus(what: &str, path: &Path, obtain: Option<&str>, missing: &mut Vec<String>) -> Result<Option<String>> {
    if path.exists() {
        return digest::of_file(path).map(Some);
    }
    missing.push(absent(what, path, obtain));
    Ok(None)
}

/// Checks what the architecture makes impossible.
fn check_fit(experiment: &Experiment, plan: &ModelPlan, spec: &ModelSpec) -> Result<()> {
    for pattern in &experiment.patterns {
        for linear in &spec.block.linears {
            pattern.fits(linear.inputs).at(linear.tensor).at(plan.path.display())?;
        }
    }
    let calibration = experiment.calibration.iter().map(|plan| ("calibration", plan.length));
    let evaluations = experiment
        .evaluations
        .iter()
        .map(|plan| (plan.name.as_str(), plan.length));
    for (name, length) in calibration.chain(evaluations) {
        if let Some(limit) = spec.longest_window.filter(|limit| *limit < length) {
            let message = format!("{name}: windows of {length} tokens are longer than the model's limit of {limit}");
            return Err(Error::config(message).at(plan.path.display()));
        }
        if length > spec.max_positions {
            let limit = spec.max_positions;
            tracing::warn!("{name}: windows of {length} tokens exceed max_position_embeddings = {limit}");
        }
    }
    Ok(())
}
