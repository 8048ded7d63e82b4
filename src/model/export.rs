//! Writing model directories: safetensors files filled tensor by tensor, in a folder that appears whole or not at all.
//!
//! A pruned model keeps the files of the one it came from: the same shards, tensors, types and order, so
//! that every tool that loads the one loads the other.
//!
//! Owns the bytes on disk and nothing of what they mean. Memory never holds more than the tensor being
//! written; a run that is killed, or a disk that fills up, leaves no folder under the final name.

use crate::data::digest::{FileDigest, Running};
use crate::error::{Error, Result};
use crate::files::{Access, Staging, input};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::folder::{Found, Links, ModelFolder};
use crate::model::weights::{INDEX, WeightFiles};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

impl Staging {
    /// Begins a safetensors file with room for `tensors`, in their order, for those whom `access` allows to use it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn tensors<'a>(
        &self,
        name: &str,
        tensors: impl IntoIterator<Item = (&'a str, Dtype, &'a [usize])>,
        metadata: &BTreeMap<String, String>,
        access: Access,
    ) -> Result<TensorFile> {
        let file = self.create(name, access.of_data())?;
        TensorFile::begin(file, self.named(Path::new(name)), tensors, metadata)
    }
}

/// A safetensors file whose header is written first and whose tensors follow in any order.
pub struct TensorFile {
    file: File,
    name: PathBuf,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    start: u64,
    bytes: u64,
    /// Bytes written so far.
    filled: u64,
}

impl TensorFile {
    /// Begins an empty file, called `name` in messages, with room for `tensors` in their order.
    /// transformers refuses files whose metadata do not say `"format": "pt"`, so that is added where it is missing.
    fn begin<'a>(
        mut file: File,
        name: PathBuf,
        tensors: impl IntoIterator<Item = (&'a str, Dtype, &'a [usize])>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut metadata = metadata.clone();
        metadata.entry("format".to_string()).or_insert_with(|| "pt".to_string());
        let mut header = Map::from_iter([("__metadata__".to_string(), json!(metadata))]);
        let mut slots = BTreeMap::new();
        let mut start = 0;
        for (tensor, dtype, shape) in tensors {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]});
            header.insert(tensor.to_string(), info);
            let slot = Slot {
                start: start as u64,
                bytes: bytes as u64,
                filled: 0,
            };
            slots.insert(tensor.to_string(), slot);
            start += bytes;
        }
        // The data begin on a multiple of eight bytes, as the format recommends.
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let data = 8 + header.len() as u64;
        slots.values_mut().for_each(|slot| slot.start += data);

        let fail = |error| Error::output(&name, error);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
        file.write_all(&header).map_err(fail)?;
        Ok(TensorFile { file, name, slots })
    }

    /// Writes one tensor's bytes, row-major and little-endian.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// The file has no such tensor, or it has another size: a mistake of the caller, not of the user.
    pub fn put(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        self.append(tensor, bytes)?;
        let slot = &self.slots[tensor];
        assert_eq!(
            slot.bytes, slot.filled,
            "the header announced {tensor} with another size"
        );
        Ok(())
    }

    /// Writes the next bytes of one tensor, for those that are not in memory as a whole. Tensors may take turns.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// The file has no such tensor, or it is shorter: a mistake of the caller, not of the user.
    pub fn append(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        let slot = self.slots.get_mut(tensor).expect("the header announced this tensor");
        let filled = slot.filled + bytes.len() as u64;
        assert!(filled <= slot.bytes, "the header announced {tensor} with another size");
        let fail = |error| Error::output(&self.name, error);
        self.file
            .seek(SeekFrom::Start(slot.start + slot.filled))
            .map_err(fail)?;
        self.file.write_all(bytes).map_err(fail)?;
        slot.filled = filled;
        Ok(())
    }

    /// Closes the file, synchronised to disk.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// A tensor was never written: a mistake of the caller.
    pub fn finish(self) -> Result<()> {
        let gap = self.slots.iter().find(|(_, slot)| slot.filled < slot.bytes);
        assert!(
            gap.is_none(),
            "a tensor was never written: {:?}",
            gap.map(|(name, _)| name)
        );
        self.file.sync_all().map_err(|error| Error::output(&self.name, error))
    }
}

/// The files of a model directory that a pruned copy takes over as they are.
const COMPANIONS: &[&str] = &[".json", ".txt", ".model", ".jinja"];

/// Legal files, whatever their ending.
const LEGAL: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"];

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

/// Files of the original that would be untrue of a copy with other weights.
const LEFT_BEHIND: &[&str] = &[INDEX, PRUNING];

