//! Permutations: which columns share an N:M group? Adding one is a file in a folder of this name and a line in [`PERMUTATIONS`].

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::Build;
use crate::prune::pattern::Target;
use crate::prune::workbench::Workpiece;
use crate::registry::Registry;

/// A step of a recipe.
pub trait Permutation: Send + Sync {
    /// The statistics that the step will ask for.
    fn needs(&self) -> Needs;

    /// Reorders the layer's columns; the scores that follow see the new order.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn permute(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()>;
}

/// All of them: none yet.
pub const PERMUTATIONS: Registry<Build<dyn Permutation>> = Registry {
    kind: "permutation",
    entries: &[],
};
