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
use crate::prune::pattern::Group;
use crate::prune::score::{Score, Term};
use crate::prune::workbench::LayerView;
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

    fn score(&self, layer: &dyn LayerView) -> Result<Score> {
        let sums = layer.sums()?;
        let inverse = |sums: Vec<f64>| Some(narrow(sums.into_iter().map(inverse_or_zero)));
        let norms = layer.squared_norms();
        let column = Some(narrow(norms.iter().map(|q| q.powf(0.5 * self.activation_power))));
        Ok(Score::Terms(vec![
            Term {
                column: column.clone(),
                inner_column: inverse(sums.columns.magnitude),
                ..Term::default()
            },
            Term {
                column,
                inner_row: inverse(sums.rows.magnitude),
                ..Term::default()
            },
        ]))
    }
}
