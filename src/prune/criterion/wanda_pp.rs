//! The regional gradient score of Wanda++ (Yang et al., Findings of ACL 2025, arXiv 2503.04992; the authors released no code, a
//! reproduction by others is TTTTTTris/wandaplus).
//!
//! `S_ij = |w_ij| (alpha G_ij + ||x_j||_2)`, compared within each output row, with `G_ij = sqrt(mean_n g_n,ij^2)`. `g_n` is the gradient
//! of the norm of the dense block's outputs on calibration sequence `n`, for inputs that come from pruned blocks. The norm of the inputs
//! is divided by the square root of the number of sequences, as in Wanda's code.
//!
//! Deviations: the paper then changes weights in rounds of gradient descent, which zprune does not do. The norm is taken over all tokens
//! and features of a sequence, which the paper does not say.

use super::step::Criterion;
use crate::backend::gradient::GradientSum;
use crate::calibrate::gradients::Loss;
use crate::error::Result;
use crate::prune::pattern::Group;
use crate::prune::range::at_least;
use crate::prune::score::{Score, gradients, input_squares, sequences, weight};
use serde::{Deserialize, Serialize};

/// The score of Wanda++ and its parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WandaPp {
    /// The factor of the gradients: 100.
    pub alpha: f64,
}

impl Default for WandaPp {
    fn default() -> Self {
        WandaPp { alpha: 100.0 }
    }
}

impl Criterion for WandaPp {
    fn validate(&self) -> Result<()> {
        at_least("alpha", self.alpha, 0.0)
    }

    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self) -> Score {
        let mean = gradients(Loss::Outputs, GradientSum::Squares) * sequences().inverse();
        weight().abs() * (mean.root() * self.alpha + input_squares().root())
    }
}
