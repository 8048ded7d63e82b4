//! What a criterion and a solver see of the calibration inputs of one layer.

use crate::backend::moments::{Moments, SequenceSums};
use crate::error::{Error, Result};
use crate::linalg::{self, Provider, SolveFailure};
use ndarray::{ArcArray2, Array2, Axis};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// Statistics of one tap over a calibration set of `sequences` sequences.
///
/// The papers' code divides by the number of *sequences*, not tokens, and SparseGPT's Hessian carries a
/// factor 2; both are kept, so that scores are comparable with theirs to the last digits.
#[derive(Debug, Clone)]
pub struct LayerStatistics {
    pub(super) sequences: usize,
    pub(super) squared_norms: Option<Vec<f64>>,
    pub(super) gram: Option<ArcArray2<f64>>,
    pub(super) cross: Option<ArcArray2<f64>>,
    pub(super) goal: Option<ArcArray2<f64>>,
    pub(super) means: Option<Means>,
    pub(super) goal_means: Option<Vec<f64>>,
    pub(super) factoring: Factoring,
    pub(super) full: OnceLock<Arc<Array2<f32>>>,
    pub(super) factor: OnceLock<std::result::Result<InverseFactor, String>>,
}

/// Means and variances of a layer's input features over the calibration tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    /// Mean of each feature over all tokens.
    pub mean: Vec<f64>,
    /// Variance of each feature over all tokens, with `n - 1` in the denominator.
    pub variance: Vec<f64>,
    /// Variance of each feature inside sequences: the mean over sequences of the variance of each, with `n` in the
    /// denominator. Sequences count by their weight.
    pub within: Vec<f64>,
    /// Mean weight of a sequence: its number of tokens if all tokens count alike.
    pub length: f64,
}

impl Means {
    /// Means and variances from sums of squares over all tokens, and sums over each sequence.
    pub fn new(squares: &[f64], found: &SequenceSums) -> Self {
        let total: f64 = found.weights.iter().sum();
        let mut sums = vec![0.0; squares.len()];
        let mut between = vec![0.0; squares.len()];
        for (sequence, weight) in found
            .sums
            .iter()
            .zip(&found.weights)
            .filter(|(_, weight)| **weight > 0.0)
        {
            for ((sum, between), value) in sums.iter_mut().zip(&mut between).zip(sequence) {
                *sum += value;
                *between += value * value / weight;
            }
        }
        let spread = |squares: &f64, part: f64| (squares - part).max(0.0);
        let squared = sums.iter().map(|sum| sum * sum / total);
        let variance = squares
            .iter()
            .zip(squared)
            .map(|(squares, part)| spread(squares, part) / (total - 1.0));
        let within = squares
            .iter()
            .zip(&between)
            .map(|(squares, part)| spread(squares, *part) / total);
        Means {
            variance: variance.collect(),
            within: within.collect(),
            mean: sums.iter().map(|sum| sum / total).collect(),
            length: total / found.weights.len() as f64,
        }
    }
}

impl Means {
    /// The means and variances in another order: feature `j` is the feature `order[j]` of these.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        let vector = |values: &[f64]| order.iter().map(|from| values[*from]).collect();
        Means {
            mean: vector(&self.mean),
            variance: vector(&self.variance),
            within: vector(&self.within),
            length: self.length,
        }
    }
}

/// The factor `U` of a damped inverse Hessian, `H^-1 = U^T U`, and how it was computed.
#[derive(Debug, Clone)]
pub struct InverseFactor {
    /// The factor, an upper triangular matrix with a row and a column per input.
    pub upper: Array2<f64>,
    /// The damping with which `H` was positive definite, as a fraction of its mean diagonal.
    pub damping: f64,
    /// For each input feature, whether it was zero on every calibration token.
    pub dead: Vec<bool>,
}

/// Number of rows and columns that are copied together where a matrix is read along its columns.
const TILE: usize = 64;

/// Damping of SparseGPT's released code, as a fraction of the mean diagonal.
pub const DAMPING: f64 = 0.01;

/// How the inverse of a Hessian is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factoring {
    /// The library that factorises on the CPU.
    pub provider: Provider,
    /// What is added to the diagonal, as a fraction of its mean.
    pub damping: f64,
}

impl From<Provider> for Factoring {
    /// With the usual damping.
    fn from(provider: Provider) -> Self {
        Factoring {
            provider,
            damping: DAMPING,
        }
    }
}

