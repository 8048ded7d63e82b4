//! GBLM-Pruner (Das et al., 2023, arXiv 2311.04902; reference: VILA-Lab/GBLM-Pruner, `lib/prune.py`, `lib/gradient_computation.py`).
//!
//! `S_ij = |w_ij| (||x_j||_2 + G_ij)`, compared within each output row. `G` is made of the gradients `g_n` of the dense model's mean
//! loss on each calibration sequence, times 100: `sqrt(sum_n (100 g_n)^2)` (`norm = "l2"`) or `sum_n |100 g_n|` (`"l1"`). The norm of
//! the inputs is divided by the square root of the number of sequences, as in Wanda's code, while `G` is not.
//!
//! Deviations: the reference rounds `G` to half precision.

use super::step::Criterion;
use crate::backend::gradient::GradientSum;
use crate::calibrate::gradients::Loss;
use crate::error::Result;
use crate::prune::pattern::Group;
use crate::prune::range::at_least;
use crate::prune::score::{Score, gradients, input_squares, weight};
use serde::{Deserialize, Serialize};

/// The GBLM criterion and its parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gblm {
    /// How the gradients of the sequences are added up: `l2`.
    pub norm: GradientNorm,
    /// The factor of the gradients: 100.
    pub scale: f64,
    /// Whether the norms of inputs are added to them: true. Without them it is the reference's criterion `gradient`.
    pub activations: bool,
}

/// How the gradients of sequences are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientNorm {
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    #[default]
    L2,
}

impl GradientNorm {
    /// The gradients of all sequences together.
    pub(super) fn size(self) -> Score {
        match self {
            GradientNorm::L1 => gradients(Loss::Likelihood, GradientSum::Magnitudes),
            GradientNorm::L2 => gradients(Loss::Likelihood, GradientSum::Squares).root(),
        }
    }
}

impl Default for Gblm {
    fn default() -> Self {
        Gblm {
            norm: GradientNorm::default(),
            scale: 100.0,
            activations: true,
        }
    }
}

impl Criterion for Gblm {
    fn validate(&self) -> Result<()> {
        at_least("scale", self.scale, 0.0)
    }

    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self) -> Score {
        let gradient = self.norm.size() * self.scale;
        match self.activations {
            true => weight().abs() * (gradient + input_squares().root()),
            false => weight().abs() * gradient,
        }
    }
}
