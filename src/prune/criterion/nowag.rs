//! NoWag-P (Liu et al., arXiv 2504.14569): Wanda on weights whose columns and rows are normalised.
//!
//! With `N_ij = w_ij / ||column j||` and `R_ij = N_ij / ||row i of N||`, `S_ij = R_ij^2 ||x_j||^2`, compared over the matrix.
//!
//! No code of the authors was compared. Deviation: the weights of an all-zero row or column score 0.

use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, column_sums, input_squares, row_sums, weight};
use serde::{Deserialize, Serialize};

/// The NoWag criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoWag {}

impl Criterion for NoWag {
    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        let by_column = || column_sums(weight().square()).inverse();
        let by_row = row_sums(weight().square() * by_column()).inverse();
        weight().square() * (by_column() * input_squares()) * by_row
    }
}
