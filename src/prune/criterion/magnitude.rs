//! Magnitude: `S = |w|`. The baseline of every paper, compared over a whole matrix there.

use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, weight};
use serde::{Deserialize, Serialize};

/// The magnitude criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magnitude {}

impl Criterion for Magnitude {
    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self) -> Score {
        weight().abs()
    }
}