/// When a factorisation fails, damping is multiplied by this and tried again. The first retry, 0.1, is
/// what RIA's and Z-Pruner's code does; the damping used is part of the record.
pub const DAMPING_STEP: f64 = 10.0;

/// The largest damping that is tried, as a fraction of the mean diagonal.
pub const DAMPING_LIMIT: f64 = 1.0;

impl LayerStatistics {
    /// Statistics from moments accumulated over `sequences` sequences.
    pub fn new(moments: &Moments, sequences: usize, factoring: impl Into<Factoring>) -> Self {
        LayerStatistics {
            sequences,
            squared_norms: Some(moments.squares.iter().map(|sum| sum / sequences as f64).collect()),
            gram: moments.gram.clone(),
            cross: moments.cross.clone(),
            goal: moments.goal.clone(),
            means: moments.sums.as_ref().map(|sums| Means::new(&moments.squares, sums)),
            goal_means: None,
            factoring: factoring.into(),
            full: OnceLock::new(),
            factor: OnceLock::new(),
        }
    }

    /// Statistics for methods that look at weights only; asking for one of them is an error.
    pub fn none() -> Self {
        LayerStatistics {
            sequences: 1,
            squared_norms: None,
            gram: None,
            cross: None,
            goal: None,
            means: None,
            goal_means: None,
            factoring: Provider::Faer.into(),
            full: OnceLock::new(),
            factor: OnceLock::new(),
        }
    }

    /// `||x_j||^2 / sequences` per input feature `j`.
    ///
    /// # Errors
    /// No sums of squares were gathered.
    pub fn squared_norms(&self) -> Result<&[f64]> {
        self.squared_norms
            .as_deref()
            .ok_or_else(|| not_gathered("sums of squares"))
    }

    /// Means and variances of the input features.
    ///
    /// # Errors
    /// No sums were gathered.
    pub fn means(&self) -> Result<&Means> {
        self.means.as_ref().ok_or_else(|| not_gathered("means"))
    }

    /// The statistics with the means of the inputs whose outputs are to be reproduced, from sums over sequences.
    #[must_use]
    pub fn with_goal(self, sums: &SequenceSums) -> Self {
        LayerStatistics {
            goal_means: Some(sums.means()),
            ..self
        }
    }

    /// The means of the inputs whose outputs are to be reproduced: the dense model's, or those of the layer itself.
    ///
    /// # Errors
    /// No sums were gathered.
    pub fn goal_means(&self) -> Result<&[f64]> {
        match &self.goal_means {
            Some(means) => Ok(means),
            None => Ok(&self.means()?.mean),
        }
    }

    /// [`full_gram`](Self::full_gram) of the inputs less their means. Made anew at every call.
    ///
    /// # Errors
    /// No Gram matrix was gathered, or no sums.
    pub fn centred_gram(&self) -> Result<Array2<f32>> {
        let gram = self.gram()?;
        let means = self.means()?;
        let at = |row: usize, column: usize| gram[[row.max(column), row.min(column)]];
        Ok(self.less(&means.mean, means.length, &means.mean, at))
    }

    /// [`cross`](Self::cross) of inputs less their means, if it is another matrix than [`centred_gram`](Self::centred_gram).
    ///
    /// # Errors
    /// No sums were gathered.
    pub fn centred_cross(&self) -> Result<Option<Array2<f32>>> {
        let Some(cross) = &self.cross else { return Ok(None) };
        let means = self.means()?;
        let at = |row: usize, column: usize| cross[[row, column]];
        Ok(Some(self.less(&means.mean, means.length, self.goal_means()?, at)))
    }

    /// A sum of products per sequence, less the product of the means of a sequence of this length.
    fn less(
        &self,
        rows: &[f64],
        length: f64,
        columns: &[f64],
        sum: impl Fn(usize, usize) -> f64 + Sync,
    ) -> Array2<f32> {
        let scale = 1.0 / self.sequences as f64;
        let mut less = Array2::zeros((rows.len(), columns.len()));
        let each = less.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
        each.for_each(|(row, mut values)| {
            let mean = length * rows[row];
            for (column, value) in values.iter_mut().enumerate() {
                *value = (sum(row, column) * scale - mean * columns[column]) as f32;
            }
        });
        less
    }

    /// `H = 2 / sequences * X X^T`; only the lower triangle is filled.
    ///
    /// # Errors
    /// No Gram matrix was gathered.
    pub fn hessian(&self) -> Result<Array2<f64>> {
        let scale = self.scale();
        Ok(self.gram()?.mapv(|value| value * scale))
    }

