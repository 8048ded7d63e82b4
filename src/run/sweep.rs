//! The outer loop of a run: which cells are to do, who does them, what becomes of them.
//!
//! Several processes may work on one results folder. Each claims a cell before it runs it ([`claims`](super::claims)) and looks
//! at the records once more after it has the claim, so a cell is run once, and a good record is never doubled.
//! A process that finds everything left claimed by others waits for them, and takes over what they leave: when the
//! command ends, the sweep is complete.

use super::claims::Claims;
use super::events::{Event, EventLog};
use super::pace::{Costs, Pace};
use super::tasks::{check_samples, write_samples};
use super::{Opened, PreparedModel, Runner, method_name};
use crate::error::{Error, ErrorKind, Result};
use crate::experiment::identity::Identity;
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::{Cell, Experiment};
use crate::files::{create_folders, no_links, remove_unfinished};
use crate::progress::{Progress, Running};
use crate::prune::workbench::Workbench;
use crate::record::{Record, RecordFile, Status, standing};
use crate::registry::nearest;
use crate::report::{PlanFile, PlannedCell};
use crate::stats::{Shown, Summary};
use bytesize::ByteSize;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a waiting process looks again.
const LOOK: Duration = Duration::from_millis(200);

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ids of the cells to run; empty for all.
    pub cells: Vec<String>,
    /// Whether to wait for cells that other processes are at, or to leave them.
    pub wait: bool,
    /// Set by whoever wants the run to stop: it does so after the block it is at, and records nothing of that cell.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cells: Vec::new(),
            wait: true,
            stop: Arc::default(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Cells run now, by this process.
    pub ran: usize,
    /// Cells that other processes ran meanwhile.
    pub elsewhere: usize,
    /// Of both, cells that failed.
    pub failed: usize,
    /// Cells that had a good record already.
    pub skipped: usize,
    /// Cells left to other processes.
    pub left: usize,
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

/// The ids of all cells, in the experiment's order; `None` where a file they depend on is missing.
pub fn identify(experiment: &Experiment, inputs: &Inputs) -> Vec<Option<Identity>> {
    experiment
        .cells()
        .iter()
        .map(|cell| {
            let model = inputs.models[cell.model].as_ref()?;
            let (evaluations, tasks) = (inputs.evaluations.as_ref()?, inputs.tasks.as_ref()?);
            let seed = cell.pruning.and_then(|pruning| pruning.seed);
            let file = seed.map(|seed| inputs.calibration.get(&seed));
            if file.is_some_and(|file| file.is_none()) {
                return None;
            }
            let digest = file.flatten().map(|file| file.digest.as_str());
            Some(Identity::of(experiment, cell, model, digest, evaluations, tasks))
        })
        .collect()
}

/// What has become of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has a good record.
    Done,
    /// A process is at it.
    Running,
    /// Its records say why it failed; a run tries again.
    Failed,
    /// It has no record.
    Pending,
}

/// A cell of an experiment, what has become of it, and what it is expected to take.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The cell.
    pub cell: Cell,
    /// Its id; `None` where a file it depends on is missing.
    pub id: Option<String>,
    /// What has become of it.
    pub state: State,
    /// Mean seconds of the recorded cells of the same method, model and tokens, whatever pattern and seed, on whatever
    /// machine; `None` if there are none.
    pub seconds: Option<f64>,
}

/// All cells of an experiment, in its order, as `records` and the claims in `folder` show them. Changes nothing.
pub fn prospects(experiment: &Experiment, inputs: &Inputs, records: &[Record], folder: &Path) -> Vec<Prospect> {
    let (claims, costs, standing) = (Claims::of(folder), Costs::of(records), standing(records));
    let cells = experiment.cells().into_iter().zip(identify(experiment, inputs));
    cells
        .map(|(cell, identity)| {
            let id = identity.as_ref().map(Identity::id);
            let found = id.as_deref().and_then(|id| standing.get(id));
            let state = match (&id, found.map(|record| record.status)) {
                (_, Some(Status::Ok)) => State::Done,
                (Some(id), _) if claims.held(id) => State::Running,
                (_, Some(Status::Failed | Status::Withdrawn)) => State::Failed,
                (_, None) => State::Pending,
            };
            let seconds = identity.and_then(|identity| costs.expected(&identity));
            Prospect {
                cell,
                id,
                state,
                seconds,
            }
        })
        .collect()
}

