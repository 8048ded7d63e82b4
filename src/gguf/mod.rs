//! GGUF files: the container llama.cpp keeps models in, read without trusting a word of it, and written.
//!
//! Owns the container (this file), its block formats ([`dequantise`], [`quantise`]), the tokenizer in its metadata
//! ([`tokenizer`]), the Hugging Face directory made of all three ([`import`]), and the way back ([`export`]). Versions 2 and 3,
//! little-endian. Architectures: LLaMA with blocks of equal sizes (`llama`) or of different ones (`deci`), Gemma 3 (`gemma3`), Qwen 2
//! and 3 (`qwen2`, `qwen3`).
//!
//! Refuses, by name, whatever cannot be carried over exactly: other architectures, mixtures of experts,
//! other block formats, unknown pre-tokenizers and rotary scalings, tensors without a counterpart, NaN
//! and infinities. [`Gguf::parse`] is a pure function of the bytes: every length is checked before it is
//! used, nothing is allocated by a count that the file is too short for, and no input makes it panic.

mod architecture;
mod configuration;
pub mod dequantise;
pub mod export;
pub mod import;
pub mod quantise;
mod rows;
pub mod tokenizer;
mod vocabulary;
mod write;

use crate::error::{Error, Located, Result};
use crate::files::input;
use dequantise::BlockType;
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::path::Path;

const MAGIC: &[u8; 4] = b"GGUF";

/// Where tensors start unless `general.alignment` says otherwise, in bytes (GGUF specification).
const ALIGNMENT: u64 = 32;

/// Arrays of arrays are legal and unused; deeper nesting than this is an attack on the stack.
const DEEPEST_ARRAY: usize = 4;

/// ggml's limit of a tensor's dimensions.
const MOST_DIMENSIONS: u32 = 4;

/// Smallest encoded sizes, in bytes: a metadata entry (key length, type, one byte of value), a tensor
/// (name length, dimension count, type, offset), a string (its length) and an array (element type, count).
/// A count that promises more than the file could hold at these sizes is refused before anything is allocated.
const LEAST_ENTRY: usize = 13;
const LEAST_TENSOR: usize = 24;
const LEAST_STRING: usize = 8;
const LEAST_ARRAY: usize = 12;

/// The bytes of a file, without reading them into memory.
///
/// # Errors
/// It cannot be read.
fn mapped(path: &Path) -> Result<Mmap> {
    let file = input::open(path)?;
    // SAFETY: the map is read-only and private to this process's view of the file. As with checkpoints,
    // another process truncating the file meanwhile is outside what can be defended against; every length
    // is checked against the map's own.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) };
    map.map_err(|source| Error::reading(path, source))
}

/// A parsed GGUF file, borrowing its bytes.
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

