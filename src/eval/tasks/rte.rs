//! RTE: whether a sentence follows from another (GLUE, arXiv 1804.07461).

use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:nyu-mll/glue/rte/validation-00000-of-00001.parquet",
    files: &["rte"],
    measure: TaskMeasure::Accuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let first = row.text("sentence1")?;
    let context = format!("{first}\nQuestion: {} True or False?\nAnswer:", row.text("sentence2")?);
    Ok(Document::choices(&context, &["True", "False"], row.label("label", 2)?).from(first))
}
