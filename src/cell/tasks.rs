//! Zero-shot tasks within a cell: documents prepared once per model, scored while its blocks pass by, summed up.

use crate::backend::Backend;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Located, Result};
use crate::eval::choice::{ChoiceScore, ChoiceScorer, Encoded, Encoder, passes};
use crate::eval::metrics::{mean, standard_error};
use crate::eval::tasks::{self, TASKS, Task, TaskMeasure};
use crate::experiment::inputs::{self, ConfiguredModel, Inputs};
use crate::experiment::plan::Experiment;
use crate::model::forward::{Ends, Packed};
use crate::progress::{Progress, Running};
use crate::record::{Metric, TaskRecord};
use crate::spec::ModelSpec;
use crate::stats::proportion::Accuracy;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Batches of a backend whose streams are kept at one time where blocks can be loaded again: enough to make
/// loading cheap beside computing, few enough to show results on the way and to fit in memory.
const BATCHES_PER_PASS: usize = 32;

/// Of the intervals in records; what is shown has the experiment's own.
const CONFIDENCE: f64 = 0.95;

/// A task's documents in a model's tokens.
pub struct PreparedTask {
    name: String,
    task: &'static Task,
    digest: String,
    /// Positions of the documents among the rows of the file.
    rows: Vec<usize>,
    documents: Vec<Encoded>,
    sources: Option<Vec<u32>>,
    /// Level of the interval that is shown while documents are scored.
    confidence: f64,
}

impl PreparedTask {
    /// Reads and tokenises every task of an experiment for one of its models.
    ///
    /// # Errors
    /// A file is missing, or has rows that the task cannot use.
    pub fn all(experiment: &Experiment, inputs: &Inputs, folder: &ConfiguredModel) -> Result<Vec<PreparedTask>> {
        if experiment.tasks.is_empty() {
            return Ok(Vec::new());
        }
        let missing = || inputs.lacks();
        let files = inputs::all(&inputs.tasks).ok_or_else(missing)?;
        let tokenizer = Tokenizer::load(&folder.path)?;
        experiment
            .tasks
            .iter()
            .zip(files)
            .map(|(plan, file)| {
                let task = &TASKS.find(&plan.name)?.item;
                let read = tasks::read(task, &file.path, plan.limit, plan.harness)?;
                let encoder = Encoder::new(&tokenizer, &folder.spec, plan.harness);
                // All of them first, so that the error is that of the first document that has one.
                let documents: Vec<Result<Encoded>> = read
                    .par_iter()
                    .map(|(_, place, document)| encoder.encode(document, place))
                    .collect();
                let documents: Vec<Encoded> = documents.into_iter().collect::<Result<_>>().at(file.path.display())?;
                warn_of_truncation(&documents, &file.path);
                Ok(PreparedTask {
                    name: plan.name.clone(),
                    task,
                    digest: file.digest.clone(),
                    rows: read.iter().map(|(row, ..)| *row).collect(),
                    sources: tasks::sources(read.iter().map(|(.., document)| document)),
                    documents,
                    confidence: experiment.confidence,
                })
            })
            .collect()
    }
}

impl PreparedTask {
    /// The accuracy over the documents that have scores, with the interval that tables give it; `None` without scores.
    fn running(&self, scores: &[Option<Vec<ChoiceScore>>]) -> Option<Running<'_>> {
        let scored: Vec<usize> = (0..scores.len()).filter(|index| scores[*index].is_some()).collect();
        let normalised = self.task.measure == TaskMeasure::NormalisedAccuracy;
        let right = |index: &usize| {
            let (document, scores) = (&self.documents[*index], scores[*index].as_ref()?);
            let right = match normalised {
                true => is_right_for_its_length(document, scores),
                false => is_right(self.task.measure, document.gold, scores),
            };
            Some(f64::from(u8::from(right)))
        };
        let outcomes: Vec<f64> = scored.iter().filter_map(right).collect();
        let sources = self.sources.as_ref();
        let sources: Option<Vec<u32>> = sources.map(|all| scored.iter().map(|index| all[*index]).collect());
        let found = Accuracy::of(&outcomes, sources.as_deref(), self.confidence)?;
        Some(Running {
            task: &self.name,
            metric: if normalised { "acc_norm" } else { "acc" },
            done: outcomes.len(),
            total: self.documents.len(),
            accuracy: found.value,
            interval: [found.interval.low, found.interval.high],
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of its documents.
    pub fn count(&self) -> usize {
        self.documents.len()
    }

    /// Distinct tokens of all documents, about.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(Encoded::tokens).sum()
    }
}

/// The harness cuts what is too long on the left; so do we, and say where.
fn warn_of_truncation(documents: &[Encoded], path: &Path) {
    let cut = |document: &&Encoded| document.requests.iter().any(|request| request.truncated > 0);
    let mut long = documents.iter().filter(cut);
    if let Some(first) = long.next() {
        let path = path.display();
        tracing::warn!(
            "{path}: {}: longer than the model's context, so its beginning is cut off; the same holds for {} more documents",
            first.place,
            long.count()
        );
    }
}

/// What one task found.
#[derive(Debug, Clone)]
pub struct TaskFindings {
    /// Its scores, summed up.
    pub record: TaskRecord,
    /// The scores of every document.
    pub samples: Vec<Sample>,
}

/// What was found on one document, a line of a samples file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Sample {
    /// Of a zero-shot task.
    Choices(ChoiceSample),
    /// Of a prompt.
    Written(WrittenSample),
}

