//! `runs.jsonl` while a sweep appends to it: several processes write, other programs may replace it, and no record is lost.

use super::fields::{Record, Status};
use super::journal::{Journal, Locked};
use super::known::Known;
use crate::error::{Error, Result};
use crate::files::{create_whole, write_whole};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The text that the line of every record begins with.
const BEGINNING: &str = "{\"schema\":";

/// An open `runs.jsonl`, to which other processes may append as well, and which other programs may replace.
pub struct RecordFile {
    journal: Journal,
    known: Known,
    /// The records that were added since the file was opened, by this process and others. If another file replaces
    /// the open one and lacks some of these records, they are written again. Older records are not restored.
    fresh: Vec<Record>,
    /// The file in which records were saved when they could not be written to the record file.
    saved: Option<PathBuf>,
}

impl RecordFile {
    /// Opens (or creates) the file in a results folder, removes an unfinished last line and reads the others.
    ///
    /// # Errors
    /// The file cannot be written or locked, or a line is damaged or was edited.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut journal = Journal::open(folder.join("runs.jsonl"), BEGINNING)?;
        let news = std::mem::take(&mut journal.lock()?.news);
        let mut known = Known::default();
        known.extend(journal.path(), &news)?;
        Ok(RecordFile {
            journal,
            known,
            fresh: Vec::new(),
            saved: None,
        })
    }

    /// Reads what other processes have appended since the last read. If the file was replaced, the records that it
    /// lacks are written to it.
    ///
    /// # Errors
    /// The file cannot be read, locked or written, or a line is damaged or was edited.
    pub fn refresh(&mut self) -> Result<()> {
        match self.journal.is_current() {
            true => Ok(()),
            false => self.caught_up(None, |_, _| Ok(())),
        }
    }

    /// Reads the whole file again and makes sure that it has every record that was added since it was opened.
    ///
    /// # Errors
    /// As [`RecordFile::refresh`].
    pub fn settle(&mut self) -> Result<()> {
        self.journal.rewind();
        self.refresh()
    }

    /// Locks the file, reads what is new, and then calls the given function. `next` is a record that is about to be
    /// written: if nothing can be written any more, it is saved elsewhere.
    fn caught_up<T>(
        &mut self,
        next: Option<&Record>,
        then: impl FnOnce(&mut Known, &mut Locked) -> Result<T>,
    ) -> Result<T> {
        let path = self.journal.path().to_path_buf();
        let RecordFile {
            journal,
            known,
            fresh,
            saved,
        } = self;
        let mut locked = match journal.lock() {
            Ok(locked) => locked,
            Err(error) => return Err(rescued(error, &path, saved, fresh.iter().chain(next))),
        };
        let news = std::mem::take(&mut locked.news);
        if !locked.anew {
            let before = known.records.len();
            let read = known.extend(&path, &news);
            fresh.extend_from_slice(&known.records[before..]);
            read.map_err(|error| rescued(error, &path, saved, fresh.iter().chain(next)))?;
            return then(known, &mut locked);
        }
        let mut there = Known::default();
        if let Err(error) = there.extend(&path, &news) {
            drop(locked);
            // The next to look at the file finds it as damaged as now.
            journal.rewind();
            return Err(rescued(error, &path, saved, fresh.iter().chain(next)));
        }
        let before: HashSet<&String> = known.sums.iter().collect();
        let others = there.records.iter().zip(&there.sums);
        let others = others.filter(|(_, sum)| !before.contains(sum));
        fresh.extend(others.map(|(record, _)| record.clone()));
        let sums: HashSet<&String> = there.sums.iter().collect();
        let needless = |record: &Record| record.status != Status::Withdrawn && there.good.contains_key(&record.id);
        let lacks = |record: &&Record| !sums.contains(&record.checksum()) && !needless(record);
        let lacking: Vec<Record> = fresh.iter().filter(lacks).cloned().collect();
        *known = there;
        if !lacking.is_empty() {
            tracing::warn!(
                "{}: lacks {} of this sweep's records, because they could not be written before or another program changed the \
                 file; they are written again",
                path.display(),
                lacking.len()
            );
        }
        for (index, record) in lacking.iter().enumerate() {
            if let Err(error) = locked.append(&record.line()?) {
                return Err(rescued(error, &path, saved, lacking[index..].iter().chain(next)));
            }
            known.wrote(record.clone())?;
        }
        then(known, &mut locked)
    }

    /// All records of the file, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.known.records
    }

    /// The records that were added since the file was opened, by this process and others.
    pub fn fresh(&self) -> &[Record] {
        &self.fresh
    }

    /// The good record of the cell with this id, if there is one.
    pub fn good(&self, id: &str) -> Option<&Record> {
        self.known.good.get(id).map(|place| &self.known.records[*place])
    }

    /// Whether a cell has a good record.
    pub fn has(&self, id: &str) -> bool {
        self.good(id).is_some()
    }

    /// Appends a record and waits until it is on disk; `false`, and nothing is written, if the cell has a good
    /// record by now that this one does not withdraw.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the file is cut back to whole lines.
    pub fn append(&mut self, record: Record) -> Result<bool> {
        let line = record.line()?;
        let wrote = self.caught_up(Some(&record), |known, locked| {
            if known.good.contains_key(&record.id) && record.status != Status::Withdrawn {
                return Ok(false);
            }
            locked.append(&line)?;
            known.wrote(record.clone())?;
            Ok(true)
        });
        if wrote.is_err() {
            // Whoever looks at the file next puts it there, or saves it elsewhere with the others.
            self.fresh.push(record);
            return wrote;
        }
        let wrote = wrote?;
        if wrote {
            self.fresh.push(record);
            // Another program may have put its file in place while the line was written.
            self.refresh()?;
        }
        Ok(wrote)
    }
}

