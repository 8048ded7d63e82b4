//! A plan joined with its records: for every model and measure, what each method scored under each pattern, run by run
//! and text by text.

pub use super::measure::{Measure, MeasureKind, to_dense};

use crate::error::Result;
use crate::experiment::plan::{DENSE, Experiment};
use crate::experiment::plan_file::{PlanFile, PlannedCell};
use crate::model::pruned_before::PrunedBefore;
use crate::prune::layer::LayerRecord;
use crate::prune::pattern::Pattern;
use crate::record::{self, Part, Record, Status, StructureRecord};
use crate::stats::Summary;
use crate::stats::paired::Texts;
use crate::stats::proportion::Accuracy;
use crate::stats::variance::VarianceComponents;
use std::collections::BTreeSet;
use std::path::Path;

/// The result of one cell by one measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Id of the cell.
    pub cell: String,
    /// Calibration seed; none if the method does not calibrate.
    pub seed: Option<u64>,
    /// The value that tables show.
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
    /// Why the first of them failed.
    pub failure: Option<String>,
    /// Results of the cells that are done, in the order of the seeds.
    pub runs: Vec<Run>,
    /// The source of every document, if the task names sources.
    pub sources: Option<Vec<u32>>,
    /// Summary over seeds of the values that tables show; none without results.
    pub summary: Option<Summary>,
    /// Mean fraction of weights removed.
    pub sparsity: Option<f64>,
    /// Mean time of pruning in seconds, including calibration; none of what another program pruned.
    pub seconds: Option<f64>,
    /// Where the times of pruning were measured, for each run that has one.
    pub machines: Vec<String>,
    /// Number of calibration tokens of the first run; none if it did not calibrate.
    pub calibration_tokens: Option<usize>,
    /// Number of inputs of the widest layer that was pruned, in the first run; none if its record does not tell.
    pub widest_inputs: Option<usize>,
    /// What pruning did to each layer in the first run.
    pub layers: Vec<LayerRecord>,
    /// Means of what is left of models that lost whole units.
    pub sizes: Option<Sizes>,
    /// How many times as large as the kept weights those are that masks from files removed, if one of them seems to be turned round.
    pub turned_round: Option<f64>,
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
type Timed<'a> = (&'a StructureRecord, [f64; 2]);

impl Sizes {
    /// The means over these records; `None` if no record has sizes.
    fn of(records: &[&Record]) -> Option<Sizes> {
        let found = records
            .iter()
            .filter_map(|record| record.structure.as_ref().zip(record.run.seconds_per_token));
        let found: Vec<Timed> = found.collect();
        let mean = |of: &dyn Fn(&Timed) -> [f64; 2]| {
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
            (Measure::Accuracy { .. }, Some(sources)) => Texts::Sources(sources),
            (Measure::Accuracy { .. }, None) => Texts::Independent,
            _ => Texts::Stream,
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
    /// The zeros that the model had before it was pruned, if these are many.
    pub pruned_before: Option<PrunedBefore>,
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
    /// Number of records that are without their layers, which pictures cannot show.
    pub without_layers: usize,
    /// Number of cells with results. A cell that several experiments have counts once.
    pub done: usize,
    /// Number of cells that failed and have no result.
    pub failed: usize,
    /// Number of cells.
    pub planned: usize,
}

/// What the cells of an experiment are measured by, under the names that a report has for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Names of the evaluations, in the order in which records have them: a record may have been made under other names.
    pub(super) evaluations: Vec<String>,
    /// Names of the zero-shot tasks; any that a record has, if it is not said.
    pub(super) tasks: Option<Vec<String>>,
}

impl Measured {
    fn has(&self, measure: &Measure) -> bool {
        match measure {
            Measure::Accuracy { task, .. } => self.tasks.as_ref().is_none_or(|tasks| tasks.contains(task)),
            windows => windows.evaluation().is_some_and(|it| self.evaluations.contains(it)),
        }
    }
}

/// A planned cell with the record that stands for it, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) cell: &'a PlannedCell,
    pub(super) record: Option<&'a Record>,
    pub(super) measured: &'a Measured,
}

