//! Writing model directories: weight files filled tensor by tensor, in a folder that appears whole or not at all.
//!
//! A pruned model keeps the files of the one it came from: the same shards, tensors, types and order, so
//! that every tool that loads the one loads the other. Where its architecture is another, because blocks have fewer heads or
//! neurons or layers have a bias more, the tensors of linear layers are others, and its `config.json` is made anew (`config`). Where
//! blocks differ from each other, a Python class for transformers stands beside it (`class`).
//!
//! Owns the bytes on disk and nothing of what they mean. A run that is killed, or a disk that fills up, leaves no folder under
//! the final name.

mod class;
mod config;
mod shards;
mod tensors;

pub use class::{CLASS, class_of};
pub use config::emitted;
pub use shards::Shards;
pub use tensors::TensorFile;

use crate::data::digest::{FileDigest, RunningDigest};
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging, input};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::folder::{Found, Links, ModelFolder};
use crate::model::index::{INDEX, reindexed};
use crate::model::weights::{StoredFile, WeightFiles};
use crate::spec::ModelSpec;
use ndarray::Array1;
use safetensors::Dtype;
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

/// Endings of the files of a model directory that a pruned copy keeps as they are.
const COMPANIONS: &[&str] = &[".json", ".txt", ".model", ".jinja"];

/// Names of legal files, whatever their ending is.
const LEGAL: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"];

/// Number of bytes copied at a time.
const PIECE: usize = 1 << 20;

/// Files of the original that would be wrong for a copy with other weights.
const LEFT_BEHIND: &[&str] = &[INDEX, PRUNING, STRUCTURE];

/// Name of the file that says what is left of a model that lost whole units.
pub const STRUCTURE: &str = "structure.json";

/// Name of the file that says how a model was pruned.
pub const PRUNING: &str = "pruning.json";

/// Name of the file with the configuration.
pub const CONFIG: &str = "config.json";

/// Writes a copy of a checkpoint with other weights and biases of its linear layers, and perhaps other numbers of heads and
/// neurons.
pub struct ModelWriter<'a> {
    checkpoint: &'a Checkpoint,
    /// The files of the original that were copied.
    copied: Vec<Found>,
    /// The files of the original in whose place others were made.
    remade: Vec<Found>,
    files: Vec<TensorFile>,
    /// Which file a tensor is in that is written anew.
    places: BTreeMap<String, usize>,
}

impl<'a> ModelWriter<'a> {
    /// Copies everything that stays as it is: configuration, tokenizer, index, and all tensors but the weights and biases of
    /// linear layers. What the copy has that the checkpoint has not is said by `spec`: blocks with other numbers of heads or
    /// neurons get tensors of other shapes, layers with a bias that they had not get a tensor more, and then the configuration
    /// and the index are made anew.
    ///
    /// # Errors
    /// A file cannot be read, no configuration says what `spec` is, or the disk refuses.
    pub fn begin(
        checkpoint: &'a Checkpoint,
        spec: &ModelSpec,
        folder: &Path,
        staging: &Staging,
        links: Links,
    ) -> Result<Self> {
        let copied = copied(checkpoint.files(), folder, links)?;
        staging.restrict(Access::of(folder)?)?;
        let made = remade(checkpoint, spec, folder)?;
        for (name, text) in &made {
            staging.write(name, text.as_bytes(), Access::of(&folder.join(name))?)?;
        }
        if let Some(text) = class_of(spec) {
            staging.write(CLASS, text.as_bytes(), Access::of(&folder.join(CONFIG))?)?;
        }
        let is_made = |found: &Found| made.iter().any(|(name, _)| found.name == Path::new(name));
        let (remade, copied) = copied.into_iter().partition(is_made);
        let mut writer = ModelWriter {
            checkpoint,
            copied,
            remade,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        for found in &writer.copied {
            copy(found, staging, Access::of(&found.place)?)?;
        }
        for (stored, slots) in laid_out(checkpoint, spec).at(folder.display())? {
            let tensors = slots
                .iter()
                .map(|slot| (slot.name.as_str(), slot.dtype, slot.shape.as_slice()));
            let access = Access::of(&folder.join(stored.name))?;
            let mut file = staging.tensors(stored.name, tensors, stored.metadata, access)?;
            for slot in slots {
                match slot.kept {
                    Some(bytes) => file.put(&slot.name, bytes)?,
                    None => {
                        writer.places.insert(slot.name, writer.files.len());
                    }
                }
            }
            writer.files.push(file);
        }
        Ok(writer)
    }

    /// Writes a linear layer's weight, and its bias if the copy has one: zeros where the layer has none.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// The layer is not as large as the specification says: a mistake of the caller.
    pub fn put(&mut self, linear: &LinearWeights) -> Result<()> {
        let name = self.checkpoint.stored_name(&linear.name)?;
        self.files[self.places[name]].put(name, &stored_bytes(linear))?;
        let name = bias_of(name);
        if let Some(place) = self.places.get(&name) {
            let none = Array1::zeros(linear.weight.nrows());
            let bias = linear.bias.as_ref().unwrap_or(&none);
            self.files[*place].put(&name, &linear.bias_storage.encode(bias.iter().copied()))?;
        }
        Ok(())
    }

    /// The files of the original in whose place others were made, since they would be wrong for the copy.
    pub fn remade(&self) -> &[Found] {
        &self.remade
    }

    /// Closes all files. Returns those of the original that were copied.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// A linear layer was not written: a mistake of the caller.
    pub fn finish(self) -> Result<Vec<Found>> {
        self.files.into_iter().try_for_each(TensorFile::finish)?;
        Ok(self.copied)
    }
}

/// A tensor of a copy.
struct Slot<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its bytes, if they are the original's.
    kept: Option<&'a [u8]>,
}

