//! `zprune quickstart`.

use super::machine::Machine;
use super::streams::say;
use super::sweep;
use crate::embedded::Unpacked;
use crate::error::Result;
use crate::experiment::plan::Experiment;
use crate::experiment::resolve;
use crate::run::Options;
use std::path::{Path, PathBuf};

/// Arguments of `zprune quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Quickstart {
    /// Folder that holds one results folder per experiment
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
    /// Folder to keep the experiment, its model and its texts in [default: in the user's folder for caches]
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(arguments: &Quickstart) -> Result<()> {
    let unpacked = match &arguments.inputs {
        Some(folder) => Unpacked::at(folder)?,
        None => Unpacked::in_cache()?,
    };
    match unpacked.is_temporary() {
        true => say("the experiment, its model and its texts are in a temporary folder; --inputs DIR keeps them"),
        false => say(&format!(
            "the experiment is {}, its model and its texts are beside it",
            unpacked.experiment().display()
        )),
    }
    let path = unpacked.experiment();
    let mut experiment = resolve::read_for(&path, &arguments.machine.request())?;
    settle(&mut experiment, unpacked.folder());
    sweep::carry_out(&experiment, &path, &arguments.results, Options::default())
}

/// Makes the relative paths of the experiment begin in `folder`, wherever the program was started.
fn settle(experiment: &mut Experiment, folder: &Path) {
    let models = experiment.models.iter_mut().map(|plan| &mut plan.path);
    let calibration = experiment
        .calibration
        .iter_mut()
        .filter_map(|plan| plan.corpus.as_mut());
    let evaluations = experiment
        .evaluations
        .iter_mut()
        .filter_map(|plan| plan.corpus.as_mut());
    for path in models.chain(calibration).chain(evaluations) {
        *path = folder.join(&*path);
    }
}
