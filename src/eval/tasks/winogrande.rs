//! WinoGrande: which of two nouns a blank stands for (Sakaguchi et al., arXiv 1907.10641).
//!
//! Both nouns are put in the blank, and what follows it is scored behind each.

use super::python_text::strip;
use super::task::{Document, Request, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::{Error, Result};

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:allenai/winogrande/winogrande_xl/validation-00000-of-00001.parquet",
    files: &["winogrande"],
    measure: TaskMeasure::Accuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let sentence = row.text("sentence")?;
    let (before, after) = sentence
        .split_once('_')
        .ok_or_else(|| Error::input(format!("field `sentence` has no blank `_`: {sentence}")))?;
    let after = strip(after);
    let request = |option: &str| Request {
        context: format!("{before}{option}"),
        continuation: format!(" {after}"),
        characters: after.chars().count(),
    };
    let requests = vec![request(row.choice("option1")?), request(row.choice("option2")?)];
    let gold = match row.text("answer")? {
        "1" => 0,
        "2" => 1,
        other => {
            return Err(Error::input(format!(
                "field `answer` is neither \"1\" nor \"2\": {other:?}"
            )));
        }
    };
    Ok(Document {
        requests,
        gold,
        source: None,
    })
}
