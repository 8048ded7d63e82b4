//! What every criterion can do.

use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::calibrate::gradients::Loss;
use crate::error::Result;
use crate::model::layer_file::Content;
use crate::prune::pattern::Group;
use crate::prune::score::{self, Score};

/// A file with a value for each weight that a criterion uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueFile<'a> {
    /// The file; `{model}`, `{pattern}` and `{seed}` in its name stand for those of the cell.
    pub name: &'a str,
    /// What the values are.
    pub content: Content,
}

/// The step of a recipe that scores the weights of a layer.
pub trait Criterion: Send + Sync {
    /// Checks the criterion's parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The comparison group that the paper's own code uses.
    fn group(&self) -> Group;

    /// Whether the score is meant for the weights that are left while a solver updates them. If so, the solver
    /// computes it again for each column block (or N:M group) that it reaches.
    fn follows_update(&self) -> bool {
        false
    }

    /// The importance of every weight as a formula; weights with the lowest values are removed. It also tells which
    /// statistics are needed.
    fn score(&self) -> Score;

    /// What gives the scores, as messages call it, if they are refused where they are the same for all weights of a layer that are
    /// compared with each other. `None` for criteria that are known to rank weights wherever something depends on them: those
    /// of a paper are not refused.
    fn given_by(&self) -> Option<String> {
        None
    }

    /// The file that the score takes values from, if it does.
    fn file(&self) -> Option<ValueFile<'_>> {
        None
    }

    /// The statistics that the score uses.
    fn needs(&self) -> Needs {
        score::needs(&self.score())
    }

    /// The gradients of a loss that the score uses.
    fn gradients(&self, loss: Loss) -> GradientNeeds {
        score::gradient_needs(&self.score(), loss)
    }
}
