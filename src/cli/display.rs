//! Shows progress: one bar with time left on a terminal, plain lines elsewhere.

use super::signals::{self, refused};
use super::streams::say;
use crate::error::Result;
use crate::progress::{Progress, Running};
use crate::stats::{Shown, Summary};
use crate::threads;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a log has no new line while blocks are pruned.
const SILENCE: Duration = Duration::from_secs(30);

/// Confidence level of the interval of a running perplexity.
const CONFIDENCE: f64 = 0.95;

/// Shows the progress of a run: a bar in a terminal, or lines in a log.
pub(super) struct Display {
    bar: ProgressBar,
    terminal: bool,
    counts: Cell<Counts>,
    /// Label of the current cell.
    label: RefCell<String>,
    /// Estimated time left, for the current cell and for the sweep.
    left: Cell<(Option<Duration>, Option<Duration>)>,
    downloading: RefCell<Option<String>>,
    waiting: Cell<bool>,
    started: Instant,
    /// Time at which the last plain line was printed.
    spoke: Cell<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    cells: usize,
    done: usize,
}

impl Display {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let display = Display {
            terminal: std::io::stderr().is_terminal(),
            bar,
            counts: Cell::default(),
            label: RefCell::default(),
            left: Cell::default(),
            downloading: RefCell::default(),
            waiting: Cell::default(),
            started: Instant::now(),
            spoke: Cell::new(Instant::now()),
        };
        if display.terminal {
            display.style("{spinner} {msg}");
            // Without a thread of its own, the bar moves when there is news.
            if threads::check("the progress bar").is_ok() {
                display.bar.enable_steady_tick(Duration::from_millis(200));
            }
        } else {
            display.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        display
    }

    fn style(&self, template: &str) {
        if self.terminal {
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            self.bar.set_style(style);
        }
    }

    /// The first Ctrl-C, or request to terminate, sets the flag that is returned; a second one ends the program at once.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn stop_on_signals(&self) -> Result<Arc<AtomicBool>> {
        let stop = Arc::new(AtomicBool::new(false));
        let ending = signals::ending();
        for signal in ending.iter().copied() {
            signals::stop_or_end(signal, stop.clone())?;
        }
        #[cfg(unix)]
        {
            let mut signals = signal_hook::iterator::Signals::new(&ending).map_err(refused)?;
            let bar = self.bar.clone();
            let wait = move || {
                if signals.forever().next().is_some() {
                    bar.suspend(|| say("stopping after this block (again: stop at once)"));
                }
            };
            threads::start("signals", wait)?;
        }
        Ok(stop)
    }

    /// Prints a line, above the bar if there is one.
    fn say(&self, line: &str) {
        self.spoke.set(Instant::now());
        self.bar.suspend(|| say(line));
    }

    /// How long the sweep will still take, for plain lines.
    fn sweep_left(&self) -> String {
        match self.left.get().1 {
            Some(left) if !left.is_zero() => format!(", {} left", HumanDuration(left)),
            _ => String::new(),
        }
    }

    /// Shows the current cell and `what`, its result so far.
    fn show(&self, what: &str) {
        let Counts { cells, done } = self.counts.get();
        let cell = match self.left.get().0 {
            Some(left) => format!(", {} left", HumanDuration(left)),
            None => String::new(),
        };
        let label = self.label.borrow();
        self.bar
            .set_message(format!("{}/{cells} {label}{cell}{what}", done + 1));
    }
}

impl Progress for Display {
    fn stage(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }

    fn download(&self, what: &str, done: u64, total: u64) {
        let first = self
            .downloading
            .replace(Some(what.to_string()))
            .is_none_or(|before| before != what);
        if first && self.terminal {
            self.style("{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta} left  {msg}");
            self.bar.set_length(total);
            // What is here already says nothing about the pace.
            self.bar.set_position(done);
            self.bar.reset_eta();
            self.bar.set_message(what.to_string());
        } else if first {
            let here = match done {
                0 => String::new(),
                done => format!(", {} here already", HumanBytes(done)),
            };
            say(&format!("downloading {what} ({}{here})", HumanBytes(total)));
        }
        self.bar.set_position(done);
        if done >= total {
            self.downloading.replace(None);
            self.style("{spinner} {msg}");
        }
    }

