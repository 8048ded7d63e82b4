//! Solvers: given a layer and a mask, what should the weights that are kept be?
//!
//! A solver leaves the arithmetic to the [`Workpiece`], so that it runs on every backend. It does not decide how many
//! weights are removed; the caller checks the mask, the zeros and that all weights are finite. Adding one is a file here
//! and a line in [`SOLVERS`]; a program adds its own with [`SOLVERS.register`](Components::register).

mod admm;
mod alps;
mod fista;
mod least_squares;
mod normal_equations;
mod obs;
mod one_shot;
mod start;

use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::{Error, Result};
use crate::prune::component::{Components, parsed};
use crate::prune::limits::Limits;
use crate::prune::pattern::{Group, Pattern, Target};
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;
use crate::registry::Entry;
pub use admm::{Admm, Schedule};
pub use alps::Alps;
pub use fista::{Fista, Rounding};
pub use least_squares::LeastSquares;
pub use obs::Obs;
pub use one_shot::OneShot;
pub use start::Start;
use std::ops::RangeInclusive;

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

    /// The comparison group of the paper, if the solver chooses its mask itself, whatever the criterion chose.
    fn group(&self) -> Option<Group> {
        None
    }

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

    /// Whether it leaves the columns in another order.
    fn reorders(&self) -> bool {
        false
    }

    /// Bytes that it holds at its fullest on the CPU for a layer of so many weights and inputs, beside the weights, the mask
    /// and the Gram matrix as it was gathered; for forecasts.
    fn room(&self, _weights: u128, _inputs: u128) -> u128 {
        0
    }

    /// About how many products of the weights with a square matrix over the inputs it takes; for forecasts.
    fn products(&self) -> usize {
        0
    }

    /// Computes a layer's new weights in place. The mask has been chosen before, unless there is a score to follow:
    /// then the solver chooses the mask during its update, from that score of the current weights. Returns the
    /// damping of the Hessian as a fraction of its mean diagonal, if the Hessian was factorised.
    ///
    /// # Errors
    /// A score is unusable, a statistic was not gathered, or a factorisation fails.
    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>>;
}

/// Refuses a parameter that is not a number in a range.
///
/// # Errors
/// Names the parameter and the range.
fn in_range(name: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let message = format!("{name} = {value} is not between {least} and {most}");
    Err(Error::config(message))
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
        Entry {
            name: "least-squares",
            summary: "the weights with the smallest error of the layer's output under the mask",
            item: &|table| parsed(table, |it: LeastSquares| Box::new(it)),
        },
        Entry {
            name: "admm",
            summary: "mask and weights in turn by ADMM (arXiv 2401.02938); chooses the mask itself",
            item: &|table| parsed(table, |it: Admm| Box::new(it)),
        },
        Entry {
            name: "alps",
            summary: "ADMM with a growing penalty, then least squares (arXiv 2406.07831); chooses the mask itself",
            item: &|table| parsed(table, |it: Alps| Box::new(it)),
        },
        Entry {
            name: "fista",
            summary: "an L1 penalty, rounded to the pattern (arXiv 2408.03728); changes the mask it starts from",
            item: &|table| parsed(table, |it: Fista| Box::new(it)),
        },
    ],
);
