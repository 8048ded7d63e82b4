//! WNLI: whether a sentence with a pronoun replaced follows (GLUE, arXiv 1804.07461).

use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 2,
    hub: "hub:nyu-mll/glue/wnli/validation-00000-of-00001.parquet",
    files: &["wnli"],
    measure: TaskMeasure::Accuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let first = row.text("sentence1")?;
    let context = format!("{first}\nQuestion: {} True or False?\nAnswer:", row.text("sentence2")?);
    Ok(Document::choices(&context, &["False", "True"], row.label("label", 2)?).from(first))
}
