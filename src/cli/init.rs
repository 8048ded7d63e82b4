//! `zprune init`: an experiment file to start from.

use super::streams::print;
use crate::error::{Error, Located, Result};
use crate::experiment::resolve::paths;
use crate::files::names::quoted;
use crate::files::near;
use crate::files::{create_folders, create_whole};
use crate::hub::Repository;
use crate::hub::datasets::PREFIX;
use crate::model::families::read_spec;
use std::path::{Component, Path, PathBuf};

/// The model that comes with the repository, and texts for it.
const EMBEDDED: [&str; 3] = [
    "models/tiny-llama",
    "corpora/austen_calibration.txt",
    "corpora/persuasion.txt",
];

/// A small model of the hub, for those who are not in a clone of the repository and name none.
const SMALL: &str = "HuggingFaceTB/SmolLM2-135M";

/// Number of calibration windows and tokens in a window, where the model is not known to be made for fewer. A CPU prunes a model of
/// a hundred million parameters with them in some minutes.
const ON_CPU: [usize; 2] = [16, 512];

/// The same for a GPU.
const ON_GPU: [usize; 2] = [32, 2048];

/// Most folders that a message lists.
const LISTED: usize = 5;

/// Arguments of `zprune init`.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// File to write; it must not exist
    #[arg(default_value = "experiment.toml", value_name = "FILE")]
    file: PathBuf,
    /// Folder of a model, or org/name of the Hugging Face hub; hub:org/name always means the hub [default: models/tiny-llama, if it is here; else
    /// HuggingFaceTB/SmolLM2-135M of the hub]
    #[arg(long, value_name = "PATH|HUB")]
    model: Option<String>,
    /// Compute on a GPU
    #[arg(long)]
    gpu: bool,
}

/// What is written for one model.
struct Start {
    /// The key and the value that name the model.
    model: String,
    /// Calibration text.
    calibration: String,
    /// How windows are drawn from it.
    sampling: &'static str,
    sequences: usize,
    /// Tokens in a window.
    length: usize,
    /// Label of the evaluation, and its text.
    evaluation: (&'static str, String),
    windows: usize,
}

pub(super) fn run(arguments: &Init) -> Result<()> {
    let file = &arguments.file;
    let folder = file.parent().unwrap_or(Path::new(""));
    if file.symlink_metadata().is_ok() {
        return Err(there(file));
    }
    if folder != Path::new("") {
        create_folders(folder)?;
    }
    let (backend, size) = match arguments.gpu {
        true => ("gpu", ON_GPU),
        false => ("cpu", ON_CPU),
    };
    let start = match &arguments.model {
        Some(model) => of_model(model, folder, size)?,
        None if EMBEDDED.iter().all(|path| Path::new(path).exists()) => embedded(folder)?,
        None => of_hub(SMALL, size)?,
    };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = match !stem.starts_with('.') && !stem.is_empty() && stem.chars().all(plain) {
        true => &*stem,
        false => "experiment",
    };
    if !create_whole(file, text(name, &start, backend, file).as_bytes())? {
        return Err(there(file));
    }
    let shown = quoted(file);
    print(&format!(
        "wrote {}\nzprune plan {shown} shows what would be run, zprune run {shown} runs it",
        file.display()
    ))
}

fn there(file: &Path) -> Error {
    Error::output(
        file,
        "there is a file or folder with this name already, and `init` never replaces one; give another FILE",
    )
}

/// The embedded model with its own texts: a run of seconds that needs no network.
fn embedded(folder: &Path) -> Result<Start> {
    let [model, calibration, evaluation] = EMBEDDED.map(|path| from_folder(folder, path));
    Ok(Start {
        model: format!("path = {}", model?),
        calibration: calibration?,
        sampling: "packed",
        sequences: 16,
        length: 256,
        evaluation: ("persuasion", evaluation?),
        windows: 20,
    })
}

/// A model that the user names: a folder that is there, or else a repository of the hub.
fn of_model(model: &str, folder: &Path, size: [usize; 2]) -> Result<Start> {
    let named = model.strip_prefix(PREFIX);
    let path = Path::new(model);
    if named.is_none() && path.exists() {
        let spec = read_spec(path).at(path.display())?;
        let model = format!("path = {}", from_folder(folder, model)?);
        let [sequences, length] = size;
        return Ok(with_papers_texts(model, [sequences, length.min(spec.max_positions)]));
    }
    match named {
        Some(name) => of_hub(name, size),
        None if !model.contains('/') => Err(Error::config(format!(
            "there is no folder `{model}`{}; a model of the hub is written org/name, or hub:{model} if its name has no org",
            near(path)
        ))),
        None if is_path(path) && !model.contains("://") => Err(Error::config(format!(
            "there is no folder `{model}`{}; a model of the hub is written org/name{}",
            near(path),
            match Repository::model(model.trim_end_matches('/'), None) {
                Ok(hub) => format!(", and hub:{} if that is what you mean", hub.name),
                Err(_) => String::new(),
            }
        ))),
        None => {
            of_hub(model, size).map_err(|error| Error::config(format!("there is no folder `{model}`, and {error}")))
        }
    }
}

/// Folders in which people keep models. No organisation of the hub that has models is called like them.
const MODEL_FOLDERS: [&str; 4] = ["models", "model", "checkpoints", "weights"];

/// Whether a name that is no folder can only be meant as one: it begins at a folder that is here or that models are kept in, has steps, or
/// ends as a path does.
fn is_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let mut parts = path.components();
    let first = parts.next();
    match first {
        Some(Component::Normal(first)) => {
            text.ends_with('/')
                || text.contains('\\')
                || parts.count() != 1
                || Path::new(first).is_dir()
                || MODEL_FOLDERS.iter().any(|known| first == *known)
        }
        _ => true,
    }
}

