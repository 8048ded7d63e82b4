//! Models and corpora of the Hugging Face hub, kept in the cache that every Hugging Face program shares.
//!
//! The crate `hf-hub` speaks to the hub and lays out the cache (`blobs`, `refs`, `snapshots`). Supplied
//! here, since it does not: the rest of the environment (`HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`, ...),
//! work from the cache without a network, one commit for all files of a model, checks of size and hash,
//! locks that the Python library honours, and errors that name the fix.
//!
//! A model of a branch is looked up on the hub every time and taken from the cache when the hub cannot be
//! reached; one of a commit never changes and, once in the cache, needs no network at all.

pub mod datasets;
mod download;
mod failure;

use crate::error::{Error, Result};
use crate::files::input;
use crate::progress::Progress;
use datasets::DatasetFile;
use failure::Failure;
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

const ENDPOINT: &str = "https://huggingface.co";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Small files that are fetched where a repository has them, besides everything named `tokenizer*.json`.
const SMALL: [&str; 9] = [
    CONFIG,
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// What sort of thing a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// A repository of the hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Model or data set.
    pub kind: Kind,
    /// `org/name`.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl Repository {
    /// A model's repository; `main` if no revision is given.
    ///
    /// # Errors
    /// The name or the revision cannot be one of the hub.
    pub fn model(name: &str, revision: Option<&str>) -> Result<Self> {
        Repository::new(Kind::Model, name, revision)
    }

    /// A data set's repository; `main` if no revision is given.
    ///
    /// # Errors
    /// The name or the revision cannot be one of the hub.
    pub fn dataset(name: &str, revision: Option<&str>) -> Result<Self> {
        Repository::new(Kind::Dataset, name, revision)
    }

    /// Both become folders of the cache and parts of addresses, so nothing else may pass.
    fn new(kind: Kind, name: &str, revision: Option<&str>) -> Result<Self> {
        let plain = |part: &str| {
            let known = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            !part.is_empty() && known && !part.starts_with('.') && !part.contains("..")
        };
        if name.split('/').count() > 2 || !name.split('/').all(plain) {
            let message = format!("`{name}` is not the name of a repository on the hub, `org/name`");
            return Err(Error::config(message));
        }
        let revision = revision.unwrap_or("main");
        if !revision.split('/').all(plain) {
            let message = format!("`{revision}` is not a branch, tag or commit of {name}");
            return Err(Error::config(message));
        }
        Ok(Repository {
            kind,
            name: name.to_string(),
            revision: revision.to_string(),
        })
    }

    /// Whether the revision is a commit, which never changes.
    fn pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    /// As hf-hub wants it, at any revision.
    fn at(&self, revision: &str) -> Repo {
        let kind = match self.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.name.clone(), kind, revision.to_string())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "data set ",
        };
        write!(f, "{kind}{} (revision {})", self.name, self.revision)
    }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How much of a model is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Configuration and tokenizer.
    Tokenizer,
    /// These and the weights.
    Everything,
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its folder, a Hugging Face model directory.
    pub folder: PathBuf,
    /// The commit it is.
    pub commit: String,
}

