//! A mask that another program chose, from a file: `[[method]] mask = "file.safetensors"`.
//!
//! The file has one matrix for each linear layer of the blocks, under the name and in the shape of its weight, with 1 for what is
//! kept and 0 for what is removed. These values are the scores, and how many weights go from each layer is counted in the mask
//! ([`found`](crate::prune::found)), so that exactly its zeros are removed. Refinement, solver and compensation come after it as
//! with any other criterion.

use super::scores::named;
use super::step::{Criterion, ValueFile};
use crate::error::Result;
use crate::model::layer_file::Content;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, from_file};
use serde::{Deserialize, Serialize};

/// The criterion of a mask from a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskFile {
    /// The file; `{model}`, `{pattern}` and `{seed}` in its name stand for those of the cell.
    pub path: String,
}

impl Criterion for MaskFile {
    fn validate(&self) -> Result<()> {
        named(&self.path)
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        from_file()
    }

    fn file(&self) -> Option<ValueFile<'_>> {
        Some(ValueFile {
            name: &self.path,
            content: Content::Mask,
        })
    }
}
