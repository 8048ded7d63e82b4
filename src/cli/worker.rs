//! One of several processes that `zprune run --gpus` starts: it works on the experiment with one GPU, and tells what happens as lines of
//! JSON on standard output.
//!
//! The process that started it writes a line to its standard input if it shall stop after the current block. If standard input ends
//! without one, that process is gone, and this one ends at once: a cell has no record before it is finished.

use super::moment::{accuracy_so_far, perplexity_so_far};
use crate::error::{ErrorKind, Result};
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::Experiment;
use crate::progress::{Progress, Running};
use crate::run::{self, Options};
use crate::threads;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a worker tells.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// It prepares something.
    Stage(String),
    /// Something that the user should know.
    Note(String),
    /// It is ready: the number of steps in all cells that have no result yet.
    Ready(usize),
    /// It works on this cell now, which has so many blocks.
    Cell(String, usize),
    /// The cell has so many steps more than were counted.
    More(usize),
    /// A block of the cell is finished, which counts as so many steps.
    Step(usize),
    /// What it knows of the cell's result so far.
    SoFar(String),
    /// The cell with this label ended like this.
    Ended(String, String),
    /// Everything that is left is being worked on by others.
    Waits,
    /// It stops, and why, if there is more to do.
    Stops(Option<Reason>),
}

/// Why a worker stops before everything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reason {
    /// The kind of error, for the exit code.
    pub(super) kind: ErrorKind,
    /// The error, as a user reads it.
    pub(super) message: String,
}

/// How often running results are told at most.
const PACE: Duration = Duration::from_millis(500);

/// Works on the experiment until nothing is left or it is told to stop.
///
/// # Errors
/// The system starts no thread. What ends the run is told and not returned.
pub(super) fn work(experiment: &Experiment, results: &Path, options: Options) -> Result<()> {
    let stop = options.stop.clone();
    threads::start("orders", move || {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(1..) => stop.store(true, Ordering::SeqCst),
            // Nobody would learn of what comes after this.
            _ => std::process::exit(ErrorKind::Interrupted.exit_code().into()),
        }
    })?;
    let told = Told {
        confidence: experiment.confidence,
        last: Cell::new(Instant::now()),
        waits: Cell::new(false),
        weight: Cell::new(1),
    };
    let ended = Inputs::inspect(experiment).and_then(|inputs| {
        let folder = results.join(&experiment.name);
        run::run(experiment, &inputs, &folder, &options, &told)
    });
    let reason = ended.as_ref().err().map(|error| Reason {
        kind: error.kind(),
        message: error.to_string(),
    });
    // The process that started this one shows the reason.
    say(&Said::Stops(reason));
    Ok(())
}

fn say(said: &Said) {
    let Ok(line) = serde_json::to_string(said) else { return };
    let mut output = io::stdout().lock();
    // If nobody reads it, standard input has ended, too.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Progress as lines.
struct Told {
    confidence: f64,
    last: Cell<Instant>,
    waits: Cell<bool>,
    /// Steps that each block of the cell counts as.
    weight: Cell<usize>,
}

impl Told {
    fn so_far(&self, result: impl FnOnce() -> [String; 3]) {
        if self.last.get().elapsed() >= PACE {
            self.last.set(Instant::now());
            let [whole, ..] = result();
            say(&Said::SoFar(whole));
        }
    }
}

impl Progress for Told {
    fn stage(&self, what: &str) {
        say(&Said::Stage(what.to_string()));
    }

    fn note(&self, line: &str) {
        say(&Said::Note(line.to_string()));
    }

    fn start(&self, _cells: usize, steps: usize) {
        say(&Said::Ready(steps));
    }

    fn weighs(&self, steps: usize) {
        self.weight.set(steps);
    }

    fn cell(&self, label: &str, blocks: usize) {
        self.waits.set(false);
        say(&Said::Cell(label.to_string(), blocks));
    }

    fn more(&self, blocks: usize) {
        say(&Said::More(blocks * self.weight.get()));
    }

    fn step(&self) -> Result<()> {
        say(&Said::Step(self.weight.get()));
        Ok(())
    }

    fn scored(&self, evaluation: &str, means: &[f64], windows: usize) {
        self.so_far(|| perplexity_so_far(evaluation, means, windows, self.confidence));
    }

    fn answered(&self, running: &Running) {
        self.so_far(|| accuracy_so_far(running));
    }

    fn cell_done(&self, label: &str, result: &str) {
        say(&Said::Ended(label.to_string(), result.to_string()));
    }

    fn waiting(&self, _cells: usize) {
        // It looks again five times a second.
        if !self.waits.replace(true) {
            say(&Said::Waits);
        }
    }

    fn finish(&self) {}
}
