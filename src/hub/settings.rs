//! Which hub is asked, by whom, and where its files are kept: the settings of the environment.

use super::address::Address;
use super::cache::Cache;
use super::client::Client;
use super::limits::RequestLimits;
use super::repository::{Kind, Repository};
use crate::error::{Error, Result};
use crate::files::input;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether the program was built without what speaks to the hub.
const WITHOUT: bool = !cfg!(feature = "hub");

const ENDPOINT: &str = "https://huggingface.co";

/// Largest size of a file that holds a token, in bytes.
const LARGEST_TOKEN: u64 = 1 << 16;

/// The hub, its cache and the settings for both.
#[derive(Clone)]
pub struct Hub {
    pub(super) cache: Cache,
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    pub(super) offline: bool,
    pub(super) limits: RequestLimits,
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
        let mut limits = RequestLimits::default();
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
            limits: RequestLimits::default(),
        })
    }

    /// Whether what its cache does not have is downloaded.
    pub fn downloads(&self) -> bool {
        !self.offline
    }

    /// The same hub with other limits.
    #[must_use]
    pub fn with_limits(self, limits: RequestLimits) -> Hub {
        Hub { limits, ..self }
    }

    /// The address of a repository's web page, for messages.
    pub(super) fn page(&self, repository: &Repository) -> String {
        let kind = match repository.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        format!("{}/{kind}{}", self.endpoint, repository.name)
    }

    /// Whether there is a token that the endpoint may not see.
    pub(super) fn withholds_token(&self) -> bool {
        let open = Address::parse(&self.endpoint).is_ok_and(|address| !address.may_see_a_token());
        self.token.is_some() && open
    }

    /// Removes the token from a message: a hub that was sent the token may put it into its answers. Shorter tokens
    /// are left, since they are parts of words and no secrets.
    pub(super) fn without_token(&self, message: String) -> String {
        match self.token.as_deref().filter(|token| token.len() >= 8) {
            Some(token) => message.replace(token, "(the token)"),
            None => message,
        }
    }

    pub(super) fn client(&self) -> Result<Client> {
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
                "the token is not sent to {}: over plain http, others could read it; use https",
                self.endpoint
            );
        }
        Client::new(address, self.token.as_deref(), self.limits.clone()).map_err(Error::config)
    }

    /// What does without the hub, for messages.
    pub const INSTEAD: &str = "give a folder or a file of this machine in its place (in an experiment `path = \"DIR\"` for a model, `corpus` \
                               or `data = \"FILE\"` for a text; on the command line --model DIR, --corpus or --calibration FILE, and \
                               --data DIR for tasks)";

    /// Why nothing is downloaded, if so, and what to do about it.
    pub fn forbids(&self) -> Option<&'static str> {
        match (WITHOUT, self.offline) {
            (true, _) => {
                Some("this program was built without the feature `hub` and cannot download it; use one that has it")
            }
            (false, true) => Some("HF_HUB_OFFLINE forbids to download it; run once without HF_HUB_OFFLINE"),
            (false, false) => None,
        }
    }

    pub(super) fn offline_error(&self, what: &str) -> Error {
        let why = self.forbids().unwrap_or("nothing is downloaded");
        let cache = self.cache.root().display();
        let message = format!("is not in the cache {cache}, and {why}, or {}", Hub::INSTEAD);
        Error::input(message).at(what)
    }
}
