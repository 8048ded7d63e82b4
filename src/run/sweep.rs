//! The outer loop of a run: which process runs which cell, and what becomes of the cell.
//!
//! Several processes may work on one results folder. Each claims a cell before it runs it ([`claims`](super::claims)) and looks
//! at the records once more after it has the claim, so a cell is run once, and a good record is never doubled.
//! A process that finds everything left claimed by others waits for them, and takes over what they leave: when the
//! command ends, the sweep is complete.

use super::choice::{pending, select};
use super::claims::Claims;
use super::events::{Event, EventLog};
use super::expected::dense_fits;
use super::options::{Options, Outcome, goes_on};
use super::pace::{Costs, Pace};
use super::prospects::of_others;
use super::recorded::{record, vouch};
use super::samples::{check_samples, write_samples};
use super::summary::summary;
use super::watched::{WatchedProgress, check_stop};
use super::weights::Weights;
use crate::cell::{Opened, Prepared, Runner, Sharing, Work};
use crate::error::{Error, ErrorKind, Located, Result};
use crate::experiment::identity::{Identity, identify};
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::Machine;
use crate::experiment::outside::check_outside;
use crate::experiment::plan::{Cell, Experiment};
use crate::experiment::plan_file::PlanFile;
use crate::experiment::work::operations;
use crate::files::{create_folders, no_links, remove_unfinished};
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::record::{RecordFile, Status, read_if_any, standing};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long a process that waits for others sleeps before it looks again.
const LOOK: Duration = Duration::from_millis(200);

/// How many times in a row it must see nobody else at work before it records that its GPU failed at a cell.
const ALONE: usize = 3;

/// Runs the cells of an experiment that have no good record in `folder`.
///
/// # Errors
/// Unusable inputs, an unknown cell, a machine that cannot run a cell (nothing is written then), unwritable results, and
/// [`ErrorKind::Interrupted`] when it was asked to stop. Failures of single cells are recorded and counted, not returned.
pub fn run(
    experiment: &Experiment,
    inputs: &Inputs,
    folder: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Outcome> {
    inputs.require_all()?;
    let machine = experiment.machine_here()?;
    let cells: Vec<(Cell, Identity)> = experiment
        .cells()
        .into_iter()
        .zip(identify(experiment, machine, inputs))
        .filter_map(|(cell, identity)| Some((cell, identity?)))
        .collect();
    let wanted = select(experiment, &cells, &options.cells)?;
    // Opened before anything that takes long, unless there is nothing to compute: then no GPU is needed.
    let records = read_if_any(folder)?;
    let known = standing(&records);
    let has = |id: &str| known.get(id).is_some_and(|record| record.status == Status::Ok);
    let backend = match &pending(experiment, &cells, &wanted, &has)[..] {
        [] => None,
        pending => Some(opened(experiment, machine, pending)?),
    };
    let models = prepared(experiment, machine, inputs, &wanted, options, progress)?;
    for (plan, model) in experiment.models.iter().zip(&models) {
        let before = model.as_ref().and_then(|model| model.pruned_before.as_ref());
        if let Some(before) = before {
            let said = before.said();
            progress.note(&format!(
                "{}: {said}. The sparsities of the experiment count these zeros",
                plan.name
            ));
        }
    }
    let open = pending(experiment, &cells, &wanted, &has);
    check_outside(experiment, inputs, open.iter().map(|(cell, _)| cell), progress)?;

    create_folders(folder)?;
    let mut file = RecordFile::open(folder)?;
    for written in ["", "tables", "plots"] {
        if no_links(folder, written).is_ok() {
            remove_unfinished(&folder.join(written));
        }
    }
    PlanFile::new(experiment, machine, inputs, &cells).write(folder)?;

    let pending = pending(experiment, &cells, &wanted, &|id| file.has(id));
    if !pending.is_empty() {
        no_links(folder, "claims")?;
    }
    for (_, identity) in &pending {
        check_samples(folder, &identity.id(), experiment)?;
    }
    let blocks = |cell: &Cell| blocks(&models, cell);
    let mut outcome = Outcome {
        skipped: wanted.iter().filter(|(_, identity)| file.has(&identity.id())).count(),
        ..Outcome::default()
    };
    let ids: Vec<String> = cells.iter().map(|(_, identity)| identity.id()).collect();
    let others = of_others(file.records(), ids.iter().map(String::as_str), folder);
    for line in goes_on(outcome.skipped, wanted.len()).iter().chain(&others) {
        progress.begins(line, None);
    }
    let work = work(experiment, &models, &cells)?;
    let weights = Weights::of(
        work.iter()
            .map(|(cell, identity, operations)| (*identity, *operations, blocks(cell))),
    );
    let steps = |(cell, identity): &&(Cell, Identity)| blocks(cell) * weights.of_block(&identity.id());
    progress.start(pending.len(), pending.iter().map(steps).sum());
    // If there is nothing to do, nothing in the folder is changed.
    if !pending.is_empty() {
        let backend = match backend {
            Some(backend) => backend,
            None => opened(experiment, machine, &pending)?,
        };
        let mut events = EventLog::open(folder)?;
        events.write(Event::Started {
            zprune: env!("CARGO_PKG_VERSION"),
            cells: wanted.len(),
            pending: pending.len(),
            threads: rayon::current_num_threads(),
        })?;
        let open: BTreeSet<String> = pending.iter().map(|(_, identity)| identity.id()).collect();
        let work: Vec<(&Identity, f64)> = work.iter().map(|(_, identity, work)| (*identity, *work)).collect();
        let pace = Pace::new(&work, |id| open.contains(id), Costs::of(file.records()));
        let mut sweep = Sweep {
            folder,
            experiment,
            inputs,
            cells: &cells,
            models: &models,
            weights: &weights,
            options,
            claims: Claims::of(folder),
            recorded: Vec::new(),
            file,
            events,
            progress: WatchedProgress::new(progress, &options.stop, pace),
            outcome: &mut outcome,
            failed_here: BTreeSet::new(),
        };
        let ended = backend.run(Pending(&mut sweep, pending));
        let ended = ended.and_then(|()| {
            let Sweep {
                recorded,
                progress,
                file,
                ..
            } = &mut sweep;
            vouch(experiment, inputs, recorded, file, progress)
        });
        let settled = sweep.file.settle();
        sweep.end(both(ended, settled))?;
        file = sweep.file;
    }
    Claims::of(folder).tidy(|id| file.has(id));
    progress.finish();
    Ok(outcome)
}

/// The backend, which can run every pending cell.
fn opened(experiment: &Experiment, machine: Machine, pending: &[&(Cell, Identity)]) -> Result<Opened> {
    let backend = Opened::new(&experiment.machine, machine)?;
    for (cell, _) in pending {
        if let Some(pruning) = &cell.pruning {
            // Whole units have no limits but the model's.
            if let Some(recipe) = experiment.recipe(pruning.method)? {
                backend
                    .check(&recipe, pruning.pattern)
                    .at(&experiment.methods[pruning.method].name)?;
            }
        }
    }
    Ok(backend)
}

/// The models of the wanted cells; a cell that was asked for alone needs no other model.
fn prepared<'a>(
    experiment: &Experiment,
    machine: Machine,
    inputs: &'a Inputs,
    wanted: &[&(Cell, Identity)],
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Option<Prepared<'a>>>> {
    let mut models = Vec::new();
    for index in 0..experiment.models.len() {
        let model = match wanted.iter().any(|(cell, _)| cell.model == index) {
            true => Some(Prepared::of(experiment, machine, inputs, index, progress)?),
            false => None,
        };
        models.push(model);
        check_stop(&options.stop)?;
    }
    // Texts are tokens by now, and weights are looked through: whatever was written to since it was hashed would be in them.
    for index in (0..models.len()).filter(|index| models[*index].is_some()) {
        inputs.unchanged(index)?;
    }
    Ok(models)
}

