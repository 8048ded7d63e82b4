//! The documents of a task, as a generation of lm-evaluation-harness takes them from the rows of a file.

use super::task::{Document, Task};
use crate::data::python_random::PythonRandom;
use crate::data::table;
use crate::data::tokenizer::Bos;
use crate::error::{Error, Located, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

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
