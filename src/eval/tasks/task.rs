//! What a task is, and what it makes of a row of its data: texts to be scored.

use crate::data::table::Row;
use crate::error::Result;

/// A zero-shot task: where its data is, how a row becomes a question, and what is counted.
pub struct Task {
    /// Version number that lm-evaluation-harness gives the task; records keep it.
    pub version: u32,
    /// The data set on the hub, as `hub:org/name/path`.
    pub hub: &'static str,
    /// The names, without ending, that the task's file may have in a folder of task files.
    pub files: &'static [&'static str],
    /// What is counted, which decides the metrics.
    pub measure: TaskMeasure,
    /// Turns a row of the data file into a document, with the harness's wording.
    pub document: fn(&Row) -> Result<Document>,
}

/// What is counted on the documents of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskMeasure {
    /// `acc`: documents whose right choice has the highest log-likelihood; the first of equals counts.
    Accuracy,
    /// As [`TaskMeasure::Accuracy`], and `acc_norm`: the log-likelihoods are divided by the choices' lengths in Unicode
    /// characters, without the delimiting space. (Often described as bytes; the harness divides by characters.)
    NormalisedAccuracy,
    /// `acc`: documents where every token of the continuation is the likeliest one; and `perplexity`: `exp(-mean)` of
    /// the documents' log-likelihoods.
    LastWord,
}

/// A row of a task's data as texts to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// One request per choice, in the order of the choices.
    pub requests: Vec<Request>,
    /// Index of the right choice.
    pub gold: usize,
    /// What the document shares with others (a passage, a premise), if the data says so.
    pub source: Option<String>,
}

/// A context and a continuation, whose likelihood after the context is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The text before the continuation; may be empty.
    pub context: String,
    /// The text that is scored, with the delimiter in front of it.
    pub continuation: String,
    /// Number of Unicode characters in the choice itself, without the delimiter.
    pub characters: usize,
}

impl Document {
    /// A document whose choices share one context, each after one space; `gold` is the index of the right one.
    pub(super) fn choices(context: &str, choices: &[&str], gold: usize) -> Document {
        let request = |choice: &&str| Request {
            context: context.to_string(),
            continuation: format!(" {choice}"),
            characters: choice.chars().count(),
        };
        Document {
            requests: choices.iter().map(request).collect(),
            gold,
            source: None,
        }
    }

    pub(super) fn from(mut self, source: &str) -> Document {
        self.source = Some(source.to_string());
        self
    }
}