/// What was done to a model, beside its weights.
pub const PRUNING: &str = "pruning.json";

/// Writes a pruned copy of a checkpoint while its blocks pass by.
pub struct ModelWriter<'a> {
    checkpoint: &'a Checkpoint,
    /// The files that were copied.
    copied: Vec<Found>,
    files: Vec<TensorFile>,
    /// Which file a tensor is in.
    places: BTreeMap<String, usize>,
}

impl<'a> ModelWriter<'a> {
    /// Copies everything but the weights that pruning may change: configuration, tokenizer, index, and all
    /// other tensors.
    ///
    /// # Errors
    /// A file cannot be read, or the disk refuses.
    pub fn begin(checkpoint: &'a Checkpoint, folder: &Path, staging: &Staging, links: Links) -> Result<Self> {
        let copied = copied(checkpoint.files(), folder, links)?;
        staging.restrict(Access::of(folder)?)?;
        for found in &copied {
            copy(found, staging, Access::of(&found.place)?)?;
        }
        let spec = checkpoint.spec();
        let mut pruned = HashSet::new();
        for index in 0..spec.blocks {
            let prefix = spec.block(index).prefix_of(index);
            for linear in &spec.block(index).linears {
                pruned.insert(checkpoint.stored_name(&format!("{prefix}{}.weight", linear.tensor))?);
            }
        }
        let mut writer = ModelWriter {
            checkpoint,
            copied,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        for stored in checkpoint.files().each() {
            let tensors = stored.tensors.iter().map(|it| (it.name, it.dtype, it.shape));
            let access = Access::of(&folder.join(stored.name))?;
            let mut file = staging.tensors(stored.name, tensors, stored.metadata, access)?;
            for tensor in &stored.tensors {
                if pruned.contains(tensor.name) {
                    writer.places.insert(tensor.name.to_string(), writer.files.len());
                } else {
                    file.put(tensor.name, tensor.bytes)?;
                }
            }
            writer.files.push(file);
        }
        Ok(writer)
    }

    /// Writes a linear layer's weight.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn put(&mut self, linear: &LinearWeights) -> Result<()> {
        let name = self.checkpoint.stored_name(&linear.name)?;
        self.files[self.places[name]].put(name, &stored_bytes(linear))
    }

    /// Closes all files. Returns those of the original that were copied.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self) -> Result<Vec<Found>> {
        self.files.into_iter().try_for_each(TensorFile::finish)?;
        Ok(self.copied)
    }
}

/// The files that a pruned copy of a model takes over as they are: configuration, tokenizer, licence, and the index of
/// its shards where it has one; nothing else that describes the original's weights.
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

/// Copies a file in pieces, for those whom `access` allows to use the copy, and says what it held.
///
/// # Errors
/// It cannot be read, or the disk refuses.
pub fn copy(found: &Found, staging: &Staging, access: Access) -> Result<FileDigest> {
    let unreadable = |source| Error::reading(&found.place, source);
    let fail = |error| Error::output(&staging.named(&found.name), error);
    let mut from = input::open(&found.place)?;
    let mut to = staging.create(&found.name, access)?;
    let mut digest = Running::default();
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

/// A weight in the checkpoint's type and orientation.
fn stored_bytes(linear: &LinearWeights) -> Vec<u8> {
    if linear.transposed {
        linear.storage.encode(linear.weight.t().iter().copied())
    } else {
        linear.storage.encode(linear.weight.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn tensors_may_come_in_any_order_and_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("deep/model");
        let staging = Staging::new(&target).expect("writable");
        let tensors = [("b", Dtype::F32, &[2usize, 1][..]), ("a", Dtype::F16, &[3])];
        let mut file = staging
            .tensors("model.safetensors", tensors, &BTreeMap::new(), Access::OPEN)
            .expect("writable");
        file.put("a", &[1, 2, 3, 4, 5, 6]).expect("writable");
        file.put("b", &[9; 8]).expect("writable");
        file.finish().expect("complete");
        assert!(!target.exists(), "nothing is visible before the commit");
        staging.commit().expect("the name is free");
        let bytes = std::fs::read(target.join("model.safetensors")).expect("readable");
        let read = SafeTensors::deserialize(&bytes).expect("a valid file");
        assert_eq!(read.tensor("a").expect("there").data(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read.tensor("b").expect("there").data(), [9; 8]);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a valid header");
        assert_eq!(metadata.metadata().as_ref().expect("there")["format"], "pt");
        assert!(Staging::new(&target).is_err(), "nothing is written over");
    }
}
