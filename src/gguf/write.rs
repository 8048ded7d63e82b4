//! A GGUF file (version 3, little-endian) that is filled tensor by tensor: memory never holds more than the tensor being written.

use super::ALIGNMENT;
use super::dequantise::BlockType;
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// The version of the format that is written.
const VERSION: u32 = 3;

/// Numbers of the metadata's types.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const FLAG: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Metadata as they are written: keys with their values, in order.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn entry(&mut self, key: &str, kind: u32) {
        self.count += 1;
        push_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.entry(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// It has more than 32 bits.
    pub fn count(&mut self, key: &str, value: usize) -> Result<()> {
        let value = whole(key, value)?;
        self.entry(key, U32);
        self.bytes.extend(value.to_le_bytes());
        Ok(())
    }

    /// A list of numbers that are not negative.
    ///
    /// # Errors
    /// One has more than 32 bits.
    pub fn counts(&mut self, key: &str, values: &[usize]) -> Result<()> {
        self.array(key, U32, values.len());
        for value in values {
            self.bytes.extend(whole(key, *value)?.to_le_bytes());
        }
        Ok(())
    }

    /// A number in single precision.
    pub fn number(&mut self, key: &str, value: f32) {
        self.entry(key, F32);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A truth value.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.entry(key, FLAG);
        self.bytes.push(value.into());
    }

    /// A string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.entry(key, TEXT);
        push_text(&mut self.bytes, value);
    }

    /// A list of strings.
    pub fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.array(key, TEXT, values.len());
        values.for_each(|value| push_text(&mut self.bytes, value));
    }

    /// A list of signed numbers.
    pub fn integers(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.array(key, I32, values.len());
        values.for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    /// A list of numbers in single precision.
    pub fn numbers(&mut self, key: &str, values: &[f32]) {
        self.array(key, F32, values.len());
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }
}

fn whole(key: &str, value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::input(format!("{value} is too large for key `{key}` of a GGUF file")))
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
}

/// What the header says of a tensor.
pub(super) struct Announced<'a> {
    pub name: &'a str,
    /// Slowest dimension first.
    pub shape: &'a [usize],
    pub kind: BlockType,
}

impl Announced<'_> {
    /// Number of bytes in the file.
    pub fn bytes(&self) -> u64 {
        let elements: usize = self.shape.iter().product();
        (elements / self.kind.elements() * self.kind.bytes()) as u64
    }
}

/// A GGUF file that is being written: the header first, then the tensors in the order in which it announces them.
pub(super) struct GgufFile {
    file: File,
    /// What messages call the file.
    name: PathBuf,
    /// Numbers of bytes of the tensors that are still to come.
    left: VecDeque<u64>,
}

impl GgufFile {
    /// Writes the header of an empty file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(file: File, name: PathBuf, metadata: &Metadata, tensors: &[Announced]) -> Result<Self> {
        let mut bytes = super::MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend(metadata.count.to_le_bytes());
        bytes.extend(&metadata.bytes);
        let mut offset = 0u64;
        for tensor in tensors {
            push_text(&mut bytes, tensor.name);
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            for length in tensor.shape.iter().rev() {
                bytes.extend((*length as u64).to_le_bytes());
            }
            bytes.extend(tensor.kind.id().to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        let mut written = GgufFile {
            file,
            name,
            left: tensors.iter().map(Announced::bytes).collect(),
        };
        written.write(&bytes)?;
        Ok(written)
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// The header announces no further tensor, or one of another size: a mistake of the caller.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let announced = self.left.pop_front();
        assert_eq!(
            announced,
            Some(bytes.len() as u64),
            "the header announced another tensor"
        );
        self.write(bytes)
    }

    /// Writes bytes, and zeros to the next place where a tensor may begin.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let fail = |error| Error::output(&self.name, error);
        let gap = (bytes.len() as u64).next_multiple_of(ALIGNMENT) - bytes.len() as u64;
        self.file.write_all(bytes).map_err(fail)?;
        self.file.write_all(&vec![0; gap as usize]).map_err(fail)
    }

    /// Closes the file after writing everything to disk.
    ///
    /// # Errors
    /// The disk refuses.
    ///
    /// # Panics
    /// A tensor was never written: a mistake of the caller.
    pub fn finish(self) -> Result<()> {
        assert!(self.left.is_empty(), "{} tensors were never written", self.left.len());
        self.file.sync_all().map_err(|error| Error::output(&self.name, error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Array, Gguf, Scalar, Value};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.gguf");
        let mut metadata = Metadata::default();
        metadata.count("count", 7).expect("small");
        metadata.counts("counts", &[1, 2, 3]).expect("small");
        metadata.number("number", 0.5);
        metadata.flag("flag", true);
        metadata.text("text", "\u{2581}a");
        metadata.texts("texts", ["a", "", "bc"].into_iter());
        metadata.integers("integers", [1, -2].into_iter());
        metadata.numbers("numbers", &[-1.5]);
        assert!(metadata.count("large", usize::MAX).is_err());
        let tensors = [
            Announced {
                name: "b",
                shape: &[2, 3],
                kind: BlockType::F16,
            },
            Announced {
                name: "a",
                shape: &[1],
                kind: BlockType::F32,
            },
        ];
        let file = File::create(&path).expect("writable");
        let mut file = GgufFile::begin(file, path.clone(), &metadata, &tensors).expect("writable");
        file.put(&[1; 12]).expect("writable");
        file.put(&1.0f32.to_le_bytes()).expect("writable");
        file.finish().expect("complete");
        let bytes = std::fs::read(&path).expect("readable");
        let gguf = Gguf::parse(&bytes).expect("a GGUF file");
        assert_eq!(gguf.metadata().len(), 8);
        assert_eq!(gguf.count("count").expect("a number"), Some(7));
        assert_eq!(gguf.integers("counts").expect("numbers"), Some(vec![1, 2, 3]));
        assert_eq!(gguf.number("number").expect("a number"), Some(0.5));
        assert_eq!(gguf.flag("flag").expect("a truth value"), Some(true));
        assert_eq!(gguf.text("text").expect("a string"), Some("\u{2581}a"));
        assert_eq!(gguf.texts("texts").expect("strings"), Some(vec!["a", "", "bc"]));
        assert_eq!(gguf.integers("integers").expect("numbers"), Some(vec![1, -2]));
        let numbers = Value::Array(Array::Scalars(Scalar::Float(4), &[0, 0, 0xc0, 0xbf]));
        assert_eq!(gguf.metadata()["numbers"], numbers);
        assert_eq!(gguf.tensors()["b"].shape, [2, 3]);
        assert_eq!(gguf.tensors()["b"].data, [1; 12]);
        assert_eq!(gguf.tensors()["a"].data, 1.0f32.to_le_bytes());
    }
}
