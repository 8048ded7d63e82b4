//! The files an experiment names: which are there, what they hash to, whether they fit the plan.
//!
//! Opens checkpoints (headers, hashes) and hashes corpora; loads no weights into memory. What is missing
//! is collected, not fatal: a plan can be shown without any weights. Only [`fetch`] uses the network;
//! everything else looks into the hub's cache.

mod missing;
mod models;

use super::file_names::unknown;
use super::origin::{Origin, Part};
use super::plan::{Experiment, GenerationPlan};
use crate::data::digest;
use crate::data::stamp::{Stamp, WatchedFile};
use crate::error::{Error, Located, Result};
use crate::hub::{Hub, Parts, Repository, datasets};
use crate::model::layer_file::{Content, LayerFile};
use crate::progress::Progress;
pub use missing::Missing;
use missing::Named;
use models::same_content;
pub use models::{ConfiguredModel, ModelIdentity, ModelInput};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The files of a generation.
pub struct GenerationInput {
    /// The file of prompts.
    pub prompts: FileInput,
    /// The file of examples, if there is one.
    pub examples: Option<FileInput>,
}

impl GenerationInput {
    fn files(&self) -> impl Iterator<Item = &FileInput> {
        std::iter::once(&self.prompts).chain(&self.examples)
    }
}

/// A corpus or a token windows file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInput {
    /// Path of the file; for a file of the hub, in the cache.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, which is part of the ids of cells.
    pub digest: String,
    watched: WatchedFile,
}

/// All inputs of an experiment; `None` where a file is not there.
pub struct Inputs {
    /// One per model: the directory, if it has a configuration and, where texts are read, a tokenizer.
    pub folders: Vec<Option<ConfiguredModel>>,
    /// One per model: the model, if all of it is there and was asked for.
    pub models: Vec<Option<ModelInput>>,
    /// The calibration file of every seed; a corpus is the same for all.
    pub calibration: BTreeMap<u64, FileInput>,
    /// The file of gradients, if there is one and it is there.
    pub gradients: Option<FileInput>,
    /// The files of scores and masks that are there, by the names that cells have for them.
    pub values: BTreeMap<PathBuf, FileInput>,
    /// The checkpoints of other programs that are there, by the names that cells have for them.
    pub checkpoints: BTreeMap<PathBuf, ModelInput>,
    /// One per evaluation.
    pub evaluations: Vec<Option<FileInput>>,
    /// One per zero-shot task.
    pub tasks: Vec<Option<FileInput>>,
    /// One per generation.
    pub generations: Vec<Option<GenerationInput>>,
    /// What is missing, and how to get it.
    pub missing: Vec<Missing>,
    /// Where the experiment was written.
    origin: Origin,
    /// The states in which files were hashed once more and had the content that they had before.
    hashed_again: Mutex<BTreeMap<PathBuf, Stamp>>,
}

/// Downloads what the experiment takes from the hub and the cache does not have. The only step of an
/// experiment that uses the network; does nothing for an experiment of local files. Where nothing may be downloaded, what the cache does not
/// have is left to [`Inputs`], which lists all that is missing.
///
/// # Errors
/// Something is not on the hub, cannot be had, or cannot be stored; see [`crate::hub`].
pub fn fetch(experiment: &Experiment, parts: Parts, progress: &dyn Progress) -> Result<()> {
    for plan in &experiment.models {
        if let Some(repository) = &plan.hub {
            fetch_model(repository, parts, progress)?;
        }
    }
    for cell in &experiment.cells() {
        if let Some((_, Some(repository))) = experiment.checkpoint(cell)?
            && parts == Parts::Everything
        {
            fetch_model(&repository, parts, progress)?;
        }
    }
    let calibration = experiment.calibration.iter().filter_map(|plan| plan.corpus.as_deref());
    let evaluations = experiment.evaluations.iter().filter_map(|plan| plan.corpus.as_deref());
    let tasks = experiment.tasks.iter().map(|plan| plan.data.as_path());
    let tasks = tasks.chain(experiment.generations.iter().flat_map(GenerationPlan::files));
    for corpus in calibration.chain(evaluations).chain(tasks) {
        if let Some(file) = datasets::file(corpus)? {
            let hub = Hub::from_environment()?;
            if hub.downloads() || hub.cached_file(&file).is_some() {
                hub.fetch_file(&file, progress)?;
            }
        }
    }
    Ok(())
}

