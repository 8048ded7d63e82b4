//! The files an experiment names: which are there, what they hash to, whether they fit the plan.
//!
//! Opens checkpoints (headers, hashes) and hashes corpora; loads no weights into memory. What is missing
//! is collected, not fatal: a plan can be shown without any weights. Only [`fetch`] uses the network;
//! everything else looks into the hub's cache.

use super::plan::{Experiment, ModelPlan};
use crate::data::stamp::{Stamp, WatchedFile};
use crate::data::{digest, tokenizer};
use crate::error::{Error, Located, Result};
use crate::hub::{Hub, Parts, datasets};
use crate::model::checkpoint::Checkpoint;
use crate::model::families::read_spec;
use crate::model::found::{Sought, instead};
use crate::model::weights::WeightFiles;
use crate::progress::Progress;
use crate::registry::nearest;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// SHA-256 of a model's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Hash of the file `config.json`.
    pub config: String,
    /// Hash of all weight files together.
    pub weights: String,
    /// Hash of `tokenizer.json` and of what the files beside it change; absent where the model has none and needs none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tokenizer: String,
}

/// A model directory that is there and fits.
pub struct ModelInput {
    /// Hashes of the model's files, which are part of the ids of its cells.
    pub identity: ModelIdentity,
    /// The checkpoint, opened to read weights.
    pub checkpoint: Checkpoint,
    folder: PathBuf,
    config: WatchedFile,
    /// `tokenizer.json`, and of [`COMPANIONS`] those that are there.
    tokenizer: Vec<WatchedFile>,
    weights: Vec<WatchedFile>,
}

/// Files beside `tokenizer.json` that may change what it does.
const COMPANIONS: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

impl ModelInput {
    /// The files that decide the model's numbers, as they were before they were hashed.
    fn files(&self) -> impl Iterator<Item = &WatchedFile> {
        std::iter::once(&self.config)
            .chain(&self.tokenizer)
            .chain(&self.weights)
    }

    /// Hashes those of them again that are hashed together with one that is `wanted`; `otherwise` is what is said of them if they
    /// have another content.
    fn rehash(&self, wanted: &dyn Fn(&WatchedFile) -> bool, otherwise: &str) -> Result<()> {
        if wanted(&self.config) {
            same_content(&self.config, &self.identity.config, otherwise)?;
        }
        let other = |files: &[WatchedFile]| {
            let wanted: Vec<&WatchedFile> = files.iter().filter(|file| wanted(file)).collect();
            let paths: Vec<String> = wanted.iter().map(|it| it.path().display().to_string()).collect();
            Err(Error::input(otherwise).at(paths.join(", ")))
        };
        if self.tokenizer.iter().any(wanted) && tokenizer::digest(&self.folder)? != self.identity.tokenizer {
            return other(&self.tokenizer);
        }
        if self.weights.iter().any(wanted) && self.checkpoint.files().digest()? != self.identity.weights {
            return other(&self.weights);
        }
        Ok(())
    }
}

/// Hashes a file again; `otherwise` is what is said of it if it has another content.
fn same_content(file: &WatchedFile, digest: &str, otherwise: &str) -> Result<()> {
    match digest::of_file(file.path())? == digest {
        true => Ok(()),
        false => Err(Error::input(otherwise).at(file.path().display())),
    }
}

/// A model directory whose configuration fits; its weights may be missing.
pub struct ConfiguredModel {
    /// Path of the directory; for a model of the hub, in the cache.
    pub path: PathBuf,
    /// For a model of the hub, the commit it is.
    pub commit: Option<String>,
    /// The architecture that its configuration describes.
    pub spec: ModelSpec,
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
    /// All evaluation files, if all are there.
    pub evaluations: Option<Vec<FileInput>>,
    /// The files of all zero-shot tasks, if all are there.
    pub tasks: Option<Vec<FileInput>>,
    /// What is missing, and how to get it.
    pub missing: Vec<String>,
    /// The states in which files were hashed once more and had the content that they had before.
    hashed_again: Mutex<BTreeMap<PathBuf, Stamp>>,
}

