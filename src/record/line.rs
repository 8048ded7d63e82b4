//! A record as one line of `runs.jsonl`, with its checksum.

use super::fields::{CHECKED, OLDEST_SCHEMA, Record, SCHEMA, Status};
use super::invariants;
use crate::data::digest;
use crate::error::{Error, Result, json_in_line};
use serde::Deserialize;
use std::borrow::Cow;

impl Record {
    /// The id of the cell, and the one that the same cell has now if that is another ([`Identity::renamed`](crate::experiment::identity::Identity::renamed)).
    pub fn ids(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let now = self.cell.renamed().map(|cell| Cow::Owned(cell.id()));
        std::iter::once(Cow::Borrowed(self.id.as_str())).chain(now)
    }

    /// The record as a line of `runs.jsonl`, without the line end: JSON whose last key, `check`, is the checksum of the rest. The
    /// checksum is that of the record as zprune writes it, so spaces and other spellings of the same numbers do not change it.
    ///
    /// # Errors
    /// It breaks a rule, and could not be read again.
    pub fn line(&self) -> Result<String> {
        invariants::check(self).map_err(|broken| Error::numeric(format!("cell {}: {broken}", self.id)))?;
        let checked = Record {
            check: (self.schema >= CHECKED).then(|| self.checksum()),
            ..self.clone()
        };
        Ok(checked.text())
    }

    /// The first sixteen hexadecimal digits of the SHA-256 of the record without its `check`.
    pub(super) fn checksum(&self) -> String {
        let without = match &self.check {
            None => self.text(),
            Some(_) => Record {
                check: None,
                ..self.clone()
            }
            .text(),
        };
        digest::of_bytes(without.as_bytes())[..16].to_string()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("a record holds nothing that JSON cannot")
    }
}

/// What the user can do about a line that was edited.
const MEND: &str = "put the line back from a copy, or remove it, and the same experiment runs its cell again";

/// The record in a line and its checksum. The record must be as zprune wrote it.
pub(super) fn record(line: &[u8]) -> Result<(Record, String)> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let schema = serde_json::from_slice(line).map(|versioned: Versioned| versioned.schema);
    if let Some(other) = schema.ok().filter(|schema| !(OLDEST_SCHEMA..=SCHEMA).contains(schema)) {
        return Err(Error::input(format!(
            "the record has schema {other}, but this zprune reads schemas {OLDEST_SCHEMA} to {SCHEMA}; use the zprune \
             that wrote it, or another results folder"
        )));
    }
    let not_a_record = |error| Error::input(format!("not a record: {}", json_in_line(&error)));
    let mut record: Record = serde_json::from_slice(line).map_err(not_a_record)?;
    if record.cell.id() != record.id {
        let message = format!(
            "the record's id {} is not the hash of its cell; it was edited: {MEND}",
            record.id
        );
        return Err(Error::input(message));
    }
    let check = record.check.take();
    let newer = record.cell.is_sealed() || record.status == Status::Withdrawn || check.is_some();
    if record.schema < CHECKED && newer {
        return Err(Error::input(format!(
            "the record has schema {}, but what is in it came with schema {CHECKED}; it was edited: {MEND}",
            record.schema
        )));
    }
    if check.is_none() && record.schema >= CHECKED {
        return Err(Error::input(format!(
            "the record has no checksum (`check`); it was edited: {MEND}"
        )));
    }
    let sum = record.checksum();
    if let Some(check) = check.filter(|check| *check != sum) {
        let message = format!("the record's checksum {check} does not fit it; it was edited or damaged: {MEND}");
        return Err(Error::input(message));
    }
    invariants::check(&record)
        .map_err(|broken| Error::input(format!("the record cannot be what zprune wrote: {broken}; {MEND}")))?;
    Ok((record, sum))
}
