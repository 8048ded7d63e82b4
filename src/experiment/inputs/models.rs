//! Model directories: those of an experiment's models, and the checkpoints that other programs made of them.

use super::missing::{Missing, Named};
use crate::data::chat::Chat;
use crate::data::digest;
use crate::data::stamp::WatchedFile;
use crate::data::tokenizer::{self, Tokenizer};
use crate::error::{Error, Located, Result};
use crate::experiment::origin::Part;
use crate::experiment::plan::{Experiment, ModelPlan};
use crate::hub::{Hub, Parts, Repository};
use crate::model::alike::check_alike;
use crate::model::checkpoint::Checkpoint;
use crate::model::ending::end_tokens;
use crate::model::families::read_spec;
use crate::model::found::{Sought, instead};
use crate::model::weights::WeightFiles;
use crate::spec::ModelSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
    pub(super) fn files(&self) -> impl Iterator<Item = &WatchedFile> {
        std::iter::once(&self.config)
            .chain(&self.tokenizer)
            .chain(&self.weights)
    }

    /// Hashes those of them again that are hashed together with one that is `wanted`; `otherwise` is what is said of them if they
    /// have another content.
    pub(super) fn rehash(&self, wanted: &dyn Fn(&WatchedFile) -> bool, otherwise: &str) -> Result<()> {
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
pub(super) fn same_content(file: &WatchedFile, digest: &str, otherwise: &str) -> Result<()> {
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
    /// The tokens with which the model ends what it writes, if it is to write anything.
    pub ends: Vec<u32>,
    /// How it wants conversations to be written, if there are any.
    pub chat: Option<Chat>,
}

/// A model directory. Its configuration is held against the plan even where the larger files are missing.
pub(super) fn model(
    experiment: &Experiment,
    plan: &ModelPlan,
    parts: Parts,
    missing: &mut Vec<Missing>,
) -> Result<(Option<ConfiguredModel>, Option<ModelInput>)> {
    let named = Named {
        part: &Part::Model(plan.name.clone()),
        path: &plan.path,
        obtain: plan.obtain.as_deref(),
        in_file: experiment.origin.is_file(),
    };
    let (path, commit) = match &plan.hub {
        None => (plan.path.clone(), None),
        Some(repository) => match Hub::from_environment()?.cached_model(repository, parts) {
            Some(snapshot) => (snapshot.folder, Some(snapshot.commit)),
            None => {
                missing.push(Missing::in_cache("model", named.part, &repository.to_string())?);
                return Ok((None, None));
            }
        },
    };
    let (config, tokenizer) = (path.join("config.json"), path.join("tokenizer.json"));
    if !configured("model", &path, named, missing) {
        return Ok((None, None));
    }
    let watched_config = WatchedFile::new(&config)?;
    let spec = read_spec(&path)?;
    check_fit(experiment, &path, &spec)?;
    let weights_wanted = parts == Parts::Everything;
    let (weights_there, tokenizer_there) = (WeightFiles::is_in(&path), tokenizer.exists());
    if weights_wanted && !weights_there {
        let instead = instead(&path, Sought::Weights);
        missing.push(Missing::file(
            "checkpoint",
            &path.join("model.safetensors"),
            named,
            instead,
        ));
    }
    if !tokenizer_there && experiment.reads_texts() {
        let instead = instead(&path, Sought::Tokenizer);
        missing.push(Missing::file("tokenizer", &tokenizer, named, instead));
        return Ok((None, None));
    }
    let mut input = None;
    if weights_wanted && weights_there {
        let companions = COMPANIONS
            .iter()
            .map(|name| path.join(name))
            .filter(|path| path.exists());
        let watched_tokenizer = tokenizer_there.then(|| tokenizer.clone()).into_iter().chain(companions);
        let watched_tokenizer = watched_tokenizer
            .map(|path| WatchedFile::new(&path))
            .collect::<Result<Vec<_>>>()?;
        input = Some(opened(&path, spec.clone(), watched_config, watched_tokenizer)?);
    }
    let ends = match experiment.generations.is_empty() {
        true => Vec::new(),
        false => end_tokens(&path)?,
    };
    let chat = match experiment.generations.iter().any(|plan| plan.settings.chat) {
        true => Some(Chat::read(&path, &Tokenizer::load(&path)?)?),
        false => None,
    };
    Ok((
        Some(ConfiguredModel {
            path,
            commit,
            spec,
            ends,
            chat,
        }),
        input,
    ))
}

/// Whether a folder has the configuration of a model.
fn configured(what: &str, path: &Path, named: Named, missing: &mut Vec<Missing>) -> bool {
    let config = path.join("config.json");
    if config.exists() {
        return true;
    }
    // A folder that lacks it, or no folder at all.
    let lacking = if path.is_dir() { config.as_path() } else { path };
    let instead = instead(path, Sought::Model);
    missing.push(match path.is_file() {
        true => Missing::other(what, path, named.part, &instead.unwrap_or_default()),
        false => Missing::file(what, lacking, named, instead),
    });
    false
}

/// A model directory whose weights are there. `tokenizer` has the files that decide what its tokenizer does; none where no text is
/// tokenised with it.
fn opened(path: &Path, spec: ModelSpec, config: WatchedFile, tokenizer: Vec<WatchedFile>) -> Result<ModelInput> {
    let checkpoint = Checkpoint::open(path, spec)?;
    let weights = checkpoint.files().paths().into_iter().map(WatchedFile::new);
    let weights = weights.collect::<Result<Vec<WatchedFile>>>()?;
    let identity = ModelIdentity {
        config: digest::of_file(config.path())?,
        weights: checkpoint.files().digest()?,
        tokenizer: match tokenizer.is_empty() {
            true => String::new(),
            false => tokenizer::digest(path)?,
        },
    };
    Ok(ModelInput {
        identity,
        checkpoint,
        config,
        tokenizer,
        weights,
        folder: path.to_path_buf(),
    })
}

/// The checkpoints that other programs pruned, by the names that cells have for them: those that are there have the architecture of the
/// models in whose rows they stand.
pub(super) fn checkpoints(
    experiment: &Experiment,
    folders: &[Option<ConfiguredModel>],
    missing: &mut Vec<Missing>,
) -> Result<BTreeMap<PathBuf, ModelInput>> {
    let mut found: BTreeMap<PathBuf, ModelInput> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for cell in &experiment.cells() {
        let Some((path, repository)) = experiment.checkpoint(cell)? else {
            continue;
        };
        if !seen.insert((cell.model, path.clone())) {
            continue;
        }
        let method = format!("method {}", experiment.method_name(cell));
        if !found.contains_key(&path) {
            let what = format!("checkpoint of method `{}`", experiment.method_name(cell));
            let named = Named {
                part: &Part::Method(experiment.method_name(cell).to_string()),
                path: &experiment.named(cell),
                obtain: None,
                in_file: experiment.origin.is_file(),
            };
            let Some(input) = checkpoint(&what, &path, named, repository.as_ref(), missing).at(&method)? else {
                continue;
            };
            found.insert(path.clone(), input);
        }
        if let (Some(folder), Some(input)) = (&folders[cell.model], found.get(&path)) {
            let alike = check_alike(&folder.spec, input.checkpoint.spec());
            alike.at(path.display()).at(&method)?;
        }
    }
    Ok(found)
}

/// A checkpoint that another program pruned. It needs no tokenizer: tokens are those of the model in whose row it stands.
fn checkpoint(
    what: &str,
    filled: &Path,
    named: Named,
    repository: Option<&Repository>,
    missing: &mut Vec<Missing>,
) -> Result<Option<ModelInput>> {
    let path = match repository {
        None => filled.to_path_buf(),
        Some(repository) => match Hub::from_environment()?.cached_model(repository, Parts::Everything) {
            Some(snapshot) => snapshot.folder,
            None => {
                missing.push(Missing::in_cache(what, named.part, &repository.to_string())?);
                return Ok(None);
            }
        },
    };
    if !configured(what, &path, named, missing) {
        return Ok(None);
    }
    if !WeightFiles::is_in(&path) {
        let instead = instead(&path, Sought::Weights);
        missing.push(Missing::file(what, &path.join("model.safetensors"), named, instead));
        return Ok(None);
    }
    let config = WatchedFile::new(&path.join("config.json"))?;
    opened(&path, read_spec(&path)?, config, Vec::new()).map(Some)
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
