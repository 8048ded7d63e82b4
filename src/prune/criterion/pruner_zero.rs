//! Pruner-Zero (Dong et al., ICML 2024, arXiv 2406.02924; reference: pprp/Pruner-Zero, `lib/prune.py`): the formula that its search
//! found.
//!
//! `S_ij = w_ij^2 (G_ij - min G) / (max G - min G)`, compared within each output row. `G` is made of the gradients `g_n` of the dense
//! model's mean loss on each calibration sequence: `sqrt(sum_n g_n^2)` (`norm = "l2"`) or `sum_n |g_n|` (`"l1"`). The reference's factor
//! of 100 cancels.
//!
//! Deviations: the reference adds magnitudes up in half precision. It calibrates on the training text of WikiText-2; here calibration
//! says what text there is.

use super::gblm::GradientNorm;
use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, greatest, least, weight};
use serde::{Deserialize, Serialize};

/// The Pruner-Zero criterion and its parameter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrunerZero {
    /// How the gradients of the sequences are added up: `l2`.
    pub norm: GradientNorm,
}

impl Criterion for PrunerZero {
    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self) -> Score {
        let size = || self.norm.size();
        let spread = greatest(size()) - least(size());
        weight().square() * ((size() - least(size())) * spread.inverse())
    }
}
