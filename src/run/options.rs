//! What a run is told to do, and how it ended.

use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ids of the cells to run; empty for all.
    pub cells: Vec<String>,
    /// Whether to wait for cells that other processes are at, or to leave them.
    pub wait: bool,
    /// Whether other processes run the same cells on other GPUs: a cell that this GPU fails at is left to them as long as they work.
    pub others: bool,
    /// Set by whoever wants the run to stop: it does so after the block it is at, and records nothing of that cell.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cells: Vec::new(),
            wait: true,
            others: false,
            stop: Arc::default(),
        }
    }
}

/// How a run ended: what has become of the cells that it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Number of cells that this process ran now.
    pub ran: usize,
    /// Number of cells that other processes ran meanwhile.
    pub elsewhere: usize,
    /// Number of cells, of both kinds together, that failed.
    pub failed: usize,
    /// Number of cells that had a good record already.
    pub skipped: usize,
    /// Number of cells that were left to other processes.
    pub left: usize,
}

/// What is said before a run goes on with cells that have no result yet, if others have one; `all` are those that were asked for.
pub fn goes_on(skipped: usize, all: usize) -> Option<String> {
    match skipped {
        0 => None,
        skipped if skipped == all => None,
        1 => Some(format!("1 of {all} cells has a result already")),
        skipped => Some(format!("{skipped} of {all} cells have results already")),
    }
}

impl Outcome {
    /// An error when cells failed, for the exit code.
    ///
    /// # Errors
    /// Says how many failed.
    pub fn check(&self, folder: &Path) -> Result<()> {
        if self.failed == 0 {
            return Ok(());
        }
        let message = format!(
            "{} of {} cells failed; runs.jsonl says why, and the same command tries them again",
            self.failed,
            self.ran + self.elsewhere
        );
        Err(Error::new(ErrorKind::CellsFailed, message).at(folder.display()))
    }
}
