//! RIA, relative importance and activations (Zhang et al., ICLR 2024; reference:
//! biomedical-cybernetics/Relative-importance-and-activation-pruning, `lib/prune.py`).
//!
//! `S_ij = (|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|) * ||x_j||^a`, compared over the matrix.
//!
//! Deviations: sums and ratios are not rounded to half precision on the way; an all-zero row or column
//! contributes 0 where the reference divides by zero.

use super::{Criterion, at_least, inverse_or_zero, narrow};
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::Layer;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, Term};
use ndarray::Axis;
use serde::{Deserialize, Serialize};

/// The RIA criterion.
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

    fn needs(&self) -> Needs {
        Needs::SQUARES
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self, layer: &Layer) -> Result<Score> {
        let magnitude = layer.weight.mapv(|w| f64::from(w.abs()));
        let inverse = |sums: ndarray::Array1<f64>| Some(narrow(sums.into_iter().map(inverse_or_zero)));
        let norms = layer.statistics.squared_norms();
        let column = Some(narrow(norms.iter().map(|q| q.powf(0.5 * self.activation_power))));
        Ok(Score::Terms(vec![
            Term {
                column: column.clone(),
                inner_column: inverse(magnitude.sum_axis(Axis(0))),
                ..Term::default()
            },
            Term {
                column,
                inner_row: inverse(magnitude.sum_axis(Axis(1))),
                ..Term::default()
            },
        ]))
    }
}
