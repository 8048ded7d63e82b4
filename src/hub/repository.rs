//! Repositories of the hub: models and data sets, each at a revision.

use super::names::{Commit, stays_inside};
use crate::error::{Error, Result};
use crate::files::names::is_device;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a repository or revision, in bytes.
const LONGEST_NAME: usize = 200;

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
            let inside = stays_inside(part).is_ok() && !is_device(part);
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
    pub(super) fn pinned(&self) -> bool {
        Commit::parse(&self.revision).is_some()
    }

    /// The same repository at another revision.
    pub(super) fn at(&self, revision: &str) -> Repository {
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
