//! Tokenisation through a model directory's own `tokenizer.json` (crate `tokenizers`).
//!
//! A text is encoded once, as a whole, with the tokenizer's own special tokens; the papers' perplexity
//! protocol depends on that (one BOS at the very front, where the tokenizer adds one).

use crate::data::digest;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A loaded tokenizer and the hash of the file it came from.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    digest: String,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from the model directory `dir`.
    ///
    /// # Errors
    /// The file is missing or is not a tokenizer.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| Error::reading(&path, source))?;
        let inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| Error::input(format!("not a tokenizer: {error}")).at(path.display()))?;
        let digest = digest::of_bytes(&bytes);
        Ok(Tokenizer { path, inner, digest })
    }

    /// SHA-256 of `tokenizer.json`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Encodes a text with the tokenizer's own special tokens.
    ///
    /// # Errors
    /// The tokenizer fails, or yields an id outside a vocabulary of `vocabulary` tokens.
    pub fn encode(&self, text: &str, vocabulary: usize) -> Result<Vec<u32>> {
        let fail = |message: String| Error::input(message).at(self.path.display());
        let encoding = self
            .inner
            .encode_fast(text, true)
            .map_err(|error| fail(format!("cannot encode the text: {error}")))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(fail(format!(
                "token id {id} is outside the model's vocabulary of {vocabulary}; tokenizer and config.json do not belong together"
            ))),
            None => Ok(ids.to_vec()),
        }
    }
}
