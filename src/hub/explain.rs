//! What the user is told when the hub or a download fails, and what is used in its place.

use super::client::Client;
use super::failure::Failure;
use super::repository::Repository;
use super::settings::Hub;
use crate::error::{Error, ErrorKind, Result};

impl Hub {
    /// The error that the user sees. Asks the hub once more to tell a missing repository from a missing revision.
    pub(super) fn explain(
        &self,
        failure: Failure,
        client: &Client,
        repository: &Repository,
        file: Option<&str>,
    ) -> Error {
        let page = self.page(repository);
        let resume = "run the same command again; it goes on where it stopped";
        let kind = match failure {
            Failure::Disk(_) | Failure::Foreign(_) => ErrorKind::Output,
            _ => ErrorKind::Input,
        };
        let message = match failure {
            Failure::Status(401) if self.withholds_token() => format!(
                "the hub asks for a token (401), and a token is not sent over plain http ({page}); use an https address in HF_ENDPOINT"
            ),
            Failure::Status(401) => match &self.token {
                None => format!(
                    "the hub asks for a token (401): the repository is gated or private, or does not exist. Check \
                     its spelling; accept the licence at {page} and set HF_TOKEN to a token of that account \
                     ({}/settings/tokens)",
                    self.endpoint
                ),
                Some(_) => format!(
                    "the hub does not accept the token of HF_TOKEN or `hf auth login` (401), or the repository does not exist; \
                     make a new token at {}/settings/tokens and check the spelling of {page}",
                    self.endpoint
                ),
            },
            Failure::Status(403) => format!(
                "the token's account may not read this repository (403); accept the licence at {page} with that account, and \
                 give a fine-grained token the right to read gated repositories ({}/settings/tokens)",
                self.endpoint
            ),
            Failure::Status(404) => missing(client, repository, file, &page),
            Failure::Status(status @ (408 | 429 | 500..=599)) => {
                format!("the hub is overloaded or does not work (status {status}); {resume}")
            }
            Failure::Busy(status, wait) => format!(
                "the hub is overloaded (status {status}) and asks for a pause of {} s; wait and {resume}",
                wait.as_secs()
            ),
            Failure::Status(status) => {
                format!("the hub answered with status {status}, which is no answer to this request")
            }
            Failure::Network(message) | Failure::Cut(message) => format!(
                "the connection to {} failed: {message}; {resume}. Behind a mirror, set HF_ENDPOINT. Without a network, {}",
                self.endpoint,
                Hub::INSTEAD
            ),
            Failure::Disk(message) => format!(
                "cannot write to the cache {}: {message}; make room, or set HF_HOME to a folder with enough room that you may write to, \
                 then {resume}",
                self.cache.root().display()
            ),
            Failure::Foreign(message) => format!(
                "zprune does not write to the cache {}: {message}; remove it from the cache, or set HF_HOME to another folder",
                self.cache.root().display()
            ),
            Failure::Damaged(message) => message,
            Failure::Nonsense(message) => format!("unexpected answer of the hub: {message}"),
        };
        let error = Error::new(kind, self.without_token(message));
        match file {
            Some(file) => error.at(file).at(repository),
            None => error.at(repository),
        }
    }

    /// Uses what is in the cache if the hub cannot be asked; otherwise the failure is the error.
    pub(super) fn without<T>(
        &self,
        cached: Option<T>,
        failure: Failure,
        client: &Client,
        repository: &Repository,
    ) -> Result<T> {
        match cached {
            Some(cached) if failure.unreachable() => {
                let failure = self.without_token(failure.to_string());
                tracing::warn!("{repository}: the hub cannot be reached ({failure}); using what is in the cache");
                Ok(cached)
            }
            _ => Err(self.explain(failure, client, repository, None)),
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
