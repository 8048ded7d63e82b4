//! Models of the hub: which files of a repository are wanted, and bringing them into the cache.

use super::answers::RepositoryFiles;
use super::client::Client;
use super::download::Transfer;
use super::failure::{Failure, file_name};
use super::names::{Commit, FileName};
use super::repository::Repository;
use super::settings::Hub;
use crate::error::{Error, Result};
use crate::model::index::{self, INDEX};
use crate::model::weights::SINGLE;
use crate::progress::Progress;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
/// Says which licence the model has.
const CARD: &str = "README.md";
const TOKENIZER: &str = "tokenizer.json";

/// Small files that are downloaded if a repository has them, besides every file named `tokenizer*.json`.
const SMALL: [&str; 10] = [
    CONFIG,
    CARD,
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

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

impl Hub {
    /// The model in the cache, if all parts that are wanted are there. Uses no network and hashes nothing.
    pub fn cached_model(&self, repository: &Repository, parts: Parts) -> Option<Snapshot> {
        let commit = self.cache.commit(repository)?;
        let folder = self.cache.snapshot(repository, &commit);
        let there = |file: &str| folder.join(file).exists();
        let weights = || there(SINGLE) || shards(&folder).is_ok_and(|shards| shards.iter().all(|shard| there(shard)));
        let complete = there(CONFIG) && there(TOKENIZER) && (parts == Parts::Tokenizer || weights());
        let commit = commit.to_string();
        complete.then_some(Snapshot { folder, commit })
    }

    /// Checks all wanted parts of a model that is used without asking the hub; see [`Cache::check`](super::cache::Cache::check).
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
        let shards = match parts == Parts::Everything && !there.contains(SINGLE) {
            true => shards(&snapshot.folder)?,
            false => BTreeSet::new(),
        };
        let weights = |file: &str| parts == Parts::Everything && [SINGLE, INDEX].contains(&file);
        let wanted = there
            .iter()
            .map(String::as_str)
            .filter(|file| is_small(file) || weights(file));
        self.cache
            .check(repository, wanted.chain(shards.iter().map(String::as_str)), progress)
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
                _ => Err(self.explain(failure, &client, repository, Some(&file))),
            },
            Err(Problem::Refused(error)) => Err(error),
        }
    }

    fn fetch_parts(
        &self,
        client: &Client,
        repository: &Repository,
        listing: &RepositoryFiles,
        parts: Parts,
        progress: &dyn Progress,
    ) -> std::result::Result<Snapshot, Problem> {
        let RepositoryFiles { commit, files } = listing;
        self.check_usable(repository, files, parts).map_err(Problem::Refused)?;
        let fetch = |file: &str, most: u64| {
            let problem = |failure| Problem::Download(file.to_string(), failure);
            let transfer = Transfer {
                cache: &self.cache,
                client,
                repository,
                file: &file_name(file).map_err(problem)?,
                most,
                progress,
            };
            transfer.run(commit).map_err(problem)
        };
        // A tokenizer in a folder that Windows cannot have is none that is needed.
        let mut small: Vec<&String> = files
            .iter()
            .filter(|file| is_small(file) && FileName::parse(file).is_ok())
            .collect();
        // What a model must have comes first, for the sake of messages.
        small.sort_by_key(|file| *file == CARD);
        for file in small {
            fetch(file, self.limits.small_file)?;
        }
        let folder = self.cache.snapshot(repository, commit);
        if parts == Parts::Everything {
            if files.contains(SINGLE) {
                fetch(SINGLE, self.limits.file)?;
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
        let weights = files.contains(SINGLE) || files.contains(INDEX);
        let message = if any(".gguf") && !weights {
            format!(
                "holds GGUF files only; download one and make a model folder of it with `zprune import` \
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
///
/// # Errors
/// The index is none, or names something else than a weight file beside it.
fn shards(folder: &Path) -> Result<BTreeSet<String>> {
    let shards: BTreeSet<String> = index::read(folder)?.into_values().collect();
    match shards
        .iter()
        .find(|shard| shard.contains('/') || FileName::parse(shard).is_err() || !shard.ends_with(".safetensors"))
    {
        None => Ok(shards),
        Some(shard) => {
            let message = format!("shard `{shard}` is not the name of a safetensors file");
            Err(Error::input(message).at(folder.join(INDEX).display()))
        }
    }
}
