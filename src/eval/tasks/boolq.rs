//! BoolQ: a yes or no question about a passage (Clark et al., arXiv 1905.10044).

use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 2,
    hub: "hub:aps/super_glue/boolq/validation-00000-of-00001.parquet",
    files: &["boolq"],
    measure: TaskMeasure::Accuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let passage = row.text("passage")?;
    let context = format!("{passage}\nQuestion: {}?\nAnswer:", row.text("question")?);
    Ok(Document::choices(&context, &["no", "yes"], row.label("label", 2)?).from(passage))
}