/// One document's scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceSample {
    /// Position among the rows of the file, from 0.
    pub doc: usize,
    /// The right choice.
    pub gold: usize,
    /// Log-likelihood of every choice, in nats.
    pub loglikelihood: Vec<f64>,
    /// Whether every token of the choice was the likeliest one.
    pub greedy: Vec<bool>,
}

/// What a model wrote after one prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrittenSample {
    /// Position among the rows of the file, from 0.
    pub doc: usize,
    /// What the model was given: all of its text, with examples, and as the chat template wrote it if there is one.
    pub prompt: String,
    /// The tokens that the model wrote, without the one that ends the answer.
    pub tokens: Vec<u32>,
    /// Their text, up to a text that ends the answer.
    pub text: String,
    /// What of the text is compared, if there is anything.
    pub found: Option<String>,
    /// What it is compared with.
    pub gold: String,
    /// Whether both are the same.
    pub right: bool,
}

/// The scores of all tasks of a cell, as they come in.
pub(super) struct TaskScores<'a> {
    tasks: &'a [PreparedTask],
    /// All documents of all tasks, and which task and which of its documents each is.
    documents: Vec<&'a Encoded>,
    places: Vec<(usize, usize)>,
    scores: Vec<Vec<Option<Vec<ChoiceScore>>>>,
}

impl<'a> TaskScores<'a> {
    pub(super) fn new(tasks: &'a [PreparedTask]) -> Self {
        let each = |(index, task): (usize, &'a PreparedTask)| {
            let documents = task.documents.iter().enumerate();
            documents.map(move |(document, encoded)| (encoded, (index, document)))
        };
        let (documents, places) = tasks.iter().enumerate().flat_map(each).unzip();
        TaskScores {
            tasks,
            documents,
            places,
            scores: tasks.iter().map(|task| vec![None; task.documents.len()]).collect(),
        }
    }

    /// Ranges of documents that go through the model one after the other, where its blocks can be had again;
    /// at least one.
    pub(super) fn passes<B: Backend>(&self, backend: &B, spec: &ModelSpec) -> Vec<Range<usize>> {
        passes(&self.documents, BATCHES_PER_PASS * Packed::batch_tokens(backend, spec))
    }

    /// All documents, for a model whose blocks exist once.
    pub(super) fn everything(&self) -> Range<usize> {
        0..self.documents.len()
    }

    /// A scorer of a range.
    pub(super) fn scorer<B: Backend>(
        &self,
        backend: &B,
        spec: &ModelSpec,
        ends: &Ends<B>,
        range: Range<usize>,
    ) -> Result<ChoiceScorer<'a, B>> {
        ChoiceScorer::new(backend, spec, ends, self.documents[range].to_vec())
    }

    /// Takes what the scorer of a range found.
    pub(super) fn collect<B: Backend>(
        &mut self,
        scorer: ChoiceScorer<'a, B>,
        first: usize,
        backend: &B,
        ends: &Ends<B>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let TaskScores {
            tasks, places, scores, ..
        } = self;
        scorer
            .finish(backend, ends, |scored| {
                let mut touched = vec![false; tasks.len()];
                for (index, found) in scored {
                    let (task, document) = places[first + index];
                    touched[task] = true;
                    scores[task][document] = Some(found);
                }
                for (index, task) in tasks.iter().enumerate().filter(|(index, _)| touched[*index]) {
                    if let Some(running) = task.running(&scores[index]) {
                        progress.answered(&running);
                    }
                }
            })
            .map_err(|(index, error)| {
                let name = index.map(|index| tasks[places[first + index].0].name.as_str());
                error.at(name.unwrap_or("tasks"))
            })
    }

    /// Sums up, after all ranges.
    pub(super) fn findings(self) -> Result<Vec<TaskFindings>> {
        let each = self.tasks.iter().zip(self.scores);
        each.map(|(task, scores)| {
            let scores: Option<Vec<Vec<ChoiceScore>>> = scores.into_iter().collect();
            let scores = scores.expect("every document belongs to a range");
            summed_up(task, &scores).at(&task.name)
        })
        .collect()
    }
}

