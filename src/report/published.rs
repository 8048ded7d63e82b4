//! Published values beside ours.

use super::results::{Measure, Results, Section};
use crate::experiment::plan::{DENSE, Reference};
use crate::prune::pattern::Pattern;

/// A published value beside our own.
#[derive(Debug, Clone, PartialEq)]
pub struct Published<'a> {
    /// The model and measure that the value belongs to.
    pub section: &'a Section,
    /// Pattern of the published result.
    pub pattern: Pattern,
    /// Name of the method; [`DENSE`] for the unpruned model.
    pub method: &'a str,
    /// The published value: a perplexity, or an accuracy in percent.
    pub value: f64,
    /// Standard deviation over seeds, if it is published.
    pub deviation: Option<f64>,
    /// Our mean over seeds, if there is a result.
    pub ours: Option<f64>,
    /// The source that the experiment cites for the value.
    pub source: &'a str,
}

impl Published<'_> {
    /// Our value relative to the published one: percent of a perplexity, or percentage points of accuracy.
    pub fn off(&self) -> Option<f64> {
        self.ours.map(|ours| match self.section.measure {
            Measure::Perplexity { .. } => 100.0 * (ours / self.value - 1.0),
            _ => ours - self.value,
        })
    }
}

/// Every published value that the experiment cites, section by section.
pub fn published(results: &Results) -> Vec<Published<'_>> {
    let experiment = &results.plan.experiment;
    let mut found = Vec::new();
    for section in &results.sections {
        for pattern in &experiment.patterns {
            let methods = experiment.methods.iter().map(|it| it.name.as_str());
            for method in [DENSE].into_iter().chain(methods) {
                found.extend(of(&experiment.references, section, method, *pattern));
            }
        }
    }
    found
}

/// The published values for one place in a table, in the experiment's order.
pub fn of<'a>(
    references: &'a [Reference],
    section: &'a Section,
    method: &'a str,
    pattern: Pattern,
) -> impl Iterator<Item = Published<'a>> {
    let here = move |it: &&Reference| {
        let measured = match &section.measure {
            Measure::Perplexity { evaluation } => it.evaluation.as_ref() == Some(evaluation),
            Measure::Accuracy { task, metric } => it.task.as_ref() == Some(task) && *metric == "acc",
            Measure::Divergence { .. } | Measure::Agreement { .. } => false,
        };
        let placed = it.pattern == Some(pattern) || (method == DENSE && it.pattern.is_none());
        measured && placed && it.model == section.model
    };
    references.iter().filter(here).filter_map(move |it| {
        Some(Published {
            section,
            pattern,
            method,
            value: *it.values.get(method)?,
            deviation: it.deviations.get(method).copied(),
            ours: section
                .entry(method, pattern)?
                .summary
                .as_ref()
                .map(|summary| summary.mean),
            source: &it.source,
        })
    })
}
