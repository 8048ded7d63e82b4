//! Refiners: which mask of the same size is better than the one that the scores chose? Adding one is a file in a folder of this name and a line in [`REFINERS`].

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Build;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;
use crate::registry::Registry;

/// A step of a recipe.
pub trait Refiner: Send + Sync {
    /// The statistics that the step will ask for.
    fn needs(&self) -> Needs;

    /// Changes the layer's mask; every group keeps as many weights as before.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()>;
}

/// All of them: none yet.
pub const REFINERS: Registry<Build<dyn Refiner>> = Registry {
    kind: "mask refinement",
    entries: &[],
};
