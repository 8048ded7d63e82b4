//! The records of a file as far as it has been read: equal cells have equal numbers.

use super::fields::{Record, Status};
use super::line::record;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// What has been read of the file so far.
#[derive(Default)]
pub(super) struct Known {
    pub(super) records: Vec<Record>,
    /// For each record, the number of its line.
    lines: Vec<usize>,
    /// Number of lines read so far.
    read: usize,
    /// For each cell with a good record, the index of that record.
    pub(super) good: HashMap<String, usize>,
    /// For each record, its checksum.
    pub(super) sums: Vec<String>,
}

impl Known {
    /// Reads the lines in `news`, which follow the ones read before.
    pub(super) fn extend(&mut self, path: &Path, news: &[u8]) -> Result<()> {
        for line in news.split_inclusive(|byte| *byte == b'\n') {
            self.read += 1;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if !line.is_empty() {
                let record = record(line).and_then(|(record, sum)| self.add(record, sum));
                record.map_err(|error| error.at(format_args!("{}:{}", path.display(), self.read)))?;
            }
        }
        Ok(())
    }

    /// Adds the record in the line that was read last.
    fn add(&mut self, record: Record, sum: String) -> Result<()> {
        let ids: Vec<String> = record.ids().map(Cow::into_owned).collect();
        let first = ids.iter().find_map(|id| self.good.get(id).copied());
        match (record.status, first) {
            (Status::Ok, Some(first)) if !self.records[first].agrees(&record) => {
                return Err(Error::input(format!(
                    "the record contradicts the good record of the same cell ({}) in line {}; equal cells have equal numbers, so one \
                     of the two is wrong: remove its line",
                    record.id, self.lines[first]
                )));
            }
            (Status::Ok, _) => {
                let index = self.records.len();
                self.good.extend(ids.into_iter().map(|id| (id, index)));
            }
            (Status::Withdrawn, _) => {
                self.good.retain(|id, _| !ids.contains(id));
            }
            (Status::Failed, _) => {}
        }
        self.sums.push(sum);
        self.lines.push(self.read);
        self.records.push(record);
        Ok(())
    }

    /// Adds a record that this process has just written.
    pub(super) fn wrote(&mut self, record: Record) -> Result<()> {
        self.read += 1;
        let sum = record.checksum();
        self.add(record, sum)
    }
}
