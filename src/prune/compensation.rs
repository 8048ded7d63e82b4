//! Compensations: what can a bias make up for? Adding one is a file in a folder of this name and a line in [`COMPENSATIONS`].

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Build;
use crate::prune::workbench::Workpiece;
use crate::registry::Registry;

/// A step of a recipe.
pub trait Compensation: Send + Sync {
    /// The statistics that the step will ask for.
    fn needs(&self) -> Needs;

    /// Makes up for what was removed, once the weights are final.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn compensate(&self, piece: &mut dyn Workpiece) -> Result<()>;
}

/// All of them: none yet.
pub const COMPENSATIONS: Registry<Build<dyn Compensation>> = Registry {
    kind: "compensation",
    entries: &[],
};
