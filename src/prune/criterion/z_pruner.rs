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

use super::{Criterion, at_least, inverse_or_zero, narrow};
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::pattern::Group;
use crate::prune::score::{Power, Score, Term};
use crate::prune::workbench::{AxisSums, LayerView};
use serde::{Deserialize, Serialize};

/// The Z-Pruner criterion. Defaults are the released code's constants.
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

    fn needs(&self) -> Needs {
        Needs::SQUARES
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self, layer: &dyn LayerView) -> Result<Score> {
        let (rows, columns) = layer.dim();
        let n = (rows * columns) as f64;
        let sums = layer.sums()?;
        let row_scale = inverse_norms(&sums.rows);
        let column_scale = inverse_norms(&sums.columns);
        let by_row = ZScore::of(&sums.rows, &row_scale, n);
        let by_column = ZScore::of(&sums.columns, &column_scale, n);
        // `rho`: the fraction of weights below `small_threshold` times the mean magnitude.
        let mean = sums.rows.magnitude.iter().sum::<f64>() / n;
        let small = layer.count_below(self.small_threshold * mean)? as f64 / n;
        let alpha = self.row_weight * (1.0 - self.small_share * small);

        let q = layer.squared_norms();
        // What has no norm has no weights to keep: its scores are 0, whatever the shift of the z-scores.
        let present = |scale: &f64| if *scale > 0.0 { 1.0 } else { 0.0 };
        let row = Some(narrow(row_scale.iter().map(present)));
        let activation: Vec<f64> = q
            .iter()
            .zip(&column_scale)
            .map(|(q, scale)| q.powf(0.5 * self.activation_power) * present(scale))
            .collect();
        let column = |share: f64| Some(narrow(activation.iter().map(|a| share * a)));
        Ok(Score::Terms(vec![
            Term {
                row: row.clone(),
                column: column(alpha),
                inner_row: Some(narrow(row_scale.iter().map(|scale| scale * by_row.scale))),
                shift: by_row.shift as f32,
                power: Power::Three,
                ..Term::default()
            },
            Term {
                row,
                column: column(1.0 - alpha),
                inner_column: Some(narrow(column_scale.iter().map(|scale| scale * by_column.scale))),
                shift: by_column.shift as f32,
                power: Power::Three,
                ..Term::default()
            },
        ]))
    }
}

/// One over the Euclidean norm of each row or column; 0 where that is 0.
fn inverse_norms(sums: &AxisSums) -> Vec<f64> {
    sums.square
        .iter()
        .map(|square| inverse_or_zero(square.sqrt()))
        .collect()
}

/// `z = x * scale + shift` turns a matrix's entries into z-scores.
struct ZScore {
    scale: f64,
    shift: f64,
}

impl ZScore {
    /// Mean and unbiased standard deviation over the whole matrix of its `n` entries, each divided by the
    /// norm of its row (or column). A matrix without any spread (all entries equal, up to rounding)
    /// keeps scale 1.
    fn of(sums: &AxisSums, scale: &[f64], n: f64) -> ZScore {
        let mean = sums
            .value
            .iter()
            .zip(scale)
            .map(|(sum, scale)| sum * scale)
            .sum::<f64>()
            / n;
        let squares: f64 = sums
            .square
            .iter()
            .zip(scale)
            .map(|(sum, scale)| sum * scale * scale)
            .sum();
        // The mean is small beside the deviation in every matrix that has a spread worth the name.
        let deviation = ((squares - n * mean * mean).max(0.0) / (n - 1.0).max(1.0)).sqrt();
        let scale = if deviation > 1e-7 * mean.abs() {
            1.0 / deviation
        } else {
            1.0
        };
        ZScore {
            scale,
            shift: -mean * scale,
        }
    }
}
