//! Permutations: which columns share an N:M group?
//!
//! Adding one is a file in a folder of this name and a line in [`PERMUTATIONS`]; a program adds its own with
//! [`PERMUTATIONS.register`](Components::register).

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Components;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;

/// The step of a recipe that decides which columns share an N:M group.
pub trait Permutation: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the step uses.
    fn needs(&self) -> Needs;

    /// Reorders the layer's columns; scores that are computed later see the new order.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn permute(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()>;
}

/// All of them: none is built in yet.
pub static PERMUTATIONS: Components<dyn Permutation> =
    Components::new("permutation", |permutation| permutation.validate(), &[]);