fn fetch_model(repository: &Repository, parts: Parts, progress: &dyn Progress) -> Result<()> {
    let hub = Hub::from_environment()?;
    if hub.downloads() || hub.cached_model(repository, parts).is_some() {
        hub.fetch_model(repository, parts, progress)?;
    }
    Ok(())
}

/// The files and folders on this machine that an experiment names, so that no result is written over them.
pub fn local(experiment: &Experiment) -> Vec<PathBuf> {
    let models = experiment.models.iter().map(|plan| plan.path.clone());
    let calibration = experiment.calibration.iter().flat_map(|plan| {
        let seeds = experiment.seeds.iter();
        seeds.map(|seed| plan.file(*seed)).chain(plan.gradients.clone())
    });
    let evaluations = experiment.evaluations.iter().map(|plan| plan.source().to_path_buf());
    let tasks = experiment
        .tasks
        .iter()
        .flat_map(|plan| [plan.data.clone(), plan.file()]);
    let cells = experiment.cells();
    let values = cells.iter().filter_map(|cell| Some(experiment.file(cell)?.0));
    let checkpoints = cells
        .iter()
        .filter_map(|cell| Some(experiment.checkpoint(cell).ok()??.0));
    let generations = experiment.generations.iter().flat_map(GenerationPlan::files);
    let tasks = tasks.chain(generations.map(Path::to_path_buf));
    let mut all: Vec<PathBuf> = models.chain(calibration).chain(evaluations).chain(tasks).collect();
    all.extend(values.chain(checkpoints));
    all
}

impl Inputs {
    /// Looks at every file the experiment names.
    ///
    /// # Errors
    /// A file is there but cannot be used, or contradicts the plan.
    pub fn inspect(experiment: &Experiment) -> Result<Inputs> {
        Inputs::look(experiment, Parts::Everything)
    }

    /// Looks at every file but the weights: all that tokens need.
    ///
    /// # Errors
    /// A file is there but cannot be used, or contradicts the plan.
    pub fn inspect_texts(experiment: &Experiment) -> Result<Inputs> {
        Inputs::look(experiment, Parts::Tokenizer)
    }

