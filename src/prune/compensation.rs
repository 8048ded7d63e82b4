//! Compensations: what can a bias make up for?
//!
//! Adding one is a file in a folder of this name and a line in [`COMPENSATIONS`]; a program adds its own with
//! [`COMPENSATIONS.register`](Components::register).

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Components;
use crate::prune::workbench::Workpiece;

/// The step of a recipe that changes a layer's bias to make up for removed weights.
pub trait Compensation: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// Makes up for what was removed; called when the weights are final.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn compensate(&self, piece: &mut dyn Workpiece) -> Result<()>;
}

/// All of them: none is built in yet.
pub static COMPENSATIONS: Components<dyn Compensation> =
    Components::new("compensation", |compensation| compensation.validate(), &[]);