/// What is in the folder of a path that is not there: the name that is most like it, or the first few names.
fn near(path: &Path) -> String {
    if let Some(meant) = near::meant(path) {
        return format!("; {meant}");
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let shown = folder.unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(shown) else {
        return format!(", and no folder `{}`", shown.display());
    };
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .map(|name| format!("`{name}`"))
        .collect();
    names.sort();
    names.truncate(LISTED);
    match names.is_empty() {
        true => String::new(),
        false => format!("; folders in `{}` are {}", shown.display(), names.join(", ")),
    }
}

fn of_hub(name: &str, size: [usize; 2]) -> Result<Start> {
    let (name, revision) = match name.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (name, None),
    };
    Repository::model(name, revision)?;
    let revision = revision.map_or(String::new(), |revision| format!("\nrevision = {}", in_toml(revision)));
    Ok(with_papers_texts(format!("hub = {}{revision}", in_toml(name)), size))
}

/// The papers' texts, fewer of them.
fn with_papers_texts(model: String, [sequences, length]: [usize; 2]) -> Start {
    Start {
        model,
        calibration: in_toml("hub:c4"),
        sampling: "documents",
        sequences,
        length,
        evaluation: ("wikitext2", in_toml("hub:wikitext2")),
        windows: 20,
    }
}

/// A path as the file has it, which is relative to its own folder, in quotes.
fn from_folder(folder: &Path, path: &str) -> Result<String> {
    let path = Path::new(path);
    if path.is_absolute() {
        return Ok(in_toml(&path.display().to_string()));
    }
    let way = paths::from(folder, path);
    let way =
        way.ok_or_else(|| Error::config("no relative path leads to it from the folder of FILE").at(path.display()))?;
    // A model is called after the last part of its path, which must be a name.
    let way = match way.file_name() {
        Some(_) => way,
        None => path.canonicalize().map_err(|error| Error::reading(path, error))?,
    };
    Ok(in_toml(&way.display().to_string()))
}

/// A text as TOML has it, in quotes.
fn in_toml(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn text(name: &str, start: &Start, backend: &str, file: &Path) -> String {
    let Start {
        model,
        calibration,
        sampling,
        sequences,
        length,
        evaluation: (label, corpus),
        windows,
    } = start;
    let shown = quoted(file);
    // A key with what it means; meanings stand below each other where keys are short.
    let key = |setting: String, meaning: &str| format!("{setting:<33}# {meaning}");
    let name = key(format!("name = {}", in_toml(name)), "names the results folder");
    let description = key("description = \"\"".to_string(), "the question, in one sentence");
    let calibration = key(
        format!("corpus = {calibration}"),
        "text, JSON lines or Parquet; or a text of the hub",
    );
    let sampling = key(
        format!("sampling = \"{sampling}\""),
        "\"documents\": from single documents, as in the papers; \"packed\": from all of the text as one",
    );
    let sequences = key(
        format!("sequences = {sequences}"),
        "number of windows; the papers have 128",
    );
    let tokens = key(format!("length = {length}"), "tokens in a window; the papers have 2048");
    let patterns = key(
        "patterns = [0.5, \"2:4\"]".to_string(),
        "remove half of the weights; keep two of every four",
    );
    let seeds = key(
        "seeds = [0]".to_string(),
        "draws of calibration text; [0, 1, 2] shows how much is chance",
    );
    let evaluated = key(format!("length = {length}"), "tokens in a window");
    let windows = key(
        format!("windows = {windows}"),
        "only the first windows; without this line, the whole text",
    );
    let backend = key(
        format!("backend = \"{backend}\""),
        "\"cpu\", \"gpu\", or \"auto\": a GPU where there is one",
    );
    format!(
        r#"# Written by `zprune init`.
#   zprune plan {shown}    shows the cells of this experiment, and the time and memory that they need
#   zprune run {shown}     runs those that have no result yet, and writes tables, plots and a page
# `zprune list` names all methods, and `zprune list wanda` tells all about one.
# Paths are relative to the folder of this file.

{name}
{description}

# What is compared. A method is a criterion ("wanda"), a paper's recipe ("sparsegpt"), or a criterion
# and a solver ("ria+obs").
methods = ["magnitude", "wanda", "sparsegpt"]

[[model]]
{model}

# The text on which the inputs of the layers are measured.
[calibration]
{calibration}
{sampling}
{sequences}
{tokens}

[sweep]
{patterns}
{seeds}

# What is measured: perplexity on a text. Papers join the rows of WikiText with join = "wikitext", which
# texts of the hub do by themselves.
[[evaluation]]
name = "{label}"
corpus = {corpus}
{evaluated}
{windows}

[compute]
{backend}

# A method with its steps and their parameters:
#
# [[method]]
# name = "my method"
# criterion = {{ name = "ria", activation_power = 1.0 }}
# solver = "least-squares"
# allocator = "owl"

# Zero-shot tasks are measured beside perplexity, or in place of it. `zprune list` names them.
#
# [[task]]
# name = "arc_easy"
# data = "tasks"                 # folder with arc_easy.jsonl or .parquet; without this line, from the hub
# limit = 200                    # only the first 200 documents
"#
    )
}
