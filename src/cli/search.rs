//! `zprune search`, and `zprune plan` for a file with a [search].

use super::common::Target;
use super::display::Display;
use super::forecast;
use super::streams::{note, print, print_lines, width};
use crate::cell::Seen;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::machine::Processor;
use crate::experiment::plan::Experiment;
use crate::experiment::resolve::{self, Described};
use crate::experiment::search::{SearchPlan, WindowFiles};
use crate::hub::Parts;
use crate::progress::Progress;
use crate::registry::counted;
use crate::report;
use crate::run::Options;
use crate::search::{self, Rung, told::Told};
use serde::Serialize;
use std::path::Path;

/// Arguments of `zprune search`.
#[derive(Debug, clap::Args)]
pub(super) struct Search {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Search) -> Result<()> {
    let Target {
        experiment: path,
        results,
        machine,
    } = &arguments.target;
    match resolve::read_described(path, &machine.request())? {
        Described::Search(plan) => carry_out(&plan, path, results),
        Described::Experiment(_) => {
            let message = "it has no [search], which says what to try. To run it as an experiment, use `zprune run`; docs/search.md has \
                           an example of a search";
            Err(Error::config(message).at(path.display()))
        }
    }
}

/// Runs a search until a signal ends it; makes its report.
pub(super) fn carry_out(plan: &SearchPlan, path: &Path, results: &Path) -> Result<()> {
    let base = &plan.base;
    let folder = results.join(&base.name);
    let names = ["report.md", "search.json", "winner.toml"];
    if folder.exists() {
        report::check_files(&names, &folder, &base.name)?;
    }
    base.machine_here().at(path.display())?;
    let progress = Display::new().with_confidence(base.confidence);
    inputs::fetch(base, Parts::Everything, &progress)?;
    let options = Options {
        stop: progress.stop_on_signals()?,
        ..Options::default()
    };
    let mut number = 0;
    let found = search::run(plan, &folder, &options, &progress, |rung| {
        number += 1;
        progress.finish();
        note(&line(plan, number, rung));
    })?;
    let told = Told::new(plan, &found);
    report::write_files(&told.files()?, &folder, &base.name)?;
    print(&told.terminal(width()))?;
    let outcome = found.outcome;
    note(&format!(
        "{} run, {} had results already, {} run by other processes, {} failed; wrote {}: {}",
        counted(outcome.ran, "cell"),
        outcome.skipped,
        outcome.elsewhere,
        outcome.failed,
        folder.display(),
        names.join(", ")
    ));
    // A trial that fails drops out; without the comparison the search has no result.
    found.compared.check(&SearchPlan::confirm_folder(&folder))
}

/// What became of a rung, in a line.
fn line(plan: &SearchPlan, number: usize, rung: &Rung) -> String {
    let best = rung.kept.first().map(|best| {
        let loss = rung
            .tried
            .iter()
            .find(|it| it.trial == *best)
            .and_then(|it| it.score.as_ref().ok());
        let perplexity = loss.map_or(f64::NAN, |loss| loss.exp());
        format!(
            "best {} with perplexity {perplexity:.3}",
            plan.trials[*best].method.name
        )
    });
    format!(
        "rung {number} of {}: {} tried with {} calibration windows, {} kept; {}",
        plan.sequences.len(),
        rung.tried.len(),
        rung.sequences,
        rung.kept.len(),
        best.unwrap_or_default()
    )
}

/// What `zprune plan --json` prints of a search.
#[derive(Serialize)]
struct Planned<'a> {
    /// Version of the layout of this output.
    schema: u32,
    search: &'a str,
    /// Path of the search's results folder.
    results: &'a Path,
    /// Number of methods of the space, if it has an end.
    points: Option<u64>,
    trials: Vec<PlannedTrial<'a>>,
    rungs: Vec<PlannedRung>,
    /// All cells of all rungs and of the comparison at the end.
    cells: usize,
}

#[derive(Serialize)]
struct PlannedTrial<'a> {
    name: &'a str,
    method: String,
}

/// A rung, or the comparison at the end.
#[derive(Serialize)]
struct PlannedRung {
    folder: String,
    sequences: usize,
    methods: usize,
    cells: usize,
}

