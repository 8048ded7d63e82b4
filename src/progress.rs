//! Progress as events. Computation reports to a [`Progress`] and prints nothing itself.

use crate::error::Result;
use std::time::Duration;

/// Receives what a run is doing. Every method may be called from the thread that runs the sweep only.
pub trait Progress {
    /// Something that takes a while before the sweep starts.
    fn stage(&self, what: &str);

    /// A download goes on: `done` of `total` bytes are here. Called first with what was here already, and
    /// last with everything.
    fn download(&self, _what: &str, _done: u64, _total: u64) {}

    /// The sweep starts: cells to run, and steps (blocks) in all of them.
    fn start(&self, cells: usize, steps: usize);

    /// A cell starts.
    fn cell(&self, label: &str);

    /// One block of the current cell is finished.
    ///
    /// # Errors
    /// The work was asked to stop here; the caller passes the error on and records nothing.
    fn step(&self) -> Result<()>;

    /// Text comes out of an evaluation: the mean negative log-likelihoods, in nats per token, of the windows scored so
    /// far, of `windows` in all.
    fn scored(&self, _evaluation: &str, _means: &[f64], _windows: usize) {}

    /// Estimates of the time left for the current cell and for the sweep.
    fn left(&self, _cell: Option<Duration>, _sweep: Option<Duration>) {}

    /// Documents of a zero-shot task were scored.
    fn answered(&self, _running: &Running) {}

    /// The current cell ended; `result` says how, in a few words.
    fn cell_done(&self, label: &str, result: &str);

    /// Other processes ran cells that were counted at the start, with so many steps in all of them.
    fn elsewhere(&self, _cells: usize, _steps: usize) {}

    /// Nothing can be done before other processes finish one of the cells they are at.
    fn waiting(&self, _cells: usize) {}

    /// The sweep ended.
    fn finish(&self);
}

/// A zero-shot task's result so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Running<'a> {
    /// The task.
    pub task: &'a str,
    /// Documents scored.
    pub done: usize,
    /// Documents in all.
    pub total: usize,
    /// Accuracy so far, as a fraction.
    pub accuracy: f64,
    /// Its 95 % Wilson interval.
    pub interval: [f64; 2],
}

/// Ignores everything; for tests and for use as a library.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _what: &str) {}
    fn start(&self, _cells: usize, _steps: usize) {}
    fn cell(&self, _label: &str) {}
    fn step(&self) -> Result<()> {
        Ok(())
    }
    fn cell_done(&self, _label: &str, _result: &str) {}
    fn finish(&self) {}
}
