//! Prompts with answers: calibration text of which only the answers count.

use super::corpus::json_object;
use super::corpus::room::TextRoom;
use super::text_file::TextFile;
use crate::error::{Error, Located, Result};
use serde::Deserialize;
use std::path::Path;

/// A prompt with its answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The text before the answer, whose tokens do not count.
    pub prompt: String,
    /// The answer, such as the model's own output.
    pub answer: String,
    /// How much each of the answer's tokens counts.
    #[serde(default = "one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

/// Reads a file of JSON lines (also gzipped), each an object with `prompt`, `answer` and, optionally, `weight`.
///
/// # Errors
/// A missing file, one with another ending, a line that is no such object (with its number), a weight that is negative or
/// not finite, no line at all, or more text than fits in memory.
pub fn read(path: &Path) -> Result<Vec<Answer>> {
    let file = TextFile::open(path)?;
    let ending = Path::new(&file.stem).extension().unwrap_or_default();
    if ending != "jsonl" && ending != "json" {
        let message =
            "sampling = \"answers\" reads JSON lines with `prompt` and `answer`; their file ends in .jsonl or .json";
        return Err(Error::config(message).at(path.display()));
    }
    parse(file).at(path.display())
}

fn parse(file: TextFile) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut room = TextRoom::new();
    for line in file.lines() {
        let (number, line) = line?;
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("line {number}");
        let answer: Answer = json_object(
            &line,
            "an object with strings `prompt` and `answer`, and perhaps a number `weight`",
        )
        .at(&place)?;
        if !(answer.weight.is_finite() && answer.weight >= 0.0) {
            return Err(Error::input(format!("weight {} must be a number, 0 or larger", answer.weight)).at(&place));
        }
        room.take(answer.prompt.len() + answer.answer.len())?;
        answers.push(answer);
    }
    if answers.is_empty() {
        return Err(Error::input("contains no prompts with answers"));
    }
    match answers.iter().all(|answer| answer.weight == 0.0) {
        true => Err(Error::input(
            "every answer has the weight 0, so none counts; give some of them a larger weight, or leave `weight` out",
        )),
        false => Ok(answers),
    }
}
