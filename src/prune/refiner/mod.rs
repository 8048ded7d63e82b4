//! Refiners: which mask of the same size is better than the one that the scores chose?
//!
//! A refiner starts from the mask that is there, whatever chose it, and leaves every comparison group as many weights as it
//! had. It does not change weights. Adding one is a file here and a line in [`REFINERS`]; a program adds its own with
//! [`REFINERS.register`](Components::register).

mod dsnot;
mod sparse_fw;
mod sparse_swaps;

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::{Components, parsed};
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;
use crate::registry::Entry;
use crate::spec::Role;
pub use dsnot::{Dsnot, Layers};
pub use sparse_fw::SparseFw;
pub use sparse_swaps::SparseSwaps;

/// The step of a recipe that improves a mask.
pub trait Refiner: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks that the step can leave the groups of a target as large as they are, before anything is computed.
    ///
    /// # Errors
    /// It cannot; says why.
    fn check(&self, _target: &Target) -> Result<()> {
        Ok(())
    }

    /// Whether layers of this role are refined; the others are pruned as without the step.
    fn refines(&self, _role: Role) -> bool {
        true
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// Changes the layer's mask; every group must keep as many weights as before.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()>;
}

/// All refiners.
pub static REFINERS: Components<dyn Refiner> = Components::new(
    "mask refinement",
    |refiner| refiner.validate(),
    &[
        Entry {
            name: "sparse-swaps",
            summary: "swap the two weights of a row that lower the output's error most, until none do (arXiv 2512.10922)",
            item: &|table| parsed(table, |it: SparseSwaps| Box::new(it)),
        },
        Entry {
            name: "dsnot",
            summary: "restore and remove weights until the mean output of a row is as before (arXiv 2310.08915)",
            item: &|table| parsed(table, |it: Dsnot| Box::new(it)),
        },
        Entry {
            name: "sparse-fw",
            summary: "relax the mask and minimise the output's error by Frank and Wolfe's method (arXiv 2510.13713)",
            item: &|table| parsed(table, |it: SparseFw| Box::new(it)),
        },
    ],
);