/// The value of a metadata key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A single-precision floating-point number.
    Single(f32),
    /// A double-precision floating-point number.
    Double(f64),
    /// A truth value: true or false.
    Flag(bool),
    /// A string, which must be UTF-8.
    Text(&'a str),
    /// An array of values of one type.
    Array(Array<'a>),
}

/// An array in the metadata; all its elements have the same type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array<'a> {
    /// Numbers or truth values, still encoded.
    Scalars(Scalar, &'a [u8]),
    /// Strings, such as the tokens of the vocabulary.
    Texts(Vec<&'a str>),
    /// Arrays in an array, which are legal and not used.
    Arrays(Vec<Array<'a>>),
}

/// The encoding of a number or truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Unsigned integer of that many bytes.
    Unsigned(usize),
    /// Signed integer of that many bytes.
    Signed(usize),
    /// IEEE number of that many bytes, 4 or 8.
    Float(usize),
    /// One byte, 0 or 1.
    Flag,
}

/// A tensor and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    /// The block format in which its elements are stored.
    pub kind: BlockType,
    /// Its shape, slowest dimension first (GGUF itself writes the fastest first).
    pub shape: Vec<usize>,
    /// The bytes of its blocks, row after row.
    pub data: &'a [u8],
}

impl<'a> Gguf<'a> {
    /// Parses a whole file.
    ///
    /// # Errors
    /// Names what is wrong: not GGUF, another version or byte order, truncated, malformed metadata, a name
    /// that occurs twice, an unsupported block format, a tensor outside the file or over another one.
    pub fn parse(bytes: &'a [u8]) -> Result<Gguf<'a>> {
        let mut reader = Reader { bytes, position: 0 };
        if reader.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(Error::input("not a GGUF file: it does not begin with `GGUF`"));
        }
        match reader.u32()? {
            2 | 3 => {}
            1 => return Err(Error::input("GGUF version 1 is not supported (supported: 2, 3)")),
            // A version of the other byte order has its bytes at the other end.
            other if other & 0xffff == 0 => {
                return Err(Error::input(
                    "a big-endian GGUF file; only little-endian ones are supported",
                ));
            }
            other => {
                return Err(Error::input(format!(
                    "GGUF version {other} is not supported (supported: 2, 3)"
                )));
            }
        }
        let tensor_count = reader.count(LEAST_TENSOR).at("number of tensors")?;
        let entry_count = reader.count(LEAST_ENTRY).at("number of metadata entries")?;

        let mut metadata = BTreeMap::new();
        for index in 0..entry_count {
            let place = format!("metadata entry {index}");
            let key = reader.text().at(&place)?;
            let value = reader.value().at(format_args!("key `{key}`"))?;
            if metadata.insert(key, value).is_some() {
                return Err(Error::input(format!("key `{key}` occurs twice")));
            }
        }
        let mut infos = Vec::new();
        for index in 0..tensor_count {
            let place = format!("tensor {index}");
            let name = reader.text().at(&place)?;
            let info = reader.tensor().at(format_args!("tensor `{name}`"))?;
            infos.push((name, info));
        }

        let mut gguf = Gguf {
            metadata,
            tensors: BTreeMap::new(),
        };
        let alignment = gguf.alignment()?;
        let start = (reader.position as u64)
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| Error::input("the tensor data lie outside the file"))?;
        let mut ranges = Vec::new();
        for (name, info) in infos {
            let range = info
                .range(start, alignment, bytes.len())
                .at(format_args!("tensor `{name}`"))?;
            let tensor = Tensor {
                kind: info.kind,
                shape: info.shape,
                data: &bytes[range.clone()],
            };
            if gguf.tensors.insert(name, tensor).is_some() {
                return Err(Error::input(format!("tensor `{name}` occurs twice")));
            }
            ranges.push((range.start, range.end, name));
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, end, first), (begin, _, second)] = pair
                && end > begin
            {
                return Err(Error::input(format!("tensors `{first}` and `{second}` overlap")));
            }
        }
        Ok(gguf)
    }

    fn alignment(&self) -> Result<u64> {
        const KEY: &str = "general.alignment";
        match self.count(KEY)? {
            None => Ok(ALIGNMENT),
            Some(alignment) if alignment.is_power_of_two() => Ok(alignment as u64),
            Some(alignment) => Err(Error::input(format!("key `{KEY}` = {alignment} is not a power of two"))),
        }
    }

    /// All tensors of the file, by name.
    pub fn tensors(&self) -> &BTreeMap<&'a str, Tensor<'a>> {
        &self.tensors
    }

    /// All metadata of the file, by key.
    pub fn metadata(&self) -> &BTreeMap<&'a str, Value<'a>> {
        &self.metadata
    }

    fn typed<T>(&self, key: &str, wanted: &str, convert: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<Option<T>> {
        self.metadata
            .get(key)
            .map(|value| convert(value).ok_or_else(|| Error::input(format!("key `{key}` must be {wanted}"))))
            .transpose()
    }

    /// A number that is not negative, if given. An array of equal numbers, one for every block, is that number.
    ///
    /// # Errors
    /// The value is something else.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number, the same for all blocks", |value| {
            let whole = match value {
                Value::Array(array) => {
                    let mut all = array.integers()?;
                    let first = all.next()?;
                    all.all(|other| other == first).then_some(first)?
                }
                other => other.integer()?,
            };
            usize::try_from(whole).ok()
        })
    }

    /// A finite number, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", |value| {
            value.number().filter(|number| number.is_finite())
        })
    }

    /// True or false, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A string, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", |value| match value {
            Value::Text(text) => Some(*text),
            _ => None,
        })
    }

    /// An array of strings, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Texts(texts)) => Some(texts.clone()),
            // An empty array may carry any type.
            Value::Array(Array::Scalars(_, [])) => Some(Vec::new()),
            _ => None,
        })
    }

    /// An array of integers, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i128>>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(array) => Some(array.integers()?.collect()),
            _ => None,
        })
    }

    /// An array of numbers that are not NaN, if given.
    ///
    /// # Errors
    /// The value is something else.
    pub fn singles(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(
            key,
            "an array of single-precision numbers, none NaN",
            |value| match value {
                Value::Array(Array::Scalars(Scalar::Float(4), bytes)) => {
                    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    (!numbers.iter().any(|number| number.is_nan())).then_some(numbers)
                }
                _ => None,
            },
        )
    }
}