/// Runs the cells of an experiment that have no good record in `folder`.
///
/// # Errors
/// Unusable inputs or an unknown cell (nothing is written then), unwritable results, and
/// [`ErrorKind::Interrupted`] when it was asked to stop. Failures of single cells are recorded and counted, not returned.
pub fn run(
    experiment: &Experiment,
    inputs: &Inputs,
    folder: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Outcome> {
    inputs.require_all()?;
    let cells: Vec<(Cell, Identity)> = experiment
        .cells()
        .into_iter()
        .zip(identify(experiment, inputs))
        .filter_map(|(cell, identity)| Some((cell, identity?)))
        .collect();
    let wanted = select(experiment, &cells, &options.cells)?;
    let mut models = Vec::new();
    for (index, input) in inputs.models.iter().flatten().enumerate() {
        // A cell that was asked for alone needs no other model.
        models.push(if wanted.iter().any(|(cell, _)| cell.model == index) {
            Some(PreparedModel::new(experiment, inputs, index, input, progress)?)
        } else {
            None
        });
        check_stop(&options.stop)?;
    }
    // Texts are tokens by now, and weights are looked through: whatever was written to since it was hashed would be in them.
    for index in (0..models.len()).filter(|index| models[*index].is_some()) {
        inputs.unchanged(index)?;
    }

    create_folders(folder)?;
    let mut file = RecordFile::open(folder)?;
    for written in ["", "tables", "plots"] {
        if no_links(folder, written).is_ok() {
            remove_unfinished(&folder.join(written));
        }
    }
    let plan = plan_file(experiment, inputs, &cells);
    plan.write(folder)?;

    let pending = pending(experiment, &cells, &wanted, &file);
    if !pending.is_empty() {
        no_links(folder, "claims")?;
    }
    for (_, identity) in &pending {
        check_samples(folder, &identity.id(), experiment)?;
    }
    let model = |cell: &Cell| {
        models[cell.model]
            .as_ref()
            .expect("the models of wanted cells are prepared")
    };
    let blocks = |cell: &Cell| model(cell).checkpoint.spec().blocks;
    let mut outcome = Outcome {
        skipped: wanted.iter().filter(|(_, identity)| file.has(&identity.id())).count(),
        ..Outcome::default()
    };
    progress.start(pending.len(), pending.iter().map(|(cell, _)| blocks(cell)).sum());
    // Opened late, so that an experiment without pending cells needs no GPU, and its folder stays as it is.
    if !pending.is_empty() {
        let mut events = EventLog::open(folder)?;
        events.write(Event::Started {
            zprune: env!("CARGO_PKG_VERSION"),
            cells: wanted.len(),
            pending: pending.len(),
            threads: rayon::current_num_threads(),
        })?;
        let pace = Pace::new(pending.iter().map(|(_, identity)| identity), Costs::of(file.records()));
        let mut sweep = Sweep {
            folder,
            experiment,
            inputs,
            cells: &cells,
            models: &models,
            options,
            claims: Claims::of(folder),
            recorded: Vec::new(),
            file,
            events,
            progress: Watched {
                inner: progress,
                stop: &options.stop,
                pace: RefCell::new(pace),
                since: Instant::now(),
                within: RefCell::new(Instant::now()),
            },
            outcome: &mut outcome,
        };
        let ended = match Opened::new(&experiment.machine) {
            Ok(Opened::Cpu(cpu)) => sweep.run(&cpu, pending),
            Ok(Opened::CpuBf16(cpu)) => sweep.run(&cpu, pending),
            Ok(Opened::Gpu(gpu)) => sweep.run(gpu.as_ref(), pending),
            Err(error) => Err(error),
        };
        let ended = ended.and_then(|()| sweep.vouch());
        let settled = sweep.file.settle();
        sweep.end(both(ended, settled))?;
        file = sweep.file;
    }
    Claims::of(folder).tidy(|id| file.has(id));
    progress.finish();
    Ok(outcome)
}

/// Two outcomes as one. The second may say what became of records that the first could not write.
fn both(first: Result<()>, second: Result<()>) -> Result<()> {
    match (first, second) {
        (Err(first), Err(second)) => Err(match second.to_string().starts_with(&first.to_string()) {
            true => second,
            false => Error::new(first.kind(), format!("{first}\n{second}")),
        }),
        (first, second) => first.and(second),
    }
}

/// The cells with these ids, or all.
fn select<'a>(
    experiment: &Experiment,
    cells: &'a [(Cell, Identity)],
    ids: &[String],
) -> Result<Vec<&'a (Cell, Identity)>> {
    if ids.is_empty() {
        return Ok(cells.iter().collect());
    }
    let known: Vec<String> = cells.iter().map(|(_, identity)| identity.id()).collect();
    for id in ids {
        if !known.contains(id) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(id, &names).and_then(|near| cells.iter().find(|(_, identity)| identity.id() == near));
            let near = near.map_or(String::new(), |(cell, identity)| {
                format!("; did you mean {} ({})?", identity.id(), experiment.describe(cell))
            });
            return Err(Error::config(format!(
                "{} has no cell {id}{near} `zprune plan` lists all. An id changes with everything that changes a cell's numbers: \
                 files, settings, backend",
                experiment.name
            )));
        }
    }
    let wanted = cells.iter().zip(known).filter(|(_, id)| ids.contains(id));
    Ok(wanted.map(|(cell, _)| cell).collect())
}

