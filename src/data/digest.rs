//! Content hashes: SHA-256 in hexadecimal, of bytes and of files.

use crate::error::{Error, Result};
use crate::files::input;
use sha2::{Digest, Sha256};
use std::path::Path;

/// SHA-256 of `bytes`.
pub fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 of a file, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = input::open(path)?;
    let mut hash = HashWriter(Sha256::new());
    std::io::copy(&mut file, &mut hash).map_err(|source| Error::reading(path, source))?;
    Ok(hexadecimal(&hash.0.finalize()))
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct HashWriter(Sha256);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
