//! RIA, relative importance and activations (Zhang et al., ICLR 2024; reference:
//! biomedical-cybernetics/Relative-importance-and-activation-pruning, `lib/prune.py`).
//!
//! `S_ij = (|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|) * ||x_j||^a`, compared over the matrix.
//!
//! Deviations: sums and ratios are not rounded to half precision on the way; an all-zero row or column
//! contributes 0 where the reference divides by zero.

use super::step::Criterion;
use crate::error::Result;
use crate::prune::pattern::Group;
use crate::prune::range::at_least;
use crate::prune::score::{Score, column_sums, input_squares, row_sums, weight};
use serde::{Deserialize, Serialize};

/// The RIA criterion and its parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ria {
    /// `a`, the power of the input norm; the paper's value is 0.5.
    pub activation_power: f64,
}

impl Default for Ria {
    fn default() -> Self {
        Ria { activation_power: 0.5 }
    }
}

impl Criterion for Ria {
    fn validate(&self) -> Result<()> {
        at_least("activation_power", self.activation_power, 0.0)
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        let size = || weight().abs();
        let activation = || input_squares().power(0.5 * self.activation_power);
        let of_column = size() * column_sums(size()).inverse();
        let of_row = size() * row_sums(size()).inverse();
        activation() * of_column + activation() * of_row
    }
}
