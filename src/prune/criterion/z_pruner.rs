//! Z-Pruner (arXiv 2508.15828; reference: sazzadadib/Z-Pruner, `lib/prune.py`), as its released code
//! computes it.
//!
//! With `R = W / ||row||` and `C = W / ||column||`, each turned into z-scores by the scalar mean and the
//! unbiased standard deviation of the whole matrix,
//!
//! `S_ij = (alpha |z_R|^3 + (1 - alpha) |z_C|^3) * ||x_j||^1.5`,
//! `alpha = 0.7 (1 - 0.3 rho)`, `rho` = fraction of weights with `|w| < 0.1 mean|w|`,
//!
//! compared over the matrix. The z-scores hardly differ from the normalised weights themselves (the mean
//! is near 0 and the deviation near `1 / sqrt(n)`), which makes the method a close relative of RIA.
//!
//! Deviations: nothing is rounded to half precision on the way; the weights of an all-zero row or column
//! count as normalised weights 0 and score 0, where the reference divides by zero. Without that guard a
//! single one makes the whole matrix NaN there, and then nothing is pruned.

use super::step::Criterion;
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::pattern::Group;
use crate::prune::range::at_least;
use crate::prune::score::{Score, column_sums, entries, input_squares, row_sums, sum, weight};
use serde::{Deserialize, Serialize};

/// The Z-Pruner criterion. Its defaults are the constants of the released code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZPruner {
    /// Weight of the row term when no weight is near zero: 0.7.
    pub row_weight: f64,
    /// How much `rho` lowers the weight of the row term: 0.3.
    pub small_share: f64,
    /// A weight below this fraction of the mean magnitude counts as near zero: 0.1.
    pub small_threshold: f64,
    /// Power of the input norm: 1.5.
    pub activation_power: f64,
}

impl Default for ZPruner {
    fn default() -> Self {
        ZPruner {
            row_weight: 0.7,
            small_share: 0.3,
            small_threshold: 0.1,
            activation_power: 1.5,
        }
    }
}

impl Criterion for ZPruner {
    fn validate(&self) -> Result<()> {
        for (name, value) in [("row_weight", self.row_weight), ("small_share", self.small_share)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(format!(
                    "parameter `{name}` = {value} must be between 0 and 1"
                )));
            }
        }
        at_least("small_threshold", self.small_threshold, 0.0)?;
        at_least("activation_power", self.activation_power, 0.0)
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        let mean = sum(row_sums(weight().abs())) / entries();
        let near_zero = weight().abs().below(self.small_threshold * mean);
        let rho = sum(row_sums(near_zero)) / entries();
        let alpha = || self.row_weight * (1.0 - self.small_share * rho.clone());

        let row_scale = || row_sums(weight().square()).root().inverse();
        let column_scale = || column_sums(weight().square()).root().inverse();
        // What has no norm has no weights to keep: its scores are 0, whatever the shift of the z-scores.
        let present = |scale: Score| Formula::Number(0.0).below(scale);
        let activation = || input_squares().power(0.5 * self.activation_power) * present(column_scale());

        let by_row = z_score(row_sums(weight()), row_sums(weight().square()), row_scale());
        let by_column = z_score(column_sums(weight()), column_sums(weight().square()), column_scale());
        let of_row = alpha() * activation();
        let of_column = (1.0 - alpha()) * activation();
        present(row_scale()) * of_row * by_row.cube().abs() + present(row_scale()) * of_column * by_column.cube().abs()
    }
}

/// The z-scores of the weights divided by the norm of their row (or column). Given are the sums of the weights and of
/// their squares along it, and the inverse of the norm. Mean and unbiased standard deviation are those of the whole
/// matrix. If all entries are equal, up to rounding, the scale is 1.
fn z_score(sums: Score, squares: Score, inverse_norm: Score) -> Score {
    let mean = || sum(sums.clone() * inverse_norm.clone()) / entries();
    let squares = sum(squares * inverse_norm.clone() * inverse_norm.clone());
    // The mean is small beside the deviation in every matrix that has a spread worth the name.
    let variance = (squares - entries() * mean() * mean()).maximum(0.0) / (entries() - 1.0).maximum(1.0);
    let deviation = variance.root();
    let spread = (1e-7 * mean().abs()).below(deviation.clone());
    let scale = spread.clone() * deviation.inverse() + (1.0 - spread);
    weight() * (inverse_norm.clone() * scale.clone()) + -mean() * scale
}
