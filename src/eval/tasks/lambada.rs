//! LAMBADA in OpenAI's variant: the last word of a passage (Paperno et al., arXiv 1606.06031).

use super::task::{Document, Request, Task, TaskMeasure};
use crate::data::table::Row;
use crate::error::{Error, Result};

pub const TASK: Task = Task {
    version: 1,
    hub: "hub:EleutherAI/lambada_openai@refs/convert/parquet/default/test/0000.parquet",
    files: &["lambada_openai"],
    measure: TaskMeasure::LastWord,
    document,
};

fn document(row: &Row) -> Result<Document> {
    let text = row.text("text")?;
    let (context, word) = text.rsplit_once(' ').unwrap_or(("", text));
    if word.is_empty() {
        return Err(Error::input("field `text` ends with a space, so it has no last word"));
    }
    let request = Request {
        context: context.to_string(),
        continuation: format!(" {word}"),
        characters: word.chars().count(),
    };
    Ok(Document {
        requests: vec![request],
        gold: 0,
        source: None,
    })
}