/// The result of a look-up that must not come back empty.
///
/// # Errors
/// There is no such key.
fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::input(format!("key `{key}` is missing")))
}

impl Value<'_> {
    fn integer(&self) -> Option<i128> {
        match self {
            Value::Unsigned(value) => Some(i128::from(*value)),
            Value::Signed(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Value::Single(value) => Some(f64::from(*value)),
            Value::Double(value) => Some(*value),
            other => other.integer().map(|value| value as f64),
        }
    }
}

impl<'a> Array<'a> {
    /// The elements, if they are integers.
    fn integers(&self) -> Option<impl Iterator<Item = i128> + use<'a>> {
        let Array::Scalars(scalar @ (Scalar::Unsigned(width) | Scalar::Signed(width)), bytes) = *self else {
            return None;
        };
        Some(
            bytes
                .chunks_exact(width)
                .filter_map(move |element| scalar.decode(element).integer()),
        )
    }
}

impl Scalar {
    fn width(self) -> usize {
        match self {
            Scalar::Unsigned(width) | Scalar::Signed(width) | Scalar::Float(width) => width,
            Scalar::Flag => 1,
        }
    }

    /// Decodes one element from its little-endian bytes.
    fn decode<'a>(self, bytes: &[u8]) -> Value<'a> {
        let mut wide = [0u8; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        let bits = u64::from_le_bytes(wide);
        match self {
            Scalar::Unsigned(_) => Value::Unsigned(bits),
            // The sign bit is moved to the top and back.
            Scalar::Signed(width) => {
                let unused = 64 - 8 * width as u32;
                Value::Signed((bits << unused) as i64 >> unused)
            }
            Scalar::Float(4) => Value::Single(f32::from_bits(bits as u32)),
            Scalar::Float(_) => Value::Double(f64::from_bits(bits)),
            Scalar::Flag => Value::Flag(bits != 0),
        }
    }
}

/// The type of a metadata value.
enum Kind {
    Scalar(Scalar),
    Text,
    Array,
}

/// What the header says about a tensor.
struct Info {
    kind: BlockType,
    shape: Vec<usize>,
    bytes: usize,
    offset: u64,
}

impl Info {
    /// Where the tensor lies in a file of `length` bytes whose tensors begin at `start`.
    fn range(&self, start: u64, alignment: u64, length: usize) -> Result<std::ops::Range<usize>> {
        if !self.offset.is_multiple_of(alignment) {
            return Err(Error::input(format!(
                "offset {} is not a multiple of the alignment {alignment}",
                self.offset
            )));
        }
        let begin = start
            .checked_add(self.offset)
            .and_then(|begin| usize::try_from(begin).ok());
        let end = begin.and_then(|begin| begin.checked_add(self.bytes));
        match (begin, end) {
            (Some(begin), Some(end)) if end <= length => Ok(begin..end),
            _ => Err(Error::input(format!(
                "truncated file: {} bytes at offset {} reach past its end",
                self.bytes, self.offset
            ))),
        }
    }
}

/// Reads forward through the file; never past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(taken) = rest.get(..length) else {
            return Err(Error::input(format!(
                "truncated file: {length} bytes wanted at byte {}, {} are there",
                self.position,
                rest.len()
            )));
        };
        self.position += length;
        Ok(taken)
    }

    fn fixed<const WIDTH: usize>(&mut self) -> Result<[u8; WIDTH]> {
        let mut bytes = [0; WIDTH];
        bytes.copy_from_slice(self.take(WIDTH)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// A number of things that take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.u64()?;
        let room = self.bytes.len().saturating_sub(self.position) / least;
        match usize::try_from(count) {
            Ok(count) if count <= room => Ok(count),
            _ => Err(Error::input(format!(
                "truncated file: it announces {count}, but has room for {room} at most"
            ))),
        }
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.count(1)?;
        let start = self.position;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| Error::input(format!("the string at byte {start} is not valid UTF-8")))
    }

    fn kind(&mut self) -> Result<Kind> {
        Ok(Kind::Scalar(match self.u32()? {
            0 => Scalar::Unsigned(1),
            1 => Scalar::Signed(1),
            2 => Scalar::Unsigned(2),
            3 => Scalar::Signed(2),
            4 => Scalar::Unsigned(4),
            5 => Scalar::Signed(4),
            6 => Scalar::Float(4),
            7 => Scalar::Flag,
            8 => return Ok(Kind::Text),
            9 => return Ok(Kind::Array),
            10 => Scalar::Unsigned(8),
            11 => Scalar::Signed(8),
            12 => Scalar::Float(8),
            other => return Err(Error::input(format!("metadata type {other} does not exist"))),
        }))
    }

    fn scalars(&mut self, scalar: Scalar, count: usize) -> Result<&'a [u8]> {
        // `count` elements were found to fit the file, so the product does too.
        let bytes = self.take(count * scalar.width())?;
        if scalar == Scalar::Flag
            && let Some(other) = bytes.iter().find(|byte| **byte > 1)
        {
            return Err(Error::input(format!("truth value {other} is neither 0 nor 1")));
        }
        Ok(bytes)
    }

    fn value(&mut self) -> Result<Value<'a>> {
        Ok(match self.kind()? {
            Kind::Scalar(scalar) => scalar.decode(self.scalars(scalar, 1)?),
            Kind::Text => Value::Text(self.text()?),
            Kind::Array => Value::Array(self.array(1)?),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Array<'a>> {
        if depth > DEEPEST_ARRAY {
            return Err(Error::input(format!(
                "arrays are nested deeper than {DEEPEST_ARRAY} levels"
            )));
        }
        match self.kind()? {
            Kind::Scalar(scalar) => {
                let count = self.count(scalar.width())?;
                Ok(Array::Scalars(scalar, self.scalars(scalar, count)?))
            }
            Kind::Text => {
                let count = self.count(LEAST_STRING)?;
                Ok(Array::Texts((0..count).map(|_| self.text()).collect::<Result<_>>()?))
            }
            Kind::Array => {
                let count = self.count(LEAST_ARRAY)?;
                let arrays = (0..count).map(|_| self.array(depth + 1));
                Ok(Array::Arrays(arrays.collect::<Result<_>>()?))
            }
        }
    }

    fn tensor(&mut self) -> Result<Info> {
        let dimensions = self.u32()?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(Error::input(format!(
                "{dimensions} dimensions (1 to {MOST_DIMENSIONS} are possible)"
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let length = self.u64()?;
            match usize::try_from(length) {
                Ok(length) if length > 0 => shape.insert(0, length),
                _ => return Err(Error::input(format!("a dimension of length {length}"))),
            }
        }
        let kind = BlockType::from_id(self.u32()?)?;
        let offset = self.u64()?;
        let columns = shape.last().copied().unwrap_or_default();
        if !columns.is_multiple_of(kind.elements()) {
            return Err(Error::input(format!(
                "rows of {columns} elements are not whole blocks of {} ({kind})",
                kind.elements()
            )));
        }
        // The elements must be countable as f32 too, which is what they become.
        let elements = shape
            .iter()
            .try_fold(1usize, |product, length| product.checked_mul(*length))
            .filter(|elements| *elements <= isize::MAX as usize / 4)
            .ok_or_else(|| Error::input(format!("shape {shape:?} has too many elements")))?;
        let bytes = elements / kind.elements() * kind.bytes();
        Ok(Info {
            kind,
            shape,
            bytes,
            offset,
        })
    }
}
