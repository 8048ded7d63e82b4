//! The event log: what happened in a results folder, when, and in which process. For people and for programs that
//! watch a sweep; zprune itself never reads it.

use crate::error::{Error, Result};
use crate::record::journal::Journal;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    /// A process began to work on the folder.
    Started {
        /// Version of zprune.
        zprune: &'static str,
        /// Cells asked for.
        cells: usize,
        /// Of these, cells without a good record.
        pending: usize,
        /// Threads it computes with.
        threads: usize,
    },
    /// It began a cell.
    Claimed {
        /// The cell.
        id: &'a str,
        /// The cell in words.
        label: &'a str,
    },
    /// The cell has a good record.
    Done {
        /// The cell.
        id: &'a str,
        /// The cell in words.
        label: &'a str,
        /// From claim to record.
        seconds: f64,
        /// By evaluation.
        perplexity: BTreeMap<&'a str, f64>,
    },
    /// The cell has a record that says why it failed.
    Failed {
        /// The cell.
        id: &'a str,
        /// The cell in words.
        label: &'a str,
        /// From claim to record.
        seconds: f64,
        /// Why.
        error: &'a str,
    },
    /// The process stopped because it was asked to; the cell it was at has no record.
    Interrupted {
        /// Cells it ran before.
        ran: usize,
    },
    /// The process stopped because of an error that concerns more than one cell.
    Stopped {
        /// Why.
        error: &'a str,
    },
    /// Nothing is left for the process to do.
    Finished {
        /// Cells it ran.
        ran: usize,
        /// Cells that failed, here or in other processes.
        failed: usize,
        /// Cells that other processes ran meanwhile.
        elsewhere: usize,
        /// Cells left to other processes.
        left: usize,
        /// Since it started.
        seconds: f64,
    },
}

/// How every line begins.
const BEGINNING: &str = "{\"at\":";

/// An event with its time and its process.
#[derive(Serialize)]
struct Entry<'a> {
    at: String,
    host: &'a str,
    pid: u32,
    #[serde(flatten)]
    event: Event<'a>,
}

/// An open `events.jsonl`.
pub(crate) struct EventLog {
    journal: Journal,
    host: String,
    /// The lines of this process, for a log that is replaced by one without them.
    written: Vec<String>,
}

impl EventLog {
    /// Opens (or creates) the log of a results folder.
    ///
    /// # Errors
    /// It cannot be written, or is no log of events.
    pub(crate) fn open(folder: &Path) -> Result<EventLog> {
        let mut journal = Journal::open(folder.join("events.jsonl"), BEGINNING)?;
        let there = std::mem::take(&mut journal.lock()?.news);
        if !(there.is_empty() || there.starts_with(BEGINNING.as_bytes())) {
            let message = "zprune did not write it; rename it, or choose another results folder";
            return Err(Error::output(journal.path(), message));
        }
        Ok(EventLog {
            journal,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            written: Vec::new(),
        })
    }

    /// Appends an event.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(crate) fn write(&mut self, event: Event) -> Result<()> {
        let entry = Entry {
            at: jiff::Timestamp::now()
                .round(jiff::Unit::Millisecond)
                .map_or(String::new(), |time| time.to_string()),
            host: &self.host,
            pid: std::process::id(),
            event,
        };
        let line = serde_json::to_string(&entry).map_err(|error| Error::output(self.journal.path(), error))?;
        let mut locked = self.journal.lock()?;
        if locked.anew {
            let news = std::mem::take(&mut locked.news);
            let there: HashSet<&[u8]> = news.split(|byte| *byte == b'\n').collect();
            for line in self.written.iter().filter(|line| !there.contains(line.as_bytes())) {
                locked.append(line)?;
            }
        }
        locked.append(&line)?;
        self.written.push(line);
        Ok(())
    }
}
