//! Headers of safetensors files: which tensors a file holds, of which type and shape, and where.
//!
//! Owns reading a header and refusing everything that makes one ambiguous: a name that stands twice, data that
//! overlap or leave a gap, a length that does not fit the file. Of two equal names the `safetensors` crate takes
//! the last and other programs the first; here such a file is refused.

use super::json::{TWICE, Unique};
use crate::error::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;

/// The longest header that is read, in bytes: the limit of the format.
pub const LONGEST: u64 = 100_000_000;

/// Number of bytes before the header: a little-endian number that gives the header's length.
const PREFIX: u64 = 8;

/// The key for a file's description of itself; every other key is the name of a tensor.
pub const METADATA: &str = "__metadata__";

/// The message for a file that became shorter between two reads.
pub const SHORTER: &str =
    "the file became shorter while it was in use; start again when the program that writes to it has ended";

/// A header whose tensors fill the data of its file without overlap or gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The header as it is stored, with the spaces that pad it.
    pub text: String,
    /// The description that the file gives of itself.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data.
    pub tensors: Vec<HeaderEntry>,
}

/// One tensor of a safetensors file, as the header describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderEntry {
    /// Name of the tensor in the file.
    pub name: String,
    /// Number format of the tensor's elements.
    pub dtype: Dtype,
    /// Number of elements in each dimension.
    pub shape: Vec<usize>,
    /// Position of its first byte, counted from the end of the header.
    pub start: u64,
    /// Position after its last byte, counted from the end of the header.
    pub end: u64,
}

impl HeaderEntry {
    /// Number of bytes of the tensor's data.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl Header {
    /// Parses the text of a header; reads no file.
    ///
    /// # Errors
    /// It is no header, names something twice, or its data overlap or leave a gap.
    pub fn parse(text: String) -> Result<Self> {
        let raw: Raw = serde_json::from_str(&text).map_err(|error| {
            let message = error.to_string();
            match message.split_once(TWICE) {
                Some((name, _)) => corrupt(&format!("{name}{TWICE} in the header")),
                None => corrupt("the header is not valid"),
            }
        })?;
        let mut infos = raw.tensors;
        infos.sort_by_key(|(_, info)| info.data_offsets);
        let tensors = infos.iter().map(|(name, info)| HeaderEntry {
            name: name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: info.data_offsets.0 as u64,
            end: info.data_offsets.1 as u64,
        });
        let tensors = tensors.collect();
        Metadata::new(None, infos).map_err(|error| corrupt(&explain(&error)))?;
        Ok(Header {
            text,
            metadata: raw.metadata.into_iter().collect(),
            tensors,
        })
    }

    /// Reads the header at the start of a file that is `length` bytes long, and no more of it.
    ///
    /// # Errors
    /// As [`Header::parse`]; the data do not fill the file; the system's errors.
    pub fn read(mut file: impl Read, length: u64) -> Result<Self> {
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::input(SHORTER),
            _ => Error::input(format!("cannot read: {error}")),
        };
        if length < PREFIX {
            return Err(corrupt("the file is shorter than a header"));
        }
        let mut announced = [0; PREFIX as usize];
        file.read_exact(&mut announced).map_err(unreadable)?;
        let announced = u64::from_le_bytes(announced);
        if announced > length - PREFIX {
            return Err(corrupt("the header's length does not fit the file"));
        }
        if announced > LONGEST {
            let message = format!("the header has {announced} bytes, but the format allows {LONGEST}");
            return Err(corrupt(&message));
        }
        let mut text = vec![0; announced as usize];
        file.read_exact(&mut text).map_err(unreadable)?;
        let text = String::from_utf8(text).map_err(|_| corrupt("the header is not valid"))?;
        let header = Header::parse(text)?;
        if header.data().checked_add(header.data_bytes()) != Some(length) {
            return Err(corrupt("the data does not fill the file as the header says"));
        }
        Ok(header)
    }

    /// Position in the file where the data begin.
    pub fn data(&self) -> u64 {
        PREFIX + self.text.len() as u64
    }

    /// Number of bytes of the data of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |tensor| tensor.end)
    }

    /// The bytes before the data, as they are in the file: length and text of the header.
    pub fn stored(&self) -> Vec<u8> {
        let length = (self.text.len() as u64).to_le_bytes();
        [&length[..], self.text.as_bytes()].concat()
    }
}

/// A header as JSON, in which every name occurs once.
struct Raw {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, TensorInfo)>,
}

/// Checks that a name has not occurred before.
fn once<E: serde::de::Error>(seen: &mut HashSet<String>, what: &str, name: &str) -> std::result::Result<(), E> {
    match seen.insert(name.to_string()) {
        true => Ok(()),
        false => Err(E::custom(format!("{what} `{name}`{TWICE}"))),
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw, A::Error> {
                let mut seen = HashSet::new();
                let mut raw = Raw {
                    metadata: Vec::new(),
                    tensors: Vec::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        once(&mut seen, "key", &name)?;
                        let metadata = map.next_value::<Option<Unique<String>>>();
                        let metadata = metadata.map_err(|error| A::Error::custom(format!("metadata {error}")))?;
                        raw.metadata = metadata.map_or(Vec::new(), |it| it.0);
                    } else {
                        once(&mut seen, "tensor", &name)?;
                        raw.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn corrupt(reason: &str) -> Error {
    Error::input(format!(
        "truncated or corrupt safetensors file: {reason}; download or copy it again, or have its program write it again"
    ))
}

fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::TensorInvalidInfo => "a tensor's offsets do not fit its shape and type".to_string(),
        SafeTensorError::InvalidOffset(name) => format!("tensor `{name}` overlaps another or leaves a gap"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Header::parse(text.to_string()).expect_err(text).to_string()
    }

    #[test]
    fn the_stored_text_and_the_order_of_the_data_are_kept() {
        let text = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]},"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"__metadata__":{"z":"1","y":"2"}}  "#;
        let header = Header::parse(text.to_string()).expect("a header");
        let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(header.metadata["y"], "2");
        let file = [header.stored(), vec![0; 6]].concat();
        assert_eq!(Header::read(&file[..], file.len() as u64).expect("the same"), header);
    }

    #[test]
    fn what_two_programs_would_read_differently_is_refused() {
        let a = r#""a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
        let wide = r#""a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}"#;
        for (text, expect) in [
            (format!("{{{a},{wide}}}"), "tensor `a` stands twice in the header"),
            (
                format!(r#"{{{a},"\u0061":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#),
                "tensor `a` stands twice",
            ),
            (
                r#"{"__metadata__":{},"__metadata__":{}}"#.to_string(),
                "key `__metadata__` stands twice",
            ),
            (
                r#"{"__metadata__":{"k":"1","k":"2"}}"#.to_string(),
                "metadata key `k` stands twice",
            ),
            (
                r#"{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#.to_string(),
                "the header is not valid",
            ),
            (
                format!(r#"{{{a},"b":{{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}}}"#),
                "tensor `b` overlaps",
            ),
            (
                format!(r#"{{{a},"b":{{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}}}"#),
                "leaves a gap",
            ),
            (
                format!(r#"{{{a},"b":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#),
                "overlaps",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}}"#.to_string(),
                "offsets do not fit",
            ),
        ] {
            assert!(refusal(&text).contains(expect), "{text}: {}", refusal(&text));
        }
    }

    #[test]
    fn a_header_beyond_the_formats_limit_is_named_as_that() {
        let announced = (LONGEST + 1).to_le_bytes();
        let error = Header::read(&announced[..], 1 << 40).expect_err("too long");
        assert!(error.to_string().contains("the format allows 100000000"), "{error}");
    }
}