/// The rungs, and the comparison at the end, with their experiments. Who goes on is not known: the first trials stand for them.
fn rungs(plan: &SearchPlan) -> Vec<(PlannedRung, Experiment)> {
    let nowhere = WindowFiles::default();
    let sizes = plan.sizes().into_iter().enumerate();
    let rungs = sizes.map(|(index, count)| {
        let trials: Vec<usize> = (0..count).collect();
        (format!("rung-{}", index + 1), plan.rung(index, &trials, &nowhere))
    });
    let last = ("confirm".to_string(), plan.confirmation(0, &nowhere));
    let planned = rungs.chain([last]).map(|(folder, experiment)| {
        let rung = PlannedRung {
            folder,
            sequences: experiment.calibration.as_ref().map_or(0, |plan| plan.sequences),
            methods: experiment.methods.len(),
            cells: experiment.cells().len(),
        };
        (rung, experiment)
    });
    planned.collect()
}

/// Shows what a search would do.
pub(super) fn plan(plan: &SearchPlan, results: &Path, as_json: bool) -> Result<()> {
    let base = &plan.base;
    let folder = results.join(&base.name);
    search::windows::check(plan)?;
    let rungs = rungs(plan);
    let cells = rungs.iter().map(|(rung, _)| rung.cells).sum();
    if as_json {
        let trials = plan.trials.iter().map(|trial| PlannedTrial {
            name: &trial.method.name,
            method: trial.method.to_string(),
        });
        let planned = Planned {
            schema: 1,
            search: &base.name,
            results: &folder,
            points: plan.points,
            trials: trials.collect(),
            rungs: rungs.into_iter().map(|(rung, _)| rung).collect(),
            cells,
        };
        let text = serde_json::to_string_pretty(&planned);
        print(&text.map_err(|error| Error::writing(Path::new("standard output"), error))?)?;
        return Inputs::inspect(base)?.require_local();
    }
    let mut text = match base.description.is_empty() {
        true => format!("{}\n", base.name),
        false => format!("{}: {}\n", base.name, base.description),
    };
    let points = plan.points.map_or("infinitely many methods".to_string(), |points| {
        format!("{points} methods")
    });
    text.push_str(&format!(
        "a search: {} drawn from a space of {points}; 1 of {} goes on to the next rung\n",
        plan.trials.len() + plan.merged.len(),
        plan.halve
    ));
    let calibration = &plan.calibration;
    text.push_str(&format!(
        "held out: {} windows of {} tokens from {}; {} decide, {} are for the winner alone\n",
        plan.held_out,
        calibration.length,
        calibration.source().display(),
        plan.selecting(),
        plan.held_out - plan.selecting()
    ));
    for trial in &plan.trials {
        text.push_str(&format!("trial: {} = {}\n", trial.method.name, trial.method));
    }
    for (name, same) in &plan.merged {
        text.push_str(&format!("same: {name} means the same as {same}\n"));
    }
    for method in &base.methods {
        text.push_str(&format!("against: {} = {method}\n", method.name));
    }
    let foreseen = base.machine_foreseen()?;
    for (rung, experiment) in &rungs {
        text.push_str(&format!(
            "  {:<8}  {} with {}: {}\n",
            rung.folder,
            counted(rung.methods, "method"),
            counted(rung.sequences, "calibration window"),
            counted(rung.cells, "cell")
        ));
        if foreseen.machine.backend == Processor::Cpu {
            let inputs = Inputs::inspect_texts(experiment)?;
            let seen = vec![Seen::nothing(experiment); experiment.models.len()];
            let cells = experiment.cells();
            let expected = forecast::expected(experiment, foreseen.machine, &inputs, &seen, &cells, true)?;
            expected
                .lines()
                .for_each(|line| text.push_str(&format!("            {line}\n")));
        }
    }
    text.push_str(&format!(
        "at most {}, in {}; `zprune search` runs what is missing\n",
        counted(cells, "cell"),
        folder.display()
    ));
    let inputs = Inputs::inspect(base)?;
    text.push_str(&forecast::not_here(&inputs, &foreseen));
    print_lines(&text)?;
    inputs.require_local()
}
