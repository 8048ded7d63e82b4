//! [`STRUCTURE`]: what is left of a model that lost whole units, beside its weights.

use super::seal;
use crate::data::digest::FileDigest;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::experiment::inputs::ModelIdentity;
use crate::files::input;
use crate::model::edit::{BlockEdit, Counts, Factors};
use crate::model::export::{CLASS, STRUCTURE, class_of};
use crate::model::families::is_stock;
use crate::prune::units::Widths;
use crate::spec::{BlockSpec, ModelSpec, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Who can load a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loaders {
    /// Whoever loads the family that `config.json` names: all blocks have the same sizes, with a number of heads that it takes.
    Stock,
    /// This program, and transformers with `trust_remote_code=True`: blocks differ, and a class for them stands beside the weights
    /// ([`CLASS`]).
    Class,
    /// This program: stock loaders refuse the number of heads.
    Zprune,
}

impl Loaders {
    /// Who can load a model that is written as this.
    ///
    /// # Errors
    /// The family is unknown.
    pub fn of(spec: &ModelSpec) -> Result<Self> {
        Ok(match (is_stock(spec)?, class_of(spec)) {
            (true, _) => Loaders::Stock,
            (false, Some(_)) => Loaders::Class,
            (false, None) => Loaders::Zprune,
        })
    }

    /// Who can load the model in a folder, which was read as this: nobody but this program where the class for its blocks is not there.
    ///
    /// # Errors
    /// As [`Loaders::of`].
    pub(super) fn in_folder(folder: &Path, spec: &ModelSpec) -> Result<Self> {
        Ok(match Self::of(spec)? {
            Loaders::Class if !folder.join(CLASS).is_file() => Loaders::Zprune,
            loaders => loaders,
        })
    }
}

/// What a model has and what it costs, before or after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of all tensors as they are stored.
    pub bytes: u64,
    /// Multiply-adds of a token in linear layers and the head.
    pub multiply_adds: u64,
    /// Measured seconds per token of scoring text, without reading weights.
    pub seconds_per_token: f64,
}

/// A factored form, which only this program loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factored {
    /// Name of its file.
    pub file: String,
    /// Number of elements of all its tensors.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The content of [`STRUCTURE`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Structure {
    /// Version of this file's layout.
    pub schema: u32,
    /// Version of zprune that wrote it.
    pub zprune: String,
    /// Name of the original: `org/name` if it came from the hub, else that of its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// The commit of the original on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_revision: Option<String>,
    /// Hashes of the original's files.
    pub original: ModelIdentity,
    /// Name of the method.
    pub method: String,
    /// Its parameters.
    pub parameters: Value,
    /// The fraction of the weights of the blocks' linear layers that was to go.
    pub share: f64,
    /// The fraction that went.
    pub removed: f64,
    /// Whether blocks have the same sizes.
    pub widths: Widths,
    /// Whether there are zeros that make the blocks of the written model equal, which are not counted in `removed`.
    pub padded: bool,
    /// Who can load the written model.
    pub loaders: Loaders,
    /// What is left in itself. The written model has more where narrow matrices are multiplied out, features of values and padding are
    /// zeros, branches are neurons, and keys of `config.json` give biases to other layers, too.
    pub left: Counts,
    /// The factored form that is stored beside the dense equivalent, if the model has narrow matrices and there is no padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factored: Option<Factored>,
    /// What the calibration text is called, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Number of calibration tokens.
    pub calibration_tokens: usize,
    /// The seed with which calibration windows were drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The family that `config.json` names, and that of the original.
    pub families: [String; 2],
    /// What is left, with the original's numbers.
    pub blocks: Vec<BlockLeft>,
    /// The original.
    pub before: Size,
    /// The written model.
    pub after: Size,
    /// The largest difference between logits of the smaller model and of the original with zeros, as a fraction of the largest logit.
    pub logit_difference: f64,
    /// Whether this original was compared without the blocks that were removed, since zeros in place of a block would change the stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compared_without_blocks: bool,
    /// The files that were written, by their names.
    pub files: BTreeMap<String, FileDigest>,
    /// SHA-256 of this file with zeros in this place.
    pub checksum: String,
}

impl Structure {
    /// The [`STRUCTURE`] of a directory; `None` if it has none.
    ///
    /// # Errors
    /// It is damaged, was changed, or is of another version of zprune.
    pub fn read(folder: &Path) -> Result<Option<Structure>> {
        let path = folder.join(STRUCTURE);
        if !path.exists() {
            return Ok(None);
        }
        let text = input::read_text(&path, input::SMALL)?;
        let read = || {
            let found: Structure = serde_json::from_str(&text).map_err(|error| {
                Error::input(format!("is not what this version of zprune writes: {error}")).caused_by(error)
            })?;
            match seal::is_intact(text.as_bytes(), &found.checksum) {
                true => Ok(found),
                false => Err(Error::new(
                    ErrorKind::Mismatch,
                    "was changed after zprune wrote it (its checksum does not fit its content), so it proves nothing",
                )),
            }
        };
        read().map(Some).at(path.display())
    }
}

/// What is left of a block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BlockLeft {
    /// The block's number in the original.
    pub block: usize,
    /// Its query heads; none if it has no attention.
    pub heads: Vec<usize>,
    /// Its key-value heads.
    pub kv_heads: Vec<usize>,
    /// Its neurons; none if it has no MLP.
    pub neurons: Vec<usize>,
    /// The ranks of the layers that are products of narrow matrices, by their names in the block.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, usize>,
    /// For each key-value head of the original, the features of its values that are left after a turn; none if all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Vec<usize>>,
    /// The rank of the linear branch beside the MLP, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<usize>,
}

impl BlockLeft {
    pub(super) fn new(edit: BlockEdit, spec: &BlockSpec) -> Self {
        let named = |(role, factors): (&Role, &Factors)| {
            let linear = spec.linears.iter().find(|linear| linear.role == *role);
            linear.map(|linear| (linear.tensor.to_string(), factors.first.nrows()))
        };
        BlockLeft {
            ranks: edit.low_rank.factors.iter().filter_map(named).collect(),
            branch: edit.low_rank.branch.map(|branch| branch.first.nrows()),
            values: edit.low_rank.values,
            block: edit.block,
            heads: edit.heads,
            kv_heads: edit.kv_heads,
            neurons: edit.neurons,
        }
    }

    /// Whether anything of it is no whole unit: products of narrow matrices, features of values, or a branch.
    pub(super) fn is_narrow(&self) -> bool {
        !self.ranks.is_empty() || !self.values.is_empty() || self.branch.is_some()
    }
}