    /// The library that factorises matrices.
    pub fn provider(&self) -> Provider {
        self.factoring.provider
    }

    /// `X X^T / sequences` in single precision, with both triangles. Computed once for all layers of a tap.
    ///
    /// # Errors
    /// No Gram matrix was gathered.
    pub fn full_gram(&self) -> Result<Arc<Array2<f32>>> {
        let lower = self.gram()?;
        let full = self.full.get_or_init(|| {
            let scale = 1.0 / self.sequences as f64;
            let inputs = lower.ncols();
            let mut full = Array2::zeros(lower.dim());
            // In tiles, since one half of them is read along columns.
            full.as_slice_mut()
                .expect("a fresh array is contiguous")
                .par_chunks_mut(TILE * inputs.max(1))
                .enumerate()
                .for_each(|(tile, rows)| {
                    for first in (0..inputs).step_by(TILE) {
                        for (index, values) in rows.chunks_exact_mut(inputs).enumerate() {
                            let row = tile * TILE + index;
                            let columns = first..inputs.min(first + TILE);
                            for (column, value) in columns.clone().zip(&mut values[columns]) {
                                *value = (lower[[row.max(column), row.min(column)]] * scale) as f32;
                            }
                        }
                    }
                });
            Arc::new(full)
        });
        Ok(full.clone())
    }

    /// `X D^T / sequences` in single precision, for the inputs `X` and the inputs `D` whose outputs are to be reproduced:
    /// those of the dense model, or `X` itself.
    ///
    /// # Errors
    /// No Gram matrix was gathered.
    pub fn cross(&self) -> Result<Arc<Array2<f32>>> {
        self.products(&self.cross)
    }

    /// `D D^T / sequences` in single precision, for the inputs `D` of [`LayerStatistics::cross`].
    ///
    /// # Errors
    /// No Gram matrix was gathered, or not that of the dense model's inputs.
    pub fn goal_gram(&self) -> Result<Arc<Array2<f32>>> {
        match self.cross.is_some() && self.goal.is_none() {
            true => Err(not_gathered("Gram matrix of the dense model's inputs")),
            false => self.products(&self.goal),
        }
    }

    /// A sum of products in single precision, divided by the number of sequences; without one the inputs' own.
    fn products(&self, sum: &Option<ArcArray2<f64>>) -> Result<Arc<Array2<f32>>> {
        match sum {
            Some(sum) => {
                let scale = 1.0 / self.sequences as f64;
                Ok(Arc::new(sum.mapv(|value| (value * scale) as f32)))
            }
            None => self.full_gram(),
        }
    }

    /// The statistics of the same inputs in another order: feature `j` is the feature `order[j]` of these.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        let vector = |values: &Vec<f64>| order.iter().map(|from| values[*from]).collect();
        let symmetric = |gram: &ArcArray2<f64>| {
            let at = |row: usize, column: usize| gram[[row.max(column), row.min(column)]];
            let entry = |(row, column): (usize, usize)| match column <= row {
                true => at(order[row], order[column]),
                false => 0.0,
            };
            Array2::from_shape_fn(gram.dim(), entry).into_shared()
        };
        let matrix = |cross: &ArcArray2<f64>| {
            Array2::from_shape_fn(cross.dim(), |(row, column)| cross[[order[row], order[column]]]).into_shared()
        };
        LayerStatistics {
            sequences: self.sequences,
            squared_norms: self.squared_norms.as_ref().map(vector),
            gram: self.gram.as_ref().map(symmetric),
            cross: self.cross.as_ref().map(matrix),
            goal: self.goal.as_ref().map(matrix),
            means: self.means.as_ref().map(|means| means.reordered(order)),
            goal_means: self.goal_means.as_ref().map(vector),
            factoring: self.factoring,
            full: OnceLock::new(),
            factor: OnceLock::new(),
        }
    }

    fn gram(&self) -> Result<&ArcArray2<f64>> {
        self.gram.as_ref().ok_or_else(|| not_gathered("Gram matrix"))
    }

    /// The factor between the Gram matrix and the Hessian, `2 / sequences`.
    fn scale(&self) -> f64 {
        2.0 / self.sequences as f64
    }

    /// The inverse factor of the damped Hessian, computed once per tap and shared by its layers.
    ///
    /// # Errors
    /// The Hessian is not positive definite even with [`DAMPING_LIMIT`]; names the pivot.
    pub fn inverse_factor(&self) -> Result<&InverseFactor> {
        self.factor
            .get_or_init(|| self.factorise().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(Error::numeric)
    }

    fn factorise(&self) -> Result<InverseFactor> {
        let scale = self.scale();
        let diagonal = Diagonal::new(self.gram()?.diag().iter().map(|value| value * scale).collect());
        let (upper, damping) = damped(self.factoring.damping, |damping| {
            let mut damped = self.hessian()?;
            let added = damping * diagonal.mean;
            let values = damped.diag_mut().into_iter().zip(&diagonal.values);
            values.for_each(|(entry, value)| *entry = value + added);
            Ok(linalg::inverse_factor(self.provider(), damped))
        })?;
        let dead = diagonal.dead;
        Ok(InverseFactor { upper, damping, dead })
    }
}