/// The wanted cells without a good record, and the dense cells that must be held against `expected` before.
fn pending<'a>(
    experiment: &Experiment,
    cells: &'a [(Cell, Identity)],
    wanted: &[&'a (Cell, Identity)],
    file: &RecordFile,
) -> Vec<&'a (Cell, Identity)> {
    let open = |entry: &&(Cell, Identity)| !file.has(&entry.1.id());
    let asked: HashSet<String> = wanted.iter().map(|(_, identity)| identity.id()).collect();
    let pruned: BTreeSet<usize> = wanted
        .iter()
        .copied()
        .filter(open)
        .filter(|(cell, _)| cell.pruning.is_some())
        .map(|(cell, _)| cell.model)
        .collect();
    let needed = |entry: &&(Cell, Identity)| {
        let (cell, identity) = entry;
        let asked = asked.contains(&identity.id());
        let held_against = cell.pruning.is_none()
            && pruned.contains(&cell.model)
            && !experiment.models[cell.model].expected.is_empty();
        asked || held_against
    };
    cells.iter().filter(open).filter(needed).collect()
}

/// The cells of an experiment, what they compute with, and where they go.
struct Sweep<'a> {
    folder: &'a Path,
    experiment: &'a Experiment,
    inputs: &'a Inputs,
    cells: &'a [(Cell, Identity)],
    models: &'a [Option<PreparedModel<'a>>],
    options: &'a Options,
    claims: Claims,
    /// A failure that was there when it was opened is tried again, a later one is a result.
    file: RecordFile,
    /// Models and ids of the cells to which this process gave a good record.
    recorded: Vec<(usize, String)>,
    events: EventLog,
    progress: Watched<'a>,
    outcome: &'a mut Outcome,
}