/// Saves records that cannot be written to their file in a file of their own, and says so in the error. `saved` is
/// the file in which they were saved before.
fn rescued<'a>(
    error: Error,
    path: &Path,
    saved: &mut Option<PathBuf>,
    records: impl Iterator<Item = &'a Record>,
) -> Error {
    let lines: Vec<String> = records.filter_map(|record| record.line().ok()).collect();
    if lines.is_empty() {
        return error;
    }
    let text = lines.join("\n") + "\n";
    let again = saved.take().filter(|place| write_whole(place, text.as_bytes()).is_ok());
    *saved = again.or_else(|| set_aside(path, text.as_bytes()));
    match saved {
        Some(place) => {
            let (count, place) = (lines.len(), place.display());
            let kind = error.kind();
            let records = if count == 1 { "record" } else { "records" };
            let message = format!(
                "{error}; {place} has the {count} {records} of this run that the file may lack: repair the file, and append them to it"
            );
            Error::new(kind, message)
        }
        // The first error is the cause.
        None => error,
    }
}

/// Writes lines to a new file beside the record file. If that fails, in the system's folder for temporary files:
/// often only one disk is full.
fn set_aside(path: &Path, lines: &[u8]) -> Option<PathBuf> {
    /// Number of file names that are tried: earlier processes with the same number may have left files.
    const MOST: usize = 1000;
    let process = std::process::id();
    let folders = [path.parent().map(Path::to_path_buf), Some(std::env::temp_dir())];
    folders.into_iter().flatten().find_map(|folder| {
        let names = (1..=MOST).map(|number| match number {
            1 => format!("runs.rescued-{process}.jsonl"),
            _ => format!("runs.rescued-{process}-{number}.jsonl"),
        });
        for place in names.map(|name| folder.join(name)) {
            match create_whole(&place, lines) {
                Ok(true) => return Some(place),
                Ok(false) => {}
                Err(_) => return None,
            }
        }
        None
    })
}
