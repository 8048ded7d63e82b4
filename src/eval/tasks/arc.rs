//! ARC: school science questions with three to five answers (Clark et al., arXiv 1803.05457).

use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::{Error, Result};

pub const EASY: Task = Task {
    version: 1,
    hub: "hub:allenai/ai2_arc/ARC-Easy/test-00000-of-00001.parquet",
    files: &["arc_easy"],
    measure: TaskMeasure::NormalisedAccuracy,
    document,
};

pub const CHALLENGE: Task = Task {
    hub: "hub:allenai/ai2_arc/ARC-Challenge/test-00000-of-00001.parquet",
    files: &["arc_challenge"],
    ..EASY
};

fn document(row: &Row) -> Result<Document> {
    let context = format!("Question: {}\nAnswer:", row.text("question")?);
    lettered(row, &context, row.text("answerKey")?)
}

/// Makes a document of choices with labels (`A` to `E`, or `1` to `5`); the field `key` names the right one.
pub fn lettered(row: &Row, context: &str, key: &str) -> Result<Document> {
    let (choices, labels) = (row.texts("choices.text")?, row.texts("choices.label")?);
    if choices.len() != labels.len() {
        let message = format!(
            "field `choices` has {} texts, but {} labels",
            choices.len(),
            labels.len()
        );
        return Err(Error::input(message));
    }
    let gold = labels
        .iter()
        .position(|label| *label == key)
        .ok_or_else(|| Error::input(format!("field `answerKey`: {key:?} is none of the labels {labels:?}")))?;
    Ok(Document::choices(context, &choices, gold))
}
