//! Solvers: given a layer and a mask, what should the weights that are kept be?
//!
//! A solver leaves the arithmetic to the [`Workpiece`], so that it runs on every backend. It does not decide how many
//! weights are removed; the caller checks the mask, the zeros and that all weights are finite. Adding one is a file here
//! and a line in [`SOLVERS`]; a program adds its own with [`SOLVERS.register`](Components::register).

mod obs;
mod one_shot;

use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::Result;
use crate::prune::component::{Components, parsed};
use crate::prune::limits::Limits;
use crate::prune::pattern::{Pattern, Target};
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;
use crate::registry::Entry;
pub use obs::Obs;
pub use one_shot::OneShot;

/// The step of a recipe that computes the new values of the weights that are kept.
pub trait Solver: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the solver uses.
    fn needs(&self) -> Needs;

    /// Whether the solver may change the weights that are kept.
    fn updates(&self) -> bool;

    /// Whether the solver can choose the mask itself during its update.
    fn follows(&self) -> bool {
        false
    }

    /// What is added to the diagonal of the Hessian before it is factorised, as a fraction of the diagonal's mean; for
    /// criteria that use the factor, too.
    fn damping(&self) -> f64 {
        DAMPING
    }

    /// Checks that a workbench with these limits can solve under a pattern, before anything is computed.
    ///
    /// # Errors
    /// It cannot.
    fn check(&self, _pattern: Pattern, _limits: &Limits) -> Result<()> {
        Ok(())
    }

    /// Computes a layer's new weights in place. The mask has been chosen before, unless there is a score to follow:
    /// then the solver chooses the mask during its update, from that score of the current weights. Returns the
    /// damping of the Hessian as a fraction of its mean diagonal, if the Hessian was factorised.
    ///
    /// # Errors
    /// A score is unusable, a statistic was not gathered, or a factorisation fails.
    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>>;
}

/// All solvers.
pub static SOLVERS: Components<dyn Solver> = Components::new(
    "solver",
    |solver| solver.validate(),
    &[
        Entry {
            name: "one-shot",
            summary: "remove the lowest scores, leave the other weights as they are",
            item: &|table| parsed(table, |it: OneShot| Box::new(it)),
        },
        Entry {
            name: "obs",
            summary: "SparseGPT's update: the kept weights make up for the removed ones (arXiv 2301.00774); parameters damping, order",
            item: &|table| parsed(table, |it: Obs| Box::new(it)),
        },
    ],
);
