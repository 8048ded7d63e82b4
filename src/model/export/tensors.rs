//! Safetensors files that are filled tensor by tensor: memory never holds more than the tensor being written.

use crate::error::{Error, Result};
use crate::files::{Access, Staging};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

impl Staging {
    /// Begins a safetensors file with room for `tensors`, in this order, and with the access rights `access`.
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
        self.tensors_after(&[], name, tensors, metadata, access)
    }

    /// The same with the bytes `mark` before the safetensors file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn tensors_after<'a>(
        &self,
        mark: &[u8],
        name: &str,
        tensors: impl IntoIterator<Item = (&'a str, Dtype, &'a [usize])>,
        metadata: &BTreeMap<String, String>,
        access: Access,
    ) -> Result<TensorFile> {
        let file = self.create(name, access.of_data())?;
        TensorFile::begin(file, self.named(Path::new(name)), mark, tensors, metadata)
    }
}

/// A safetensors file that is being written: the header first, then the tensors in any order.
pub struct TensorFile {
    file: File,
    name: PathBuf,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    start: u64,
    bytes: u64,
    /// Number of bytes written so far.
    filled: u64,
}

impl TensorFile {
    /// Begins an empty file with `mark` and room for `tensors` in this order; messages call it `name`. transformers refuses
    /// files whose metadata do not contain `"format": "pt"`, so this entry is added if it is missing.
    fn begin<'a>(
        mut file: File,
        name: PathBuf,
        mark: &[u8],
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
        let data = (mark.len() + 8 + header.len()) as u64;
        slots.values_mut().for_each(|slot| slot.start += data);

        let fail = |error| Error::output(&name, error);
        file.write_all(mark).map_err(fail)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
        file.write_all(&header).map_err(fail)?;
        Ok(TensorFile { file, name, slots })
    }

    /// Writes the bytes of one tensor, row-major and little-endian.
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

    /// Writes the next bytes of one tensor, for tensors that are not completely in memory. Calls for several tensors
    /// may alternate.
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

    /// Closes the file after writing everything to disk.
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
