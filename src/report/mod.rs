//! Reports: records become tables and plots. Sees plans, records and statistics, never a model.
//!
//! [`Results`] joins a results folder's plan with its records; [`tables`] and [`plots`] turn it into
//! text, and only [`write()`] touches the disk.

pub mod plots;
pub mod tables;
pub mod tasks;

use crate::error::{Error, Located, Result};
use crate::experiment::plan::{DENSE, Experiment};
use crate::prune::pattern::Pattern;
use crate::record::{self, Record, Status};
use crate::stats::Summary;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `plan.toml`: the resolved experiment and its cells, as the run that wrote it saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Version of zprune.
    pub zprune: String,
    /// The resolved experiment.
    pub experiment: Experiment,
    /// Its cells, in the order they run.
    pub cell: Vec<PlannedCell>,
}

/// A cell of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// Content-derived id.
    pub id: String,
    /// Model label.
    pub model: String,
    /// Method label.
    pub method: String,
    /// Calibration seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Pattern; none for the dense model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

impl PlanFile {
    /// Reads a results folder's plan.
    ///
    /// # Errors
    /// The file is missing or not a plan.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("plan.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::reading(&path, source))?;
        toml::from_str(&text)
            .map_err(|error| Error::input(format!("not a plan written by zprune: {}", error.message())))
            .at(path.display())
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never for a resolved experiment.
    pub fn text(&self) -> Result<String> {
        let plan =
            toml::to_string(self).map_err(|error| Error::config(format!("the plan cannot be written: {error}")))?;
        Ok(format!(
            "# Written by zprune: the experiment as it was understood, and its cells.\n\n{plan}"
        ))
    }
}

/// One method under one pattern on one model and evaluation, over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Method label; [`DENSE`] for the unpruned model.
    pub method: String,
    /// Pattern; none for the dense model.
    pub pattern: Option<Pattern>,
    /// Whether calibration seeds apply at all.
    pub seeded: bool,
    /// Cells planned.
    pub planned: usize,
    /// Cells that failed.
    pub failed: usize,
    /// Perplexities of the cells that are done, in the order of the seeds.
    pub values: Vec<f64>,
    /// Their summary.
    pub summary: Option<Summary>,
    /// Mean fraction of weights removed.
    pub sparsity: Option<f64>,
    /// Mean seconds of pruning, calibration included.
    pub seconds: Option<f64>,
}

/// All entries of one model and one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Model label.
    pub model: String,
    /// Evaluation label.
    pub evaluation: String,
    /// The dense model's perplexity.
    pub dense: Option<f64>,
    /// Methods by patterns, in the experiment's order, dense excluded.
    pub entries: Vec<Entry>,
}

/// A plan and what its records say so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The plan.
    pub plan: PlanFile,
    /// One per model and evaluation.
    pub sections: Vec<Section>,
}

impl Results {
    /// Joins a plan with records; records of other cells are left out, and of several records of one
    /// cell the latest good one counts.
    pub fn join(plan: PlanFile, records: &[Record]) -> Results {
        let experiment = &plan.experiment;
        let mut sections = Vec::new();
        for model in &experiment.models {
            for evaluation in &experiment.evaluations {
                let entry = |method: &str, pattern: Option<Pattern>| {
                    let cells: Vec<&PlannedCell> = plan
                        .cell
                        .iter()
                        .filter(|cell| cell.model == model.name && cell.method == method && cell.pattern == pattern)
                        .collect();
                    let found: Vec<Option<&Record>> = cells.iter().map(|cell| latest(records, &cell.id)).collect();
                    entry(method, pattern, &cells, &found, &evaluation.name, experiment.confidence)
                };
                let dense = entry(DENSE, None).values.first().copied();
                let entries = experiment
                    .methods
                    .iter()
                    .flat_map(|method| experiment.patterns.iter().map(move |pattern| (method, pattern)))
                    .map(|(method, pattern)| entry(&method.name, Some(*pattern)))
                    .collect();
                sections.push(Section {
                    model: model.name.clone(),
                    evaluation: evaluation.name.clone(),
                    dense,
                    entries,
                });
            }
        }
        Results { plan, sections }
    }

    /// Reads a results folder.
    ///
    /// # Errors
    /// The plan or the records are missing or damaged.
    pub fn read(folder: &Path) -> Result<Results> {
        Ok(Results::join(PlanFile::read(folder)?, &record::read(folder)?))
    }

    /// Cells done, failed and planned.
    pub fn progress(&self, records: &[Record]) -> (usize, usize, usize) {
        let state = |status| {
            let cells = self.plan.cell.iter();
            cells
                .filter(|cell| latest(records, &cell.id).is_some_and(|record| record.status == status))
                .count()
        };
        (state(Status::Ok), state(Status::Failed), self.plan.cell.len())
    }
}

/// The latest good record of a cell, else its latest failure.
fn latest<'a>(records: &'a [Record], id: &str) -> Option<&'a Record> {
    let of_cell = || records.iter().rev().filter(|record| record.id == id);
    of_cell()
        .find(|record| record.status == Status::Ok)
        .or_else(|| of_cell().next())
}

fn entry(
    method: &str,
    pattern: Option<Pattern>,
    cells: &[&PlannedCell],
    found: &[Option<&Record>],
    evaluation: &str,
    confidence: f64,
) -> Entry {
    let good: Vec<&Record> = found
        .iter()
        .flatten()
        .copied()
        .filter(|record| record.status == Status::Ok)
        .collect();
    let values: Vec<f64> = good
        .iter()
        .flat_map(|record| record.evaluations.iter().filter(|it| it.name == evaluation))
        .map(|evaluation| evaluation.perplexity)
        .collect();
    let mean = |values: Vec<f64>| Summary::of(&values, confidence).map(|summary| summary.mean);
    Entry {
        method: method.to_string(),
        pattern,
        seeded: cells.iter().any(|cell| cell.seed.is_some()),
        planned: cells.len(),
        failed: found
            .iter()
            .flatten()
            .filter(|record| record.status == Status::Failed)
            .count(),
        summary: Summary::of(&values, confidence),
        sparsity: mean(good.iter().filter_map(|record| record.sparsity).collect()),
        seconds: mean(
            good.iter()
                .map(|record| record.run.calibrate_seconds + record.run.prune_seconds)
                .collect(),
        ),
        values,
    }
}

/// Writes all tables and plots of a results folder; returns the paths, relative to it.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(results: &Results, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![
        (PathBuf::from("tables/perplexity.md"), tables::markdown(results)),
        (PathBuf::from("tables/perplexity.csv"), tables::csv(results)?),
    ];
    for section in &results.sections {
        if let Some(svg) = plots::perplexity(section, results.plan.experiment.confidence)? {
            let name = format!("{}-{}", section.model, section.evaluation);
            let plain = |c: char| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '_'
                }
            };
            let name: String = name.chars().map(plain).collect();
            files.push((PathBuf::from(format!("plots/perplexity-{name}.svg")), svg));
        }
    }
    for (path, content) in &files {
        record::write_whole(&folder.join(path), content.as_bytes())?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}
