//! Wanda's variant (Sun et al., ICLR 2024, arXiv 2306.11695, appendix; reference: locuslab/wanda, `--use_variant`).
//!
//! Wanda's score `|w_ij| ||x_j||`, but in the group `row-share`: each output gives up the same share of the sum of its scores, not
//! of their number. The share is the one at which the whole matrix has the wanted sparsity.
//!
//! Deviations: with `selection = "exact"` the share is found to the last weight. With `"reference"` it is searched for as in the
//! released code, by halving between 0 and 0.8 until the sparsity is within 0.001.

use super::step::Criterion;
use super::wanda::Wanda;
use crate::prune::pattern::Group;
use crate::prune::score::Score;
use serde::{Deserialize, Serialize};

/// The criterion of Wanda's variant; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WandaVariant {}

impl Criterion for WandaVariant {
    fn group(&self) -> Group {
        Group::RowShare
    }

    fn score(&self) -> Score {
        Wanda {}.score()
    }
}