/// The error for a step that asks for a statistic that it did not declare.
pub(crate) fn not_gathered(what: &str) -> Error {
    Error::numeric(format!(
        "{what} of this layer's inputs: not gathered; a step of the method asks for what its `needs` do not say"
    ))
}

/// The diagonal of a Hessian before damping, with dead features found.
pub(crate) struct Diagonal {
    /// The entries of the diagonal, with 1 for dead features.
    pub values: Vec<f64>,
    /// For each input feature, whether it was zero on every calibration token.
    pub dead: Vec<bool>,
    /// Mean of `values`; damping is a fraction of it.
    pub mean: f64,
}

impl Diagonal {
    /// Finds the dead features, whose entries are 0, and sets these to 1.
    pub fn new(mut values: Vec<f64>) -> Self {
        let dead: Vec<bool> = values.iter().map(|value| *value == 0.0).collect();
        for (value, dead) in values.iter_mut().zip(&dead) {
            if *dead {
                *value = 1.0;
            }
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Diagonal { values, dead, mean }
    }
}

/// Calls `factor` with damping that increases from `first` until it succeeds; returns its result and the damping.
///
/// # Errors
/// `factor` fails, or finds no positive definite matrix even with [`DAMPING_LIMIT`].
pub(crate) fn damped<T>(
    first: f64,
    factor: impl Fn(f64) -> Result<std::result::Result<T, SolveFailure>>,
) -> Result<(T, f64)> {
    let mut damping = first;
    loop {
        match factor(damping)? {
            Ok(found) => return Ok((found, damping)),
            Err(failure) if damping >= DAMPING_LIMIT => {
                return Err(Error::numeric(format!("{failure}, even with damping {damping}")));
            }
            Err(failure) => {
                let next = (damping * DAMPING_STEP).max(DAMPING);
                tracing::warn!("{failure} with damping {damping}; trying {next}");
                damping = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences of different lengths, two features; the second has a large mean.
    const SEQUENCES: [&[[f64; 2]]; 2] = [
        &[[1.0, 1001.0], [3.0, 999.0]],
        &[[0.0, 1000.0], [2.0, 1004.0], [4.0, 1002.0]],
    ];

    fn found(weight: impl Fn(usize, usize) -> f64) -> Means {
        let mut squares = vec![0.0; 2];
        let mut found = SequenceSums::default();
        for (sequence, tokens) in SEQUENCES.iter().enumerate() {
            let mut sums = vec![0.0; 2];
            for (token, x) in tokens.iter().enumerate() {
                for feature in 0..2 {
                    sums[feature] += weight(sequence, token) * x[feature];
                    squares[feature] += weight(sequence, token) * x[feature] * x[feature];
                }
            }
            found.sums.push(sums);
            found
                .weights
                .push((0..tokens.len()).map(|token| weight(sequence, token)).sum());
        }
        Means::new(&squares, &found)
    }

    fn close(got: &[f64], want: [f64; 2]) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{got}, not {want}");
        }
    }

    #[test]
    fn variances_are_those_of_all_tokens_and_those_inside_sequences() {
        let means = found(|_, _| 1.0);
        close(&means.mean, [2.0, 1001.2]);
        close(&means.variance, [10.0 / 4.0, 14.8 / 4.0]);
        close(&means.within, [(2.0 + 8.0) / 5.0, (2.0 + 8.0) / 5.0]);
        assert_eq!(means.length, 2.5);
    }

    #[test]
    fn a_token_of_weight_zero_counts_for_nothing() {
        let means = found(|sequence, token| f64::from(u8::from(sequence == 1 && token > 0)));
        close(&means.mean, [3.0, 1003.0]);
        close(&means.variance, [2.0, 2.0]);
        close(&means.within, [1.0, 1.0]);
    }
}
