//! Families of comparisons: which differences an experiment is about, said before it runs.
//!
//! Everything in a family is corrected together (Holm), so a family must be fixed beforehand and be no larger than the
//! question. Families are part of no cell's id: declaring one throws no result away.

use super::methods::pattern;
use super::names::known;
use crate::error::{Error, Result};
use crate::experiment::axes;
use crate::experiment::axis::Axis;
use crate::experiment::plan::{Comparison, DENSE, Experiment};
use crate::experiment::raw::RawComparison;
use std::collections::BTreeSet;

/// Resolves a family against the models, methods, patterns, evaluations and tasks of its experiment.
///
/// # Errors
/// Names and patterns the experiment does not have, a method against itself, nothing to compare.
pub fn comparison(raw: &RawComparison, experiment: &Experiment) -> Result<Comparison> {
    if let Some(twice) = (1..raw.against.len()).find(|index| raw.against[..*index].contains(&raw.against[*index])) {
        let message = format!("`{}` is listed twice in `against`", raw.against[twice]);
        return Err(Error::config(message));
    }
    let (ours, against, pairs) = match (&raw.ours, raw.axis) {
        (Some(ours), None) => {
            labelled(ours, &raw.against, experiment)?;
            (ours.clone(), raw.against.clone(), Vec::new())
        }
        (None, Some(axis)) => (String::new(), Vec::new(), along(axis, &raw.against, experiment)?),
        _ => {
            return Err(Error::config(
                "a comparison has either `ours`, the label of a method, or an `axis`",
            ));
        }
    };
    let models: Vec<&str> = experiment.models.iter().map(|it| it.name.as_str()).collect();
    let evaluations: Vec<&str> = experiment.evaluations.iter().map(|it| it.name.as_str()).collect();
    let tasks: Vec<&str> = experiment.answered().collect();
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
        ours,
        against,
        pairs,
        models: labels("model", &raw.models, &models)?,
        patterns,
        evaluations: labels("evaluation", &raw.evaluations, &evaluations)?,
        tasks: labels("task", &raw.tasks, &tasks)?,
    };
    let measured = !(comparison.evaluations.is_empty() && comparison.tasks.is_empty());
    let paired = !(comparison.against.is_empty() && comparison.pairs.is_empty());
    let compared = paired && !comparison.models.is_empty();
    if !(measured && compared) || comparison.patterns.is_empty() {
        return Err(Error::config(format!(
            "family `{}` has no two methods to compare",
            comparison.family
        )));
    }
    Ok(comparison)
}

/// Checks the labels of a method and of those that it is compared with.
fn labelled(ours: &str, against: &[String], experiment: &Experiment) -> Result<()> {
    let methods: Vec<&str> = experiment.methods.iter().map(|it| it.name.as_str()).collect();
    known("method", ours, &methods)?;
    let others: Vec<&str> = methods.iter().copied().chain([DENSE]).collect();
    for name in against {
        known("method", name, &others)?;
        if name == ours {
            return Err(Error::config(format!("`{name}` is compared with itself")));
        }
    }
    Ok(())
}

/// The labels of methods that are compared along an axis with those that have one of the values `against`.
fn along(axis: Axis, against: &[String], experiment: &Experiment) -> Result<Vec<(String, String)>> {
    let methods = &experiment.methods;
    let values: BTreeSet<String> = methods
        .iter()
        .map(|method| axes::value(axis, method, experiment))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for value in against {
        known(&axis.to_string(), value, &values)?;
    }
    let label = |place: usize| methods[place].name.clone();
    let pairs = axes::pairs(axis, against, experiment).into_iter();
    let pairs: Vec<(String, String)> = pairs.map(|(first, second)| (label(first), label(second))).collect();
    match pairs.is_empty() {
        false => Ok(pairs),
        true => Err(Error::config(format!(
            "no two methods are alike but for `{axis}`, with {} on one side{}",
            against.join(" or "),
            axes::nearly(axis, against, experiment)
        ))),
    }
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