impl<'a> Sweep<'a> {
    /// Runs the pending cells on a backend, or sees other processes do it.
    fn run<B: Workbench>(&mut self, backend: &B, pending: Vec<&'a (Cell, Identity)>) -> Result<()> {
        let mut runner: Option<(usize, Runner<B>)> = None;
        let mut open = pending;
        loop {
            let before = open.len();
            let mut held = Vec::new();
            for entry in open {
                let (cell, identity) = entry;
                let id = identity.id();
                check_stop(&self.options.stop)?;
                self.file.refresh()?;
                if self.settled(cell, &id) {
                    continue;
                }
                if cell.pruning.is_some() && !self.dense_fits(cell.model)? {
                    held.push(entry);
                    continue;
                }
                let Some(claim) = self.claims.take(&id)? else {
                    held.push(entry);
                    continue;
                };
                // Whoever had the claim may have recorded the cell since.
                self.file.refresh()?;
                if self.settled(cell, &id) {
                    if self.file.has(&id) {
                        claim.settled();
                    }
                    continue;
                }
                if runner.as_ref().is_none_or(|(model, _)| *model != cell.model) {
                    let model = self.models[cell.model].as_ref();
                    let model = model.expect("the models of pending cells are prepared");
                    runner = Some((cell.model, Runner::new(backend, self.experiment, model)?));
                }
                let (_, runner) = runner.as_mut().expect("a runner for this cell's model was just made");
                if self.cell(runner, cell, identity)? {
                    claim.settled();
                }
            }
            if held.is_empty() {
                return Ok(());
            }
            if held.len() == before {
                if !self.options.wait {
                    self.outcome.left = held.len();
                    return Ok(());
                }
                self.progress.waiting(held.len());
                std::thread::sleep(LOOK);
            }
            open = held;
        }
    }

    /// Runs a cell and records it; returns whether its record is a good one.
    fn cell<B: Workbench>(&mut self, runner: &mut Runner<B>, cell: &Cell, identity: &Identity) -> Result<bool> {
        let (id, label) = (identity.id(), self.experiment.describe(cell));
        self.events.write(Event::Claimed { id: &id, label: &label })?;
        let blocks = self.blocks(cell);
        self.progress.begin(&id, &label, blocks);
        let (record, tasks) = runner.record(cell, identity, &self.progress)?;
        let good = record.status == Status::Ok;
        let seconds = record.run.total_seconds;
        let result = summary(&record, self.experiment.confidence);
        self.inputs.unchanged(cell.model).map_err(|error| {
            let message = format!(
                "{error}; {label} has no record, since its numbers may come from both contents; {} cells were recorded before. \
                 When nothing writes to the file any more, the same command goes on",
                self.outcome.ran
            );
            Error::new(error.kind(), message)
        })?;
        let samples = write_samples(self.folder, &id, &tasks);
        if self.file.append(record.clone())? && good {
            self.recorded.push((cell.model, id.clone()));
        }
        samples.map_err(|error| {
            let message = format!(
                "{error}; {label} is recorded without these; to have them, remove its line of runs.jsonl and run again"
            );
            Error::new(error.kind(), message)
        })?;
        self.events.write(match &record.error {
            None => Event::Done {
                id: &id,
                label: &label,
                seconds,
                perplexity: record
                    .evaluations
                    .iter()
                    .map(|it| (it.name.as_str(), it.perplexity))
                    .collect(),
            },
            Some(error) => Event::Failed {
                id: &id,
                label: &label,
                seconds,
                error,
            },
        })?;
        self.outcome.ran += 1;
        self.outcome.failed += usize::from(!good);
        self.progress.end(&id, good.then_some(seconds));
        self.progress.cell_done(&label, &result);
        Ok(good)
    }

    fn blocks(&self, cell: &Cell) -> usize {
        self.models[cell.model]
            .as_ref()
            .map_or(0, |model| model.checkpoint.spec().blocks)
    }

    /// Whether a pending cell has a result by now that this process did not give it, and counts it.
    fn settled(&mut self, cell: &Cell, id: &str) -> bool {
        let good = self.file.has(id);
        if !good && self.file.fresh().iter().all(|record| record.id != id) {
            return false;
        }
        // Two methods may be the same under different names: the first one's record serves both.
        if self.progress.pace.borrow().is_open(id) {
            self.outcome.elsewhere += 1;
            self.outcome.failed += usize::from(!good);
            self.progress.end(id, None);
        } else {
            self.outcome.skipped += 1;
        }
        self.progress.elsewhere(1, self.blocks(cell));
        true
    }

