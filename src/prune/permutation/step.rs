//! What every permutation can do.

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::values::Values;
use crate::prune::workbench::LayerView;

/// The step of a recipe that decides which columns share an N:M group.
pub trait Permutation: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the step uses, in addition to those of the score.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// The new order of a layer's columns, given the scores of its weights and a pattern that keeps `keep` of each `of`:
    /// the `j`-th is column `order[j]`.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn order(&self, layer: &dyn LayerView, score: &Values, keep: usize, of: usize) -> Result<Vec<usize>>;
}
