//! Content hashes in hexadecimal: SHA-256 of bytes and of files, and git's hash of a file.

use crate::error::{Error, Result};
use crate::files::input;
use sha1::Sha1;
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
    of_content(&mut file, Sha256::new()).map_err(|source| Error::reading(path, source))
}

/// The hash by which git knows a file's content: SHA-1 of `blob`, its length, a zero byte and the content.
///
/// # Errors
/// The file cannot be read.
pub fn of_file_in_git(path: &Path) -> Result<String> {
    let mut file = input::open(path)?;
    let mut hash = || {
        let start = format!("blob {}\0", file.metadata()?.len());
        of_content(&mut file, Sha1::new_with_prefix(start))
    };
    hash().map_err(|source| Error::reading(path, source))
}

fn of_content<D: Digest>(file: &mut std::fs::File, hash: D) -> std::io::Result<String> {
    let mut hash = HashWriter(hash);
    std::io::copy(file, &mut hash)?;
    Ok(hexadecimal(&hash.0.finalize()))
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct HashWriter<D>(D);

impl<D: Digest> std::io::Write for HashWriter<D> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
