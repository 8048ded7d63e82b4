//! STADE (Coello de Portugal Mecke et al., arXiv 2503.22451; reference: Coello-dev/STADE): Wanda with the inputs' spread in place of their size.
//!
//! `S_ij = w_ij^2 var(x_j)`, compared within each output row; the variance is that of the feature over all tokens, with `n - 1`. It is
//! what a removed weight costs if a bias may take over the mean of what it contributed: use it with `compensate = "bias"` where the
//! model has biases.
//!
//! Deviations: the reference adds variances up from single-batch means that forget earlier batches when a batch has more than
//! one sequence; here all tokens count once. Its variant for models whose layers follow a norm is this criterion for some layers
//! and Wanda for the others.

use super::step::Criterion;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, input_variances, weight};
use serde::{Deserialize, Serialize};

/// The STADE criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stade {}

impl Criterion for Stade {
    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self) -> Score {
        weight().square() * input_variances()
    }
}
