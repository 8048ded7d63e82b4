//! What a criterion and a solver see of the calibration inputs of one layer.

use crate::backend::moments::Moments;
use crate::error::{Error, Result};
use crate::linalg::{self, Failure, Provider};
use ndarray::{ArcArray2, Array2};
use std::sync::{Arc, OnceLock};

/// Statistics of one tap over a calibration set of `sequences` sequences.
///
/// The papers' code divides by the number of *sequences*, not tokens, and SparseGPT's Hessian carries a
/// factor 2; both are kept, so that scores are comparable with theirs to the last digits.
#[derive(Debug)]
pub struct LayerStatistics {
    sequences: usize,
    squared_norms: Option<Vec<f64>>,
    gram: Option<ArcArray2<f64>>,
    provider: Provider,
    full: OnceLock<Arc<Array2<f32>>>,
    factor: OnceLock<std::result::Result<InverseFactor, String>>,
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

/// Damping of SparseGPT's released code, as a fraction of the mean diagonal.
pub const DAMPING: f64 = 0.01;

/// When a factorisation fails, damping is multiplied by this and tried again. The first retry, 0.1, is
/// what RIA's and Z-Pruner's code does; the damping used is part of the record.
pub const DAMPING_STEP: f64 = 10.0;

/// The largest damping that is tried, as a fraction of the mean diagonal.
pub const DAMPING_LIMIT: f64 = 1.0;

impl LayerStatistics {
    /// Statistics from moments accumulated over `sequences` sequences.
    pub fn new(moments: &Moments, sequences: usize, provider: Provider) -> Self {
        LayerStatistics {
            sequences,
            squared_norms: Some(moments.squares.iter().map(|sum| sum / sequences as f64).collect()),
            gram: moments.gram.clone(),
            provider,
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
            provider: Provider::Faer,
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
        self.provider
    }

    /// `X X^T / sequences` in single precision, with both triangles. Computed once for all layers of a tap.
    ///
    /// # Errors
    /// No Gram matrix was gathered.
    pub fn full_gram(&self) -> Result<Arc<Array2<f32>>> {
        let lower = self.gram()?;
        let full = self.full.get_or_init(|| {
            let scale = 1.0 / self.sequences as f64;
            let mut full = Array2::zeros(lower.dim());
            for (row, values) in lower.rows().into_iter().enumerate() {
                for (column, value) in values.iter().enumerate().take(row + 1) {
                    let value = (value * scale) as f32;
                    full[[row, column]] = value;
                    full[[column, row]] = value;
                }
            }
            Arc::new(full)
        });
        Ok(full.clone())
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
        let (upper, damping) = damped(|damping| {
            let mut damped = self.hessian()?;
            let added = damping * diagonal.mean;
            let values = damped.diag_mut().into_iter().zip(&diagonal.values);
            values.for_each(|(entry, value)| *entry = value + added);
            Ok(linalg::inverse_factor(self.provider, damped))
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

/// Calls `factor` with increasing damping until it succeeds; returns its result and the damping.
///
/// # Errors
/// `factor` fails, or finds no positive definite matrix even with [`DAMPING_LIMIT`].
pub(crate) fn damped<T>(factor: impl Fn(f64) -> Result<std::result::Result<T, Failure>>) -> Result<(T, f64)> {
    let mut damping = DAMPING;
    loop {
        match factor(damping)? {
            Ok(found) => return Ok((found, damping)),
            Err(failure) if damping >= DAMPING_LIMIT => {
                return Err(Error::numeric(format!("{failure}, even with damping {damping}")));
            }
            Err(failure) => {
                tracing::warn!("{failure} with damping {damping}; trying {}", damping * DAMPING_STEP);
                damping *= DAMPING_STEP;
            }
        }
    }
}
