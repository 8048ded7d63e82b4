//! Scores that another program computed, from a file: `[[method]] scores = "file.safetensors"`.
//!
//! The file has one matrix for each linear layer of the blocks, under the name and in the shape of its weight
//! ([`LayerFile`](crate::model::layer_file::LayerFile)). Everything that comes after scoring is as with any other criterion.

use super::step::{Criterion, ValueFile};
use crate::error::{Error, Result};
use crate::model::layer_file::Content;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, from_file};
use serde::{Deserialize, Serialize};

/// The criterion of scores from a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// The file; `{model}`, `{pattern}` and `{seed}` in its name stand for those of the cell.
    pub path: String,
}

impl Criterion for Scores {
    fn validate(&self) -> Result<()> {
        named(&self.path)
    }

    fn group(&self) -> Group {
        Group::Row
    }

    fn given_by(&self) -> Option<String> {
        Some(format!("the file `{}`", self.path))
    }

    fn score(&self) -> Score {
        from_file()
    }

    fn file(&self) -> Option<ValueFile<'_>> {
        Some(ValueFile {
            name: &self.path,
            content: Content::Scores,
        })
    }
}

/// Refuses a name that is none.
pub(super) fn named(path: &str) -> Result<()> {
    match path.is_empty() {
        false => Ok(()),
        true => Err(Error::config(
            "parameter `path` is empty: it names a file of safetensors",
        )),
    }
}