/// Downloads what the experiment takes from the hub and the cache does not have. The only step of an
/// experiment that uses the network; does nothing for an experiment of local files.
///
/// # Errors
/// Something is not on the hub, cannot be had, or cannot be stored; see [`crate::hub`].
pub fn fetch(experiment: &Experiment, parts: Parts, progress: &dyn Progress) -> Result<()> {
    for plan in &experiment.models {
        if let Some(repository) = &plan.hub {
            Hub::from_environment()?.fetch_model(repository, parts, progress)?;
        }
    }
    let calibration = experiment.calibration.iter().filter_map(|plan| plan.corpus.as_deref());
    let evaluations = experiment.evaluations.iter().filter_map(|plan| plan.corpus.as_deref());
    let tasks = experiment.tasks.iter().map(|plan| plan.data.as_path());
    for corpus in calibration.chain(evaluations).chain(tasks) {
        if let Some(file) = datasets::file(corpus)? {
            Hub::from_environment()?.fetch_file(&file, progress)?;
        }
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
    models.chain(calibration).chain(evaluations).chain(tasks).collect()
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
        let mut missing = Vec::new();
        let (mut folders, mut models) = (Vec::new(), Vec::new());
        for plan in &experiment.models {
            let (folder, input) = model(experiment, plan, parts, &mut missing)?;
            if let Some(folder) = &folder {
                experiment.check_shares(&folder.spec).at(&plan.name)?;
            }
            folders.push(folder);
            models.push(input);
        }
        let mut calibration = BTreeMap::new();
        if let Some(plan) = &experiment.calibration {
            let obtain = plan.obtain.as_deref();
            if plan.corpus.is_some() {
                let corpus = file("calibration corpus", plan.source(), obtain, &mut missing)?;
                calibration.extend(experiment.seeds.iter().copied().zip(corpus.into_iter().cycle()));
            } else {
                for seed in &experiment.seeds {
                    let tokens = file("calibration tokens", &plan.file(*seed), obtain, &mut missing)?;
                    calibration.extend(tokens.map(|tokens| (*seed, tokens)));
                }
            }
        }
        let gradients = experiment
            .calibration
            .as_ref()
            .and_then(|plan| plan.gradients.as_deref());
        let gradients = match gradients.filter(|_| parts == Parts::Everything) {
            Some(path) => file("file of gradients", path, None, &mut missing)?,
            None => None,
        };
        let mut evaluations = Vec::new();
        for plan in &experiment.evaluations {
            let what = match plan.corpus {
                Some(_) => "evaluation corpus",
                None => "evaluation tokens",
            };
            evaluations.extend(file(what, plan.source(), plan.obtain.as_deref(), &mut missing)?);
        }
        let mut tasks = Vec::new();
        for plan in &experiment.tasks {
            tasks.extend(file(
                &format!("data of task {}", plan.name),
                &plan.file(),
                plan.obtain.as_deref(),
                &mut missing,
            )?);
        }
        let complete = evaluations.len() == experiment.evaluations.len();
        Ok(Inputs {
            folders,
            models,
            calibration,
            gradients,
            evaluations: complete.then_some(evaluations),
            tasks: (tasks.len() == experiment.tasks.len()).then_some(tasks),
            missing,
            hashed_again: Mutex::default(),
        })
    }

    /// The files that all models have in common.
    fn texts(&self) -> impl Iterator<Item = &FileInput> {
        let evaluations = self.evaluations.iter().chain(&self.tasks).flatten();
        self.calibration.values().chain(&self.gradients).chain(evaluations)
    }

    /// Checks that the files that decide the numbers of a model's cells are those that were hashed, and were not written to since.
    /// Looks at no content where size and times are as they were, so that it can be asked before every record; what it cannot see
    /// [`Inputs::rehash`] does. A file that was touched, or was given another name or other permissions, is hashed again.
    ///
    /// # Errors
    /// Names the file, and says what became of it.
    pub fn unchanged(&self, model: usize) -> Result<()> {
        let own = self.models[model].iter().flat_map(ModelInput::files);
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
                "{}: was touched while it was in use; its content is what it was",
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
        const OTHERWISE: &str = "the content is not what it was when the run hashed it, though size and times are";
        self.hash(model, &|_| true, OTHERWISE)
    }

    /// Hashes the `wanted` files of a model's cells again; `otherwise` is what is said of one that has another content.
    fn hash(&self, model: usize, wanted: &dyn Fn(&WatchedFile) -> bool, otherwise: &str) -> Result<()> {
        let mut model = self.models[model].iter();
        model.try_for_each(|model| model.rehash(wanted, otherwise))?;
        let mut seen = BTreeSet::new();
        let mut files = self
            .texts()
            .filter(|file| wanted(&file.watched) && seen.insert(&file.path));
        files.try_for_each(|file| same_content(&file.watched, &file.digest, otherwise))
    }

    /// Refuses to go on while anything is missing.
    ///
    /// # Errors
    /// Lists every missing file and how to get it.
    pub fn require_all(&self) -> Result<()> {
        match &self.missing[..] {
            [] => Ok(()),
            missing => Err(Error::input(missing.join("\n"))),
        }
    }
}

