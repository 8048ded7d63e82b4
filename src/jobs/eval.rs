//! Measuring one model as it is.

use crate::backend::Compute;
use crate::cell::{Findings, Opened, Prepared, Runner, Sample, Sharing, Work};
use crate::error::{Error, Located, Result};
use crate::experiment::identity::{EvaluationIdentity, Identity, TaskIdentity, identify};
use crate::experiment::inputs::{self, Inputs, ModelIdentity};
use crate::experiment::plan::Experiment;
use crate::hub::{Parts, datasets};
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::record::TaskRecord;
use serde::Serialize;
use std::collections::BTreeMap;

/// The result that `zprune eval --json` writes.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// `exp` of the mean of `windows`; lower is better.
    pub perplexity: f64,
    /// Number of tokens in all windows.
    pub tokens: usize,
    /// Mean negative log-likelihood of every window, in nats per predicted token.
    pub windows: Vec<f64>,
    /// SHA-256 of the tokens, as little-endian 32-bit words.
    pub token_digest: String,
    /// Name of the protocol, if the user asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_name: Option<String>,
    /// Name of the text, or of the token windows, without the folder that it is in.
    pub corpus: String,
    /// What was measured, with all settings that decide the result.
    pub protocol: EvaluationIdentity,
    /// SHA-256 of the model's files.
    pub model: ModelIdentity,
    /// Name of the backend that computed.
    pub backend: String,
    /// Number format that weights and activations were stored in.
    pub compute: Compute,
    /// Version of zprune that measured.
    pub zprune: String,
}

/// The result that `zprune eval --tasks --json` writes.
#[derive(Debug, Clone, Serialize)]
pub struct TaskEvaluation {
    /// Results of the tasks, in the order in which the user named them.
    pub tasks: Vec<TaskRecord>,
    /// For each task the scores of all its documents.
    pub samples: BTreeMap<String, Vec<Sample>>,
    /// What was measured, with all settings that decide the result.
    pub protocol: Vec<TaskIdentity>,
    /// SHA-256 of the model's files.
    pub model: ModelIdentity,
    /// Name of the backend that computed.
    pub backend: String,
    /// Number format that weights and activations were stored in.
    pub compute: Compute,
    /// Version of zprune that measured.
    pub zprune: String,
}

/// Measures the experiment's only model on its tasks.
///
/// # Errors
/// An experiment without a model, unusable inputs, or a log-likelihood that is not finite.
pub fn score(experiment: &Experiment, progress: &dyn Progress) -> Result<TaskEvaluation> {
    let (identity, findings) = measure(experiment, "tasks", progress)?;
    let samples = findings
        .tasks
        .iter()
        .map(|task| (task.record.name.clone(), task.samples.clone()));
    Ok(TaskEvaluation {
        samples: samples.collect(),
        tasks: findings.tasks.into_iter().map(|task| task.record).collect(),
        protocol: identity.tasks,
        model: identity.model,
        backend: identity.backend,
        compute: identity.compute,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
    })
}

/// Measures the experiment's only model in its only evaluation.
///
/// # Errors
/// An experiment without a model or an evaluation, unusable inputs, or a likelihood that is not finite.
pub fn eval(experiment: &Experiment, progress: &dyn Progress) -> Result<Evaluation> {
    if experiment.evaluations.is_empty() {
        let message = format!(
            "experiment `{}` has no evaluation to measure its model on",
            experiment.name
        );
        return Err(Error::config(message));
    }
    let (mut identity, mut findings) = measure(experiment, "perplexity", progress)?;
    let found = findings.evaluations.swap_remove(0);
    Ok(Evaluation {
        perplexity: found.perplexity,
        tokens: found.tokens,
        windows: found.windows,
        token_digest: found.token_digest,
        protocol_name: experiment.protocol.clone(),
        corpus: datasets::name(experiment.evaluations[0].source()),
        protocol: identity.evaluations.swap_remove(0),
        model: identity.model,
        backend: identity.backend,
        compute: identity.compute,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
    })
}

/// Runs the dense cell of an experiment with one model.
fn measure(experiment: &Experiment, what: &str, progress: &dyn Progress) -> Result<(Identity, Findings)> {
    inputs::fetch(experiment, Parts::Everything, progress)?;
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    inputs.require_all()?;
    let machine = experiment.machine_here()?;
    let dense = identify(experiment, machine, &inputs).into_iter().next().flatten();
    let identity = dense.ok_or_else(|| {
        Error::config(format!(
            "experiment `{}` has no model to measure; this takes an experiment of one model",
            experiment.name
        ))
    })?;
    let backend = Opened::new(&experiment.machine, machine)?;
    let model = Prepared::of(experiment, machine, &inputs, 0, progress)?;
    let blocks = model.source.spec().blocks;
    progress.start(1, blocks);
    progress.cell(what, blocks);
    let found = backend.run(Measure(&model, progress));
    let findings = found.at(experiment.models[0].path.display())?;
    progress.finish();
    Ok((identity, findings))
}

/// Measures a model as it is.
struct Measure<'a>(&'a Prepared<'a>, &'a dyn Progress);

impl Work for Measure<'_> {
    type Output = Findings;

    fn on<B: Workbench>(self, backend: &B) -> Result<Findings> {
        Runner::new(backend, self.0, Sharing::NONE)?.run(None, self.1, |_| Ok(()))
    }
}
