//! SparseGPT's update (Frantar and Alistarh, ICML 2023, arXiv 2301.00774; reference:
//! IST-DASLab/sparsegpt, `sparsegpt.py`, `fasterprune`).
//!
//! With `H^-1 = U^T U`, columns are visited from left to right in blocks of 128. Removing `w_ij` leaves the error
//! `e = w_ij / U_jj`, and `e U_j,>j` is subtracted from the rest of the row: at once within the block,
//! and for all later columns by one product at the block's end.
//!
//! The mask comes from the criterion. One whose score follows the update (`obs`) is evaluated again on
//! the current weights whenever a new column block or N:M group begins, provided that its comparison
//! group does not reach beyond the block; every other mask is fixed before the first update, as in RIA's
//! and Z-Pruner's `--reconstruction`.

use super::Solver;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::limits::Limits;
use crate::prune::pattern::{Pattern, Target};
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The OBS solver; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obs {}

impl Solver for Obs {
    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn follows(&self) -> bool {
        true
    }

    fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        match pattern {
            Pattern::NofM { keep, of } if of > limits.updated_group => Err(Error::config(format!(
                "pattern {keep}:{of} with an update needs groups of at most {} on the GPU; use backend = \"cpu\"",
                limits.updated_group
            ))),
            _ => Ok(()),
        }
    }

    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        piece.reconstruct(follow, target).map(Some)
    }
}
