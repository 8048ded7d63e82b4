//! What goes wrong with a download, and what to do about it.

use super::client::Client;
use super::names::FileName;
use super::{Hub, Repository};
use crate::error::{Error, ErrorKind};
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a request or a download failed.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The hub answered with this status.
    Status(u16),
    /// The hub answered with this status and asks for a pause of this length before the next request.
    Busy(u16, Duration),
    /// The hub could not be reached, or does not answer.
    Network(String),
    /// The connection broke during the answer; another attempt may bring more.
    Cut(String),
    /// The cache could not be written.
    Disk(String),
    /// Something in the cache, such as a link, leads out of it.
    Foreign(String),
    /// The file that arrived is not the file that was announced.
    Damaged(String),
    /// The hub's answer cannot be understood or contradicts itself.
    Nonsense(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Busy(status, wait) => write!(f, "status {status}, to be asked again in {} s", wait.as_secs()),
            Failure::Network(message)
            | Failure::Cut(message)
            | Failure::Disk(message)
            | Failure::Foreign(message)
            | Failure::Damaged(message)
            | Failure::Nonsense(message) => f.write_str(message),
        }
    }
}

impl Failure {
    /// A failure of the file system below the cache.
    pub fn disk(error: io::Error) -> Failure {
        Failure::Disk(error.to_string())
    }

    /// Whether it is sensible to try later, or to use the cache until then: the hub cannot be reached or is
    /// overloaded.
    pub fn unreachable(&self) -> bool {
        matches!(
            self,
            Failure::Network(_) | Failure::Cut(_) | Failure::Busy(..) | Failure::Status(408 | 429 | 500..=599)
        )
    }

    /// The error that the user sees. Asks the hub once more to tell a missing repository from a missing revision.
    pub fn explain(self, hub: &Hub, client: &Client, repository: &Repository, file: Option<&str>) -> Error {
        let page = hub.page(repository);
        let resume = "run the same command again; it goes on where it stopped";
        let kind = match self {
            Failure::Disk(_) | Failure::Foreign(_) => ErrorKind::Output,
            _ => ErrorKind::Input,
        };
        let message = match self {
            Failure::Status(401) if hub.withholds_token() => format!(
                "the hub wants to know who is asking (401), and the token is not sent over plain http ({page}); use an \
                 https address in HF_ENDPOINT"
            ),
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
            Failure::Status(404) => missing(client, repository, file, &page),
            Failure::Status(status @ (408 | 429 | 500..=599)) => {
                format!("the hub is overloaded or out of order (status {status}); {resume}")
            }
            Failure::Busy(status, wait) => format!(
                "the hub is overloaded (status {status}) and asks to be left alone for {} s; wait and {resume}",
                wait.as_secs()
            ),
            Failure::Status(status) => {
                format!("the hub answered with status {status}, which is no answer to this request")
            }
            Failure::Network(message) | Failure::Cut(message) => format!(
                "the connection to {} failed: {message}; {resume}. Behind a mirror, set HF_ENDPOINT",
                hub.endpoint
            ),
            Failure::Disk(message) => format!(
                "cannot write to the cache {}: {message}; make room, or set HF_HOME to a folder that has it \
                 and may be written, then {resume}",
                hub.cache.root().display()
            ),
            Failure::Foreign(message) => format!(
                "will not write through the cache {}: {message}; remove it from the cache, or set HF_HOME to another folder",
                hub.cache.root().display()
            ),
            Failure::Damaged(message) => message,
            Failure::Nonsense(message) => format!("unexpected answer of the hub: {message}"),
        };
        let error = Error::new(kind, hub.without_token(message));
        match file {
            Some(file) => error.at(file).at(repository),
            None => error.at(repository),
        }
    }
}

/// Says what is missing when the hub answers 404: the file, the revision or the repository.
fn missing(client: &Client, repository: &Repository, file: Option<&str>, page: &str) -> String {
    let revision = &repository.revision;
    let exists = |revision: &str| {
        let answer = client.listing(&repository.at(revision));
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

/// The name of a file that is to be downloaded.
///
/// # Errors
/// It is not the name of a file below a folder.
pub fn file_name(name: &str) -> Result<FileName, Failure> {
    FileName::parse(name).map_err(|fault| Failure::Nonsense(format!("the file name {name:?}: {fault}")))
}
