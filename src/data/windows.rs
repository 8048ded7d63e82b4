//! Token windows: equally long runs of token ids, the unit of calibration and of perplexity.

use crate::data::digest;
use crate::error::{Error, Result};

/// `count` windows of `length` tokens each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWindows {
    ids: Vec<u32>,
    length: usize,
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
        Ok(TokenWindows { ids, length })
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
                "the text has {} tokens, which fill {whole} windows of {length}, but {} needed",
                ids.len(),
                if limit.is_some() {
                    format!("{count} are")
                } else {
                    "at least one is".to_string()
                },
            )));
        }
        TokenWindows::new(ids[..count * length].to_vec(), length)
    }

    /// Tokens per window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.ids.len() / self.length
    }

    /// All ids, window after window.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// SHA-256 of the ids as little-endian 32-bit words: two programs with the same digest saw the same tokens.
    pub fn digest(&self) -> String {
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        digest::of_bytes(&bytes)
    }
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
}