/// The files of a copy of a checkpoint, each with its tensors: those of the original, with the shapes of `spec`, and each bias
/// that only `spec` has after its layer's weight.
fn laid_out<'a>(checkpoint: &'a Checkpoint, spec: &ModelSpec) -> Result<Vec<(StoredFile<'a>, Vec<Slot<'a>>)>> {
    let had: BTreeSet<String> = checkpoint.spec().tensors().map(|(name, _)| name).collect();
    let mut shapes = BTreeMap::new();
    // Biases that there were not, by the names of the weights beside them.
    let mut added = BTreeMap::new();
    for (name, shape) in spec.tensors() {
        if had.contains(&name) {
            shapes.insert(checkpoint.stored_name(&name)?.to_string(), shape);
        } else if let Some(layer) = name.strip_suffix(".bias") {
            added.insert(checkpoint.stored_name(&format!("{layer}.weight"))?.to_string(), shape);
        }
    }
    let mut anew = BTreeSet::new();
    for index in 0..spec.blocks {
        let block = spec.block(index);
        for linear in &block.linears {
            let layer = format!("{}{}", block.prefix_of(index), linear.tensor);
            for name in [format!("{layer}.weight"), format!("{layer}.bias")] {
                if had.contains(&name) {
                    anew.insert(checkpoint.stored_name(&name)?.to_string());
                }
            }
        }
    }
    let mut files = Vec::new();
    for stored in checkpoint.files().each() {
        let mut slots = Vec::with_capacity(stored.tensors.len());
        for tensor in &stored.tensors {
            let shape = shapes.get(tensor.name).map_or(tensor.shape, Vec::as_slice);
            if !anew.contains(tensor.name) && tensor.shape != shape {
                return Err(Error::input(format!(
                    "tensor `{}` has shape {:?} and would have {shape:?}; only linear layers can be written with other shapes",
                    tensor.name, tensor.shape
                ))
                .at(stored.name));
            }
            slots.push(Slot {
                name: tensor.name.to_string(),
                dtype: tensor.dtype,
                shape: shape.to_vec(),
                kept: (!anew.contains(tensor.name)).then_some(tensor.bytes),
            });
            if let Some(shape) = added.remove(tensor.name) {
                slots.push(Slot {
                    name: bias_of(tensor.name),
                    dtype: tensor.dtype,
                    shape,
                    kept: None,
                });
            }
        }
        files.push((stored, slots));
    }
    Ok(files)
}

/// The files of the original that would be wrong for a copy that is as `spec` says, with the texts that the copy has in their
/// place: none, unless it is another architecture.
///
/// # Errors
/// As [`ModelWriter::begin`].
pub fn remade(checkpoint: &Checkpoint, spec: &ModelSpec, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut made = Vec::new();
    if spec == checkpoint.spec() {
        return Ok(made);
    }
    let path = folder.join(CONFIG);
    let text = input::read_text(&path, input::SMALL)?;
    let blocks: Vec<usize> = (0..spec.blocks).collect();
    made.push((CONFIG, emitted(&text, spec, &blocks).at(path.display())?));
    if checkpoint.files().indexed() {
        let (mut places, mut bytes) = (Map::new(), 0);
        for (stored, slots) in laid_out(checkpoint, spec).at(folder.display())? {
            for slot in slots {
                bytes += (slot.shape.iter().product::<usize>() * slot.dtype.bitsize() / 8) as u64;
                places.insert(slot.name, stored.name.into());
            }
        }
        let path = folder.join(INDEX);
        let text = input::read_text(&path, input::SMALL)?;
        made.push((INDEX, reindexed(&text, places, bytes).at(path.display())?));
    }
    Ok(made)
}

/// The name of a linear layer's bias, by that of its weight.
pub fn bias_of(weight: &str) -> String {
    format!("{}.bias", weight.strip_suffix(".weight").unwrap_or(weight))
}

/// The files that a pruned copy of a model keeps as they are: configuration, tokenizer, licence, and the index of its
/// shards if there is one. Nothing else that describes the original's weights is kept.
///
/// # Errors
/// The folder cannot be read, or one of the files cannot be copied ([`ModelFolder::files`]).
pub fn copied(files: &WeightFiles, folder: &Path, links: Links) -> Result<Vec<Found>> {
    ModelFolder::open(folder, links)?.files(|name| {
        let companion = COMPANIONS.iter().any(|ending| name.ends_with(ending))
            || LEGAL.iter().any(|start| name.to_uppercase().starts_with(start));
        let untrue = name.starts_with('.') || LEFT_BEHIND.contains(&name);
        (companion && !untrue) || (name == INDEX && files.indexed())
    })
}

/// Copies a file piece by piece with the access rights `access`, and returns the digest of its content.
///
/// # Errors
/// It cannot be read, or the disk refuses.
pub fn copy(found: &Found, staging: &Staging, access: Access) -> Result<FileDigest> {
    let unreadable = |source| Error::reading(&found.place, source);
    let fail = |error| Error::output(&staging.named(&found.name), error);
    let mut from = input::open(&found.place)?;
    let mut to = staging.create(&found.name, access)?;
    let mut digest = RunningDigest::default();
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(bytes) => {
                to.write_all(&piece[..bytes]).map_err(fail)?;
                digest.update(&piece[..bytes]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    to.sync_all().map_err(fail)?;
    Ok(digest.finish())
}

/// The bytes of a weight in the checkpoint's number format and orientation.
fn stored_bytes(linear: &LinearWeights) -> Vec<u8> {
    if linear.transposed {
        linear.storage.encode(linear.weight.t().iter().copied())
    } else {
        linear.storage.encode(linear.weight.iter().copied())
    }
}
