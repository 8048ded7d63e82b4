//! Records: what one cell of an experiment did and found, one JSON object per line.
//!
//! `runs.jsonl` only grows: a cell's record is appended, and synchronised to disk, the moment the cell
//! ends. Several processes may append to one file; a cell gets no second good record. A program killed while
//! writing leaves at most an unfinished last line, which the next to append removes; any other damage is
//! refused with its line, and nothing is written over.
//!
//! A line ends in a checksum of everything before it ([`Record::line`]), and what is read must obey the rules that hold of every record
//! (`invariants`): a number that was edited is refused, not reported.

mod fields;
mod file;
mod invariants;
pub(crate) mod journal;
mod known;
mod line;
mod reduced;

use crate::error::{Error, Result};
pub use fields::{
    BlockWidths, EvaluationRecord, Label, Metric, OLDEST_SCHEMA, Part, Record, RunInfo, SCHEMA, Status,
    StructureRecord, TaskRecord, ToDenseRecord,
};
pub use file::RecordFile;
use known::Known;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// The record that counts for every cell: its latest good record unless that was withdrawn, otherwise the latest one,
/// which says why there is none.
pub fn standing(records: &[Record]) -> Standing<'_> {
    let mut standing = Standing::new();
    for record in records {
        for id in record.ids() {
            let good = standing.get(&id).is_some_and(|old| old.status == Status::Ok);
            if record.status != Status::Failed || !good {
                standing.insert(id, record);
            }
        }
    }
    standing
}

/// Records by the ids of their cells.
pub type Standing<'r> = HashMap<Cow<'r, str>, &'r Record>;

/// Reads the records of a results folder and changes nothing.
///
/// # Errors
/// The file is missing, or a line other than an unfinished last one is damaged or was edited.
pub fn read(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join("runs.jsonl");
    parse(&path, &journal::read(&path)?)
}

/// Whether the last line is unfinished, which [`read`] leaves out.
///
/// # Errors
/// The file is missing or cannot be read.
pub fn unfinished(folder: &Path) -> Result<bool> {
    let path = folder.join("runs.jsonl");
    let whole = journal::read(&path)?.len() as u64;
    let length = path.metadata().map_err(|error| Error::reading(&path, error))?.len();
    Ok(length > whole)
}

/// As [`read`], for a folder in which nothing may have been recorded yet: then the result is empty.
///
/// # Errors
/// A line other than an unfinished last one is damaged or was edited.
pub fn read_if_any(folder: &Path) -> Result<Vec<Record>> {
    match folder.join("runs.jsonl").exists() {
        true => read(folder),
        false => Ok(Vec::new()),
    }
}

/// The records in the whole lines `bytes`; `path` is what errors name. For [`read`] and the fuzzer.
///
/// # Errors
/// A line is damaged or was edited, or two records contradict each other.
#[doc(hidden)]
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    let mut known = Known::default();
    known.extend(path, bytes)?;
    Ok(known.records)
}
