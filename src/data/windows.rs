//! Token windows: equally long runs of token ids, the unit of calibration and of perplexity.
//!
//! A file of windows is a safetensors file with one tensor `input_ids` of shape `[windows, length]`, so
//! that another program can use the same tokens, or choose them.

use crate::data::digest;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::files::header::Header;
use crate::files::{input, write_whole};
use crate::memory;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The one tensor of a token windows file.
const TENSOR: &str = "input_ids";

/// The largest file that is read where the system does not say how much memory is free, in bytes.
const LIMIT: u64 = 4 << 30;

/// `count` windows of `length` tokens each.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenWindows {
    ids: Vec<u32>,
    length: usize,
    /// How much each token counts in calibration; all alike without.
    weights: Option<Arc<[f32]>>,
}

impl TokenWindows {
    /// Windows from their concatenated ids.
    ///
    /// # Errors
    /// The length is below 2 (nothing to predict), there is no window, or the ids do not fill whole windows.
    pub fn new(ids: Vec<u32>, length: usize) -> Result<Self> {
        if length < 2 || ids.is_empty() || !ids.len().is_multiple_of(length) {
            return Err(Error::input(format!(
                "{} tokens do not make one or more windows of {length}",
                ids.len()
            )));
        }
        Ok(TokenWindows {
            ids,
            length,
            weights: None,
        })
    }

    /// The same windows with a weight for each token, which calibration multiplies its statistics by: 0 for a token that
    /// does not count.
    ///
    /// # Errors
    /// There are not as many weights as tokens, a weight is negative or not finite, or a window has no token that counts.
    pub fn weighted(self, weights: Vec<f32>) -> Result<Self> {
        if weights.len() != self.ids.len() {
            let message = format!("{} weights for {} tokens", weights.len(), self.ids.len());
            return Err(Error::input(message));
        }
        let place = |index: usize| format!("window {}, token {}", index / self.length, index % self.length);
        if let Some(wrong) = weights
            .iter()
            .position(|weight| !(weight.is_finite() && *weight >= 0.0))
        {
            let message = format!(
                "weight {} ({}) must be a number, 0 or larger",
                weights[wrong],
                place(wrong)
            );
            return Err(Error::input(message));
        }
        let mut windows = weights.chunks(self.length);
        if let Some(window) = windows.position(|weights| weights.iter().all(|weight| *weight == 0.0)) {
            let message = format!("no token of window {window} has a weight above 0");
            return Err(Error::input(message));
        }
        Ok(TokenWindows {
            weights: Some(weights.into()),
            ..self
        })
    }

    /// The weight of each token, window after window; none if all count alike.
    pub fn weights(&self) -> Option<&Arc<[f32]>> {
        self.weights.as_ref()
    }

    /// For every token, how much the prediction of the next one counts in the mean over its window: 1 if all tokens count alike. Where
    /// tokens have weights, a window's loss is the sum of those of its tokens 1, 2, ... times their weights, over the number of them
    /// that count; a window of which none counts has no loss. The last token of a window predicts nothing, so it has 0.
    pub fn predictions(&self) -> Vec<f32> {
        let mut counts = vec![1.0; self.ids.len()];
        let last = self.length - 1;
        let windows = counts.chunks_mut(self.length);
        for (index, window) in windows.enumerate() {
            if let Some(weights) = &self.weights {
                let weights = &weights[index * self.length + 1..(index + 1) * self.length];
                let counted = weights.iter().filter(|weight| **weight > 0.0).count().max(1);
                let share = last as f32 / counted as f32;
                window
                    .iter_mut()
                    .zip(weights)
                    .for_each(|(count, weight)| *count = weight * share);
            }
            window[last] = 0.0;
        }
        counts
    }

    /// Some of the windows, with the weights of their tokens.
    ///
    /// # Errors
    /// There are none, or none of their tokens counts.
    ///
    /// # Panics
    /// There are fewer windows.
    pub fn part(&self, windows: Range<usize>) -> Result<Self> {
        let tokens = windows.start * self.length..windows.end * self.length;
        let part = TokenWindows::new(self.ids[tokens.clone()].to_vec(), self.length)?;
        match &self.weights {
            Some(weights) => part.weighted(weights[tokens].to_vec()),
            None => Ok(part),
        }
    }

    /// Consecutive, non-overlapping windows from the start of `ids`; the tail that fills no window is
    /// dropped, as the papers do. At most `limit` windows, when given.
    ///
    /// # Errors
    /// The ids fill no window, or fewer than the limit asks for.
    pub fn consecutive(ids: &[u32], length: usize, limit: Option<usize>) -> Result<Self> {
        let whole = ids.len() / length.max(1);
        let count = limit.unwrap_or(whole);
        if whole == 0 || count > whole {
            return Err(Error::input(format!(
                "the text has {} tokens, which fill {whole} {} of {length}, but {} needed; use more text, fewer windows or shorter ones",
                ids.len(),
                if whole == 1 { "window" } else { "windows" },
                if limit.is_some() {
                    format!("{count} are")
                } else {
                    "at least one is".to_string()
                },
            )));
        }
        TokenWindows::new(ids[..count * length].to_vec(), length)
    }

