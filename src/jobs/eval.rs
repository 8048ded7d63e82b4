//! Measuring one model as it is.

use super::begins;
use crate::backend::Compute;
use crate::cell::{DenseStreams, Findings, Opened, Prepared, Runner, Sample, Sharing, Work};
use crate::error::{Error, Located, Result};
use crate::experiment::identity::{EvaluationIdentity, GenerationIdentity, Identity, TaskIdentity, identify};
use crate::experiment::inputs::{self, Inputs, ModelIdentity};
use crate::experiment::plan::{Cell, Experiment};
use crate::hub::{Parts, datasets};
use crate::model::forward::Ends;
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::record::{TaskRecord, ToDenseRecord};
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
    /// How far the model's predictions are from those of the model that it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_dense: Option<ToDenseRecord>,
    /// SHA-256 of the files of that model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<ModelIdentity>,
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
    /// The prompts that were answered, with all settings that decide the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationIdentity>,
    /// SHA-256 of the model's files.
    pub model: ModelIdentity,
    /// Name of the backend that computed.
    pub backend: String,
    /// Number format that weights and activations were stored in.
    pub compute: Compute,
    /// Version of zprune that measured.
    pub zprune: String,
}

/// The only cell of an experiment that measures its only model as it is.
const DENSE: Cell = Cell {
    model: 0,
    pruning: None,
};

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
        generations: identity.generations,
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
    let (identity, findings) = measure(experiment, "perplexity", progress)?;
    Ok(evaluation(experiment, identity, findings))
}

/// The same, and how far the model's predictions are from those of the model of `dense`, which measures its model on the same text.
///
/// # Errors
/// As [`eval`]; the tokenizers of the two models make other tokens of the text, or their vocabularies have other sizes.
pub fn compare(experiment: &Experiment, dense: &Experiment, progress: &dyn Progress) -> Result<Evaluation> {
    let (identity, inputs) = inspected(experiment, progress)?;
    let (dense_identity, dense_inputs) = inspected(dense, progress)?;
    let machine = experiment.machine_here()?;
    let backend = Opened::new(&experiment.machine, machine)?;
    let model = Prepared::of(experiment, machine, &inputs, 0, progress)?;
    let other = Prepared::of(dense, machine, &dense_inputs, 0, progress)?;
    let [of_model, of_other] = [&model, &other].map(|it| it.source.spec().vocabulary);
    let same = model.evaluations.iter().zip(&other.evaluations);
    if of_model != of_other || same.clone().any(|(one, other)| one.windows != other.windows) {
        let why = match of_model == of_other {
            true => "their tokenizers make other tokens of the text".to_string(),
            false => format!("they have vocabularies of {of_model} and {of_other} tokens"),
        };
        let other = dense.models[0].path.display();
        let message = format!("it cannot be compared with {other}: predictions are compared token by token, and {why}");
        return Err(Error::input(message).at(experiment.models[0].path.display()));
    }
    let time = begins::time(experiment, machine, &DENSE, &model)?;
    let against = format!(
        "{}, against {}",
        begins::measuring(experiment, &model),
        dense.models[0].name
    );
    progress.begins(&against, time.map(|time| 2 * time));
    let blocks = model.source.spec().blocks;
    progress.start(1, blocks);
    progress.cell("perplexity", blocks);
    let found = backend.run(Compare(&model, &other, progress));
    let findings = found.at(experiment.models[0].path.display())?;
    progress.finish();
    Ok(Evaluation {
        against: Some(dense_identity.model),
        ..evaluation(experiment, identity, findings)
    })
}

/// What was found in an experiment's only evaluation.
fn evaluation(experiment: &Experiment, mut identity: Identity, mut findings: Findings) -> Evaluation {
    let found = findings.evaluations.swap_remove(0);
    Evaluation {
        perplexity: found.perplexity,
        tokens: found.tokens,
        windows: found.windows,
        token_digest: found.token_digest,
        to_dense: found.to_dense,
        against: None,
        protocol_name: experiment.protocol.clone(),
        corpus: datasets::name(experiment.evaluations[0].source()),
        protocol: identity.evaluations.swap_remove(0),
        model: identity.model,
        backend: identity.backend,
        compute: identity.compute,
        zprune: env!("CARGO_PKG_VERSION").to_string(),
    }
}

/// The files of an experiment with one model, and what identifies its dense cell.
fn inspected(experiment: &Experiment, progress: &dyn Progress) -> Result<(Identity, Inputs)> {
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
    Ok((identity, inputs))
}

/// Runs the dense cell of an experiment with one model.
fn measure(experiment: &Experiment, what: &str, progress: &dyn Progress) -> Result<(Identity, Findings)> {
    let (identity, inputs) = inspected(experiment, progress)?;
    let machine = experiment.machine_here()?;
    let backend = Opened::new(&experiment.machine, machine)?;
    let model = Prepared::of(experiment, machine, &inputs, 0, progress)?;
    let time = begins::time(experiment, machine, &DENSE, &model)?;
    progress.begins(&begins::measuring(experiment, &model), time);
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

/// Measures the first model, and compares it with the second.
struct Compare<'a>(&'a Prepared<'a>, &'a Prepared<'a>, &'a dyn Progress);

impl Work for Compare<'_> {
    type Output = Findings;

    fn on<B: Workbench>(self, backend: &B) -> Result<Findings> {
        let Compare(model, dense, progress) = self;
        let ends = Ends::upload(backend, dense.source)?.within(dense.room.clone());
        let streams = DenseStreams::new(backend, dense.source, &ends, &dense.evaluations, progress)?;
        Runner::new(backend, model, Sharing::NONE)?.run_against((&streams, &ends), progress)
    }
}
