//! Arguments that several commands have.

use super::choice::choice;
use super::machine::Machine;
use crate::data::tokenizer::Bos;
use crate::experiment::single;
use crate::model::folder::Links;
use std::path::{Component, Path, PathBuf};

/// Arguments of every command that computes with one model.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Hugging Face model folder, or hub:org/name[@revision]
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Settings of a paper's code: sparsegpt, wanda, ria, z-pruner, llm-pruner or olica
    #[arg(long, value_name = "NAME")]
    pub(super) protocol: Option<String>,
    /// Whether texts start with the tokenizer's special tokens [default: tokenizer]
    #[arg(long, value_parser = choice::<Bos>(&["As the tokenizer does by default; the papers' way", "Never"]))]
    pub(super) bos: Option<Bos>,
    #[command(flatten)]
    pub(super) machine: Machine,
}

impl Common {
    pub(super) fn resolved(&self) -> single::SingleModel {
        single::SingleModel {
            model: self.model.clone(),
            protocol: self.protocol.clone(),
            bos: self.bos,
            machine: self.machine.request(),
        }
    }
}

/// An experiment, where its results go, and who computes.
#[derive(Debug, clap::Args)]
#[command(mut_arg("backend", |backend| {
    backend.help("What computes: cpu, gpu, or auto (a GPU where there is a real one) [default: the experiment's, or cpu]")
}))]
pub(super) struct Target {
    /// Experiment file; `-` reads it from standard input
    pub(super) experiment: PathBuf,
    /// Folder that holds one results folder per experiment; relative to the folder that zprune is started in, not to the experiment's
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub(super) results: PathBuf,
    #[command(flatten)]
    pub(super) machine: Machine,
}

/// Name of the file of records.
const RECORDS: &str = "runs.jsonl";

/// The folder that holds the results folder of an experiment: what `--results` says, or, if that is the experiment's own results folder, the
/// folder around it.
pub(super) fn around(results: &Path, name: &str) -> PathBuf {
    let whole = std::path::absolute(results).unwrap_or_else(|_| results.to_path_buf());
    let itself = whole.file_name().is_some_and(|own| own == name) && results.join(RECORDS).is_file();
    if !itself || results.join(name).join(RECORDS).exists() {
        return results.to_path_buf();
    }
    let typed = results.file_name().and(results.parent());
    typed.or(whole.parent()).unwrap_or(results).to_path_buf()
}

/// The folder with results of an experiment that lies beside its file, or beside the folder of its file: it was run from there. `None` if
/// there is none, or if `results` has some.
pub(super) fn elsewhere(experiment: &Path, results: &Path, name: &str) -> Option<PathBuf> {
    if results.is_absolute() || results.join(name).join(RECORDS).exists() {
        return None;
    }
    let folder = experiment.parent()?;
    let above = match folder.components().next_back() {
        Some(Component::Normal(_)) => folder.parent()?.to_path_buf(),
        _ => folder.join(".."),
    };
    let places = [folder.to_path_buf(), above].map(|place| place.join(results));
    places
        .into_iter()
        .find(|place| place.join(name).join(RECORDS).is_file())
}

/// The argument of every command that copies files of a model folder.
#[derive(Debug, clap::Args)]
pub(super) struct FollowLinks {
    /// If links lead out of the model folder, copy the files that they lead to
    #[arg(long)]
    pub(super) follow_links: bool,
}

impl FollowLinks {
    pub(super) fn links(&self) -> Links {
        match self.follow_links {
            true => Links::Follow,
            false => Links::Inside,
        }
    }
}