    fn look(experiment: &Experiment, parts: Parts) -> Result<Inputs> {
        let in_file = experiment.origin.is_file();
        let mut missing = Vec::new();
        let (mut folders, mut models) = (Vec::new(), Vec::new());
        for plan in &experiment.models {
            let placed = |error| experiment.origin.placed(&Part::Model(plan.name.clone()), error);
            let (folder, input) = models::model(experiment, plan, parts, &mut missing).map_err(placed)?;
            if let Some(folder) = &folder {
                experiment.check_shares(&folder.spec).at(&plan.name).map_err(placed)?;
            }
            folders.push(folder);
            models.push(input);
        }
        let mut calibration = BTreeMap::new();
        if let Some(plan) = &experiment.calibration {
            let named = Named {
                part: &Part::Calibration,
                path: plan.source(),
                obtain: plan.obtain.as_deref(),
                in_file,
            };
            let placed = |error| experiment.origin.placed(&Part::Calibration, error);
            if plan.corpus.is_some() {
                let corpus = file("calibration corpus", plan.source(), named, &mut missing).map_err(placed)?;
                calibration.extend(experiment.seeds.iter().copied().zip(corpus.into_iter().cycle()));
            } else {
                for seed in &experiment.seeds {
                    let tokens = file("calibration tokens", &plan.file(*seed), named, &mut missing).map_err(placed)?;
                    calibration.extend(tokens.map(|tokens| (*seed, tokens)));
                }
            }
        }
        let gradients = experiment
            .calibration
            .as_ref()
            .and_then(|plan| plan.gradients.as_deref());
        let gradients = match gradients.filter(|_| parts == Parts::Everything) {
            Some(path) => {
                let (part, obtain) = (&Part::Gradients, None);
                file(
                    "file of gradients",
                    path,
                    Named {
                        part,
                        path,
                        obtain,
                        in_file,
                    },
                    &mut missing,
                )?
            }
            None => None,
        };
        if let Some(file) = &gradients {
            let mut specs = folders.iter().flatten().map(|folder| &folder.spec);
            specs.try_for_each(|spec| LayerFile::open(&file.path, spec, Content::Gradients).map(drop))?;
        }
        let (values, checkpoints) = match parts {
            Parts::Everything => (
                values(experiment, &folders, &mut missing)?,
                models::checkpoints(experiment, &folders, &mut missing)?,
            ),
            Parts::Tokenizer => (BTreeMap::new(), BTreeMap::new()),
        };
        let mut evaluations = Vec::new();
        for plan in &experiment.evaluations {
            let what = match plan.corpus {
                Some(_) => "evaluation corpus",
                None => "evaluation tokens",
            };
            let named = Named {
                part: &Part::Evaluation(plan.name.clone()),
                path: plan.source(),
                obtain: plan.obtain.as_deref(),
                in_file: experiment.origin.is_file(),
            };
            let file = file(what, plan.source(), named, &mut missing);
            evaluations.push(file.map_err(|error| experiment.origin.placed(named.part, error))?);
        }
        let mut tasks = Vec::new();
        for plan in &experiment.tasks {
            let what = format!("data of task `{}`", plan.name);
            let named = Named {
                part: &Part::Task(plan.name.clone()),
                path: &plan.data,
                obtain: plan.obtain.as_deref(),
                in_file: experiment.origin.is_file(),
            };
            let file = file(&what, &plan.file(), named, &mut missing);
            tasks.push(file.map_err(|error| experiment.origin.placed(named.part, error))?);
        }
        let mut generations = Vec::new();
        for plan in &experiment.generations {
            let (obtain, name) = (plan.obtain.as_deref(), &plan.name);
            let mut found = |what: &str, part: &Part, path| {
                let named = Named {
                    part,
                    path,
                    obtain,
                    in_file,
                };
                file(&format!("{what} of `{name}`"), path, named, &mut missing)
            };
            let prompts = found("prompts", &Part::Prompts(name.clone()), &plan.prompts)?;
            let examples = plan.examples.as_deref();
            let examples = examples.map(|path| found("examples", &Part::Examples(name.clone()), path));
            let examples = examples.transpose()?;
            generations.push(match (prompts, examples) {
                (Some(prompts), None) => Some(GenerationInput {
                    prompts,
                    examples: None,
                }),
                (Some(prompts), Some(Some(examples))) => Some(GenerationInput {
                    prompts,
                    examples: Some(examples),
                }),
                _ => None,
            });
        }
        Ok(Inputs {
            folders,
            models,
            calibration,
            gradients,
            values,
            checkpoints,
            evaluations,
            tasks,
            generations,
            missing,
            origin: experiment.origin.clone(),
            hashed_again: Mutex::default(),
        })
    }

    /// The files that all models have in common.
    fn texts(&self) -> impl Iterator<Item = &FileInput> {
        let evaluations = self.evaluations.iter().chain(&self.tasks).flatten();
        let generations = self.generations.iter().flatten();
        let generations = generations.flat_map(GenerationInput::files);
        let values = self.values.values();
        self.calibration
            .values()
            .chain(&self.gradients)
            .chain(values)
            .chain(evaluations)
            .chain(generations)
    }

    /// A model, and the checkpoints of other programs.
    fn models_of(&self, model: usize) -> impl Iterator<Item = &ModelInput> {
        self.models[model].iter().chain(self.checkpoints.values())
    }

