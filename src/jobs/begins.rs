//! What a command on one model says before its long work: what is done with which model, and with how many windows of how many tokens.

use crate::cell::Prepared;
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::experiment::machine::{Machine, Processor};
use crate::experiment::plan::{Cell, Experiment};
use crate::experiment::work::{operations, rate};
use crate::model::pruned_before::PrunedBefore;
use crate::progress::Progress;
use crate::spec::ModelSpec;
use std::time::Duration;

/// What `--sparsity` does with weights that are zero before pruning.
pub(super) const COUNTED_BY_SPARSITY: &str = "The sparsity that you asked for counts these zeros";

/// What `--units` does with them.
pub(super) const COUNTED_BY_UNITS: &str =
    "The share in --units counts all weights of a unit, and these zeros are among them";

/// The experiment's only model is measured.
pub(super) fn measuring(experiment: &Experiment, model: &Prepared) -> String {
    let texts = model.evaluations.iter().zip(&experiment.evaluations);
    let texts = texts.map(|(text, plan)| of(&text.windows, &plan.source().display().to_string()));
    let tasks = model.tasks.iter();
    let tasks = tasks.map(|task| format!("task {} with {} documents", task.name(), task.count()));
    let prompts = model.generations.iter();
    let prompts = prompts.map(|generation| format!("{} prompts", generation.count()));
    let parts: Vec<String> = texts.chain(tasks).chain(prompts).collect();
    format!("{} is measured: {}", name(experiment), parts.join(", "))
}

/// Something is done to the experiment's only model, in words that follow its name, with what it is calibrated on.
pub(super) fn changing(
    experiment: &Experiment,
    done: &str,
    spec: &ModelSpec,
    windows: Option<&TokenWindows>,
    seed: Option<u64>,
) -> String {
    let file = experiment
        .calibration
        .as_ref()
        .zip(seed)
        .map(|(plan, seed)| plan.file(seed));
    let calibration = match windows.zip(file) {
        Some((windows, file)) => format!("calibration on {}", of(windows, &file.display().to_string())),
        None => "no calibration".to_string(),
    };
    format!("{} {done}: {} blocks, {calibration}", name(experiment), spec.blocks)
}

/// Says so if the experiment's only model has many zeros already; `counted` says what that means for what was asked.
pub(super) fn pruned_before(
    experiment: &Experiment,
    before: Option<&PrunedBefore>,
    counted: &str,
    progress: &dyn Progress,
) {
    if let Some(before) = before {
        progress.note(&format!("{}: {}. {counted}", name(experiment), before.said()));
    }
}

/// The time that a cell takes on the CPU, about, by its products and factorisations; for less than a quarter of a minute, none.
pub(super) fn time(
    experiment: &Experiment,
    machine: Machine,
    cell: &Cell,
    model: &Prepared,
) -> Result<Option<Duration>> {
    if machine.backend != Processor::Cpu {
        return Ok(None);
    }
    let work = operations(experiment, model.source.spec(), cell, &model.measured())?;
    let time = Duration::try_from_secs_f64(work.all() / rate()?).ok();
    Ok(time.filter(|time| time.as_secs() >= 15))
}

fn name(experiment: &Experiment) -> &str {
    experiment
        .models
        .first()
        .map_or("the model", |model| model.name.as_str())
}

fn of(windows: &TokenWindows, source: &str) -> String {
    format!(
        "{} windows of {} tokens from {source}",
        windows.count(),
        windows.length()
    )
}
