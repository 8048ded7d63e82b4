//! What every refiner can do.

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;
use crate::spec::Role;

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
