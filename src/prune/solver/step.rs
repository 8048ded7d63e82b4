//! What every solver can do.

use crate::backend::moments::Needs;
use crate::calibrate::statistics::DAMPING;
use crate::error::Result;
use crate::prune::limits::Limits;
use crate::prune::pattern::{Group, Pattern, Target};
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;

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

    /// Whether it makes outputs right but for their means, which a compensation must see to.
    fn centres(&self) -> bool {
        false
    }

    /// The comparison group of the paper, if the solver chooses its mask itself, whatever the criterion chose.
    fn group(&self) -> Option<Group> {
        None
    }

    /// Whether the solver can choose the mask itself during its update.
    fn follows(&self) -> bool {
        false
    }

    /// Whether it does so by the scores of any criterion, and of all columns that it has not visited yet.
    fn rescores(&self) -> bool {
        false
    }

    /// Whether it chooses the mask itself, so that the mask it is given makes no difference.
    fn replaces_mask(&self) -> bool {
        self.rescores()
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
    /// then the solver chooses the mask during its update, from that score of the current weights. Returns the damping to be
    /// recorded, if the solver has one, as a fraction of a mean diagonal: that with which the Hessian was factorised for the update, or the
    /// parameter of a solver with equations of its own. A factor that only a criterion uses is not counted.
    ///
    /// # Errors
    /// A score is unusable, a statistic was not gathered, or a factorisation fails.
    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>>;
}
