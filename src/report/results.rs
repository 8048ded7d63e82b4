//! A plan joined with its records: for every model and measure, what each method scored under each pattern, run by run
//! and text by text.

use crate::error::Result;
use crate::experiment::plan::DENSE;
use crate::experiment::plan_file::{PlanFile, PlannedCell};
use crate::prune::layer::LayerRecord;
use crate::prune::pattern::Pattern;
use crate::record::{self, Record, Status, StructureRecord};
use crate::stats::Summary;
use crate::stats::paired::Texts;
use crate::stats::proportion::Accuracy;
use crate::stats::variance::VarianceComponents;
use std::path::Path;

/// What a score measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// Perplexity in an evaluation; lower is better. The texts are windows, and their values are mean negative
    /// log-likelihoods in nats per token.
    Perplexity {
        /// Name of the evaluation in the experiment.
        evaluation: String,
    },
    /// Accuracy on a zero-shot task; higher is better. The texts are documents, and their values are 0 or 1.
    Accuracy {
        /// Name of the zero-shot task.
        task: String,
        /// Name of the metric, `acc` or `acc_norm`.
        metric: &'static str,
    },
}

impl Measure {
    /// Name of the measure in tables.
    pub fn label(&self) -> String {
        match self {
            Measure::Perplexity { evaluation } => evaluation.clone(),
            Measure::Accuracy { task, metric } => format!("{task} ({metric})"),
        }
    }

    /// Whether larger values are better.
    pub fn higher_is_better(&self) -> bool {
        matches!(self, Measure::Accuracy { .. })
    }

    /// What a table shows for a mean over texts: a perplexity, or an accuracy in percent.
    pub fn shown(&self, mean: f64) -> f64 {
        match self {
            Measure::Perplexity { .. } => mean.exp(),
            Measure::Accuracy { .. } => 100.0 * mean,
        }
    }
}

/// The result of one cell by one measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Calibration seed; none if the method does not calibrate.
    pub seed: Option<u64>,
    /// Perplexity, or accuracy in percent.
    pub value: f64,
    /// One value per text; see [`Measure`].
    pub texts: Vec<f64>,
    /// Identifies the texts, so that only results on the same texts are compared.
    pub digest: String,
}

/// The results of one method under one pattern on one model by one measure, over all seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodResult {
    /// Name of the method; [`DENSE`] for the unpruned model.
    pub method: String,
    /// Pattern of the entry; none for the dense model.
    pub pattern: Option<Pattern>,
    /// Whether the method depends on calibration seeds.
    pub seeded: bool,
    /// Number of cells in the plan.
    pub planned: usize,
    /// Number of cells that failed.
    pub failed: usize,
    /// Results of the cells that are done, in the order of the seeds.
    pub runs: Vec<Run>,
    /// The source of every document, if the task names sources.
    pub sources: Option<Vec<u32>>,
    /// Summary over seeds of the values that tables show; none without results.
    pub summary: Option<Summary>,
    /// Mean fraction of weights removed.
    pub sparsity: Option<f64>,
    /// Mean time of pruning in seconds, including calibration.
    pub seconds: Option<f64>,
    /// What pruning did to each layer in the first run.
    pub layers: Vec<LayerRecord>,
    /// Means of what is left of models that lost whole units.
    pub sizes: Option<Sizes>,
}

/// The sizes of models before and after whole units were removed, means over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Number of parameters.
    pub parameters: [f64; 2],
    /// Bytes of all tensors as they are stored.
    pub bytes: [f64; 2],
    /// Multiply-adds of a token in linear layers and the head.
    pub multiply_adds: [f64; 2],
    /// Measured seconds per token of scoring text.
    pub seconds_per_token: [f64; 2],
    /// The second of these times as a fraction of the first, in each run by itself.
    pub time_share: f64,
}

/// The sizes in a record, and its two times.
type Measured<'a> = (&'a StructureRecord, [f64; 2]);

impl Sizes {
    /// The means over these records; `None` if no record has sizes.
    fn of(records: &[&Record]) -> Option<Sizes> {
        let found = records
            .iter()
            .filter_map(|record| record.structure.as_ref().zip(record.run.seconds_per_token));
        let found: Vec<Measured> = found.collect();
        let mean = |of: &dyn Fn(&Measured) -> [f64; 2]| {
            [0, 1].map(|place| crate::stats::mean(&found.iter().map(|it| of(it)[place]).collect::<Vec<_>>()))
        };
        let counts = |pair: [u64; 2]| pair.map(|count| count as f64);
        (!found.is_empty()).then(|| Sizes {
            parameters: mean(&|(sizes, _)| counts(sizes.parameters)),
            bytes: mean(&|(sizes, _)| counts(sizes.bytes)),
            multiply_adds: mean(&|(sizes, _)| counts(sizes.multiply_adds)),
            seconds_per_token: mean(&|(_, seconds)| *seconds),
            time_share: mean(&|(_, [before, after])| [1.0, after / before])[1],
        })
    }
}

