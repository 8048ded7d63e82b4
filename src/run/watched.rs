//! The progress of a run, with estimates of the time left, and the end that was asked for.

use super::pace::Pace;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Progress, Running};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Refuses to go on once the run was asked to stop.
pub(crate) fn check_stop(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Interrupted,
            "stopped; finished cells are recorded, and the same command goes on with the others",
        )),
    }
}

/// Shows the progress of a run with estimates of the time left, and stops the run when it was asked to.
pub(crate) struct WatchedProgress<'a> {
    inner: &'a dyn Progress,
    stop: &'a AtomicBool,
    pace: RefCell<Pace>,
    /// The time at which the sweep started.
    since: Instant,
    /// The time at which the current cell started.
    within: RefCell<Instant>,
}

impl<'a> WatchedProgress<'a> {
    /// The progress of a sweep that starts now.
    pub(crate) fn new(inner: &'a dyn Progress, stop: &'a AtomicBool, pace: Pace) -> Self {
        WatchedProgress {
            inner,
            stop,
            pace: RefCell::new(pace),
            since: Instant::now(),
            within: RefCell::new(Instant::now()),
        }
    }

    /// Seconds since the sweep started.
    pub(crate) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// Whether a cell is still to be run, as far as this process was told.
    pub(crate) fn is_open(&self, id: &str) -> bool {
        self.pace.borrow().is_open(id)
    }

    /// Notes that a cell starts, whose model has so many blocks, each of which counts as so many steps, and shows it.
    pub(crate) fn begin(&self, id: &str, label: &str, blocks: usize, weight: usize) {
        self.within.replace(Instant::now());
        self.pace.borrow_mut().begin(id, blocks);
        self.inner.weighs(weight);
        self.inner.cell(label, blocks);
        self.tell();
    }

    /// Notes that a cell is done; `seconds` says how long it took, if this process ran it and has a good record of it.
    pub(crate) fn end(&self, id: &str, seconds: Option<f64>) {
        self.pace.borrow_mut().end(id, seconds);
        self.tell();
    }

    fn tell(&self) {
        let (cell, sweep) = self
            .pace
            .borrow()
            .left(self.within.borrow().elapsed(), self.since.elapsed());
        self.inner.left(cell, sweep);
    }
}

impl Progress for WatchedProgress<'_> {
    fn stage(&self, what: &str) {
        self.inner.stage(what);
    }
    fn begins(&self, what: &str, time: Option<Duration>) {
        self.inner.begins(what, time);
    }
    fn note(&self, line: &str) {
        self.inner.note(line);
    }
    fn start(&self, cells: usize, steps: usize) {
        self.inner.start(cells, steps);
    }
    fn weighs(&self, steps: usize) {
        self.inner.weighs(steps);
    }
    fn cell(&self, label: &str, blocks: usize) {
        self.inner.cell(label, blocks);
    }
    fn step(&self) -> Result<()> {
        self.inner.step()?;
        self.pace.borrow_mut().step(self.within.borrow().elapsed());
        self.tell();
        check_stop(self.stop)
    }
    fn more(&self, blocks: usize) {
        self.pace.borrow_mut().more(blocks);
        self.inner.more(blocks);
    }
    fn tried(&self) -> Result<()> {
        self.inner.tried()?;
        check_stop(self.stop)
    }
    fn answered(&self, running: &Running) {
        self.inner.answered(running);
    }

    fn scored(&self, evaluation: &str, means: &[f64], windows: usize) {
        self.inner.scored(evaluation, means, windows);
    }
    fn cell_done(&self, label: &str, result: &str) {
        self.inner.cell_done(label, result);
    }
    fn elsewhere(&self, cells: usize, steps: usize) {
        self.inner.elsewhere(cells, steps);
    }
    fn waiting(&self, cells: usize) {
        self.inner.waiting(cells);
    }
    fn finish(&self) {
        self.inner.finish();
    }
}
