//! Zero-shot tasks as data: how a row of a data set becomes contexts, continuations and a right answer, as
//! lm-evaluation-harness's definitions of the same names and versions say.
//!
//! A task is one file and one line in [`TASKS`]. It renders texts and refuses rows that it cannot use, by
//! field; it tokenises nothing. A continuation comes with its delimiting space.

mod arc;
mod boolq;
mod hellaswag;
mod lambada;
mod mnli;
mod openbookqa;
mod piqa;
mod python_text;
mod rte;
mod winogrande;
mod wnli;

pub use python_text::is_space;

use crate::data::python_random::PythonRandom;
use crate::data::table::{self, Row};
use crate::data::tokenizer::Bos;
use crate::error::{Error, Located, Result};
use crate::registry::{Entry, Registry};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// A zero-shot task: where its data is, how a row becomes a question, and what is counted.
pub struct Task {
    /// Version number that lm-evaluation-harness gives the task; records keep it.
    pub version: u32,
    /// The data set on the hub, as `hub:org/name/path`.
    pub hub: &'static str,
    /// The names, without ending, that the task's file may have in a folder of task files.
    pub files: &'static [&'static str],
    /// Which metrics are computed.
    pub measure: Measure,
    /// Turns a row of the data file into a document, with the harness's wording.
    pub document: fn(&Row) -> Result<Document>,
}

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// `acc`: documents whose right choice has the highest log-likelihood; the first of equals counts.
    Accuracy,
    /// As [`Measure::Accuracy`], and `acc_norm`: the log-likelihoods are divided by the choices' lengths in Unicode
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
    fn choices(context: &str, choices: &[&str], gold: usize) -> Document {
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

    fn from(mut self, source: &str) -> Document {
        self.source = Some(source.to_string());
        self
    }
}

/// All zero-shot tasks, by the names of lm-evaluation-harness.
pub const TASKS: Registry<Task> = Registry {
    kind: "task",
    entries: &[
        Entry {
            name: "hellaswag",
            summary: "how a scene goes on; 4 endings; acc, acc_norm",
            item: hellaswag::TASK,
        },
        Entry {
            name: "boolq",
            summary: "yes or no about a passage; acc",
            item: boolq::TASK,
        },
        Entry {
            name: "winogrande",
            summary: "which noun a blank stands for; acc",
            item: winogrande::TASK,
        },
        Entry {
            name: "mnli",
            summary: "does a hypothesis follow; 3 answers; acc",
            item: mnli::TASK,
        },
        Entry {
            name: "wnli",
            summary: "what a pronoun stands for; acc",
            item: wnli::TASK,
        },
        Entry {
            name: "rte",
            summary: "does a sentence follow; acc",
            item: rte::TASK,
        },
        Entry {
            name: "piqa",
            summary: "everyday physics; 2 solutions; acc, acc_norm",
            item: piqa::TASK,
        },
        Entry {
            name: "arc_easy",
            summary: "school science; acc, acc_norm",
            item: arc::EASY,
        },
        Entry {
            name: "arc_challenge",
            summary: "harder school science; acc, acc_norm",
            item: arc::CHALLENGE,
        },
        Entry {
            name: "openbookqa",
            summary: "elementary science; acc, acc_norm",
            item: openbookqa::TASK,
        },
        Entry {
            name: "lambada_openai",
            summary: "the last word of a passage; acc, perplexity",
            item: lambada::TASK,
        },
    ],
};

/// A generation of lm-evaluation-harness, whose scores are reproduced. All generations use the same contexts and
/// choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Harness {
    /// The master branch of 2023 (`hf-causal`), which pruning papers used: no BOS, an empty context is the
    /// end-of-text token, a limit takes documents shuffled with seed 42. (The tagged release 0.3.0 also
    /// tokenised continuations on their own; that is not reproduced.)
    #[serde(rename = "0.3")]
    V0_3,
    /// 0.4.0 to 0.4.9.1: no BOS, an empty context is the end-of-text token, a limit takes the first documents.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 0.4.9.2 and later: special tokens as the tokenizer adds them, an empty context is the BOS token where
    /// there is one.
    #[default]
    #[serde(rename = "0.4.9.2")]
    V0_4_9_2,
}

impl Harness {
    /// Whether contexts start with the tokenizer's special tokens.
    pub fn bos(self) -> Bos {
        match self {
            Harness::V0_3 | Harness::V0_4_0 => Bos::Never,
            Harness::V0_4_9_2 => Bos::Tokenizer,
        }
    }
}

/// Reads a task's documents: all, or `limit` of them, with their places among the rows of the file.
///
/// # Errors
/// The file cannot be read, or a row cannot be used; with file, line and field.
pub fn read(
    task: &Task,
    path: &Path,
    limit: Option<usize>,
    harness: Harness,
) -> Result<Vec<(usize, String, Document)>> {
    let rows = table::read(path)?;
    let mut chosen: Vec<usize> = (0..rows.len()).collect();
    if let Some(limit) = limit {
        if harness == Harness::V0_3 {
            shuffle(&mut chosen);
        }
        chosen.truncate(limit);
        chosen.sort_unstable();
    }
    let document = |index: usize| {
        let row = &rows[index];
        let document = (task.document)(row).and_then(sound).at(row.place())?;
        Ok((index, row.place().to_string(), document))
    };
    chosen
        .into_iter()
        .map(document)
        .collect::<Result<_>>()
        .at(path.display())
}

/// Refuses a choice of length 0, whose normalised score is not defined.
fn sound(document: Document) -> Result<Document> {
    match document.requests.iter().position(|request| request.characters == 0) {
        Some(index) => Err(Error::input(format!("choice {index} is empty"))),
        None => Ok(document),
    }
}

/// `random.Random(42).shuffle`, as the harness of 2023 did before it took the first documents.
fn shuffle(order: &mut [usize]) {
    let mut random = PythonRandom::new(42);
    for last in (1..order.len()).rev() {
        order.swap(last, random.up_to(last as u64) as usize);
    }
}

/// Gives each document the number of its source, counted in order of appearance; `None` if a document names no
/// source.
pub fn sources<'a>(documents: impl Iterator<Item = &'a Document>) -> Option<Vec<u32>> {
    let mut numbers = HashMap::new();
    documents
        .map(|document| {
            let next = numbers.len() as u32;
            Some(*numbers.entry(document.source.as_ref()?).or_insert(next))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_2023_takes_the_documents_cpython_shuffles_to_the_front() {
        let mut order: Vec<usize> = (0..20).collect();
        shuffle(&mut order);
        // CPython 3.11: l = list(range(20)); random.Random(42).shuffle(l)
        assert_eq!(
            order,
            [19, 5, 14, 4, 9, 13, 15, 18, 6, 12, 17, 10, 1, 11, 2, 16, 7, 8, 0, 3]
        );
    }
}
