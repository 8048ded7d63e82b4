//! Columns of the weights times a power of the norms of their inputs.
//!
//! With the norm `a_j` of input feature `j` and the mean `m` of all of them,
//!
//! ```text
//! s_j = (a_j / m)^beta
//! ```
//!
//! With `beta = 1`, the criterion `magnitude` sees Wanda's score; with `beta = 0`, its own. Wanda's own score does not depend on scales,
//! since `|w s| ||x / s|| = |w| ||x||`. After a variant of Sparsity Induction (arXiv 2602.21652) that needs no training.
//!
//! In place of the power of the mean stands the nearest power of two: a common factor changes nothing that follows, and this one
//! rounds nothing either.

use super::step::{Change, Transform};
use crate::backend::moments::Needs;
use crate::calibrate::variables::InputChange;
use crate::error::Result;
use crate::prune::range::within;
use crate::prune::workbench::LayerView;
use serde::{Deserialize, Serialize};

/// The least scale: that of features which are 0 on all calibration tokens.
const LEAST: f64 = 1.0 / (1u64 << 40) as f64;

/// The transform by norms of inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// The power of the norms.
    pub beta: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { beta: 1.0 }
    }
}

impl Transform for Scale {
    fn validate(&self) -> Result<()> {
        within("beta", self.beta, 0.0..=2.0)
    }

    fn needs(&self) -> Needs {
        Needs::SQUARES
    }

    fn change(&self, layer: &dyn LayerView) -> Result<Change> {
        let norms: Vec<f64> = layer.squared_norms()?.iter().map(|square| square.sqrt()).collect();
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        let whole = match mean > 0.0 {
            true => (self.beta * mean.log2()).round().exp2(),
            false => 1.0,
        };
        let scale = |norm: &f64| (norm.powf(self.beta) / whole).max(LEAST) as f32;
        Ok(Change::scaled(norms.iter().map(scale).collect()))
    }
}

impl Change {
    /// Columns of the weights times these scales, and inputs divided by them.
    pub fn scaled(scales: Vec<f32>) -> Self {
        Change {
            inputs: InputChange {
                factors: scales.iter().map(|scale| 1.0 / f64::from(*scale)).collect(),
                shifts: None,
            },
            scales: Some(scales),
        }
    }
}