impl MethodResult {
    /// The value of each run, in the order of the seeds.
    pub fn values(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.value).collect()
    }

    /// How the texts of a measure depend on each other.
    pub fn texts(&self, measure: &Measure) -> Texts<'_> {
        match (measure, &self.sources) {
            (Measure::Perplexity { .. }, _) => Texts::Stream,
            (Measure::Accuracy { .. }, Some(sources)) => Texts::Sources(sources),
            (Measure::Accuracy { .. }, None) => Texts::Independent,
        }
    }

    /// Variance by seeds and texts; `None` for fewer than two texts.
    pub fn components(&self, measure: &Measure) -> Option<VarianceComponents> {
        let rows: Vec<Vec<f64>> = self.runs.iter().map(|run| run.texts.clone()).collect();
        VarianceComponents::of(&rows, self.texts(measure))
    }

    /// The accuracy over documents and seeds as a fraction, with its interval over documents.
    pub fn accuracy(&self, confidence: f64) -> Option<Accuracy> {
        let count = self.runs.first()?.texts.len();
        let seeds = self.runs.len() as f64;
        let documents: Vec<f64> = (0..count)
            .map(|document| self.runs.iter().filter_map(|run| run.texts.get(document)).sum::<f64>() / seeds)
            .collect();
        Accuracy::of(&documents, self.sources.as_deref(), confidence)
    }
}

/// All results on one model by one measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Name of the model.
    pub model: String,
    /// What the section's values measure.
    pub measure: Measure,
    /// Results of the unpruned model.
    pub dense: MethodResult,
    /// One entry per method and pattern, in the experiment's order, without the dense model.
    pub entries: Vec<MethodResult>,
}

impl Section {
    /// The mean score of the dense model, if there is one.
    pub fn dense_value(&self) -> Option<f64> {
        self.dense.runs.first().map(|run| run.value)
    }

    /// The entry of a method under a pattern; the dense model has the same entry for every pattern.
    pub fn entry(&self, method: &str, pattern: Pattern) -> Option<&MethodResult> {
        if method == DENSE {
            return Some(&self.dense);
        }
        self.entries
            .iter()
            .find(|entry| entry.method == method && entry.pattern == Some(pattern))
    }

    /// Number of windows or documents; `None` until a cell is done.
    pub fn texts(&self) -> Option<usize> {
        let mut runs = std::iter::once(&self.dense)
            .chain(&self.entries)
            .flat_map(|it| &it.runs);
        runs.next().map(|run| run.texts.len())
    }
}

/// A plan and the results that its records contain so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The plan of the experiment.
    pub plan: PlanFile,
    /// One section per model and measure.
    pub sections: Vec<Section>,
}

impl Results {
    /// Combines a plan with records. Records of other cells are ignored; if a cell has several records, the one that
    /// [stands](record::standing) counts.
    pub fn join(plan: PlanFile, records: &[Record]) -> Results {
        let experiment = &plan.experiment;
        let standing = record::standing(records);
        let mut sections = Vec::new();
        for model in &experiment.models {
            let mut measures: Vec<Measure> = Vec::new();
            measures.extend(experiment.evaluations.iter().map(|it| Measure::Perplexity {
                evaluation: it.name.clone(),
            }));
            let cells: Vec<&PlannedCell> = plan.cell.iter().filter(|cell| cell.model == model.name).collect();
            let found: Vec<Option<&Record>> = cells
                .iter()
                .map(|cell| standing.get(cell.id.as_str()).copied())
                .collect();
            for task in found.iter().flatten().flat_map(|record| &record.tasks) {
                let metrics = [("acc", true), ("acc_norm", task.correct_norm.is_some())];
                for (metric, _) in metrics.into_iter().filter(|(_, there)| *there) {
                    let measure = Measure::Accuracy {
                        task: task.name.clone(),
                        metric,
                    };
                    if !measures.contains(&measure) {
                        measures.push(measure);
                    }
                }
            }
            for measure in measures {
                let entry = |method: &str, pattern: Option<Pattern>| {
                    let own = cells.iter().zip(&found);
                    let own = own.filter(|(cell, _)| cell.method == method && cell.pattern == pattern);
                    let (cells, found): (Vec<&PlannedCell>, Vec<Option<&Record>>) =
                        own.map(|(cell, found)| (*cell, *found)).unzip();
                    entry(method, pattern, &cells, &found, &measure, experiment.confidence, &plan)
                };
                let dense = entry(DENSE, None);
                let entries = experiment
                    .methods
                    .iter()
                    .flat_map(|method| experiment.patterns.iter().map(move |pattern| (method, pattern)))
                    .filter(|(method, pattern)| method.takes(pattern))
                    .map(|(method, pattern)| entry(&method.name, Some(*pattern)))
                    .collect();
                sections.push(Section {
                    model: model.name.clone(),
                    measure,
                    dense,
                    entries,
                });
            }
        }
        Results { plan, sections }
    }

