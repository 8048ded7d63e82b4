//! What goes wrong with a download, and what to do about it.

use super::{Hub, Repository};
use crate::error::{Error, ErrorKind};
use hf_hub::api::sync::{Api, ApiError};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a request or a download failed.
#[derive(Debug)]
pub enum Failure {
    /// The hub answered with this status.
    Status(u16),
    /// The hub could not be reached, or the connection broke.
    Network(String),
    /// The cache could not be written.
    Disk(String),
    /// Another program holds hf-hub's own lock on this file.
    Locked(PathBuf),
    /// The file that arrived is not the file that was announced.
    Damaged(String),
    /// The hub's answer makes no sense.
    Nonsense(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Locked(path) => write!(f, "{} is locked", path.display()),
            Failure::Network(message)
            | Failure::Disk(message)
            | Failure::Damaged(message)
            | Failure::Nonsense(message) => f.write_str(message),
        }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Failure::Status(status),
            ureq::Error::Json(error) => Failure::Nonsense(format!("not the JSON of the hub: {error}")),
            ureq::Error::BadUri(message) => Failure::Nonsense(format!("not an address: {message}; see HF_ENDPOINT")),
            ureq::Error::Http(error) => Failure::Nonsense(format!("not a request: {error}; see HF_ENDPOINT, HF_TOKEN")),
            error => Failure::Network(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// Errors of copying a body to the disk come from either side; only the disk's have kinds of their own.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::*;
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge | PermissionDenied | ReadOnlyFilesystem | NotADirectory
            | IsADirectory | AlreadyExists | NotFound => Failure::Disk(error.to_string()),
            _ => Failure::Network(error.to_string()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => Failure::from(*error),
            ApiError::IoError(error) => Failure::from(error),
            ApiError::TooManyRetries(error) => Failure::from(*error),
            ApiError::LockAcquisition(path) => Failure::Locked(path),
            error => Failure::Nonsense(error.to_string()),
        }
    }
}

impl Failure {
    /// Whether trying later, or using the cache meanwhile, is sensible: the hub is away or overloaded.
    pub fn unreachable(&self) -> bool {
        matches!(self, Failure::Network(_) | Failure::Status(429 | 500..=599))
    }

    /// The error for the user. Asks the hub once more to tell a missing repository from a missing revision.
    pub fn explain(self, hub: &Hub, api: &Api, repository: &Repository, file: Option<&str>) -> Error {
        let page = hub.page(repository);
        let resume = "run the same command again; it goes on where it stopped";
        let kind = match self {
            Failure::Disk(_) => ErrorKind::Output,
            _ => ErrorKind::Input,
        };
        let message = match self {
            Failure::Status(401) => match &hub.token {
                None => format!(
                    "the hub wants to know who is asking (401): the repository is gated or private, or does not exist. Check \
                     its spelling; accept the licence at {page} and set HF_TOKEN to a token of that account \
                     ({}/settings/tokens)",
                    hub.endpoint
                ),
                Some(_) => format!(
                    "the hub does not accept the token of HF_TOKEN or `hf auth login` (401), or the repository does not exist; \
                     make a new token at {}/settings/tokens and check the spelling of {page}",
                    hub.endpoint
                ),
            },
            Failure::Status(403) => format!(
                "the token's account may not read this repository (403); accept the licence at {page} with that account, and \
                 give a fine-grained token the right to read gated repositories ({}/settings/tokens)",
                hub.endpoint
            ),
            Failure::Status(404) => missing(api, repository, file, &page),
            Failure::Status(status @ (429 | 500..=599)) => {
                format!("the hub is overloaded or out of order (status {status}); {resume}")
            }
            Failure::Status(status) => format!("the hub answered with status {status}"),
            Failure::Network(message) => format!(
                "the connection to {} failed: {message}; {resume}. Behind a mirror, set HF_ENDPOINT",
                hub.endpoint
            ),
            Failure::Disk(message) => format!(
                "cannot write to the cache {}: {message}; make room, or set HF_HOME to a folder that has it \
                 and may be written, then {resume}",
                hub.cache.display()
            ),
            Failure::Locked(path) => format!(
                "another program is downloading this file ({}); wait for it and run the same command again",
                path.display()
            ),
            Failure::Damaged(message) => message,
            Failure::Nonsense(message) => format!("unexpected answer of the hub: {message}"),
        };
        let error = Error::new(kind, message);
        match file {
            Some(file) => error.at(file).at(repository),
            None => error.at(repository),
        }
    }
}

/// What a 404 means.
fn missing(api: &Api, repository: &Repository, file: Option<&str>, page: &str) -> String {
    let revision = &repository.revision;
    let exists = |revision: &str| {
        let answer = api.repo(repository.at(revision)).info().map_err(Failure::from);
        !matches!(answer, Err(Failure::Status(401 | 403 | 404)))
    };
    if file.is_some() && exists(revision) {
        format!("the repository has no such file at this revision; its files: {page}/tree/{revision}")
    } else if revision != "main" && exists("main") {
        format!("the repository has no revision `{revision}`; its branches and tags: {page}/tree/main")
    } else {
        format!("there is no such repository on the hub ({page}); check the spelling of `org/name`")
    }
}
