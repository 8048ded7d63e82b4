//! Families of comparisons: which differences an experiment is about, said before it runs.
//!
//! Everything in a family is corrected together (Holm), so a family must be fixed beforehand and be no larger than the
//! question. Families are part of no cell's id: declaring one throws no result away.

use super::methods::pattern;
use super::names::known;
use crate::error::{Error, Result};
use crate::experiment::plan::{Comparison, DENSE, Experiment};
use crate::experiment::raw::RawComparison;

/// Resolves a family against the models, methods, patterns, evaluations and tasks of its experiment.
///
/// # Errors
/// Names and patterns the experiment does not have, a method against itself, nothing to compare.
pub fn comparison(raw: &RawComparison, experiment: &Experiment) -> Result<Comparison> {
    let methods: Vec<&str> = experiment.methods.iter().map(|it| it.name.as_str()).collect();
    known("method", &raw.ours, &methods)?;
    let others: Vec<&str> = methods.iter().copied().chain([DENSE]).collect();
    for (index, name) in raw.against.iter().enumerate() {
        known("method", name, &others)?;
        if *name == raw.ours {
            return Err(Error::config(format!("`{name}` is compared with itself")));
        }
        if raw.against[..index].contains(name) {
            return Err(Error::config(format!("`{name}` is listed twice in `against`")));
        }
    }
    let models: Vec<&str> = experiment.models.iter().map(|it| it.name.as_str()).collect();
    let evaluations: Vec<&str> = experiment.evaluations.iter().map(|it| it.name.as_str()).collect();
    let tasks: Vec<&str> = experiment.tasks.iter().map(|it| it.name.as_str()).collect();
    let patterns = match &raw.patterns {
        None => experiment.patterns.clone(),
        Some(patterns) => patterns.iter().map(pattern).collect::<Result<_>>()?,
    };
    if let Some(unknown) = patterns.iter().find(|it| !experiment.patterns.contains(it)) {
        let message = format!("pattern {unknown} is none of the sweep's: add it to `sweep.patterns`");
        return Err(Error::config(message));
    }
    let comparison = Comparison {
        family: raw.family.clone(),
        ours: raw.ours.clone(),
        against: raw.against.clone(),
        models: labels("model", &raw.models, &models)?,
        patterns,
        evaluations: labels("evaluation", &raw.evaluations, &evaluations)?,
        tasks: labels("task", &raw.tasks, &tasks)?,
    };
    let measured = !(comparison.evaluations.is_empty() && comparison.tasks.is_empty());
    let compared = !(comparison.against.is_empty() || comparison.models.is_empty());
    if !(measured && compared) || comparison.patterns.is_empty() {
        return Err(Error::config(format!(
            "family `{}` compares nothing",
            comparison.family
        )));
    }
    Ok(comparison)
}

/// The labels that were named, or all.
fn labels(what: &str, named: &Option<Vec<String>>, all: &[&str]) -> Result<Vec<String>> {
    match named {
        None => Ok(all.iter().map(|name| name.to_string()).collect()),
        Some(named) => {
            named.iter().try_for_each(|name| known(what, name, all))?;
            Ok(named.clone())
        }
    }
}
