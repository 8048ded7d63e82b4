//! The event log: what happened in a results folder, when, and in which process. For people and for programs that
//! watch a sweep. No run reads it; `zprune report --since` looks there which process computed what.

use crate::error::{Error, Result};
use crate::record::journal::Journal;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Something that happened to a process or to a cell; one line of `events.jsonl`, under the field `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    /// A process began to work on the folder.
    Started {
        /// Version of the program zprune that the process is.
        zprune: &'static str,
        /// Number of cells that the process was asked to run.
        cells: usize,
        /// How many of these have no good record yet.
        pending: usize,
        /// Number of threads that the process computes with.
        threads: usize,
    },
    /// The process claimed a cell and began to run it.
    Claimed {
        /// Id of the cell.
        id: &'a str,
        /// Model, method, pattern and seed of the cell in words.
        label: &'a str,
    },
    /// The process wrote a good record of the cell.
    Done {
        /// Id of the cell.
        id: &'a str,
        /// Model, method, pattern and seed of the cell in words.
        label: &'a str,
        /// Seconds from the claim to the record.
        seconds: f64,
        /// Perplexities that were measured, by the name of the evaluation.
        perplexity: BTreeMap<&'a str, f64>,
    },
    /// The process wrote a record that says why the cell failed.
    Failed {
        /// Id of the cell.
        id: &'a str,
        /// Model, method, pattern and seed of the cell in words.
        label: &'a str,
        /// Seconds from the claim to the record.
        seconds: f64,
        /// The error, as the record has it.
        error: &'a str,
    },
    /// The GPU of the process failed at the cell, which has no record and is left to processes with other GPUs.
    Left {
        /// Id of the cell.
        id: &'a str,
        /// Model, method, pattern and seed of the cell in words.
        label: &'a str,
        /// The error, as a record would have it.
        error: &'a str,
    },
    /// The process stopped because it was asked to; the cell it was at has no record.
    Interrupted {
        /// Number of cells that the process ran before.
        ran: usize,
    },
    /// The process stopped because of an error that concerns more than one cell.
    Stopped {
        /// The error, as the user sees it.
        error: &'a str,
    },
    /// Nothing is left for the process to do.
    Finished {
        /// Number of cells that the process ran.
        ran: usize,
        /// Number of cells that failed, in this process or in others.
        failed: usize,
        /// Number of cells that other processes ran meanwhile.
        elsewhere: usize,
        /// Number of cells that were left to other processes.
        left: usize,
        /// Seconds since the process started.
        seconds: f64,
    },
}

/// The text that every line begins with; a file whose lines begin otherwise is not zprune's.
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

/// An open `events.jsonl`, to which other processes may append as well.
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

    /// Appends an event, with the time and the process.
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
