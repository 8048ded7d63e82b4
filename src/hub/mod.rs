//! Models and corpora of the Hugging Face hub, kept in the cache that every Hugging Face program shares.
//!
//! The hub and its mirrors are not trusted: what they answer is checked ([`answers`], [`names`]) before it becomes part
//! of a path, every content is held against its hash, and every conversation ends (`client`, which the feature `hub` brings). The environment is the
//! Python library's (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, ...), and so is the cache with its locks.
//!
//! A model of a branch is looked up on the hub every time and taken from the cache when the hub cannot be
//! reached; one of a commit never changes and, once in the cache, needs no network at all.

#[doc(hidden)]
pub mod address;
#[doc(hidden)]
pub mod answers;
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(not(feature = "hub"))]
#[path = "no_client.rs"]
mod client;
pub mod datasets;
mod download;
mod failure;
mod limits;
#[doc(hidden)]
pub mod names;

use crate::error::{Error, Result};
use crate::files::names::is_device;
use crate::files::{input, json};
use crate::progress::Progress;
use address::Address;
use answers::Listing;
use cache::{Cache, State};
use client::Client;
use datasets::DatasetFile;
use download::Transfer;
use failure::{Failure, file_name};
pub use limits::Limits;
use names::{Commit, FileName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether the program was built without what speaks to the hub.
const WITHOUT: bool = !cfg!(feature = "hub");

const ENDPOINT: &str = "https://huggingface.co";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Largest size of a file that holds a token, in bytes.
const LARGEST_TOKEN: u64 = 1 << 16;

/// The longest name of a repository or revision, in bytes.
const LONGEST_NAME: usize = 200;

/// Small files that are downloaded if a repository has them, besides every file named `tokenizer*.json`.
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

/// What a repository holds; decides its address and its folder in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A repository of a model.
    Model,
    /// A repository of a data set.
    Dataset,
}

/// A repository of the hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Whether it is the repository of a model or of a data set.
    pub kind: Kind,
    /// Organisation and name, `org/name`.
    pub name: String,
    /// Branch, tag or commit of the repository.
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

    /// Checks name and revision: both become folders of the cache and parts of addresses, so nothing else may be in
    /// them.
    fn new(kind: Kind, name: &str, revision: Option<&str>) -> Result<Self> {
        let plain = |part: &str| {
            let known = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            let inside = names::stays_inside(part).is_ok() && !is_device(part);
            known && inside && !part.starts_with('.') && !part.ends_with('.') && !part.contains("..")
        };
        // In the cache, `--` stands for the `/`; the hub allows it in no name either.
        let joined = name.contains("--") || name.split('/').any(|part| part.starts_with('-') || part.ends_with('-'));
        if name.split('/').count() > 2 || !name.split('/').all(plain) || joined || name.len() > LONGEST_NAME {
            let message = format!("`{name}` is not the name of a repository on the hub, `org/name`");
            return Err(Error::config(message));
        }
        let revision = revision.unwrap_or("main");
        if !revision.split('/').all(plain) || revision.len() > LONGEST_NAME {
            let message = format!("`{revision}` is not a branch, tag or commit of {name}");
            return Err(Error::config(message));
        }
        Ok(Repository {
            kind,
            name: name.to_string(),
            revision: revision.to_string(),
        })
    }

    /// Whether the revision is a commit, whose files never change.
    fn pinned(&self) -> bool {
        Commit::parse(&self.revision).is_some()
    }

    /// The same repository at another revision.
    fn at(&self, revision: &str) -> Repository {
        Repository {
            revision: revision.to_string(),
            ..self.clone()
        }
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

/// Which files of a model are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Only the configuration and the tokenizer.
    Tokenizer,
    /// Configuration, tokenizer and weights.
    Everything,
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its folder, which is a Hugging Face model directory.
    pub folder: PathBuf,
    /// The commit whose files these are.
    pub commit: String,
}

/// The hub, its cache and the settings for both.
#[derive(Clone)]
pub struct Hub {
    cache: Cache,
    endpoint: String,
    token: Option<String>,
    offline: bool,
    limits: Limits,
}

