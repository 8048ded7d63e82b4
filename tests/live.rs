//! Claims about what a run tells while it goes on: perplexities as they come, the time left, and that it stops where it is asked to.

mod tiny;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tiny::Folder;
use zprune::error::{ErrorKind, Result};
use zprune::experiment::inputs::Inputs;
use zprune::experiment::resolve;
use zprune::experiment::work::{Measured, operations};
use zprune::progress::Progress;
use zprune::record;
use zprune::report::results::{Measure, Results};
use zprune::run::{self, Options, Outcome};

/// Remembers what it is told, and asks for a stop after so many blocks.
#[derive(Default)]
struct Listener {
    scored: RefCell<Vec<(String, Vec<f64>, usize)>>,
    left: RefCell<Vec<(Option<Duration>, Option<Duration>)>>,
    /// Cells started, and ended.
    cells: Cell<(usize, usize)>,
    steps: Cell<usize>,
    stop_after: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Progress for Listener {
    fn stage(&self, _what: &str) {}
    fn start(&self, _cells: usize, _steps: usize) {}
    fn cell(&self, _label: &str, blocks: usize) {
        assert_eq!(blocks, 2, "the tiny model has two");
        let (started, ended) = self.cells.get();
        self.cells.set((started + 1, ended));
    }
    fn step(&self) -> Result<()> {
        self.steps.set(self.steps.get() + 1);
        if self.stop_after == Some(self.steps.get()) {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
    fn scored(&self, evaluation: &str, means: &[f64], windows: usize) {
        self.scored
            .borrow_mut()
            .push((evaluation.to_string(), means.to_vec(), windows));
    }
    fn left(&self, cell: Option<Duration>, sweep: Option<Duration>) {
        self.left.borrow_mut().push((cell, sweep));
    }
    fn cell_done(&self, _label: &str, _result: &str) {
        let (started, ended) = self.cells.get();
        self.cells.set((started, ended + 1));
    }
    fn finish(&self) {}
}

/// A folder whose experiment works from everywhere.
fn folder() -> Folder {
    let folder = Folder::new();
    for name in ["model", "calibration.jsonl", "novel.txt"] {
        let path = folder.path(name).display().to_string();
        folder.replace("experiment.toml", &format!("\"{name}\""), &format!("{path:?}"));
    }
    folder
}

fn run(folder: &Folder, listener: &Listener) -> Result<Outcome> {
    let experiment = resolve::read(&folder.path("experiment.toml"))?;
    let inputs = Inputs::inspect(&experiment)?;
    let options = Options {
        stop: listener.stop.clone(),
        ..Options::default()
    };
    run::run(&experiment, &inputs, &folder.path("results"), &options, listener)
}

#[test]
fn running_likelihoods_end_as_those_of_the_records() {
    let folder = folder();
    // More windows than go through the head at once.
    folder.write("novel.txt", tiny::text(100, 6000));
    folder.replace(
        "experiment.toml",
        "length = 16\nwindows = 4",
        "length = 64\nwindows = 400",
    );
    let listener = Listener::default();
    run(&folder, &listener).expect("it runs");
    let records = record::read(&folder.path("results")).expect("there are records");
    let told = listener.scored.borrow();
    assert!(told.len() > records.len(), "every evaluation came in one piece");
    let mut told = told.iter();
    for record in &records {
        let windows = &record.evaluations[0].windows;
        let mut known = 0;
        while known < windows.len() {
            let (name, means, all) = told.next().expect("more was told");
            assert_eq!((name.as_str(), *all), ("novel", windows.len()));
            assert!(means.len() > known, "nothing was added");
            assert_eq!(means, &windows[..means.len()]);
            known = means.len();
        }
    }
    assert!(told.next().is_none());
}

#[test]
fn the_time_left_is_told_after_the_first_block_and_ends_with_nothing() {
    let folder = folder();
    let listener = Listener::default();
    run(&folder, &listener).expect("it runs");
    let left = listener.left.borrow();
    assert_eq!(left[0], (None, None), "nothing is known before the first block");
    assert!(left[1].0.is_some() && left[1].1.is_some(), "{left:?}");
    assert_eq!(left.last().expect("it was told"), &(None, Some(Duration::ZERO)));
}

#[test]
fn the_time_left_of_a_run_that_goes_on_is_known_from_its_records_before_the_first_block() {
    let folder = folder();
    run(&folder, &Listener::default()).expect("it runs");
    // Four cells of one more seed, and cells of a method that no record knows.
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0, 1, 2]");
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("an experiment");
    let method = "\n[[method]]\nname = \"new\"\ncriterion = \"wanda\"\nsolver = \"least-squares\"\n";
    folder.write("experiment.toml", text + method);
    let listener = Listener::default();
    let outcome = run(&folder, &listener).expect("it goes on");
    assert_eq!(outcome.skipped, 9);
    let left = listener.left.borrow();
    // The first cell that is left is one of the new method. What it took is known now.
    let records = record::read(&folder.path("results")).expect("records");
    let took: Vec<f64> = records[9..].iter().map(|record| record.run.total_seconds).collect();
    let most = took.iter().copied().fold(0.0, f64::max);
    let (cell, sweep) = left[0];
    let (cell, sweep) = (
        cell.expect("recorded").as_secs_f64(),
        sweep.expect("recorded").as_secs_f64(),
    );
    assert!(cell > 0.0 && sweep > cell, "{left:?}");
    // Cells of some milliseconds take several times as long if the machine is busy.
    assert!(cell <= 20.0 * most, "the cells took {took:?} s: {left:?}");
    assert_eq!(left.last().expect("it was told"), &(None, Some(Duration::ZERO)));
}

#[test]
fn the_work_of_a_cell_has_the_parts_that_it_needs() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("an experiment");
    let method = "\n[[method]]\nname = \"new\"\ncriterion = \"wanda\"\nsolver = \"least-squares\"\n";
    folder.write("experiment.toml", text + method);
    let experiment = resolve::read(&folder.path("experiment.toml")).expect("an experiment");
    let inputs = Inputs::inspect(&experiment).expect("inputs");
    let spec = &inputs.folders[0].as_ref().expect("a model").spec;
    let work = |method: Option<&str>, tasks: usize| {
        let cells = experiment.cells();
        let cell = cells.iter().find(|cell| match (method, &cell.pruning) {
            (None, None) => true,
            (Some(name), Some(_)) => experiment.method_name(cell) == name,
            _ => false,
        });
        let measured = Measured {
            evaluations: vec![64],
            tasks,
        };
        operations(&experiment, spec, cell.expect("a cell"), &measured).expect("a method")
    };
    let dense = work(None, 0);
    assert!(dense.perplexity > 0.0);
    assert_eq!(dense.all(), dense.perplexity, "{dense:?}");
    let wanda = work(Some("wanda"), 0);
    assert!(wanda.calibration > 0.0 && wanda.solving == 0.0, "{wanda:?}");
    let solved = work(Some("new"), 640);
    // Gram matrices are gathered in calibration; more tokens are more work, in proportion but for looks at each other.
    assert!(
        solved.calibration > wanda.calibration && solved.solving > 0.0,
        "{solved:?}"
    );
    assert!(
        solved.tasks > 5.0 * dense.perplexity && solved.tasks <= 10.0 * dense.perplexity,
        "{solved:?}"
    );
    let sum = solved.calibration + solved.solving + solved.perplexity + solved.tasks;
    assert_eq!(solved.all(), sum);
}

#[test]
fn a_run_that_is_asked_to_stop_does_so_after_the_block_and_records_nothing_of_the_cell() {
    let blocks = 2;
    for stop_after in [1, 2, 3, 2 * blocks + 1] {
        let folder = folder();
        let listener = Listener {
            stop_after: Some(stop_after),
            ..Listener::default()
        };
        let error = run(&folder, &listener).expect_err("it was stopped");
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Interrupted, 130));
        assert_eq!(listener.steps.get(), stop_after, "it went on");
        let whole = (stop_after - 1) / blocks;
        assert_eq!(listener.cells.get(), (whole + 1, whole));
        let records = record::read_if_any(&folder.path("results")).expect("readable");
        assert_eq!(records.len(), whole, "after {stop_after} blocks");
        assert!(folder.results().keys().all(|path| !path.starts_with("results/tables")));
        let rest = run(&folder, &Listener::default()).expect("it goes on");
        assert_eq!((rest.ran, rest.skipped), (9 - whole, whole));
    }
}

