//! PIQA: which of two ways reaches a goal (Bisk et al., arXiv 1911.11641).

use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:baber/piqa@refs/convert/parquet/default/validation/0000.parquet",
    files: &["piqa"],
    measure: TaskMeasure::NormalisedAccuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let context = format!("Question: {}\nAnswer:", row.text("goal")?);
    let choices = [row.choice("sol1")?, row.choice("sol2")?];
    Ok(Document::choices(&context, &choices, row.label("label", 2)?))
}
