//! The rungs of a search, one after the other, and the comparison of the winner.

use super::found::{Found, Rung, Tried};
use super::{halving, windows};
use crate::error::{Error, ErrorKind, Result};
use crate::experiment::identity::identify;
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::Experiment;
use crate::experiment::search::{SELECTING, SearchPlan};
use crate::progress::Progress;
use crate::record::{self, Status, standing};
use crate::report::{self, Report};
use crate::run::{self, Options, Outcome};
use crate::stats::mean;
use std::path::Path;

/// Carries out a search in its folder; what has results is not done again. `after` is called after each rung.
///
/// # Errors
/// Unusable inputs, a text that is too short, no trial of a rung that has a score, and everything that [`run::run`] reports.
pub fn run(
    plan: &SearchPlan,
    folder: &Path,
    options: &Options,
    progress: &dyn Progress,
    mut after: impl FnMut(&Rung),
) -> Result<Found> {
    progress.stage("drawing the windows of the search");
    let files = windows::draw(plan)?.write(folder)?;
    let mut alive: Vec<usize> = (0..plan.trials.len()).collect();
    let mut rungs = Vec::new();
    let mut outcome = Outcome::default();
    for (index, sequences) in plan.sequences.iter().enumerate() {
        let experiment = plan.rung(index, &alive, &files);
        let place = SearchPlan::rung_folder(folder, index);
        let (of_rung, inputs) = carried_out(&experiment, &place, options, progress)?;
        add(&mut outcome, of_rung);
        let scores = scores(&experiment, &inputs, &place)?;
        let tried: Vec<Tried> = alive
            .iter()
            .zip(scores)
            .map(|(trial, score)| Tried { trial: *trial, score })
            .collect();
        let known: Vec<Option<f64>> = tried.iter().map(|it| it.score.as_ref().ok().copied()).collect();
        let kept: Vec<usize> = halving::best(&known, plan.kept(index))
            .into_iter()
            .map(|it| alive[it])
            .collect();
        if kept.is_empty() {
            let why = tried
                .iter()
                .find_map(|it| it.score.as_ref().err())
                .cloned()
                .unwrap_or_default();
            let message = format!(
                "all {} trials of rung {} failed; the first: {why}",
                tried.len(),
                index + 1
            );
            return Err(Error::new(ErrorKind::CellsFailed, message).at(place.display()));
        }
        // Experiments list trials in their own order, so that a rung is the same whichever of them was better.
        alive = kept.clone();
        alive.sort_unstable();
        let rung = Rung {
            sequences: *sequences,
            tried,
            kept,
        };
        after(&rung);
        rungs.push(rung);
    }
    let winner = rungs.last().and_then(|rung| rung.kept.first()).copied();
    let winner = winner.ok_or_else(|| Error::config("a search has at least one rung"))?;
    let experiment = plan.confirmation(winner, &files);
    let place = SearchPlan::confirm_folder(folder);
    report::check(&experiment, &place)?;
    let (compared, _) = carried_out(&experiment, &place, options, progress)?;
    add(&mut outcome, compared);
    let comparison = Report::read(&place)?;
    report::write(&comparison, &place)?;
    Ok(Found {
        rungs,
        winner,
        comparison,
        outcome,
        compared,
    })
}

/// Runs what is missing of an experiment.
fn carried_out(
    experiment: &Experiment,
    folder: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Outcome, Inputs)> {
    progress.stage("hashing the inputs");
    let inputs = Inputs::inspect(experiment)?;
    let outcome = run::run(experiment, &inputs, folder, options, progress)?;
    Ok((outcome, inputs))
}

fn add(all: &mut Outcome, more: Outcome) {
    all.ran += more.ran;
    all.elsewhere += more.elsewhere;
    all.failed += more.failed;
    all.skipped += more.skipped;
    all.left += more.left;
}

/// The score of every method of a rung.
fn scores(experiment: &Experiment, inputs: &Inputs, folder: &Path) -> Result<Vec<std::result::Result<f64, String>>> {
    let machine = experiment.machine_here()?;
    let records = record::read(folder)?;
    let standing = standing(&records);
    let mut losses: Vec<std::result::Result<Vec<f64>, String>> =
        experiment.methods.iter().map(|_| Ok(Vec::new())).collect();
    for (cell, identity) in experiment.cells().iter().zip(identify(experiment, machine, inputs)) {
        let Some(pruning) = &cell.pruning else { continue };
        let record = identity.and_then(|identity| standing.get(identity.id().as_str()).copied());
        let loss = match record {
            Some(record) if record.status == Status::Ok => {
                let own = record.evaluations.iter().find(|it| it.name == SELECTING);
                own.map(|it| mean(&it.windows)).filter(|loss| loss.is_finite())
            }
            _ => None,
        };
        let losses = &mut losses[pruning.method];
        match (loss, losses.as_mut()) {
            (Some(loss), Ok(losses)) => losses.push(loss),
            (None, Ok(_)) => {
                let why = record.and_then(|record| record.error.clone());
                *losses = Err(why.unwrap_or_else(|| "it has no result".to_string()));
            }
            (_, Err(_)) => {}
        }
    }
    Ok(losses
        .into_iter()
        .map(|losses| losses.map(|losses| mean(&losses)))
        .collect())
}