impl Results {
    /// Combines a plan with records. Records of other cells are ignored; if a cell has several records, the one that
    /// [stands](record::standing) counts.
    pub fn join(plan: PlanFile, records: &[Record]) -> Results {
        let standing = record::standing(records);
        let measured = Measured {
            evaluations: plan.experiment.evaluations.iter().map(|it| it.name.clone()).collect(),
            tasks: None,
        };
        let found = |cell| Found {
            cell,
            record: standing.get(cell.id.as_str()).copied(),
            measured: &measured,
        };
        let planned = plan.cell.clone();
        let cells: Vec<Found> = planned.iter().map(found).collect();
        Results::of(&cells, plan)
    }

    /// The results of cells, and the plan that they belong to.
    pub(super) fn of(cells: &[Found], plan: PlanFile) -> Results {
        let place = |found: &Found| {
            let cell = found.cell;
            let pattern = cell.pattern.map(|pattern| pattern.to_string());
            (cell.model.clone(), cell.method.clone(), pattern, cell.seed)
        };
        let with = |status: Status| -> BTreeSet<_> {
            let has = |found: &&Found| found.record.is_some_and(|record| record.status == status);
            cells.iter().filter(has).map(place).collect()
        };
        let (done, failed) = (with(Status::Ok), with(Status::Failed));
        Results {
            sections: sections(&plan.experiment, cells),
            without_layers: without_layers(cells),
            failed: failed.difference(&done).count(),
            done: done.len(),
            planned: cells.iter().map(place).collect::<BTreeSet<_>>().len(),
            plan,
        }
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

/// Number of cells whose records are without their layers.
fn without_layers(cells: &[Found]) -> usize {
    let records = cells.iter().filter_map(|found| found.record);
    records.filter(|record| record.without.contains(&Part::Layers)).count()
}

/// What the cells found: one section per model and measure.
fn sections(experiment: &Experiment, cells: &[Found]) -> Vec<Section> {
    let mut sections = Vec::new();
    for model in &experiment.models {
        let mut measures: Vec<Measure> = Vec::new();
        measures.extend(experiment.evaluations.iter().map(|it| Measure::Perplexity {
            evaluation: it.name.clone(),
        }));
        measures.extend(to_dense(experiment));
        let own = cells.iter().filter(|found| found.cell.model == model.name);
        let cells: Vec<Found> = own.copied().collect();
        for task in cells.iter().filter_map(|found| found.record).flat_map(|it| &it.tasks) {
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
        let records = cells.iter().filter_map(|found| found.record);
        let pruned_before = records.filter_map(|record| record.pruned_before.as_ref()).next();
        for measure in measures {
            let entry = |method: &str, pattern: Option<Pattern>| {
                let own = |found: &&Found| {
                    let cell = found.cell;
                    cell.method == method && cell.pattern == pattern && found.measured.has(&measure)
                };
                let cells: Vec<Found> = cells.iter().filter(own).copied().collect();
                entry(method, pattern, &cells, &measure, experiment.confidence)
            };
            let dense = entry(DENSE, None);
            let entries = experiment
                .methods
                .iter()
                .flat_map(|method| experiment.patterns.iter().map(move |pattern| (method, pattern)))
                .filter(|(method, pattern)| method.takes(pattern))
                .map(|(method, pattern)| entry(&method.name, Some(*pattern)))
                .collect();
            let section = Section {
                model: model.name.clone(),
                measure,
                pruned_before: pruned_before.cloned(),
                dense,
                entries,
            };
            // Of several experiments, one may have the model and another one the text.
            if section.dense.planned > 0 || section.entries.iter().any(|entry| entry.planned > 0) {
                sections.push(section);
            }
        }
    }
    sections
}

/// What a method scored. A seed counts once: cells of several experiments may be the same run, measured by more or less.
fn entry(method: &str, pattern: Option<Pattern>, cells: &[Found], measure: &Measure, confidence: f64) -> MethodResult {
    let mut seeds: Vec<Option<u64>> = Vec::new();
    for seed in cells.iter().map(|found| found.cell.seed) {
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    let (mut runs, mut good, mut failed, mut failure) = (Vec::new(), Vec::new(), 0, None);
    for seed in &seeds {
        let mut own = cells.iter().filter(|found| found.cell.seed == *seed);
        let done = own.clone().find_map(|found| {
            let record = found.record.filter(|record| record.status == Status::Ok)?;
            Some((record, run(*seed, record, measure, found.measured)))
        });
        match done {
            Some((record, run)) => {
                good.push(record);
                runs.extend(run);
            }
            None => {
                let record = own.find_map(|found| found.record);
                failed += usize::from(record.is_some());
                failure = failure.or_else(|| record?.error.clone());
            }
        }
    }
    let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
    let mean = |values: Vec<f64>| Summary::of(&values, confidence).map(|summary| summary.mean);
    let timed = || {
        let pruned = |record: &&&Record| {
            let pruning = record.cell.pruning.as_ref();
            pruning.is_some_and(|pruning| !pruning.is_checkpoint())
        };
        good.iter().filter(pruned)
    };
    MethodResult {
        method: method.to_string(),
        pattern,
        seeded: cells.iter().any(|found| found.cell.seed.is_some()),
        planned: seeds.len(),
        failed,
        failure,
        sources: match measure {
            Measure::Accuracy { task, .. } => good
                .iter()
                .flat_map(|record| &record.tasks)
                .find(|it| it.name == *task)
                .and_then(|it| it.sources.clone()),
            _ => None,
        },
        summary: Summary::of(&values, confidence),
        sparsity: mean(good.iter().filter_map(|record| record.sparsity).collect()),
        seconds: mean(
            timed()
                .map(|record| record.run.calibrate_seconds + record.run.prune_seconds)
                .collect(),
        ),
        machines: timed().map(|record| record.run.measured_on()).collect(),
        calibration_tokens: good.first().and_then(|record| {
            let calibration = record.cell.pruning.as_ref()?.calibration.as_ref()?;
            Some(calibration.sequences * calibration.length)
        }),
        widest_inputs: good.first().and_then(|record| record.widest()),
        layers: good.first().map(|record| record.layers.clone()).unwrap_or_default(),
        sizes: Sizes::of(&good),
        turned_round: good.iter().filter_map(|record| record.turned_round).reduce(f64::max),
        runs,
    }
}

/// The result of a record by one measure.
fn run(seed: Option<u64>, record: &Record, measure: &Measure, measured: &Measured) -> Option<Run> {
    if let Some(evaluation) = measure.evaluation() {
        let place = measured.evaluations.iter().position(|name| name == evaluation)?;
        let found = record.evaluations.get(place)?;
        let (value, texts) = match measure {
            Measure::Divergence { .. } => {
                let to_dense = found.to_dense.as_ref()?;
                (measure.shown(to_dense.kl), &to_dense.kl_windows)
            }
            Measure::Agreement { .. } => {
                let to_dense = found.to_dense.as_ref()?;
                (measure.shown(to_dense.agreement), &to_dense.agreement_windows)
            }
            _ => (found.perplexity, &found.windows),
        };
        return Some(Run {
            cell: record.id.clone(),
            seed,
            value,
            texts: texts.clone(),
            digest: found.token_digest.clone(),
        });
    }
    let Measure::Accuracy { task, metric } = measure else {
        return None;
    };
    let found = record.tasks.iter().find(|it| it.name == *task)?;
    let marks = match *metric {
        "acc" => &found.correct,
        _ => found.correct_norm.as_ref()?,
    };
    let texts: Vec<f64> = marks.bytes().map(|mark| f64::from(u8::from(mark == b'1'))).collect();
    Some(Run {
        cell: record.id.clone(),
        seed,
        value: measure.shown(crate::stats::mean(&texts)),
        texts,
        digest: found.data_digest.clone(),
    })
}
