//! `zprune quickstart`.

use super::machine::Machine;
use super::streams::note;
use super::sweep;
use crate::embedded::Unpacked;
use crate::error::Result;
use crate::experiment::resolve;
use crate::run::Options;
use std::path::PathBuf;

/// Arguments of `zprune quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Quickstart {
    /// Folder that holds one results folder per experiment; relative to the folder that zprune is started in
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
    /// Folder to keep the experiment, its model and its texts in [default: in the user's folder for caches]
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    /// Compute nothing: only keep the experiment, its model and its texts in the folder of --inputs
    #[arg(long, requires = "inputs")]
    no_run: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(arguments: &Quickstart) -> Result<()> {
    let unpacked = match &arguments.inputs {
        Some(folder) => Unpacked::at(folder)?,
        None => Unpacked::in_cache()?,
    };
    match unpacked.is_temporary() {
        true => note("the experiment, its model and its texts are in a temporary folder; --inputs DIR keeps them"),
        false => note(&format!(
            "the experiment is {}, its model and its texts are beside it",
            unpacked.experiment().display()
        )),
    }
    if arguments.no_run {
        return Ok(());
    }
    let path = unpacked.experiment();
    let experiment = resolve::read_for(&path, &arguments.machine.request())?;
    sweep::carry_out(&experiment, &path, &arguments.results, Options::default())
}
