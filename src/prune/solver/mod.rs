//! Solvers: given a layer, a criterion and a target, produce the pruned weights.
//!
//! A solver owns the order of "score, select, update" and leaves the arithmetic to the
//! [`Workpiece`], so that it runs on every backend. It does not decide how many weights go; the
//! caller checks the mask, the zeros and that all weights are finite. Adding one is a file here and a
//! line in [`SOLVERS`].

mod obs;
mod one_shot;

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::Build;
use crate::prune::criterion::Criterion;
use crate::prune::mask::Mask;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;
use crate::registry::{Entry, Registry};
use ndarray::Array2;

/// A pruned layer.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The new weights, `(outputs, inputs)`; 0 where the mask removes.
    pub weight: Array2<f32>,
    /// What was removed.
    pub mask: Mask,
    /// Damping of the Hessian, as a fraction of its mean diagonal, where one was factored.
    pub damping: Option<f64>,
}

/// Prunes one layer.
pub trait Solver: Send + Sync {
    /// The statistics [`Solver::solve`] will ask for, beside the criterion's.
    fn needs(&self) -> Needs;

    /// Whether weights that stay may change.
    fn updates(&self) -> bool;

    /// Prunes a layer to the target, in place. Returns the damping of the Hessian, as a fraction of its
    /// mean diagonal, where one was factored.
    ///
    /// # Errors
    /// A score is unusable or a factorisation fails.
    fn solve(&self, piece: &mut dyn Workpiece, criterion: &dyn Criterion, target: &Target) -> Result<Option<f64>>;
}

/// All solvers.
pub const SOLVERS: Registry<Build<dyn Solver>> = Registry {
    kind: "solver",
    entries: &[
        Entry {
            name: "one-shot",
            summary: "remove the lowest scores, leave the other weights as they are",
            item: |table| crate::prune::parsed(table, |it: one_shot::OneShot| Box::new(it)),
        },
        Entry {
            name: "obs",
            summary: "SparseGPT's update: the weights that stay make up for those that go (arXiv 2301.00774)",
            item: |table| crate::prune::parsed(table, |it: obs::Obs| Box::new(it)),
        },
    ],
};
