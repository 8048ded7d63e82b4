//! Content hashes in hexadecimal: SHA-256 of bytes and of files, and git's hash of a file.

use crate::error::{Error, Result};
use crate::files::input;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

/// Size and hash of a file: enough to tell whether another file has the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, as hexadecimal digits.
    pub sha256: String,
}

impl FileDigest {
    /// The digest of a file with this content.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        FileDigest {
            bytes: bytes.len() as u64,
            sha256: of_bytes(bytes),
        }
    }

    /// Computes the digest of a file, which is read in pieces.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut file = input::open(path)?;
        let mut running = RunningDigest::default();
        std::io::copy(&mut file, &mut running).map_err(|source| Error::reading(path, source))?;
        Ok(running.finish())
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.bytes, self.sha256)
    }
}

/// Computes a digest while content is written to it.
#[derive(Debug, Clone, Default)]
pub struct RunningDigest {
    bytes: u64,
    hash: Sha256,
}

impl RunningDigest {
    /// Adds more of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// The digest of all content that was added.
    pub fn finish(self) -> FileDigest {
        FileDigest {
            bytes: self.bytes,
            sha256: hexadecimal(&self.hash.finalize()),
        }
    }
}

impl std::io::Write for RunningDigest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of `bytes`, as hexadecimal digits.
pub fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 of a file, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn of_file(path: &Path) -> Result<String> {
    Ok(FileDigest::of_file(path)?.sha256)
}

/// The hash that git gives a file's content: SHA-1 of `blob`, its length, a zero byte and the content.
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

/// The bytes as lower-case hexadecimal digits.
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
