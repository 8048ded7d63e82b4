//! HellaSwag: which of four endings follows a scene (Zellers et al., arXiv 1905.07830).
//!
//! Rows of the hub go through the harness's `process_docs`; rows that went through it already (`query`,
//! `choices`, `gold`) are taken as they are.

use super::python_text::{capitalize, strip};
use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:Rowan/hellaswag/data/validation-00000-of-00001.parquet",
    files: &["hellaswag", "hellaswag_prepared"],
    measure: TaskMeasure::NormalisedAccuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    if row.has("query") && !row.has("ctx_a") {
        let choices = row.texts("choices")?;
        let gold = row.label("gold", choices.len())?;
        return Ok(Document::choices(row.text("query")?, &choices, gold));
    }
    let endings = row.texts("endings")?;
    let context = format!("{} {}", row.text("ctx_a")?, capitalize(row.text("ctx_b")?));
    let query = preprocess(&format!("{}: {context}", row.text("activity_label")?));
    let choices: Vec<String> = endings.into_iter().map(preprocess).collect();
    let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
    let document = Document::choices(&query, &choices, row.label("label", choices.len())?);
    Ok(match row.has("source_id") {
        true => document.from(row.text("source_id")?),
        false => document,
    })
}

/// Removes what is left of WikiHow's markup. The order of the steps matters: the spaces that a removed bracket leaves
/// are not trimmed again, and three spaces become two.
fn preprocess(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Removes every `[`, up to the next `]` on its line.
fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open);
        kept.push_str(before);
        rest = match from.find([']', '\n']) {
            Some(end) if from.as_bytes()[end] == b']' => &from[end + 1..],
            _ => {
                kept.push('[');
                &from[1..]
            }
        };
    }
    kept + rest
}
