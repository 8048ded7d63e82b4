//! Tokenisation through a model directory's own `tokenizer.json` (crate `tokenizers`).
//!
//! A text is encoded once, as a whole, with the tokenizer's own special tokens; the papers' perplexity
//! protocol depends on that (one BOS at the very front, where the tokenizer adds one).

use crate::data::digest;
use crate::data::guard::guarded;
use crate::error::{Error, Result};
use crate::files::input;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Whether a text starts with the tokenizer's special tokens (a BOS, where it adds one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Bos {
    /// As the tokenizer does by default; the papers' way.
    #[default]
    Tokenizer,
    /// Never.
    Never,
}

impl Bos {
    /// For records: the default is left out, as it was before there was a choice.
    pub fn is_default(&self) -> bool {
        *self == Bos::default()
    }
}

/// A special token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Special {
    /// Its id.
    pub id: u32,
    /// How it is written.
    pub text: String,
}

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
        let bytes = input::read(&path, input::TOKENIZER)?;
        let load = || {
            let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)?;
            // A file may ask for texts to be cut or padded to a training length; transformers ignores that
            // unless its caller asks for it too, and here a text is always encoded whole.
            inner.with_truncation(None)?.with_padding(None);
            Ok(inner)
        };
        let inner =
            sound(load).map_err(|message| Error::input(format!("not a tokenizer: {message}")).at(path.display()))?;
        let digest = digest::of_bytes(&bytes);
        Ok(Tokenizer { path, inner, digest })
    }

    /// SHA-256 of `tokenizer.json`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Encodes a text, with the tokenizer's own special tokens or without.
    ///
    /// # Errors
    /// The tokenizer fails, or yields an id outside a vocabulary of `vocabulary` tokens.
    pub fn encode(&self, text: &str, bos: Bos, vocabulary: usize) -> Result<Vec<u32>> {
        let fail = |message: String| Error::input(message).at(self.path.display());
        let encoding = sound(|| self.inner.encode_fast(text, bos == Bos::Tokenizer))
            .map_err(|message| fail(format!("cannot encode the text: {message}")))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(fail(format!(
                "token id {id} is outside the model's vocabulary of {vocabulary}; tokenizer and config.json do not belong together"
            ))),
            None => Ok(ids.to_vec()),
        }
    }
}

impl Tokenizer {
    /// The token that `tokenizer_config.json`, `special_tokens_map.json` or else `config.json` names by `role`:
    /// `bos_token` or `eos_token`. None of them needs to.
    ///
    /// # Errors
    /// One of the files is malformed, or names a token that the tokenizer does not have.
    pub fn special(&self, role: &str) -> Result<Option<Special>> {
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let named = self.beside(name)?;
            let value = named.get(role);
            let text = value.and_then(|value| value.get("content").or(Some(value))?.as_str());
            if let Some(text) = text {
                let id = self.inner.token_to_id(text).ok_or_else(|| {
                    Error::input(format!("{role} `{text}` is not in tokenizer.json"))
                        .at(self.path.with_file_name(name).display())
                })?;
                return Ok(Some(Special {
                    id,
                    text: text.to_string(),
                }));
            }
        }
        let named = self.beside("config.json")?;
        let id = named.get(format!("{role}_id"));
        // A list names several ends of a text; the first is the one that texts are trained with.
        let id = id.and_then(|id| id.get(0).unwrap_or(id).as_u64());
        let id = id.and_then(|id| u32::try_from(id).ok());
        Ok(id.and_then(|id| {
            let text = self.inner.id_to_token(id)?;
            Some(Special { id, text })
        }))
    }

    /// A JSON file beside the tokenizer's; null where there is none.
    fn beside(&self, name: &str) -> Result<serde_json::Value> {
        let path = self.path.with_file_name(name);
        match input::read_text_if_there(&path, input::SMALL)? {
            None => Ok(serde_json::Value::Null),
            Some(text) => serde_json::from_str(&text)
                .map_err(|error| Error::input(format!("not JSON: {error}")).at(path.display())),
        }
    }
}

/// Calls the crate `tokenizers`, which panics on some malformed files (a template that names an unknown
/// token, a merge of unknown parts, broken JSON in a decoder), and makes such a panic an ordinary message.
fn sound<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    guarded(call)?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_cut_or_padded() {
        let text = include_str!("../../tests/fixtures/tiny/tokenizer.json");
        let cut = r#""truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}"#;
        let pad = r#""padding": {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}"#;
        let text = text
            .replace("\"truncation\": null", cut)
            .replace("\"padding\": null", pad);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tokenizer.json"), text).expect("a small file");
        let tokenizer = Tokenizer::load(folder.path()).expect("the fixture is a tokenizer");
        let ids = tokenizer
            .encode("eleven byte", Bos::Tokenizer, 259)
            .expect("all bytes are tokens");
        assert_eq!(ids.len(), 12, "eleven bytes after one <s>");
        let ids = tokenizer
            .encode("eleven byte", Bos::Never, 259)
            .expect("all bytes are tokens");
        assert_eq!(ids.len(), 11);
    }
}