    /// Reads the plan and the records of a results folder.
    ///
    /// # Errors
    /// The plan or the records are missing or damaged.
    pub fn read(folder: &Path) -> Result<Results> {
        Ok(Results::join(PlanFile::read(folder)?, &record::read(folder)?))
    }

    /// Numbers of cells that are done, failed and planned.
    pub fn progress(&self, records: &[Record]) -> (usize, usize, usize) {
        let standing = record::standing(records);
        let cells = self.plan.cell.iter();
        let found: Vec<&Record> = cells
            .filter_map(|cell| standing.get(cell.id.as_str()).copied())
            .collect();
        let good = found.iter().filter(|record| record.status == Status::Ok).count();
        (good, found.len() - good, self.plan.cell.len())
    }
}

fn entry(
    method: &str,
    pattern: Option<Pattern>,
    cells: &[&PlannedCell],
    found: &[Option<&Record>],
    measure: &Measure,
    confidence: f64,
    plan: &PlanFile,
) -> MethodResult {
    let is_good = |record: &&Record| record.status == Status::Ok;
    let good: Vec<&Record> = found.iter().flatten().copied().filter(is_good).collect();
    let runs: Vec<Run> = cells
        .iter()
        .zip(found)
        .filter_map(|(cell, record)| run(cell.seed, (*record).filter(is_good)?, measure, plan))
        .collect();
    let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
    let mean = |values: Vec<f64>| Summary::of(&values, confidence).map(|summary| summary.mean);
    let failed = found.iter().flatten().filter(|record| record.status != Status::Ok);
    MethodResult {
        method: method.to_string(),
        pattern,
        seeded: cells.iter().any(|cell| cell.seed.is_some()),
        planned: cells.len(),
        failed: failed.count(),
        sources: match measure {
            Measure::Perplexity { .. } => None,
            Measure::Accuracy { task, .. } => good
                .iter()
                .flat_map(|record| &record.tasks)
                .find(|it| it.name == *task)
                .and_then(|it| it.sources.clone()),
        },
        summary: Summary::of(&values, confidence),
        sparsity: mean(good.iter().filter_map(|record| record.sparsity).collect()),
        seconds: mean(
            good.iter()
                .filter(|record| record.cell.pruning.is_some())
                .map(|record| record.run.calibrate_seconds + record.run.prune_seconds)
                .collect(),
        ),
        layers: good.first().map(|record| record.layers.clone()).unwrap_or_default(),
        sizes: Sizes::of(&good),
        runs,
    }
}

/// The result of a record by one measure. A record made under other names still has the experiment's evaluations in
/// order.
fn run(seed: Option<u64>, record: &Record, measure: &Measure, plan: &PlanFile) -> Option<Run> {
    match measure {
        Measure::Perplexity { evaluation } => {
            let evaluations = &plan.experiment.evaluations;
            let place = evaluations.iter().position(|it| it.name == *evaluation)?;
            let found = record.evaluations.get(place)?;
            Some(Run {
                seed,
                value: found.perplexity,
                texts: found.windows.clone(),
                digest: found.token_digest.clone(),
            })
        }
        Measure::Accuracy { task, metric } => {
            let found = record.tasks.iter().find(|it| it.name == *task)?;
            let marks = match *metric {
                "acc" => &found.correct,
                _ => found.correct_norm.as_ref()?,
            };
            let texts: Vec<f64> = marks.bytes().map(|mark| f64::from(u8::from(mark == b'1'))).collect();
            Some(Run {
                seed,
                value: 100.0 * crate::stats::mean(&texts),
                texts,
                digest: found.data_digest.clone(),
            })
        }
    }
}
