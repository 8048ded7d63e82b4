//! Published values that a report shows beside ours: what was printed, where, and by which protocol.
//!
//! References decide nothing that is computed. They are for comparing, and for asking how large a difference the published
//! experiment could have seen (`zprune report --power`).

use super::methods::pattern;
use super::names::known;
use crate::error::Error;
use crate::eval::tasks::TASKS;
use crate::experiment::plan::{DENSE, Experiment, Reference};
use crate::experiment::problems::{AtKey, Keyed};
use crate::experiment::raw::RawReference;

/// Resolves a reference against the experiment that cites it.
///
/// # Errors
/// Names and patterns the experiment does not have, no measure or two, values that cannot be.
pub fn reference(raw: &RawReference, experiment: &Experiment) -> Keyed<Reference> {
    let wrong = |key, message: &str| Err((key, Error::config(message)));
    let models: Vec<&str> = experiment.models.iter().map(|it| it.name.as_str()).collect();
    known("model", &raw.model, &models).at_key("model")?;
    let evaluations: Vec<&str> = experiment.evaluations.iter().map(|it| it.name.as_str()).collect();
    match (&raw.evaluation, &raw.task, raw.documents) {
        (Some(evaluation), None, None) => known("evaluation", evaluation, &evaluations).at_key("evaluation")?,
        (None, Some(task), Some(documents)) if documents > 0 => {
            TASKS.find(task).at_key("task")?;
        }
        (None, Some(task), _) => {
            let message = format!(
                "`documents` is missing: the number of documents of `{task}`; the uncertainty of its accuracies depends on it"
            );
            return wrong("documents", &message);
        }
        (Some(_), None, Some(_)) => {
            return wrong("documents", "`documents` belongs to a `task`, not to an `evaluation`");
        }
        _ => {
            let message = "a reference has either `evaluation` (perplexities) or `task` (accuracies in percent)";
            return wrong("task", message);
        }
    }
    let methods: Vec<&str> = experiment
        .methods
        .iter()
        .map(|it| it.name.as_str())
        .chain([DENSE])
        .collect();
    for name in raw.values.keys() {
        known("method", name, &methods).at_key("values")?;
    }
    for (name, deviation) in &raw.deviations {
        let sensible = *deviation >= 0.0 && deviation.is_finite();
        if !(sensible && raw.values.contains_key(name)) {
            let message = format!("deviations.{name}: a standard deviation, at least 0, of a method that has a value");
            return wrong("deviations", &message);
        }
    }
    let pattern = raw.pattern.as_ref().map(pattern).transpose().at_key("pattern")?;
    if pattern.is_none() && raw.values.keys().any(|name| name != DENSE) {
        let message = "`pattern` is missing: only a reference of the dense model alone has none";
        return wrong("pattern", message);
    }
    if let Some(pattern) = pattern.filter(|pattern| !experiment.patterns.contains(pattern)) {
        let message = format!("pattern {pattern} is none of the sweep's: add it to `sweep.patterns`");
        return wrong("pattern", &message);
    }
    let range = match raw.task {
        Some(_) => 0.0..=100.0,
        None => 1.0..=f64::MAX,
    };
    if raw.source.is_empty() || raw.values.is_empty() {
        return wrong("source", "a reference needs a `source` and at least one value");
    }
    if let Some((name, value)) = raw.values.iter().find(|(_, value)| !range.contains(value)) {
        let what = match raw.task {
            Some(_) => "an accuracy in percent",
            None => "a perplexity, at least 1",
        };
        return wrong("values", &format!("values.{name} = {value} is not {what}"));
    }
    Ok(Reference {
        source: raw.source.clone(),
        protocol: raw.protocol.clone(),
        model: raw.model.clone(),
        pattern,
        evaluation: raw.evaluation.clone(),
        task: raw.task.clone(),
        documents: raw.documents,
        values: raw.values.clone(),
        deviations: raw.deviations.clone(),
    })
}
