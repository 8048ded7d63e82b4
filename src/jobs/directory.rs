//! Writing the directory of a model that was made of another one: all tensors anew, and the files beside them.

use crate::error::{Error, Result};
use crate::files::{Access, Staging};
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{CLASS, CONFIG, Shards, bias_of, class_of, copied, copy};
use crate::model::folder::Links;
use crate::model::index::INDEX;
use crate::model::source::WeightSource;
use crate::tensor::StorageType;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

/// Bytes of tensors after which another weight file is begun.
const SHARD_BYTES: u64 = 5 << 30;

/// A directory under construction, and the original.
pub(super) struct Directory<'a> {
    /// The original's weights.
    pub(super) checkpoint: &'a Checkpoint,
    /// The original's directory.
    pub(super) folder: &'a Path,
    pub(super) links: Links,
    pub(super) staging: &'a Staging,
    /// The type of all tensors.
    pub(super) storage: StorageType,
}

/// Gives the values of a tensor that is no linear layer's, by the number of its block, if it has one, and its name.
pub(super) type Others<'a> = &'a dyn Fn(Option<usize>, &str) -> Result<Vec<f32>>;

impl Directory<'_> {
    /// Writes a model's configuration and weights, and copies what else belongs to the original.
    ///
    /// # Errors
    /// A file or a tensor cannot be read, or the disk refuses.
    pub(super) fn write(&self, model: &dyn WeightSource, config: &str, others: Others) -> Result<()> {
        self.staging.restrict(Access::of(self.folder)?)?;
        let access = Access::of(&self.folder.join(CONFIG))?;
        self.staging.write(CONFIG, config.as_bytes(), access)?;
        if let Some(text) = class_of(model.spec()) {
            self.staging.write(CLASS, text.as_bytes(), access)?;
        }
        for found in copied(self.checkpoint.files(), self.folder, self.links)? {
            if ![Path::new(CONFIG), Path::new(INDEX)].contains(&found.name.as_path()) {
                copy(&found, self.staging, Access::of(&found.place)?)?;
            }
        }
        let mut tensors = Tensors {
            model,
            others,
            storage: self.storage,
            next: 0,
            block: BTreeMap::new(),
        };
        let shards = Shards::new(model.spec().tensors(), self.storage, SHARD_BYTES);
        shards.write(self.staging, self.access()?, |tensor, _| tensors.bytes(tensor))
    }

    /// The access rights of new weights: those that all weight files of the original have.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn access(&self) -> Result<Access> {
        let mut paths = self.checkpoint.files().paths().into_iter();
        paths.try_fold(Access::OPEN, |access, path| Ok(access.and(Access::of(path)?)))
    }
}

/// The type in which all tensors of a checkpoint are stored.
///
/// # Errors
/// They have several.
pub(super) fn storage(checkpoint: &Checkpoint) -> Result<StorageType> {
    let mut found = None;
    for (name, _) in checkpoint.spec().tensors() {
        let storage = checkpoint.storage(&name)?;
        if *found.get_or_insert(storage) != storage {
            return Err(Error::input(
                "its tensors have different types, and the new model is written in one; convert it to one type first",
            )
            .at(name));
        }
    }
    found.ok_or_else(|| Error::input("it has no tensors"))
}

/// The tensors of a model as they are stored. They are asked for in the order of the specification, so that those of one block are
/// kept.
struct Tensors<'a> {
    model: &'a dyn WeightSource,
    others: Others<'a>,
    storage: StorageType,
    /// The next block, and what is left of the tensors of the one before it.
    next: usize,
    block: BTreeMap<String, Vec<u8>>,
}

impl Tensors<'_> {
    fn bytes(&mut self, tensor: &str) -> Result<Vec<u8>> {
        let spec = self.model.spec();
        let in_next = |(name, _): &(String, Vec<usize>)| name == tensor;
        if self.next < spec.blocks && spec.block_tensors(self.next).iter().any(in_next) {
            self.block = self.of_block(self.next)?;
            self.next += 1;
        }
        match self.block.remove(tensor) {
            Some(bytes) => Ok(bytes),
            None => self.other(None, tensor),
        }
    }

    fn other(&self, index: Option<usize>, name: &str) -> Result<Vec<u8>> {
        Ok(self.storage.encode((self.others)(index, name)?.into_iter()))
    }

    fn of_block(&self, index: usize) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut tensors = BTreeMap::new();
        for linear in &self.model.spec().block(index).linears {
            let weights = self.model.linear(index, linear)?;
            let bytes = match weights.transposed {
                true => self.storage.encode(weights.weight.t().iter().copied()),
                false => self.storage.encode(weights.weight.iter().copied()),
            };
            if let Some(bias) = &weights.bias {
                tensors.insert(bias_of(&weights.name), self.storage.encode(bias.iter().copied()));
            }
            tensors.insert(weights.name, bytes);
        }
        for (name, _) in self.model.spec().block_tensors(index) {
            if let Entry::Vacant(place) = tensors.entry(name) {
                let bytes = self.other(Some(index), place.key())?;
                place.insert(bytes);
            }
        }
        Ok(tensors)
    }
}