/// The number of blocks that a cell passes through, for its progress.
fn blocks(models: &[Option<Prepared>], cell: &Cell) -> usize {
    models[cell.model]
        .as_ref()
        .map_or(0, |model| model.source.spec().blocks)
}

/// The operations of the cells whose models are prepared.
fn work<'c>(
    experiment: &Experiment,
    models: &[Option<Prepared>],
    cells: &'c [(Cell, Identity)],
) -> Result<Vec<(&'c Cell, &'c Identity, f64)>> {
    let measured: Vec<_> = models
        .iter()
        .map(|model| model.as_ref().map(|model| (model.source.spec(), model.measured())))
        .collect();
    let mut found = Vec::new();
    for (cell, identity) in cells {
        if let Some((spec, measured)) = &measured[cell.model] {
            found.push((cell, identity, operations(experiment, spec, cell, measured)?.all()));
        }
    }
    Ok(found)
}

/// Joins the outcome of a run with that of what comes after it, which may say what became of records that the run could not
/// write.
fn both(first: Result<()>, second: Result<()>) -> Result<()> {
    match (first, second) {
        (Err(first), Err(second)) => Err(match second.to_string().starts_with(&first.to_string()) {
            true => second,
            false => Error::new(first.kind(), format!("{first}\n{second}")),
        }),
        (first, second) => first.and(second),
    }
}

/// The cells of an experiment, what they compute with, and where they go.
struct Sweep<'a> {
    folder: &'a Path,
    experiment: &'a Experiment,
    inputs: &'a Inputs,
    cells: &'a [(Cell, Identity)],
    models: &'a [Option<Prepared<'a>>],
    weights: &'a Weights,
    options: &'a Options,
    claims: Claims,
    /// A failure that the file had when it was opened is tried again; one that was recorded later is a result.
    file: RecordFile,
    /// Models and ids of the cells to which this process gave a good record.
    recorded: Vec<(usize, String)>,
    events: EventLog,
    progress: WatchedProgress<'a>,
    outcome: &'a mut Outcome,
    /// Ids of the cells that this GPU failed at, while others may have room for them.
    failed_here: BTreeSet<String>,
}