/// The hub and its cache.
#[derive(Clone)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    /// The hub as the environment describes it, with the names and defaults of the Python library:
    /// `HF_HUB_CACHE` or `HF_HOME`/hub or `XDG_CACHE_HOME`/huggingface/hub, `HF_TOKEN` or the file that
    /// `hf auth login` wrote, `HF_ENDPOINT`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// There is no home directory to hold a cache, and no variable that names another place.
    pub fn from_environment() -> Result<Hub> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let folder = |name| variable(name).map(PathBuf::from);
        let home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface")))
            .ok_or_else(|| {
                Error::config("there is no home directory for the Hugging Face cache; set HF_HOME to a folder")
            })?;
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        // Links in the cache are relative to it, which needs a path that does not depend on the folder of the process.
        let cache = std::path::absolute(&cache).map_err(|source| Error::reading(&cache, source))?;
        let stored = || {
            let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(path).ok()
        };
        let token = variable("HF_TOKEN")
            .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
            .or_else(stored)
            .map(|token| token.trim().to_string())
            .filter(|token| !token.is_empty());
        let yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str());
        Ok(Hub {
            cache,
            endpoint: variable("HF_ENDPOINT").map_or(ENDPOINT.to_string(), |endpoint| {
                endpoint.trim_end_matches('/').to_string()
            }),
            token,
            offline: variable("HF_HUB_OFFLINE").is_some_and(yes),
        })
    }

    /// The address of a repository, for people.
    fn page(&self, repository: &Repository) -> String {
        let kind = match repository.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        format!("{}/{kind}{}", self.endpoint, repository.name)
    }

    fn cached_repo(&self, repository: &Repository, revision: &str) -> CacheRepo {
        Cache::new(self.cache.clone()).repo(repository.at(revision))
    }

    /// The commit that a revision stood for when it was last looked up.
    fn cached_commit(&self, repository: &Repository) -> Option<String> {
        if repository.pinned() {
            return Some(repository.revision.clone());
        }
        let folder = self.cache.join(repository.at("").folder_name());
        let commit = std::fs::read_to_string(folder.join("refs").join(&repository.revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_plain(commit))
    }

    /// A model whose wanted parts are all in the cache. Does not use the network.
    pub fn cached_model(&self, repository: &Repository, parts: Parts) -> Option<Snapshot> {
        let commit = self.cached_commit(repository)?;
        let folder = self.cached_repo(repository, &commit).pointer_path(&commit);
        let there = |file: &str| folder.join(file).exists();
        let weights = || there(WEIGHTS) || shards(&folder).is_ok_and(|shards| shards.iter().all(|shard| there(shard)));
        let complete = there(CONFIG) && there(TOKENIZER) && (parts == Parts::Tokenizer || weights());
        complete.then_some(Snapshot { folder, commit })
    }

    /// A data set's file that is in the cache. Does not use the network.
    pub fn cached_file(&self, file: &DatasetFile) -> Option<PathBuf> {
        let commit = self.cached_commit(&file.repository)?;
        let path = self.cached_repo(&file.repository, &commit).pointer_path(&commit);
        Some(path.join(&file.file)).filter(|path| path.exists())
    }

    /// Makes sure that a model is in the cache and returns its folder. Only safetensors weights are
    /// fetched. An interrupted download goes on where it stopped.
    ///
    /// # Errors
    /// The repository or revision does not exist or may not be read, has no configuration, no
    /// `tokenizer.json` or no safetensors; the hub cannot be reached and the cache does not have it all;
    /// a file arrives damaged; the disk is full. Each names the repository, the file and the fix.
    pub fn fetch_model(&self, repository: &Repository, parts: Parts, progress: &dyn Progress) -> Result<Snapshot> {
        let cached = self.cached_model(repository, parts);
        match cached {
            Some(snapshot) if self.offline || repository.pinned() => return Ok(snapshot),
            None if self.offline => return Err(self.offline_error(&repository.to_string())),
            _ => {}
        }
        progress.stage(&format!("asking the hub for {repository}"));
        let api = self.api(repository)?;
        let info = match api
            .repo(repository.at(&repository.revision))
            .info()
            .map_err(Failure::from)
        {
            Ok(info) => info,
            Err(failure) => return self.without(cached, failure, &api, repository),
        };
        if !is_plain(&info.sha) {
            let message = format!("the hub names the commit `{}`, which is none", info.sha);
            return Err(Error::input(message).at(repository));
        }
        let usable = cached.filter(|snapshot| snapshot.commit == info.sha);
        match self.fetch_parts(&api, repository, &info, parts, progress) {
            Ok(snapshot) => Ok(snapshot),
            // What was missing of a usable snapshot are files that another program did not want either.
            Err(Problem::Download(file, failure)) if usable.is_some() && failure.unreachable() => {
                tracing::warn!("{repository}: {file} could not be fetched; going on without it");
                Ok(usable.expect("it was just seen"))
            }
            Err(Problem::Download(file, failure)) => Err(failure.explain(self, &api, repository, Some(&file))),
            Err(Problem::Refused(error)) => Err(error),
        }
    }

    /// Uses the cache when the hub cannot be asked, if that is possible.
    fn without<T>(&self, cached: Option<T>, failure: Failure, api: &Api, repository: &Repository) -> Result<T> {
        match cached {
            Some(cached) if failure.unreachable() => {
                tracing::warn!("{repository}: the hub cannot be reached ({failure}); using what is in the cache");
                Ok(cached)
            }
            _ => Err(failure.explain(self, api, repository, None)),
        }
    }

    fn fetch_parts(
        &self,
        api: &Api,
        repository: &Repository,
        info: &RepoInfo,
        parts: Parts,
        progress: &dyn Progress,
    ) -> std::result::Result<Snapshot, Problem> {
        let files: BTreeSet<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        self.check_usable(repository, &files, parts).map_err(Problem::Refused)?;
        let commit = info.sha.as_str();
        let fetch = |file: &str| {
            download::download(self, api, repository, commit, file, progress)
                .map_err(|failure| Problem::Download(file.to_string(), failure))
        };
        let tokenizer = |file: &str| file.starts_with("tokenizer") && file.ends_with(".json");
        for file in files.iter().filter(|file| SMALL.contains(file) || tokenizer(file)) {
            fetch(file)?;
        }
        let folder = self.cached_repo(repository, commit).pointer_path(commit);
        if parts == Parts::Everything {
            if files.contains(WEIGHTS) {
                fetch(WEIGHTS)?;
            } else {
                fetch(INDEX)?;
                for shard in shards(&folder).map_err(Problem::Refused)? {
                    fetch(&shard)?;
                }
            }
        }
        // Only now: until everything is here, the revision goes on meaning what it meant.
        download::remember(self, repository, commit)
            .map_err(|failure| Problem::Download(CONFIG.to_string(), failure))?;
        Ok(Snapshot {
            folder,
            commit: commit.to_string(),
        })
    }

    /// Refuses, before anything large is downloaded, a repository that cannot be used.
    fn check_usable(&self, repository: &Repository, files: &BTreeSet<&str>, parts: Parts) -> Result<()> {
        let any = |extension: &str| files.iter().any(|file| file.ends_with(extension));
        let weights = files.contains(WEIGHTS) || files.contains(INDEX);
        let message = if any(".gguf") && !weights {
            format!(
                "holds GGUF files only; download one and make a model directory of it with `zprune import` \
                 (files: {}/tree/{})",
                self.page(repository),
                repository.revision
            )
        } else if !files.contains(CONFIG) {
            "has no config.json; this is not a model in the format of transformers".to_string()
        } else if !weights && parts == Parts::Everything {
            let has = if any(".bin") {
                "only pytorch_model.bin"
            } else {
                "no weights that are safetensors"
            };
            format!(
                "has {has}; load it with transformers and `save_pretrained(DIR, safe_serialization=True)`, then give \
                 `path = \"DIR\"`, or look for a `revision` with safetensors (often `refs/pr/1` and the like: {}/discussions)",
                self.page(repository)
            )
        } else if !files.contains(TOKENIZER) {
            "has no tokenizer.json; load its tokenizer with transformers (`AutoTokenizer`, which converts it) and \
             `save_pretrained` it beside the model, then give that folder as `path`"
                .to_string()
        } else {
            return Ok(());
        };
        Err(Error::input(message).at(repository))
    }

    /// Makes sure that a file of a data set is in the cache and returns its path.
    ///
    /// # Errors
    /// As [`Hub::fetch_model`].
    pub fn fetch_file(&self, file: &DatasetFile, progress: &dyn Progress) -> Result<PathBuf> {
        let repository = &file.repository;
        let cached = self.cached_file(file);
        match cached {
            Some(path) if self.offline || repository.pinned() => return Ok(path),
            None if self.offline => return Err(self.offline_error(&file.to_string())),
            _ => {}
        }
        progress.stage(&format!("asking the hub for {file}"));
        let api = self.api(repository)?;
        let fetched = download::commit_of(&api, repository, &file.file).and_then(|commit| {
            let path = download::download(self, &api, repository, &commit, &file.file, progress)?;
            download::remember(self, repository, &commit)?;
            Ok(path)
        });
        match fetched {
            Ok(path) => Ok(path),
            Err(failure) if cached.is_some() => self.without(cached, failure, &api, repository),
            Err(failure) => Err(failure.explain(self, &api, repository, Some(&file.file))),
        }
    }

    fn api(&self, repository: &Repository) -> Result<Api> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_user_agent("zprune", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| Error::input(format!("cannot speak to the hub: {error}")).at(repository))
    }

    fn offline_error(&self, what: &str) -> Error {
        Error::input(format!(
            "is not in the cache {}, and HF_HUB_OFFLINE forbids to download it; run once without HF_HUB_OFFLINE",
            self.cache.display()
        ))
        .at(what)
    }
}

/// Why a model could not be fetched.
enum Problem {
    /// The download of a file failed.
    Download(String, Failure),
    /// The repository cannot be used.
    Refused(Error),
}

/// One part of a path and nothing that leads elsewhere.
fn is_plain(name: &str) -> bool {
    matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(part)] if part == name)
}

/// The weight files that a snapshot's index names.
fn shards(folder: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join(INDEX);
    let text = input::read_text(&path, input::SMALL)?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| Error::input(format!("not a shard index: {error}")).at(path.display()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards
        .iter()
        .find(|shard| !is_plain(shard) || !shard.ends_with(".safetensors"))
    {
        None => Ok(shards),
        Some(shard) => {
            let message = format!("shard `{shard}` is not the name of a safetensors file");
            Err(Error::input(message).at(path.display()))
        }
    }
}