    /// Checks that the files that decide the numbers of a model's cells are those that were hashed, and were not written to since.
    /// Looks at no content where size and times are as they were, so that it can be asked before every record; what it cannot see
    /// [`Inputs::rehash`] does. A file that was touched, or was given another name or other permissions, is hashed again.
    ///
    /// # Errors
    /// Names the file, and says what became of it.
    pub fn unchanged(&self, model: usize) -> Result<()> {
        let own = self.models_of(model).flat_map(ModelInput::files);
        let mut known = self.hashed_again.lock().unwrap_or_else(PoisonError::into_inner);
        let mut touched = BTreeMap::new();
        for file in own.chain(self.texts().map(|file| &file.watched)) {
            if let Some(stamp) = file.check()?.filter(|stamp| known.get(file.path()) != Some(stamp)) {
                touched.insert(file.path().to_path_buf(), stamp);
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        const WRITTEN: &str = "the file was written to while it was in use";
        self.hash(model, &|file| touched.contains_key(file.path()), WRITTEN)?;
        for (path, stamp) in &touched {
            // It may have been written to while it was hashed.
            if Stamp::at(path).ok().as_ref() != Some(stamp) {
                return Err(Error::input(WRITTEN).at(path.display()));
            }
            tracing::info!(
                "{}: another program touched it while it was in use; its content is the same",
                path.display()
            );
        }
        known.append(&mut touched);
        Ok(())
    }

    /// The same by hashing all of these files again.
    ///
    /// # Errors
    /// Names the file.
    pub fn rehash(&self, model: usize) -> Result<()> {
        const OTHERWISE: &str = "the content changed after the run hashed it, although size and times are the same";
        self.hash(model, &|_| true, OTHERWISE)
    }

    /// Hashes the `wanted` files of a model's cells again; `otherwise` is what is said of one that has another content.
    fn hash(&self, model: usize, wanted: &dyn Fn(&WatchedFile) -> bool, otherwise: &str) -> Result<()> {
        self.models_of(model)
            .try_for_each(|model| model.rehash(wanted, otherwise))?;
        let mut seen = BTreeSet::new();
        let mut files = self
            .texts()
            .filter(|file| wanted(&file.watched) && seen.insert(&file.path));
        files.try_for_each(|file| same_content(&file.watched, &file.digest, otherwise))
    }

    /// An error about the files of a part of the experiment, with the place in its file where the part names them.
    pub fn placed(&self, part: &Part, error: Error) -> Error {
        self.origin.placed(part, error)
    }

    /// Refuses to go on while anything is missing.
    ///
    /// # Errors
    /// Lists every missing file and how to get it.
    pub fn require_all(&self) -> Result<()> {
        match self.missing.is_empty() {
            true => Ok(()),
            false => Err(self.lacks()),
        }
    }

    /// The error that lists every missing file, with its place in the experiment's file.
    pub fn lacks(&self) -> Error {
        self.origin.lacks(self.missing.iter().map(Missing::said))
    }

    /// Refuses what a run would refuse: files that are missing and that it does not download.
    ///
    /// # Errors
    /// As [`Inputs::require_all`].
    pub fn require_local(&self) -> Result<()> {
        let mut local = self.missing.iter().filter(|it| !it.downloaded).peekable();
        match local.peek().is_none() {
            true => Ok(()),
            false => Err(self.origin.lacks(local.map(Missing::said))),
        }
    }
}

/// All files of a kind, if all are there.
pub fn all<T>(files: &[Option<T>]) -> Option<Vec<&T>> {
    files.iter().map(Option::as_ref).collect()
}

/// The files of scores and masks: those that are there fit the models, as far as their headers say.
fn values(
    experiment: &Experiment,
    folders: &[Option<ConfiguredModel>],
    missing: &mut Vec<Missing>,
) -> Result<BTreeMap<PathBuf, FileInput>> {
    let mut found: BTreeMap<PathBuf, FileInput> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for cell in &experiment.cells() {
        let Some((path, content)) = experiment.file(cell) else {
            continue;
        };
        if !seen.insert((cell.model, path.clone())) {
            continue;
        }
        let method = experiment.method_name(cell);
        if !found.contains_key(&path) {
            let wrong = unknown(&path.to_string_lossy()).map(|wrong| format!(" ({wrong})"));
            let what = format!("file of method `{method}`{}", wrong.unwrap_or_default());
            let named = Named {
                part: &Part::Method(method.to_string()),
                path: &experiment.named(cell),
                obtain: None,
                in_file: experiment.origin.is_file(),
            };
            let Some(input) = file(&what, &path, named, missing)? else {
                continue;
            };
            found.insert(path.clone(), input);
        }
        if let Some(folder) = &folders[cell.model] {
            LayerFile::open(&path, &folder.spec, content).at(format_args!("method {method}"))?;
        }
    }
    Ok(found)
}

/// A file that is there, or on the hub and in its cache; `named` is what the experiment has for it.
fn file(what: &str, path: &Path, named: Named, missing: &mut Vec<Missing>) -> Result<Option<FileInput>> {
    let path = match datasets::file(path)? {
        None if path.exists() => path.to_path_buf(),
        None => {
            missing.push(Missing::file(what, path, named, None));
            return Ok(None);
        }
        Some(remote) => match Hub::from_environment()?.cached_file(&remote) {
            Some(path) => path,
            None => {
                missing.push(Missing::in_cache(what, named.part, &remote.to_string())?);
                return Ok(None);
            }
        },
    };
    let watched = WatchedFile::new(&path)?;
    let digest = digest::of_file(&path)?;
    Ok(Some(FileInput { path, digest, watched }))
}
