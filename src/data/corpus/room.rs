//! The memory that the texts of a corpus may take, however much a packed file would unpack to.

use crate::data::text_file;
use crate::error::{Error, Result};
use bytesize::ByteSize;

/// The memory for texts that is left while rows are read.
pub struct TextRoom {
    limit: u64,
    left: u64,
    /// Size of the file in bytes, if it is packed.
    packed: Option<u64>,
}

impl TextRoom {
    /// As much as texts may take on this machine.
    pub fn new() -> Self {
        TextRoom::of(text_file::limit())
    }

    /// Room for texts of this many bytes in all.
    pub fn of(limit: u64) -> Self {
        TextRoom {
            limit,
            left: limit,
            packed: None,
        }
    }

    /// The memory for the text that a packed file of `size` bytes unpacks to.
    pub fn unpacked(size: u64) -> Self {
        TextRoom {
            packed: Some(size),
            ..TextRoom::of(text_file::most_unpacked(size, text_file::limit()))
        }
    }

    /// Checks that this many bytes fit in the memory that is left; reserves nothing.
    pub fn holds(&self, bytes: u64) -> Result<()> {
        match bytes <= self.left {
            true => Ok(()),
            false => Err(self.full(bytes)),
        }
    }

    /// How many times this many bytes fit in the memory that is left.
    pub fn times(&self, bytes: u64) -> u64 {
        self.left / bytes.max(1)
    }

    fn full(&self, bytes: u64) -> Error {
        match self.packed {
            None => text_file::too_long(self.limit),
            Some(size) => Error::input(format!(
                "{}, this part alone to {}; if it is a text, use a part of it",
                text_file::unpacks_too_far(size, self.limit),
                ByteSize(bytes)
            )),
        }
    }

    /// Subtracts a row of `length` bytes from the memory that is left.
    pub fn take(&mut self, length: usize) -> Result<()> {
        let bytes = (length + size_of::<String>()) as u64;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.full(bytes))?;
        Ok(())
    }
}
