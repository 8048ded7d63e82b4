//! Refiners: which mask of the same size is better than the one that the scores chose?
//!
//! Adding one is a file in a folder of this name and a line in [`REFINERS`]; a program adds its own with
//! [`REFINERS.register`](Components::register).

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Components;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;

/// The step of a recipe that improves a mask.
pub trait Refiner: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// Changes the layer's mask; every group must keep as many weights as before.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()>;
}

/// All of them: none is built in yet.
pub static REFINERS: Components<dyn Refiner> = Components::new("mask refinement", |refiner| refiner.validate(), &[]);