#[test]
fn the_log_has_the_intervals_of_the_report() {
    let folder = Folder::new();
    let row = |it: u32| {
        let question = format!("\"question\": \"q{it}\"");
        let choices = "\"choices\": {\"text\": [\"x\", \"yy\"], \"label\": [\"A\", \"B\"]}";
        let key = if it.is_multiple_of(3) { "A" } else { "B" };
        format!("{{{question}, {choices}, \"answerKey\": \"{key}\"}}\n")
    };
    folder.write("arc_easy.jsonl", (0..20).map(row).collect::<String>());
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("an experiment");
    folder.write(
        "experiment.toml",
        text + "\n[[task]]\nname = \"arc_easy\"\ndata = \"arc_easy.jsonl\"\n",
    );
    let output = folder.run();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = log
        .lines()
        .find(|line| line.contains("dense: perplexity novel"))
        .expect("a line");
    let results = Results::read(&folder.path("results/tiny")).expect("results");
    for section in &results.sections {
        let said = match &section.measure {
            Measure::Perplexity { .. } => {
                let components = section.dense.components(&section.measure).expect("windows");
                let interval = components.interval(0.95).expect("windows");
                format!(" ({:.2} to {:.2})", interval.low.exp(), interval.high.exp())
            }
            // A line has the accuracy that tables have.
            Measure::Accuracy { metric: "acc_norm", .. } => {
                let interval = section.dense.accuracy(0.95).expect("documents").interval;
                format!(" ({:.1} to {:.1})", 100.0 * interval.low, 100.0 * interval.high)
            }
            _ => continue,
        };
        assert!(line.contains(&said), "{said}: {line}");
    }
}

#[test]
fn a_log_has_a_line_per_cell_with_its_interval_and_the_time_left() {
    let output = Folder::new().run();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(": perplexity novel "))
        .collect();
    assert_eq!(lines.len(), 9, "{log}");
    for (index, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{}/9 model, ", index + 1)), "{line}");
        assert!(line.contains(" (") && line.contains(" to "), "no interval: {line}");
        assert_eq!(line.ends_with(" left"), index < 8, "{line}");
    }
}
