//! Perplexity by the papers' protocol (SparseGPT, Wanda, RIA, Z-Pruner).
//!
//! The text is tokenised once and cut into consecutive windows; within a window every token but the
//! first is predicted from those before it; the mean negative log-likelihood of a window counts once,
//! whatever the window, and `perplexity = exp(mean of window means)`. Lower is better. Log-likelihoods
//! are computed from `f32` logits and summed in `f64`, where the originals use half precision.

use super::to_dense::ToDense;
use crate::backend::Backend;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::model::forward::{Block, Ends, Hidden};
use crate::spec::ModelSpec;

/// Scores token windows block by block, so that only one block of the model is needed in memory at a time.
pub struct PerplexityScorer<'a, B: Backend> {
    windows: &'a TokenWindows,
    hidden: Hidden<B>,
}

impl<'a, B: Backend> PerplexityScorer<'a, B> {
    /// Embeds the windows.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new(backend: &B, spec: &ModelSpec, ends: &Ends<B>, windows: &'a TokenWindows) -> Result<Self> {
        Ok(PerplexityScorer {
            windows,
            hidden: Hidden::embed(backend, spec, ends, windows)?,
        })
    }

    /// Moves the windows through the next block.
    ///
    /// # Errors
    /// The backend fails.
    pub fn advance(&mut self, backend: &B, spec: &ModelSpec, block: &Block<B>) -> Result<()> {
        self.hidden.advance(backend, spec, block, |_, _| Ok(()))
    }

    /// The stream of the windows as it is now: after the last block, what a pruned model is compared with.
    pub fn into_stream(self) -> Hidden<B> {
        self.hidden
    }

    /// To be called after the last block: how far the model is from the dense one, whose stream of the same windows and whose ends
    /// `dense` are.
    ///
    /// # Errors
    /// The backend fails, or a divergence is not finite.
    pub fn to_dense(&self, backend: &B, ends: &Ends<B>, dense: (&Hidden<B>, &Ends<B>)) -> Result<ToDense> {
        ToDense::of(backend, (&self.hidden, ends), dense)
    }

    /// To be called after the last block: returns the mean negative log-likelihood of every window, in nats per
    /// token. After every batch of windows, `scored` is given the values that are known so far.
    ///
    /// # Errors
    /// The backend fails, or a window's likelihood is not finite.
    pub fn finish(&self, backend: &B, ends: &Ends<B>, mut scored: impl FnMut(&[f64])) -> Result<Vec<f64>> {
        let mut means = Vec::with_capacity(self.windows.count());
        self.hidden.log_likelihoods(backend, ends, self.windows, |batch| {
            let batch = batch
                .iter()
                .map(|window| -window.iter().sum::<f64>() / window.len() as f64);
            means.extend(batch);
            scored(&means);
        })?;
        match means.iter().position(|mean| !mean.is_finite()) {
            None => Ok(means),
            Some(index) => Err(Error::numeric(format!(
                "the log-likelihood of evaluation window {index} is not finite"
            ))),
        }
    }
}

/// The perplexity: `exp` of the mean of the windows' mean negative log-likelihoods (nats per token).
///
/// # Errors
/// The perplexity overflows, beyond 709 nats per token: tables and records (JSON) have no infinity.
pub fn perplexity(window_means: &[f64]) -> Result<f64> {
    let mean = window_means.iter().sum::<f64>() / window_means.len() as f64;
    let perplexity = mean.exp();
    if perplexity.is_finite() {
        Ok(perplexity)
    } else {
        Err(Error::numeric(format!(
            "the perplexity, exp of {mean:.1} nats per token, is not finite"
        )))
    }
}
