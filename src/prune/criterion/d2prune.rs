//! D2Prune (AAAI 2026, arXiv 2601.09176; reference: cquxl/D2Prune): a score that also looks at the size of a layer's outputs.
//!
//! `S_ij = b_ij + lambda1 |w_ij| (||y_i|| / s) (||x_j|| / s) - lambda2 w_ij^2 (||x_j|| / s)^2`, where `b` is SparseGPT's
//! `w_ij^2 / U_jj^2` (`base = "obs"`, compared in blocks of 128 columns and scored again as the solver `obs` updates them) or Wanda's
//! squared `w_ij^2 ||x_j||^2` (`base = "wanda"`, compared within rows). `y` is the dense layer's output. The norms are those of
//! Wanda's code, divided by the root of the number of sequences: they matter here, because `s` is an absolute number, and a score
//! of weights of another size weighs the terms otherwise.
//!
//! Deviations: the paper updates no weights of one of the query, key and value projections, chosen by perplexity for each
//! model; here every layer gets the solver. A negative score, possible with `lambda2 > 0` only, counts as 0.

use super::step::Criterion;
use crate::error::{Error, Result};
use crate::prune::pattern::Group;
use crate::prune::range::at_least;
use crate::prune::score::{Score, input_squares, output_squares, pivots, weight};
use serde::{Deserialize, Serialize};

/// The D2Prune criterion. Its defaults are the constants of all experiments in the paper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct D2Prune {
    /// The score that the terms are added to: `obs`.
    pub base: D2Base,
    /// Weight of the term with the outputs: 1.
    pub lambda1: f64,
    /// Weight of the term that is taken off: 0.
    pub lambda2: f64,
    /// `s`, by which the norms are divided: 1500.
    pub scale: f64,
}

/// The score that D2Prune's terms are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum D2Base {
    /// SparseGPT's.
    Obs,
    /// Wanda's, squared.
    Wanda,
}

impl Default for D2Prune {
    fn default() -> Self {
        D2Prune {
            base: D2Base::Obs,
            lambda1: 1.0,
            lambda2: 0.0,
            scale: 1500.0,
        }
    }
}

impl Criterion for D2Prune {
    fn validate(&self) -> Result<()> {
        at_least("lambda1", self.lambda1, 0.0)?;
        at_least("lambda2", self.lambda2, 0.0)?;
        match self.scale.is_finite() && self.scale > 0.0 {
            true => Ok(()),
            false => Err(Error::config(format!(
                "parameter `scale` = {} must be above 0",
                self.scale
            ))),
        }
    }

    fn group(&self) -> Group {
        match self.base {
            D2Base::Obs => Group::ColumnBlock,
            D2Base::Wanda => Group::Row,
        }
    }

    fn follows_update(&self) -> bool {
        self.base == D2Base::Obs
    }

    fn score(&self) -> Score {
        let input = || input_squares() * (1.0 / self.scale).powi(2);
        let output = output_squares() * (1.0 / self.scale).powi(2);
        let base = match self.base {
            D2Base::Obs => (weight() * pivots().inverse()).square(),
            D2Base::Wanda => weight().square() * input_squares(),
        };
        let score = base + weight().abs() * (self.lambda1 * output.root()) * input().root();
        match self.lambda2 {
            0.0 => score,
            lambda2 => (score - weight().square() * (lambda2 * input())).maximum(0.0),
        }
    }
}