    /// Whether the dense perplexities of a model are the expected ones, so that pruning it is worth while; `false` while
    /// another process measures them.
    fn dense_fits(&self, model: usize) -> Result<bool> {
        let plan = &self.experiment.models[model];
        if plan.expected.is_empty() {
            return Ok(true);
        }
        let dense = self
            .cells
            .iter()
            .find(|(cell, _)| cell.model == model && cell.pruning.is_none());
        let dense = dense.map_or(String::new(), |(_, identity)| identity.id());
        let fail = |message: String| Error::new(ErrorKind::Mismatch, message).at(&plan.name);
        let Some(record) = self.file.good(&dense) else {
            return match self.file.fresh().iter().any(|record| record.id == dense) {
                false => Ok(false),
                true => Err(fail(
                    "the dense model has no result to hold against `expected`".to_string(),
                )),
            };
        };
        // The record may have been made under other labels; evaluations keep the experiment's order.
        for (plan_of, found) in self.experiment.evaluations.iter().zip(&record.evaluations) {
            let Some(expected) = plan.expected.get(&plan_of.name) else {
                continue;
            };
            let off = (found.perplexity - expected.perplexity).abs() / expected.perplexity;
            if off > expected.tolerance {
                return Err(fail(format!(
                    "the dense perplexity on {} is {:.4}, but {:.4} is expected, within {} %: it is off by {:.3} %. \
                     Weights, tokens, BOS, join or context length differ from the run it comes from; nothing was pruned",
                    plan_of.name,
                    Shown(found.perplexity),
                    Shown(expected.perplexity),
                    100.0 * expected.tolerance,
                    Shown(100.0 * off)
                )));
            }
        }
        Ok(true)
    }

    /// Hashes the inputs of what was recorded once more, since two writes within one step of a file system's clock leave no
    /// trace. Records whose input is another one by now are withdrawn: nobody can tell which of them saw what.
    fn vouch(&mut self) -> Result<()> {
        let models: BTreeSet<usize> = self.recorded.iter().map(|(model, _)| *model).collect();
        let mut doubts = Ok(());
        for model in models {
            if let Err(error) = self.inputs.unchanged(model) {
                // Every record was written before that, so it is as good as its hash.
                tracing::warn!("{error}, after the last of its cells was recorded");
                continue;
            }
            let name = &self.experiment.models[model].name;
            self.progress.stage(&format!("hashing the inputs of {name} again"));
            let Err(error) = self.inputs.rehash(model) else {
                continue;
            };
            let own = self.recorded.iter().filter(|(of, _)| *of == model);
            let own: Vec<Record> = own.filter_map(|(_, id)| self.file.good(id).cloned()).collect();
            let count = own.len();
            for record in own {
                self.file.append(Record {
                    status: Status::Withdrawn,
                    error: Some(error.to_string()),
                    sparsity: None,
                    calibration_tokens: None,
                    evaluations: Vec::new(),
                    tasks: Vec::new(),
                    layers: Vec::new(),
                    ..record
                })?;
            }
            let message = format!(
                "{error}; the {count} records of this run that come from it are withdrawn. When nothing writes to it any more, run again"
            );
            doubts = doubts.and(Err(Error::new(error.kind(), message)));
        }
        doubts
    }

    /// Writes down how the sweep ended.
    fn end(&mut self, ended: Result<()>) -> Result<()> {
        match ended {
            Ok(()) => self.events.write(Event::Finished {
                ran: self.outcome.ran,
                failed: self.outcome.failed,
                elsewhere: self.outcome.elsewhere,
                left: self.outcome.left,
                seconds: self.progress.since.elapsed().as_secs_f64(),
            }),
            Err(error) => {
                let reason = error.to_string();
                let event = match error.kind() {
                    ErrorKind::Interrupted => Event::Interrupted { ran: self.outcome.ran },
                    _ => Event::Stopped { error: &reason },
                };
                // The error itself matters more than a log that cannot be written.
                let _ = self.events.write(event);
                Err(error)
            }
        }
    }
}

