//! Writing model directories: weight files filled tensor by tensor, in a folder that appears whole or not at all.
//!
//! A pruned model keeps the files of the one it came from: the same shards, tensors, types and order, so
//! that every tool that loads the one loads the other. Where its architecture is another, because blocks have fewer heads or
//! neurons, the tensors of linear layers have other shapes, and its `config.json` is made anew (`config`).
//!
//! Owns the bytes on disk and nothing of what they mean. A run that is killed, or a disk that fills up, leaves no folder under
//! the final name.

mod config;
mod shards;
mod tensors;

pub use config::emitted;
pub use shards::Shards;
pub use tensors::TensorFile;

use crate::data::digest::{FileDigest, RunningDigest};
use crate::error::{Error, Located, Result};
use crate::files::{Access, Staging, input};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::folder::{Found, Links, ModelFolder};
use crate::model::index::{INDEX, reindexed};
use crate::model::weights::WeightFiles;
use crate::spec::ModelSpec;
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
const LEFT_BEHIND: &[&str] = &[INDEX, PRUNING];

/// Name of the file that says how a model was pruned.
pub const PRUNING: &str = "pruning.json";

/// Name of the file with the configuration.
const CONFIG: &str = "config.json";

/// Writes a copy of a checkpoint with other weights of its linear layers, and perhaps other numbers of heads and neurons.
pub struct ModelWriter<'a> {
    checkpoint: &'a Checkpoint,
    /// The files of the original that were copied.
    copied: Vec<Found>,
    files: Vec<TensorFile>,
    /// Which file a tensor is in that is written anew.
    places: BTreeMap<String, usize>,
}

impl<'a> ModelWriter<'a> {
    /// Copies everything that stays as it is: configuration, tokenizer, index, and all tensors but the weights of linear
    /// layers. What the copy has that the checkpoint has not is said by `spec`: blocks with other numbers of heads or neurons
    /// get tensors of other shapes, biases included, and then the configuration and the index are made anew.
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
        let resized = spec != checkpoint.spec();
        let mut copied = copied(checkpoint.files(), folder, links)?;
        staging.restrict(Access::of(folder)?)?;
        if resized {
            let config = folder.join(CONFIG);
            let text = emitted(&input::read_text(&config, input::SMALL)?, spec).at(config.display())?;
            staging.write(CONFIG, text.as_bytes(), Access::of(&config)?)?;
            copied.retain(|found| found.name != Path::new(CONFIG) && found.name != Path::new(INDEX));
        }
        for found in &copied {
            copy(found, staging, Access::of(&found.place)?)?;
        }
        let mut shapes = BTreeMap::new();
        for (name, shape) in spec.tensors() {
            shapes.insert(checkpoint.stored_name(&name)?.to_string(), shape);
        }
        let changed = changed(checkpoint, spec)?;
        let mut writer = ModelWriter {
            checkpoint,
            copied,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        let (mut index, mut bytes) = (Map::new(), 0);
        for stored in checkpoint.files().each() {
            let shape = |name: &str, stored: &'_ [usize]| shapes.get(name).map_or(stored.to_vec(), Vec::clone);
            let shaped: Vec<_> = stored.tensors.iter().map(|it| shape(it.name, it.shape)).collect();
            let tensors = stored.tensors.iter().zip(&shaped);
            let tensors = tensors.map(|(it, shape)| (it.name, it.dtype, shape.as_slice()));
            let access = Access::of(&folder.join(stored.name))?;
            let mut file = staging.tensors(stored.name, tensors, stored.metadata, access)?;
            for (tensor, shape) in stored.tensors.iter().zip(&shaped) {
                index.insert(tensor.name.to_string(), stored.name.into());
                bytes += (shape.iter().product::<usize>() * tensor.dtype.bitsize() / 8) as u64;
                if changed.contains(tensor.name) {
                    writer.places.insert(tensor.name.to_string(), writer.files.len());
                } else if tensor.shape == shape.as_slice() {
                    file.put(tensor.name, tensor.bytes)?;
                } else {
                    return Err(Error::input(format!(
                        "tensor `{}` has shape {:?} and would have {shape:?}; only linear layers can be written with \
                         other shapes",
                        tensor.name, tensor.shape
                    ))
                    .at(folder.join(stored.name).display()));
                }
            }
            writer.files.push(file);
        }
        if resized && checkpoint.files().indexed() {
            let path = folder.join(INDEX);
            let text = input::read_text(&path, input::SMALL)?;
            let text = reindexed(&text, index, bytes).at(path.display())?;
            staging.write(INDEX, text.as_bytes(), Access::of(&path)?)?;
        }
        Ok(writer)
    }

    /// Writes a linear layer's weight, and its bias where that has another shape than the checkpoint's.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// The layer is not as large as the specification says: a mistake of the caller.
    pub fn put(&mut self, linear: &LinearWeights) -> Result<()> {
        let name = self.checkpoint.stored_name(&linear.name)?;
        self.files[self.places[name]].put(name, &stored_bytes(linear))?;
        let Some(bias) = &linear.bias else { return Ok(()) };
        let name = bias_of(&linear.name);
        let stored = self.checkpoint.stored_name(&name)?;
        if let Some(place) = self.places.get(stored) {
            let bytes = self.checkpoint.storage(&name)?.encode(bias.iter().copied());
            self.files[*place].put(stored, &bytes)?;
        }
        Ok(())
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

/// The stored names of the tensors that are written anew: the weights of linear layers, and the biases that have other shapes.
fn changed(checkpoint: &Checkpoint, spec: &ModelSpec) -> Result<BTreeSet<String>> {
    let mut changed = BTreeSet::new();
    for index in 0..spec.blocks {
        let block = spec.block(index);
        let prefix = block.prefix_of(index);
        for (linear, before) in block.linears.iter().zip(&checkpoint.spec().block(index).linears) {
            let weight = format!("{prefix}{}.weight", linear.tensor);
            if linear.bias && linear.outputs != before.outputs {
                changed.insert(checkpoint.stored_name(&bias_of(&weight))?.to_string());
            }
            changed.insert(checkpoint.stored_name(&weight)?.to_string());
        }
    }
    Ok(changed)
}

/// The name of a linear layer's bias, by that of its weight.
fn bias_of(weight: &str) -> String {
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
