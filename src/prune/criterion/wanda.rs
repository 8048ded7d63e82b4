//! Wanda (Sun et al., ICLR 2024, arXiv 2306.11695; reference: locuslab/wanda, `lib/prune.py`).
//!
//! `S_ij = |w_ij| * ||x_j||_2`, compared within each output row. The reference's norm is divided by the
//! square root of the number of sequences, a constant that cancels in every comparison; it is kept.

use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, input_squares, weight};
use serde::{Deserialize, Serialize};

/// The Wanda criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanda {}

impl Criterion for Wanda {
    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self) -> Score {
        weight().abs() * input_squares().root()
    }
}
