//! OpenBookQA: elementary science with four answers, without its book (Mihaylov et al., arXiv 1809.02789).

use super::arc;
use super::python_text::is_space;
use super::task::{Document, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::Result;

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:allenai/openbookqa/main/test-00000-of-00001.parquet",
    files: &["openbookqa"],
    measure: TaskMeasure::NormalisedAccuracy,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let key = row.text("answerKey")?.trim_start_matches(is_space);
    arc::lettered(row, row.text("question_stem")?, key)
}