/// Whether a document counts as right for `acc`.
fn is_right(measure: TaskMeasure, gold: usize, scores: &[ChoiceScore]) -> bool {
    match measure {
        TaskMeasure::LastWord => scores[0].greedy,
        TaskMeasure::Accuracy | TaskMeasure::NormalisedAccuracy => {
            best(scores.iter().map(|score| score.log_likelihood)) == gold
        }
    }
}

/// Whether a document counts as right for `acc_norm`: log-likelihoods are divided by the lengths of the choices.
fn is_right_for_its_length(document: &Encoded, scores: &[ChoiceScore]) -> bool {
    let lengths = document.requests.iter().map(|request| request.characters as f64);
    let values = scores
        .iter()
        .zip(lengths)
        .map(|(score, length)| score.log_likelihood / length);
    best(values) == document.gold
}

/// The position of the greatest value, the first of equals.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let first = (0, f64::NEG_INFINITY);
    let greater = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold(first, greater).0
}

fn summed_up(task: &PreparedTask, scores: &[Vec<ChoiceScore>]) -> Result<TaskFindings> {
    let documents = || task.documents.iter().zip(scores);
    let measure = task.task.measure;
    let correct: Vec<bool> = documents()
        .map(|(document, scores)| is_right(measure, document.gold, scores))
        .collect();
    let sources = task.sources.as_deref();
    let mut metrics = BTreeMap::from([("acc".to_string(), accuracy(&correct, sources))]);
    let mut correct_norm = None;
    match measure {
        TaskMeasure::Accuracy => {}
        TaskMeasure::NormalisedAccuracy => {
            let outcomes: Vec<bool> = documents()
                .map(|(document, scores)| is_right_for_its_length(document, scores))
                .collect();
            metrics.insert("acc_norm".to_string(), accuracy(&outcomes, sources));
            correct_norm = Some(digits(&outcomes));
        }
        TaskMeasure::LastWord => {
            let sum: f64 = scores.iter().map(|scores| scores[0].log_likelihood).sum();
            let value = (-sum / scores.len() as f64).exp();
            if !value.is_finite() {
                return Err(Error::numeric("the perplexity is not finite"));
            }
            // The harness bootstraps its standard error with 100 000 resamples of its own generator; it is left out here.
            let metric = Metric {
                value,
                stderr: None,
                interval: None,
            };
            metrics.insert("perplexity".to_string(), metric);
        }
    }
    let samples = documents().zip(&task.rows).map(|((document, scores), row)| {
        Sample::Choices(ChoiceSample {
            doc: *row,
            gold: document.gold,
            loglikelihood: scores.iter().map(|score| score.log_likelihood).collect(),
            greedy: scores.iter().map(|score| score.greedy).collect(),
        })
    });
    Ok(TaskFindings {
        record: TaskRecord {
            name: task.name.clone(),
            version: task.task.version,
            data_digest: task.digest.clone(),
            documents: scores.len(),
            metrics,
            correct: digits(&correct),
            correct_norm,
            sources: task.sources.clone(),
        },
        samples: samples.collect(),
    })
}

/// The accuracy over documents, which may share sources, with the interval that tables give it.
pub(super) fn accuracy(outcomes: &[bool], sources: Option<&[u32]>) -> Metric {
    let values: Vec<f64> = outcomes.iter().map(|right| f64::from(u8::from(*right))).collect();
    let found = Accuracy::of(&values, sources, CONFIDENCE);
    Metric {
        value: mean(outcomes),
        stderr: standard_error(outcomes),
        interval: found.map(|it| [it.interval.low, it.interval.high]),
    }
}

pub(super) fn digits(outcomes: &[bool]) -> String {
    outcomes.iter().map(|right| if *right { '1' } else { '0' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equally_likely_choices_is_taken() {
        assert_eq!(best([-2.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(best([-2.0, -2.0].into_iter()), 0);
    }
}