impl Hub {
    /// The hub as the environment describes it, with the names and defaults of the Python library:
    /// `HF_HUB_CACHE` or `HF_HOME`/hub or `XDG_CACHE_HOME`/huggingface/hub, `HF_TOKEN` or the file that
    /// `hf auth login` wrote, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_ETAG_TIMEOUT` (seconds to wait for an answer)
    /// and `HF_HUB_DOWNLOAD_TIMEOUT` (seconds in which nothing of a file arrives).
    ///
    /// # Errors
    /// There is no home directory to hold a cache, and no variable that names another place; a time is none.
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
        let stored = || {
            let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            input::read_text(&path, LARGEST_TOKEN).ok()
        };
        let token = variable("HF_TOKEN")
            .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
            .or_else(stored)
            .map(|token| token.trim().to_string())
            .filter(|token| !token.is_empty());
        let yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str());
        let seconds = |name, default| match variable(name) {
            None => Ok(default),
            Some(value) => match value.trim().parse() {
                Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
                _ => Err(Error::config(format!(
                    "{name} is `{value}`, not a number of seconds from 1 to 86400"
                ))),
            },
        };
        let mut limits = Limits::default();
        limits.answer = seconds("HF_HUB_ETAG_TIMEOUT", limits.answer)?;
        limits.idle = seconds("HF_HUB_DOWNLOAD_TIMEOUT", limits.idle)?;
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string());
        Ok(Hub {
            offline: WITHOUT || variable("HF_HUB_OFFLINE").is_some_and(yes),
            limits,
            ..Hub::new(&cache, &endpoint, token)?
        })
    }

    /// A hub at the address `endpoint`, with a cache in a folder that need not exist yet.
    ///
    /// # Errors
    /// The folder of the process is gone.
    pub fn new(cache: &Path, endpoint: &str, token: Option<String>) -> Result<Hub> {
        // Links in the cache are relative to it, which needs a path that does not depend on the folder of the process.
        let cache = std::path::absolute(cache).map_err(|source| Error::reading(cache, source))?;
        Ok(Hub {
            cache: Cache::new(cache),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            offline: WITHOUT,
            limits: Limits::default(),
        })
    }

    /// The same hub with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Hub {
        Hub { limits, ..self }
    }

    /// The address of a repository's web page, for messages.
    fn page(&self, repository: &Repository) -> String {
        let kind = match repository.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        format!("{}/{kind}{}", self.endpoint, repository.name)
    }

    /// Whether there is a token that the endpoint may not see.
    fn withholds_token(&self) -> bool {
        let open = Address::parse(&self.endpoint).is_ok_and(|address| !address.may_see_a_token());
        self.token.is_some() && open
    }

    /// Removes the token from a message: a hub that was sent the token may put it into its answers. Shorter tokens
    /// are left, since they are parts of words and no secrets.
    fn without_token(&self, message: String) -> String {
        match self.token.as_deref().filter(|token| token.len() >= 8) {
            Some(token) => message.replace(token, "(the token)"),
            None => message,
        }
    }

    /// The model in the cache, if all parts that are wanted are there. Uses no network and hashes nothing.
    pub fn cached_model(&self, repository: &Repository, parts: Parts) -> Option<Snapshot> {
        let commit = self.cache.commit(repository)?;
        let folder = self.cache.snapshot(repository, &commit);
        let there = |file: &str| folder.join(file).exists();
        let weights = || there(WEIGHTS) || shards(&folder).is_ok_and(|shards| shards.iter().all(|shard| there(shard)));
        let complete = there(CONFIG) && there(TOKENIZER) && (parts == Parts::Tokenizer || weights());
        let commit = commit.to_string();
        complete.then_some(Snapshot { folder, commit })
    }

    /// The path of a data set's file, if it is in the cache. Uses no network and hashes nothing.
    pub fn cached_file(&self, file: &DatasetFile) -> Option<PathBuf> {
        let commit = self.cache.commit(&file.repository)?;
        let name = FileName::parse(&file.file).ok()?;
        let path = self.cache.snapshot(&file.repository, &commit).join(name.as_str());
        Some(path).filter(|path| path.exists())
    }

    /// Checks that files of the cache that are used without asking the hub have the hashes they should have.
    fn check_cached<'a>(
        &self,
        repository: &Repository,
        files: impl IntoIterator<Item = &'a str>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some(commit) = self.cache.commit(repository) else {
            return Ok(());
        };
        for file in files {
            let Ok(name) = FileName::parse(file) else {
                continue;
            };
            if let State::Damaged(how) = self.cache.state(repository, &commit, &name, progress) {
                let message = format!(
                    "is damaged in the cache {}: {how}; run again where the hub can be reached and without \
                     HF_HUB_OFFLINE, which downloads it anew",
                    self.cache.root().display()
                );
                return Err(Error::input(message).at(file).at(repository));
            }
        }
        Ok(())
    }

    /// As [`Hub::check_cached`], for all wanted parts of a model.
    fn check_cached_model(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        parts: Parts,
        progress: &dyn Progress,
    ) -> Result<()> {
        let entries = std::fs::read_dir(&snapshot.folder).map_err(|source| Error::reading(&snapshot.folder, source))?;
        let there: BTreeSet<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let shards = match parts == Parts::Everything && !there.contains(WEIGHTS) {
            true => shards(&snapshot.folder)?,
            false => BTreeSet::new(),
        };
        let weights = |file: &str| parts == Parts::Everything && [WEIGHTS, INDEX].contains(&file);
        let wanted = there
            .iter()
            .map(String::as_str)
            .filter(|file| is_small(file) || weights(file));
        self.check_cached(repository, wanted.chain(shards.iter().map(String::as_str)), progress)
    }

    /// Makes sure that a model is in the cache and returns its folder. Of weights, only safetensors files are
    /// downloaded. An interrupted download continues where it stopped.
    ///
    /// # Errors
    /// The repository or revision does not exist or may not be read, has no configuration, no
    /// `tokenizer.json` or no safetensors; the hub cannot be reached and the cache does not have it all;
    /// a file arrives damaged; the disk is full. Each names the repository, the file and the fix.
    pub fn fetch_model(&self, repository: &Repository, parts: Parts, progress: &dyn Progress) -> Result<Snapshot> {
        let cached = self.cached_model(repository, parts);
        let check = |snapshot: &Snapshot| self.check_cached_model(repository, snapshot, parts, progress);
        let cached = match cached {
            Some(snapshot) if self.offline => return check(&snapshot).map(|()| snapshot),
            None if self.offline => return Err(self.offline_error(&repository.to_string())),
            Some(snapshot) if repository.pinned() => match check(&snapshot) {
                Ok(()) => return Ok(snapshot),
                // What is damaged is downloaded anew.
                Err(_) => None,
            },
            cached => cached,
        };
        progress.stage(&format!("asking the hub for {repository}"));
        let client = self.client()?;
        let listing = match client.listing(repository) {
            Ok(listing) => listing,
            Err(failure) => {
                let snapshot = self.without(cached, failure, &client, repository)?;
                return check(&snapshot).map(|()| snapshot);
            }
        };
        if repository.pinned() && Commit::parse(&repository.revision).as_ref() != Some(&listing.commit) {
            let message = format!(
                "the hub answers with the commit {}, which was not asked for",
                listing.commit
            );
            return Err(Error::input(message).at(repository));
        }
        let usable = cached.filter(|snapshot| snapshot.commit == listing.commit.as_str());
        match self.fetch_parts(&client, repository, &listing, parts, progress) {
            Ok(snapshot) => Ok(snapshot),
            // What was missing of a usable snapshot are files that another program did not want either.
            Err(Problem::Download(file, failure)) => match usable {
                Some(snapshot) if failure.unreachable() => {
                    check(&snapshot)?;
                    let failure = self.without_token(failure.to_string());
                    tracing::warn!("{repository}: {file} could not be fetched ({failure}); going on without it");
                    Ok(snapshot)
                }
                _ => Err(failure.explain(self, &client, repository, Some(&file))),
            },
            Err(Problem::Refused(error)) => Err(error),
        }
    }

    /// Uses what is in the cache if the hub cannot be asked; otherwise the failure is the error.
    fn without<T>(&self, cached: Option<T>, failure: Failure, client: &Client, repository: &Repository) -> Result<T> {
        match cached {
            Some(cached) if failure.unreachable() => {
                let failure = self.without_token(failure.to_string());
                tracing::warn!("{repository}: the hub cannot be reached ({failure}); using what is in the cache");
                Ok(cached)
            }
            _ => Err(failure.explain(self, client, repository, None)),
        }
    }

    fn fetch_parts(
        &self,
        client: &Client,
        repository: &Repository,
        listing: &Listing,
        parts: Parts,
        progress: &dyn Progress,
    ) -> std::result::Result<Snapshot, Problem> {
        let Listing { commit, files } = listing;
        self.check_usable(repository, files, parts).map_err(Problem::Refused)?;
        let fetch = |file: &str, most: u64| {
            let problem = |failure| Problem::Download(file.to_string(), failure);
            let transfer = Transfer {
                hub: self,
                client,
                repository,
                file: &file_name(file).map_err(problem)?,
                most,
                progress,
            };
            transfer.run(commit).map_err(problem)
        };
        // A tokenizer in a folder that Windows cannot have is none that is needed.
        for file in files
            .iter()
            .filter(|file| is_small(file) && FileName::parse(file).is_ok())
        {
            fetch(file, self.limits.small_file)?;
        }
        let folder = self.cache.snapshot(repository, commit);
        if parts == Parts::Everything {
            if files.contains(WEIGHTS) {
                fetch(WEIGHTS, self.limits.file)?;
            } else {
                fetch(INDEX, self.limits.small_file)?;
                for shard in shards(&folder).map_err(Problem::Refused)? {
                    fetch(&shard, self.limits.file)?;
                }
            }
        }
        // Only now: until everything is here, the revision goes on meaning what it meant.
        let noted = self.cache.note(repository, commit);
        noted.map_err(|failure| Problem::Download(CONFIG.to_string(), failure))?;
        let commit = commit.to_string();
        Ok(Snapshot { folder, commit })
    }

    /// Refuses a repository that cannot be used, before anything large is downloaded.
    fn check_usable(&self, repository: &Repository, files: &BTreeSet<String>, parts: Parts) -> Result<()> {
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
        let name = file_name(&file.file).map_err(|failure| Error::config(failure).at(repository))?;
        let check = || self.check_cached(repository, [file.file.as_str()], progress);
        let cached = match self.cached_file(file) {
            Some(path) if self.offline => return check().map(|()| path),
            None if self.offline => return Err(self.offline_error(&file.to_string())),
            Some(path) if repository.pinned() => match check() {
                Ok(()) => return Ok(path),
                // What is damaged is downloaded anew.
                Err(_) => None,
            },
            cached => cached,
        };
        progress.stage(&format!("asking the hub for {file}"));
        let client = self.client()?;
        let transfer = Transfer {
            hub: self,
            client: &client,
            repository,
            file: &name,
            most: self.limits.file,
            progress,
        };
        let fetched = transfer.run_at_revision().and_then(|(path, commit)| {
            self.cache.note(repository, &commit)?;
            Ok(path)
        });
        match fetched {
            Ok(path) => Ok(path),
            Err(failure) if cached.is_some() => {
                let path = self.without(cached, failure, &client, repository)?;
                check().map(|()| path)
            }
            Err(failure) => Err(failure.explain(self, &client, repository, Some(&file.file))),
        }
    }

    fn client(&self) -> Result<Client> {
        let refuse = |fault: &str| Error::config(format!("HF_ENDPOINT is no address of a hub: {fault}"));
        // Checked first, and not shown: whoever writes a password there does not want it in a message.
        if self.endpoint.contains('@') {
            return Err(refuse("it names a user; give a token in HF_TOKEN instead"));
        }
        let address = Address::parse(&self.endpoint).map_err(|fault| refuse(&fault).at(&self.endpoint))?;
        if address.has_query() {
            return Err(refuse("it has a question mark").at(&self.endpoint));
        }
        if self.withholds_token() {
            tracing::warn!(
                "the token is not sent to {}: over plain http, everyone on the way could read it; use https",
                self.endpoint
            );
        }
        Client::new(address, self.token.as_deref(), self.limits.clone()).map_err(Error::config)
    }

    fn offline_error(&self, what: &str) -> Error {
        let cache = self.cache.root().display();
        let message = match WITHOUT {
            true => format!("is not in the cache {cache}, and this program was built without the feature `hub`"),
            false => format!(
                "is not in the cache {cache}, and HF_HUB_OFFLINE forbids to download it; run once without HF_HUB_OFFLINE"
            ),
        };
        Error::input(message).at(what)
    }
}

/// Why a model could not be fetched.
enum Problem {
    /// The download of a file failed.
    Download(String, Failure),
    /// The repository lacks a file or cannot be used for another reason.
    Refused(Error),
}

/// Whether a file is small and downloaded with every model that has it.
fn is_small(file: &str) -> bool {
    SMALL.contains(&file) || (file.starts_with("tokenizer") && file.ends_with(".json"))
}

/// The weight files that a snapshot's index names.
fn shards(folder: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join(INDEX);
    let text = input::read_text(&path, input::SMALL)?;
    let index: Index = serde_json::from_str(&json::standard(&text))
        .map_err(|error| Error::input(format!("not a shard index: {error}")).at(path.display()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards
        .iter()
        .find(|shard| shard.contains('/') || FileName::parse(shard).is_err() || !shard.ends_with(".safetensors"))
    {
        None => Ok(shards),
        Some(shard) => {
            let message = format!("shard `{shard}` is not the name of a safetensors file");
            Err(Error::input(message).at(path.display()))
        }
    }
}