    fn start(&self, cells: usize, steps: usize) {
        self.counts.set(Counts { cells, done: 0 });
        self.bar.set_length(steps as u64);
        self.bar.reset();
        self.style("[{elapsed_precise}] {bar:32} {percent:>3} % {eta} left  {msg}");
        if !self.terminal && cells > 1 {
            let ready = self.started.elapsed().as_secs_f64();
            say(&format!("{cells} cells to run (inputs ready after {ready:.1} s)"));
        }
    }

    fn cell(&self, label: &str) {
        self.label.replace(label.to_string());
        self.waiting.set(false);
        self.show("");
    }

    fn step(&self) -> Result<()> {
        self.bar.inc(1);
        self.show("");
        // A log has no bar; a line now and then says that a long cell is alive.
        if !self.terminal && self.spoke.get().elapsed() > SILENCE {
            let (position, length) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let message = self.bar.message();
            self.say(&format!("{message}: block {position} of {length}{}", self.sweep_left()));
        }
        Ok(())
    }

    fn scored(&self, evaluation: &str, means: &[f64], windows: usize) {
        let Some(summary) = Summary::of(means, CONFIDENCE) else {
            return;
        };
        let interval = summary.interval.map_or(String::new(), |interval| {
            format!(
                " ({:.2} to {:.2})",
                Shown(interval.low.exp()),
                Shown(interval.high.exp())
            )
        });
        let so_far = format!(
            "{evaluation} {:.2}{interval}, {} of {windows} windows",
            Shown(summary.mean.exp()),
            means.len()
        );
        self.show(&format!(": {so_far}"));
        if !self.terminal && self.spoke.get().elapsed() > SILENCE {
            self.say(&self.bar.message());
        }
    }

    fn answered(&self, running: &Running) {
        let [low, high] = running.interval.map(|bound| 100.0 * bound);
        let accuracy = 100.0 * running.accuracy;
        let Running { task, done, total, .. } = running;
        self.show(&format!(
            ": {task} {accuracy:.1} % ({low:.1} to {high:.1}), {done} of {total} documents"
        ));
        if !self.terminal && self.spoke.get().elapsed() > SILENCE {
            self.say(&self.bar.message());
        }
    }

    fn left(&self, cell: Option<Duration>, sweep: Option<Duration>) {
        self.left.set((cell, sweep));
        if let Some(left) = sweep {
            // The sweep's estimate knows what cells cost; the bar's own would take all blocks for equal.
            self.style("[{elapsed_precise}] {bar:32} {percent:>3} % {prefix} left  {msg}");
            self.bar.set_prefix(HumanDuration(left).to_string());
        }
    }

    fn cell_done(&self, label: &str, result: &str) {
        let Counts { cells, done } = self.counts.get();
        self.counts.set(Counts { cells, done: done + 1 });
        let left = if self.terminal {
            String::new()
        } else {
            self.sweep_left()
        };
        self.say(&format!("{}/{cells} {label}: {result}{left}", done + 1));
    }

    fn elsewhere(&self, cells: usize, steps: usize) {
        let Counts { cells: all, done } = self.counts.get();
        self.counts.set(Counts {
            cells: all.saturating_sub(cells),
            done,
        });
        self.bar.dec_length(steps as u64);
    }

    fn waiting(&self, cells: usize) {
        let message = match cells {
            1 => "waiting for a cell that another process is at".to_string(),
            cells => format!("waiting for {cells} cells that other processes are at"),
        };
        if !self.waiting.replace(true) && !self.terminal {
            self.say(&message);
        }
        self.bar.set_message(message);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
