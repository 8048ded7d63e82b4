//! MNLI, matched: whether a hypothesis follows from a premise (Williams et al., arXiv 1704.05426).

use super::python_text::strip;
use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:nyu-mll/glue/mnli/validation_matched-00000-of-00001.parquet",
    files: &["mnli", "mnli_matched"],
    measure: TaskMeasure::Accuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let premise = row.text("premise")?;
    let hypothesis = strip(row.text("hypothesis")?);
    let stop = if hypothesis.ends_with('.') { "" } else { "." };
    let context = format!("{premise}\nQuestion: {hypothesis}{stop} True, False or Neither?\nAnswer:");
    let gold = row.label("label", 3)?;
    Ok(Document::choices(&context, &["True", "Neither", "False"], gold).from(premise))
}
