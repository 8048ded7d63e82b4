//! How far a pruned model is from the dense one on the windows of an evaluation.
//!
//! Perplexity looks at one token of each distribution, the one that follows in the text. Two models can have the same perplexity and
//! predict different things. Here whole distributions are compared, at the same positions of the same windows: every token of a window
//! but the first is predicted from those before it by both models. With `p` of the dense model and `q` of the other,
//!
//! - the Kullback-Leibler divergence is `sum p ln(p / q)` over the vocabulary, in nats; 0 where both predict the same;
//! - they agree where both have the same likeliest token. Of equally likely tokens the first of the vocabulary counts.
//!
//! Both are means over the positions of a window, and each window counts once. Logits are never stored: the dense model's stream after
//! its last block is, which has the size of the evaluation's own, and both heads are applied to the same rows in turn.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::forward::{Ends, Hidden};

/// How far a model is from the dense one, window by window.
#[derive(Debug, Clone, PartialEq)]
pub struct ToDense {
    /// Mean divergence of every window, in nats per predicted token.
    pub kl: Vec<f64>,
    /// For every window, the share of predicted tokens of which both models find the same likeliest.
    pub agreement: Vec<f64>,
}

impl ToDense {
    /// Compares two streams of the same windows, each after its model's last block and with its model's ends.
    ///
    /// # Errors
    /// The backend fails, or a divergence is not finite.
    pub fn of<B: Backend>(
        backend: &B,
        (hidden, ends): (&Hidden<B>, &Ends<B>),
        dense: (&Hidden<B>, &Ends<B>),
    ) -> Result<ToDense> {
        let (mut kl, mut agreement) = (Vec::new(), Vec::new());
        hidden.divergences(backend, ends, dense, |batch| {
            for window in batch {
                let tokens = window.len() as f64;
                kl.push(window.iter().map(|token| token.kl).sum::<f64>() / tokens);
                agreement.push(window.iter().filter(|token| token.agrees).count() as f64 / tokens);
            }
        })?;
        match kl.iter().position(|mean: &f64| !mean.is_finite()) {
            None => Ok(ToDense { kl, agreement }),
            Some(index) => Err(Error::numeric(format!(
                "the divergence from the dense model in evaluation window {index} is not finite"
            ))),
        }
    }
}

/// The mean over windows, each of which counts once.
pub fn mean(windows: &[f64]) -> f64 {
    windows.iter().sum::<f64>() / windows.len() as f64
}
