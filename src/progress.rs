//! Progress as events. Computation reports to a [`Progress`] and prints nothing itself.

use crate::error::Result;
use std::time::Duration;

/// Receives reports about a run, to show them. Every method is called only from the thread that runs the sweep.
pub trait Progress {
    /// A step before the sweep has begun that takes a while; `what` names it.
    fn stage(&self, what: &str);

    /// What a command that may take minutes is about to do: with what, and how much of it, in one line; and the time it will take, about,
    /// where that can be told from the shape of the work.
    fn begins(&self, _what: &str, _time: Option<Duration>) {}

    /// Something that the user should know before the work begins, in one line.
    fn note(&self, _line: &str) {}

    /// A download continues: `done` of `total` bytes are here. Called first with what was here already, and at the
    /// end with everything.
    fn download(&self, _what: &str, _done: u64, _total: u64) {}

    /// The sweep starts: the number of cells to run, and of steps in all of them: blocks, or what blocks count as
    /// ([`Progress::weighs`]).
    fn start(&self, cells: usize, steps: usize);

    /// Each block of the cell that starts next counts as so many steps; as one, if nobody says so.
    fn weighs(&self, _steps: usize) {}

    /// The cell with this label starts, whose work is so many blocks; 0 if it is not in blocks.
    fn cell(&self, label: &str, blocks: usize);

    /// One block of the current cell is finished.
    ///
    /// # Errors
    /// The work was asked to stop here; the caller passes the error on and records nothing.
    fn step(&self) -> Result<()>;

    /// So many blocks of the current cell are passed that were not counted at the start: its blocks are passed once more.
    fn more(&self, _blocks: usize) {}

    /// A block of a trial is finished: work of the current cell that is no step.
    ///
    /// # Errors
    /// As [`Progress::step`].
    fn tried(&self) -> Result<()> {
        Ok(())
    }

    /// Part of an evaluation is scored: the mean negative log-likelihoods, in nats per token, of the windows scored
    /// so far, out of `windows`.
    fn scored(&self, _evaluation: &str, _means: &[f64], _windows: usize) {}

    /// Estimates of the time left for the current cell and for the sweep.
    fn left(&self, _cell: Option<Duration>, _sweep: Option<Duration>) {}

    /// Documents of a zero-shot task were scored.
    fn answered(&self, _running: &Running) {}

    /// The current cell ended; `result` says how, in a few words.
    fn cell_done(&self, label: &str, result: &str);

    /// Other processes have run cells that were counted at the start; `_steps` is the number of steps in all of them.
    fn elsewhere(&self, _cells: usize, _steps: usize) {}

    /// All cells that are left are being run by other processes, so this one waits for them.
    fn waiting(&self, _cells: usize) {}

    /// The sweep has ended, whatever the results of its cells are.
    fn finish(&self);
}

/// The result of a zero-shot task so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Running<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// The metric that `accuracy` is: `acc_norm` for tasks that have it, else `acc`.
    pub metric: &'static str,
    /// Number of documents scored so far.
    pub done: usize,
    /// Number of documents of the task in this run.
    pub total: usize,
    /// Accuracy so far, as a fraction.
    pub accuracy: f64,
    /// Interval of `accuracy` as fractions, the one that tables show: Wilson's, or the exact one of few documents.
    pub interval: [f64; 2],
}

/// A [`Progress`] that ignores everything; for tests and for use as a library.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _what: &str) {}
    fn start(&self, _cells: usize, _steps: usize) {}
    fn cell(&self, _label: &str, _blocks: usize) {}
    fn step(&self) -> Result<()> {
        Ok(())
    }
    fn cell_done(&self, _label: &str, _result: &str) {}
    fn finish(&self) {}
}