/// The message that a file is not there, with how to get it and what is there instead.
fn absent(what: &str, path: &Path, obtain: Option<&str>, instead: Option<String>) -> String {
    let obtain = obtain.map(|obtain| format!("to get it: {obtain}"));
    let mut how: Vec<String> = obtain.into_iter().chain(instead).chain(near(path)).collect();
    if how.is_empty() {
        how.push(match path.is_symlink() {
            true => "it is a link to something that does not exist".to_string(),
            false => {
                "paths in an experiment file are relative to its folder, others to the folder zprune is started in"
                    .to_string()
            }
        });
    }
    format!("{what} {} is not there; {}", path.display(), how.join("; "))
}

/// Asks whether a file of the same folder was meant that has nearly the same name.
fn near(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let near = nearest(name, &names)?;
    Some(format!("did you mean {}?", path.with_file_name(near).display()))
}

fn not_cached(what: &str, described: &str) -> String {
    format!(
        "{what} {described} is not in the Hugging Face cache; `zprune run` downloads it, or name a local file or folder in its place"
    )
}

/// A model directory. Its configuration is held against the plan even where the larger files are missing.
fn model(
    experiment: &Experiment,
    plan: &ModelPlan,
    parts: Parts,
    missing: &mut Vec<String>,
) -> Result<(Option<ConfiguredModel>, Option<ModelInput>)> {
    let (path, commit) = match &plan.hub {
        None => (plan.path.clone(), None),
        Some(repository) => match Hub::from_environment()?.cached_model(repository, parts) {
            Some(snapshot) => (snapshot.folder, Some(snapshot.commit)),
            None => {
                missing.push(not_cached("model", &repository.to_string()));
                return Ok((None, None));
            }
        },
    };
    let (config, tokenizer) = (path.join("config.json"), path.join("tokenizer.json"));
    let obtain = plan.obtain.as_deref();
    if !config.exists() {
        // A folder that lacks it, or no folder at all.
        let named = if path.is_dir() { &config } else { &path };
        missing.push(match path.is_file() {
            true => format!(
                "model {} is no model directory; {}",
                path.display(),
                instead(&path, Sought::Model).unwrap_or_default()
            ),
            false => absent("model", named, obtain, instead(&path, Sought::Model)),
        });
        return Ok((None, None));
    }
    let watched_config = WatchedFile::new(&config)?;
    let spec = read_spec(&path)?;
    check_fit(experiment, &path, &spec)?;
    let weights_wanted = parts == Parts::Everything;
    let (weights_there, tokenizer_there) = (WeightFiles::is_in(&path), tokenizer.exists());
    if weights_wanted && !weights_there {
        let instead = instead(&path, Sought::Weights);
        missing.push(absent("checkpoint", &path.join("model.safetensors"), obtain, instead));
    }
    if !tokenizer_there && experiment.reads_texts() {
        let instead = instead(&path, Sought::Tokenizer);
        missing.push(absent("tokenizer", &tokenizer, obtain, instead));
        return Ok((None, None));
    }
    let mut input = None;
    if weights_wanted && weights_there {
        let checkpoint = Checkpoint::open(&path, spec.clone())?;
        let companions = COMPANIONS
            .iter()
            .map(|name| path.join(name))
            .filter(|path| path.exists());
        let watched_tokenizer = tokenizer_there.then(|| tokenizer.clone()).into_iter().chain(companions);
        let watched_tokenizer = watched_tokenizer
            .map(|path| WatchedFile::new(&path))
            .collect::<Result<Vec<_>>>()?;
        let weights = checkpoint.files().paths().into_iter().map(WatchedFile::new);
        let weights = weights.collect::<Result<Vec<WatchedFile>>>()?;
        let identity = ModelIdentity {
            config: digest::of_file(&config)?,
            weights: checkpoint.files().digest()?,
            tokenizer: tokenizer::digest(&path)?,
        };
        input = Some(ModelInput {
            identity,
            checkpoint,
            config: watched_config,
            tokenizer: watched_tokenizer,
            weights,
            folder: path.clone(),
        });
    }
    Ok((Some(ConfiguredModel { path, commit, spec }), input))
}

