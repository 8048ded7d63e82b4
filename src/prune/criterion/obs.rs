//! The optimal brain surgeon's saliency, as SparseGPT uses it (Frantar and Alistarh, ICML 2023, arXiv
//! 2301.00774; reference: IST-DASLab/sparsegpt, `sparsegpt.py`).
//!
//! `S_ij = w_ij^2 / U_jj^2` with `H^-1 = U^T U`: the error of removing `w_ij` when the columns to its
//! right may still be adjusted. `U_jj^2` already is that sub-problem's inverse diagonal; it is not
//! rooted again. A feature that was never active costs nothing to remove: its pivot is infinite. SparseGPT is this
//! criterion with the solver of the same name, which evaluates it anew on the updated weights of each block of 128
//! columns.

use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, pivots, weight};
use serde::{Deserialize, Serialize};

/// The OBS criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obs {}

impl Criterion for Obs {
    fn group(&self) -> Group {
        Group::ColumnBlock
    }

    fn follows_update(&self) -> bool {
        true
    }

    fn score(&self) -> Score {
        (weight() * pivots().inverse()).square()
    }
}
