//! Writing model directories: safetensors files filled tensor by tensor, in a folder that appears whole or not at all.
//!
//! A pruned model keeps the files of the one it came from: the same shards, tensors, types and order, so
//! that every tool that loads the one loads the other.
//!
//! Owns the bytes on disk and nothing of what they mean. Memory never holds more than the tensor being
//! written; a run that is killed, or a disk that fills up, leaves no folder under the final name.

use crate::error::{Error, Result};
use crate::files::Staging;
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::weights::INDEX;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

impl Staging {
    /// Copies the record of pruning, where there is one: for copies that hold the same weights.
    ///
    /// # Errors
    /// It cannot be read, or the disk refuses.
    pub fn copy_pruning(&self, folder: &Path) -> Result<()> {
        let path = folder.join(PRUNING);
        if path.exists() { self.copy(&path) } else { Ok(()) }
    }

    /// Begins a safetensors file with room for `tensors`, in their order.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn tensors<'a>(
        &self,
        name: &str,
        tensors: impl IntoIterator<Item = (&'a str, Dtype, &'a [usize])>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<TensorFile> {
        TensorFile::create(&self.path(name), self.named(Path::new(name)), tensors, metadata)
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
    bytes: usize,
    filled: bool,
}

impl TensorFile {
    /// Creates the file at `path`, called `name` in messages, with room for `tensors` in their order.
    /// transformers refuses files whose metadata do not say `"format": "pt"`, so that is added where it is missing.
    fn create<'a>(
        path: &Path,
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
                bytes,
                filled: false,
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
        let mut file = File::create(path).map_err(fail)?;
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
        let slot = self.slots.get_mut(tensor).expect("the header announced this tensor");
        assert_eq!(
            slot.bytes,
            bytes.len(),
            "the header announced {tensor} with another size"
        );
        let fail = |error| Error::output(&self.name, error);
        self.file.seek(SeekFrom::Start(slot.start)).map_err(fail)?;
        self.file.write_all(bytes).map_err(fail)?;
        slot.filled = true;
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
        let gap = self.slots.iter().find(|(_, slot)| !slot.filled);
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

/// Files of the original that would be untrue of a copy with other weights.
const LEFT_BEHIND: &[&str] = &[INDEX, PRUNING];

/// What was done to a model, beside its weights.
pub const PRUNING: &str = "pruning.json";

/// Writes a pruned copy of a checkpoint while its blocks pass by.
pub struct ModelWriter<'a> {
    checkpoint: &'a Checkpoint,
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
    pub fn begin(checkpoint: &'a Checkpoint, folder: &Path, staging: &Staging) -> Result<Self> {
        copy_companions(folder, staging)?;
        if folder.join(INDEX).exists() && checkpoint.files().each().count() > 1 {
            staging.copy(&folder.join(INDEX))?;
        }
        let spec = checkpoint.spec();
        let mut pruned = HashSet::new();
        for index in 0..spec.blocks {
            let prefix = spec.block.prefix_of(index);
            for linear in &spec.block.linears {
                pruned.insert(checkpoint.stored_name(&format!("{prefix}{}.weight", linear.tensor))?);
            }
        }
        let mut writer = ModelWriter {
            checkpoint,
            files: Vec::new(),
            places: BTreeMap::new(),
        };
        for stored in checkpoint.files().each() {
            let tensors = stored.tensors.iter().map(|it| (it.name, it.dtype, it.shape));
            let mut file = staging.tensors(stored.name, tensors, stored.metadata)?;
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

    /// Closes all files.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self) -> Result<()> {
        self.files.into_iter().try_for_each(TensorFile::finish)
    }
}

/// Copies configuration, tokenizer and licence from a model directory; no weights, and nothing that
/// describes the original's weights.
///
/// # Errors
/// A file cannot be read, or the disk refuses.
pub fn copy_companions(folder: &Path, staging: &Staging) -> Result<()> {
    let unreadable = |source| Error::reading(folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort();
    for name in names {
        let text = name.to_string_lossy();
        let wanted = COMPANIONS.iter().any(|ending| text.ends_with(ending))
            || LEGAL.iter().any(|start| text.to_uppercase().starts_with(start));
        let path = folder.join(&name);
        // Hub snapshots hold links to files.
        if wanted && !text.starts_with('.') && !LEFT_BEHIND.contains(&&*text) && path.is_file() {
            staging.copy(&path)?;
        }
    }
    Ok(())
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
            .tensors("model.safetensors", tensors, &BTreeMap::new())
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
