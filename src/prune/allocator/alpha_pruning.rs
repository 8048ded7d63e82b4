//! AlphaPruning (Lu et al., NeurIPS 2024; reference: haiquanlu/AlphaPruning): how heavy is the tail of a layer's spectrum?
//!
//! The squared singular values of each weight matrix are taken for a power law; its exponent `alpha` is Hill's estimate above the
//! smallest value `xmin` that counts, and `xmin` the value with the smallest Kolmogorov-Smirnov distance among those up to 1.5
//! times the left edge of the fullest of 100 bins of their logarithms. Blocks with a larger mean `alpha` have learned less and lose more: shares
//! are in proportion to numbers from `1 - epsilon` to `1 + epsilon`. All layers of a block have the same share.
//!
//! Only weights are looked at, so one survey serves all seeds.
//!
//! Deviations: the released code bounds `xmin` from below by the logarithm of 0.95 times the edge, where the edge itself was meant;
//! `lower_bound = "corrected"` does what was meant. A share that would be above 0.99 stays there, and the others are scaled to make
//! up for it. Values that are 0 but for rounding are left out.

use super::step::{Allocator, PlacedLinear, Question, Survey, Trial};
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::linalg::squared_singular_values;
use crate::prune::range::within;
use crate::prune::shares::{Levelling, levelled};
use crate::prune::workbench::Workpiece;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The AlphaPruning allocator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlphaPruning {
    /// How far shares are from their mean at most, as a fraction of it, before they are scaled: 0.3. The paper has 0.3 with Wanda, 0.2 with
    /// SparseGPT and 0.5 with magnitude.
    pub epsilon: f64,
    /// Which values may be the smallest that counts: `released`.
    pub lower_bound: LowerBound,
}

/// Which values may be the smallest one of the power law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LowerBound {
    /// Those above the logarithm of 0.95 times the edge of the fullest bin: nearly all.
    Released,
    /// Those above 0.95 times that edge.
    Corrected,
}

impl Default for AlphaPruning {
    fn default() -> Self {
        AlphaPruning {
            epsilon: 0.3,
            lower_bound: LowerBound::Released,
        }
    }
}

impl Allocator for AlphaPruning {
    fn validate(&self) -> Result<()> {
        within("epsilon", self.epsilon, 0.0..=1.0)
    }

    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: format!(
                "exponent of the squared singular values, lower bound {:?}",
                self.lower_bound
            ),
            needs: Needs::NOTHING,
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        let values = block.iter().map(|layer| {
            let weight = layer.read(&layer.weight()?)?;
            let values = squared_singular_values(weight.view()).map_err(Error::numeric)?;
            exponent(values, self.lower_bound)
        });
        values.collect()
    }

    fn allocate(&self, layers: &[PlacedLinear], sparsity: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        let alphas = survey.by_block(layers)?;
        let least = alphas.iter().copied().fold(f64::INFINITY, f64::min);
        let most = alphas.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let ratio = |alpha: &f64| match most > least {
            true => 1.0 - self.epsilon + 2.0 * self.epsilon * (alpha - least) / (most - least),
            false => 1.0,
        };
        let ratios: Vec<f64> = alphas.iter().map(ratio).collect();
        let weights: Vec<usize> = layers.iter().map(PlacedLinear::weights).collect();
        levelled(&ratios, &weights, sparsity, Levelling::Scale)
    }
}

/// Number of bins of the histogram whose fullest bin is looked for.
const BINS: usize = 100;

/// Squared singular values below this part of the largest are rounding.
const ROUNDING: f64 = 1e-13;

/// The exponent of the power law that values follow above the smallest one that counts.
fn exponent(mut values: Vec<f64>, bound: LowerBound) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let largest = values.last().copied().unwrap_or(0.0);
    values.retain(|value| *value > ROUNDING * largest);
    let count = values.len();
    if count < 2 {
        let message = "a layer with fewer than two singular values that are not 0 has no spectrum to look at";
        return Err(Error::numeric(message));
    }
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let edge = fullest_edge(&values);
    let (lower, upper) = match bound {
        LowerBound::Released => ((0.95 * edge).log10(), 1.5 * edge),
        LowerBound::Corrected => (0.95 * edge, 1.5 * edge),
    };
    // Sums of the logarithms from each value on.
    let mut sums = logs.clone();
    for index in (0..count - 1).rev() {
        sums[index] += sums[index + 1];
    }
    let candidates = (0..count - 1).filter(|index| (lower..=upper).contains(&values[*index]));
    let candidates: Vec<usize> = candidates.collect();
    let fits = candidates.par_iter().map(|index| {
        let tail = &values[*index..];
        let size = tail.len() as f64;
        let alpha = 1.0 + size / (sums[*index] - size * logs[*index]);
        let off = |(place, value): (usize, &f64)| {
            let law = 1.0 - (value / tail[0]).powf(1.0 - alpha);
            (law - place as f64 / size).abs()
        };
        (alpha, tail.iter().enumerate().map(off).fold(0.0, f64::max))
    });
    let fits: Vec<(f64, f64)> = fits.collect();
    // The first of equally good ones; values that are all equal have no exponent.
    let good = fits
        .iter()
        .filter(|(alpha, distance)| alpha.is_finite() && distance.is_finite());
    let best = good.min_by(|a, b| a.1.total_cmp(&b.1));
    best.map(|(alpha, _)| *alpha)
        .ok_or_else(|| Error::numeric("the singular values of a layer follow no power law"))
}

/// The left edge of the fullest of [`BINS`] equal bins of the logarithms of sorted values; of equally full ones, of the first.
fn fullest_edge(values: &[f64]) -> f64 {
    let (low, high) = (values[0].log10(), values[values.len() - 1].log10());
    let width = (high - low) / BINS as f64;
    let mut counts = [0usize; BINS];
    for value in values {
        let bin = if width > 0.0 {
            ((value.log10() - low) / width) as usize
        } else {
            0
        };
        counts[bin.min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let fullest = counts.iter().position(|count| *count == most).unwrap_or(0);
    10f64.powf(low + fullest as f64 * width)
}