    /// Reads a token windows file: safetensors with one tensor `input_ids` `[windows, length]` of type
    /// I64, I32 or U32.
    ///
    /// # Errors
    /// The file is missing, is not such a file, or holds an id that is negative or does not fit 32 bits.
    pub fn read(path: &Path) -> Result<Self> {
        // The file and the ids are in memory together.
        let limit = memory::available().map_or(LIMIT, |free| free / 2);
        TokenWindows::parse(&input::read(path, limit)?).at(path.display())
    }

    /// Reads the bytes of a token windows file.
    ///
    /// # Errors
    /// As [`TokenWindows::read`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let header = Header::read(bytes, bytes.len() as u64).at("not a token windows file (safetensors)")?;
        let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let Some(tensor) = header.tensors.iter().find(|tensor| tensor.name == TENSOR) else {
            let message = format!("has no tensor `{TENSOR}`, which holds the token windows, but {names:?}");
            return Err(Error::input(message));
        };
        if names.len() > 1 {
            let message = format!("a token windows file holds `{TENSOR}` alone, but here are {names:?}");
            return Err(Error::input(message));
        }
        let &[_, length] = &tensor.shape[..] else {
            let shape = &tensor.shape;
            let message = format!("`{TENSOR}` has shape {shape:?}; it must be [windows, tokens per window]");
            return Err(Error::input(message));
        };
        // It is the only one, and fills the file.
        let data = &bytes[header.data() as usize..];
        let ids = match tensor.dtype {
            Dtype::I64 => ids(data.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id)), length)?,
            Dtype::I32 => ids(
                data.as_chunks().0.iter().map(|id| i32::from_le_bytes(*id).into()),
                length,
            )?,
            Dtype::U32 => ids(
                data.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id).into()),
                length,
            )?,
            other => {
                let message = format!("`{TENSOR}` has type {other:?}; token ids are I64, I32 or U32");
                return Err(Error::input(message));
            }
        };
        TokenWindows::new(ids, length)
    }

    /// Writes a token windows file. It appears whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.file().at(path.display())?)
    }

    /// The bytes of a token windows file, with 64-bit ids as PyTorch wants them.
    ///
    /// # Errors
    /// There are more windows than a file can say.
    pub fn file(&self) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
        let fail = |error| Error::new(ErrorKind::Output, format!("cannot be stored: {error}"));
        let tensor = TensorView::new(Dtype::I64, vec![self.count(), self.length], &bytes).map_err(fail)?;
        safetensors::serialize([(TENSOR, tensor)], None).map_err(fail)
    }

    /// Checks that a model knows every token.
    ///
    /// # Errors
    /// An id is outside a vocabulary of `vocabulary` tokens.
    pub fn check_vocabulary(&self, vocabulary: usize) -> Result<()> {
        match self.ids.iter().position(|id| *id as usize >= vocabulary) {
            None => Ok(()),
            Some(index) => Err(Error::input(format!(
                "token id {} (window {}, token {}) is outside the model's vocabulary of {vocabulary}; these are another tokenizer's tokens",
                self.ids[index],
                index / self.length,
                index % self.length
            ))),
        }
    }

    /// Number of tokens per window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of windows in the set.
    pub fn count(&self) -> usize {
        self.ids.len() / self.length
    }

    /// All ids, window after window.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// SHA-256 of the ids as little-endian 32-bit words, followed by the weights if there are any: two programs with the
    /// same digest saw the same tokens.
    pub fn digest(&self) -> String {
        let mut bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let weights = self.weights.iter().flat_map(|weights| weights.iter());
        bytes.extend(weights.flat_map(|weight| weight.to_le_bytes()));
        digest::of_bytes(&bytes)
    }
}

/// Token ids of windows of `length`.
fn ids(values: impl ExactSizeIterator<Item = i64>, length: usize) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(values.len());
    for (index, value) in values.enumerate() {
        ids.push(u32::try_from(value).map_err(|_| {
            let (window, token) = (index / length.max(1), index % length.max(1));
            Error::input(format!("{value} is not a token id (window {window}, token {token})"))
        })?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_dropped() {
        let windows = TokenWindows::consecutive(&[1, 2, 3, 4, 5, 6, 7], 3, None).expect("two windows");
        assert_eq!((windows.ids(), windows.count()), (&[1, 2, 3, 4, 5, 6][..], 2));
    }

    #[test]
    fn too_short_a_text_is_refused_with_the_numbers() {
        let error = TokenWindows::consecutive(&[1, 2, 3], 4, None).expect_err("no window");
        assert!(error.to_string().contains("3 tokens, which fill 0 windows of 4"));
        let error = TokenWindows::consecutive(&[1, 2, 3, 4], 2, Some(3)).expect_err("two windows only");
        assert!(error.to_string().contains("fill 2 windows of 2, but 3 are needed"));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let file = |header: &str| {
            let length = (header.len() as u64).to_le_bytes();
            TokenWindows::parse(&[&length, header.as_bytes(), &[0; 64]].concat())
        };
        let one = r#""input_ids":{"dtype":"I64","shape":[2,4],"data_offsets":[0,64]}"#;
        file(&format!("{{{one}}}")).expect("two windows");
        let error = file(&format!("{{{one},{one}}}")).expect_err("twice").to_string();
        assert!(
            error.contains("not a token windows file") && error.contains("tensor `input_ids` stands twice"),
            "{error}"
        );
    }
}