/// How a cell ended.
enum Ended {
    /// With a good record.
    Good,
    /// With a record that says why it failed.
    Failed,
    /// Without a record: this GPU failed at it, and others are left to try it.
    LeftToOthers,
}

/// The pending cells of a sweep.
struct Pending<'s, 'a>(&'s mut Sweep<'a>, Vec<&'a (Cell, Identity)>);

impl Work for Pending<'_, '_> {
    type Output = ();

    fn on<B: Workbench>(self, backend: &B) -> Result<()> {
        self.0.run(backend, self.1)
    }
}

impl<'a> Sweep<'a> {
    /// Runs the pending cells on a backend, or sees other processes do it.
    fn run<B: Workbench>(&mut self, backend: &B, pending: Vec<&'a (Cell, Identity)>) -> Result<()> {
        let mut runner: Option<(usize, Runner<B>)> = None;
        let mut open = pending;
        // How many times in a row nobody else was seen at work. Between two cells nobody holds a claim for a moment.
        let mut alone = 0;
        loop {
            let before = open.len();
            let (mut held, mut claimed) = (Vec::new(), 0);
            for entry in open {
                let (cell, identity) = entry;
                let id = identity.id();
                check_stop(&self.options.stop)?;
                self.file.refresh()?;
                if self.settled(cell, &id) {
                    continue;
                }
                if cell.pruning.is_some() && !dense_fits(self.experiment, self.cells, &self.file, cell.model)? {
                    held.push(entry);
                    continue;
                }
                let Some(claim) = self.claims.take(&id)? else {
                    claimed += 1;
                    held.push(entry);
                    continue;
                };
                let last = alone >= ALONE;
                if self.failed_here.contains(&id) && !last {
                    held.push(entry);
                    continue;
                }
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
                    let sharing = Sharing::of(self.experiment)?;
                    runner = Some((cell.model, Runner::new(backend, model, sharing)?));
                }
                let (_, runner) = runner.as_mut().expect("a runner for this cell's model was just made");
                match self.cell(runner, cell, identity, self.options.others && !last)? {
                    Ended::Good => claim.settled(),
                    Ended::Failed => {}
                    Ended::LeftToOthers => held.push(entry),
                }
            }
            alone = if claimed == 0 { alone + 1 } else { 0 };
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

    /// Runs a cell and records it, unless the GPU fails at it and `elsewhere` says that another one may not.
    fn cell<B: Workbench>(
        &mut self,
        runner: &mut Runner<B>,
        cell: &Cell,
        identity: &Identity,
        elsewhere: bool,
    ) -> Result<Ended> {
        let (id, label) = (identity.id(), self.experiment.describe(cell));
        self.events.write(Event::Claimed { id: &id, label: &label })?;
        let weight = self.weights.of_block(&id);
        self.progress.begin(&id, &label, blocks(self.models, cell), weight);
        let found = record(
            runner,
            self.experiment,
            self.inputs,
            (cell, identity),
            elsewhere,
            &self.progress,
        );
        let (record, tasks) = match found {
            Err(error) if elsewhere && error.kind() == ErrorKind::Device => {
                let (label, error) = (&label, &error.to_string());
                self.events.write(Event::Left { id: &id, label, error })?;
                // One is enough for a person; events.jsonl has them all.
                if self.failed_here.is_empty() {
                    tracing::warn!(
                        "{label} is left to other GPUs, and so is every other cell that this GPU cannot compute: {error}"
                    );
                }
                self.failed_here.insert(id);
                return Ok(Ended::LeftToOthers);
            }
            found => found?,
        };
        let good = record.status == Status::Ok;
        let seconds = record.run.total_seconds;
        let result = summary(&record, self.experiment.confidence);
        self.inputs.unchanged(cell.model).map_err(|error| {
            let message = format!(
                "{error}; {label} has no record, since its numbers may come from the old and the new content; {} cells were recorded \
                 before. When no program writes to the file any more, run the same command again, and it goes on",
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
        Ok(if good { Ended::Good } else { Ended::Failed })
    }

    /// Whether another process has recorded a result of a pending cell by now; if so, the cell is counted.
    fn settled(&mut self, cell: &Cell, id: &str) -> bool {
        let good = self.file.has(id);
        if !good && self.file.fresh().iter().all(|record| record.id != id) {
            return false;
        }
        // Two methods may be the same under different names: the first one's record serves both.
        if self.progress.is_open(id) {
            self.outcome.elsewhere += 1;
            self.outcome.failed += usize::from(!good);
            self.progress.end(id, None);
        } else {
            self.outcome.skipped += 1;
        }
        let steps = blocks(self.models, cell) * self.weights.of_block(id);
        self.progress.elsewhere(1, steps);
        true
    }

    /// Writes down how the sweep ended.
    fn end(&mut self, ended: Result<()>) -> Result<()> {
        match ended {
            Ok(()) => self.events.write(Event::Finished {
                ran: self.outcome.ran,
                failed: self.outcome.failed,
                elsewhere: self.outcome.elsewhere,
                left: self.outcome.left,
                seconds: self.progress.seconds(),
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