/// Refuses to go on once the run was asked to stop.
fn check_stop(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Interrupted,
            "stopped; finished cells are recorded, and the same command goes on with the others",
        )),
    }
}

/// Progress with a watch: adds estimates of the time left, and stops where it was asked to.
struct Watched<'a> {
    inner: &'a dyn Progress,
    stop: &'a AtomicBool,
    pace: RefCell<Pace>,
    /// When the sweep started.
    since: Instant,
    /// When the current cell started.
    within: RefCell<Instant>,
}

impl Watched<'_> {
    fn begin(&self, id: &str, label: &str, blocks: usize) {
        self.within.replace(Instant::now());
        self.pace.borrow_mut().begin(id, blocks);
        self.inner.cell(label);
        self.tell();
    }

    fn end(&self, id: &str, seconds: Option<f64>) {
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

impl Progress for Watched<'_> {
    fn stage(&self, what: &str) {
        self.inner.stage(what);
    }
    fn start(&self, cells: usize, steps: usize) {
        self.inner.start(cells, steps);
    }
    fn cell(&self, label: &str) {
        self.inner.cell(label);
    }
    fn step(&self) -> Result<()> {
        self.inner.step()?;
        self.pace.borrow_mut().step();
        self.tell();
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

/// A record in a few words: perplexities, with the interval of the mean over evaluation windows.
fn summary(record: &Record, confidence: f64) -> String {
    match &record.error {
        Some(error) => format!("failed: {error}"),
        None => {
            let results = record.evaluations.iter().map(|it| {
                let interval = Summary::of(&it.windows, confidence).and_then(|summary| summary.interval);
                let interval = interval.map_or(String::new(), |interval| {
                    format!(
                        " ({:.2} to {:.2})",
                        Shown(interval.low.exp()),
                        Shown(interval.high.exp())
                    )
                });
                format!("{} {:.2}{interval}", it.name, Shown(it.perplexity))
            });
            let tasks = record.tasks.iter().filter_map(|task| {
                let metric = task.metrics.get("acc")?;
                let interval = metric.interval.map_or(String::new(), |[low, high]| {
                    format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high)
                });
                Some(format!("{} {:.1} %{interval}", task.name, 100.0 * metric.value))
            });
            let lists = [
                ("perplexity", results.collect::<Vec<_>>()),
                ("accuracy", tasks.collect()),
            ];
            let lists = lists.iter().filter(|(_, list)| !list.is_empty());
            let lists: Vec<String> = lists
                .map(|(what, list)| format!("{what} {}", list.join(", ")))
                .collect();
            let run = &record.run;
            let resident = run
                .peak_resident_bytes
                .map(|bytes| format!(", {} resident", ByteSize(bytes)));
            let spilled = run
                .spilled_bytes
                .map(|bytes| format!(", {} written to scratch files", ByteSize(bytes)));
            format!(
                "{}, {:.1} s{}{}",
                lists.join("; "),
                run.total_seconds,
                resident.unwrap_or_default(),
                spilled.unwrap_or_default()
            )
        }
    }
}

fn plan_file(experiment: &Experiment, inputs: &Inputs, cells: &[(Cell, Identity)]) -> PlanFile {
    let planned = cells
        .iter()
        .map(|(cell, identity)| PlannedCell {
            id: identity.id(),
            model: experiment.models[cell.model].name.clone(),
            method: method_name(experiment, cell),
            seed: cell.pruning.and_then(|pruning| pruning.seed),
            pattern: cell.pruning.map(|pruning| pruning.pattern),
        })
        .collect();
    let mut experiment = experiment.clone();
    for (plan, folder) in experiment.models.iter_mut().zip(&inputs.folders) {
        plan.commit = folder.as_ref().and_then(|folder| folder.commit.clone());
    }
    PlanFile {
        zprune: env!("CARGO_PKG_VERSION").to_string(),
        experiment,
        cell: planned,
    }
}