/// A file that is there, or on the hub and in its cache.
fn file(what: &str, named: &Path, obtain: Option<&str>, missing: &mut Vec<String>) -> Result<Option<FileInput>> {
    let path = match datasets::file(named)? {
        None if named.exists() => named.to_path_buf(),
        None => {
            missing.push(absent(what, named, obtain, None));
            return Ok(None);
        }
        Some(remote) => match Hub::from_environment()?.cached_file(&remote) {
            Some(path) => path,
            None => {
                missing.push(not_cached(what, &remote.to_string()));
                return Ok(None);
            }
        },
    };
    let watched = WatchedFile::new(&path)?;
    let digest = digest::of_file(&path)?;
    Ok(Some(FileInput { path, digest, watched }))
}

/// Refuses settings of the experiment that the model's architecture does not allow.
fn check_fit(experiment: &Experiment, path: &Path, spec: &ModelSpec) -> Result<()> {
    for pattern in &experiment.patterns {
        for linear in spec.kinds().flat_map(|(block, _)| &block.linears) {
            pattern.fits(linear.inputs).at(linear.tensor).at(path.display())?;
        }
    }
    for (index, method) in experiment.methods.iter().enumerate() {
        if let Some(recipe) = experiment.recipe(index)? {
            recipe.biased(spec).at(&method.name).at(path.display())?;
        }
    }
    if let Some(plan) = &experiment.calibration {
        let checked = plan.check_size(plan.length.of(spec), experiment.seeds.len());
        checked.at("calibration").at(path.display())?;
    }
    for plan in &experiment.evaluations {
        let checked = plan.check_size(plan.length.of(spec));
        checked.at(&plan.name).at(path.display())?;
    }
    let calibration = experiment
        .calibration
        .iter()
        .map(|plan| ("calibration", plan.length.of(spec)));
    let evaluations = experiment
        .evaluations
        .iter()
        .map(|plan| (plan.name.as_str(), plan.length.of(spec)));
    for (name, length) in calibration.chain(evaluations) {
        if let Some(limit) = spec.longest_window.filter(|limit| *limit < length) {
            let message = format!("{name}: windows of {length} tokens are longer than the model's limit of {limit}");
            return Err(Error::config(message).at(path.display()));
        }
        if length > spec.max_positions {
            let limit = spec.max_positions;
            tracing::warn!("{name}: windows of {length} tokens exceed max_position_embeddings = {limit}");
        }
    }
    Ok(())
}
