//! The workbench: what a backend must be able to do to a weight matrix for it to be pruned there.
//!
//! [`LayerView`] is what a criterion sees, [`Workpiece`] what a solver may do, [`Workbench`] a backend
//! that offers both. Criteria and solvers are written against these and never learn where the numbers
//! are; only scalars, vectors and, at the end, the mask come to the host.

mod cpu;
mod gpu;
mod timed;

pub use cpu::solve;

use crate::backend::Backend;
use crate::error::Result;
use crate::linalg::Provider;
use crate::prune::mask::PackedMask;
use crate::prune::pattern::Target;
use crate::prune::score::Score;
use crate::tensor::StorageType;

/// Sums over the weights of each row, or of each column.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisSums {
    /// `sum w`.
    pub value: Vec<f64>,
    /// `sum |w|`.
    pub magnitude: Vec<f64>,
    /// `sum w^2`.
    pub square: Vec<f64>,
}

impl AxisSums {
    /// Nothing added yet, for an axis of some length.
    pub(crate) fn zeros(length: usize) -> Self {
        AxisSums {
            value: vec![0.0; length],
            magnitude: vec![0.0; length],
            square: vec![0.0; length],
        }
    }
}

/// Sums over a weight matrix along both axes: all that criteria ask of the weights as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSums {
    /// One entry per output.
    pub rows: AxisSums,
    /// One entry per input.
    pub columns: AxisSums,
}

/// What a criterion sees of one linear layer, wherever its numbers are.
pub trait LayerView {
    /// `(outputs, inputs)`.
    fn dim(&self) -> (usize, usize);

    /// `||x_j||^2 / sequences` per input feature `j`.
    fn squared_norms(&self) -> &[f64];

    /// Sums of the weights along both axes.
    ///
    /// # Errors
    /// The backend fails.
    fn sums(&self) -> Result<WeightSums>;

    /// Number of weights of magnitude below `bound`.
    ///
    /// # Errors
    /// The backend fails.
    fn count_below(&self, bound: f64) -> Result<usize>;

    /// `U_jj` of the damped inverse Hessian's factor, `H^-1 = U^T U`; `None` where feature `j` was zero on
    /// every calibration token.
    ///
    /// # Errors
    /// No Gram matrix was accumulated, or the Hessian cannot be factored.
    fn pivots(&self) -> Result<Vec<Option<f64>>>;
}

/// A layer under work: its weights change in place, and a mask says which are removed.
pub trait Workpiece: LayerView {
    /// Chooses the mask from the scores of the current weights.
    ///
    /// # Errors
    /// A score is NaN, infinite or negative, or the pattern does not fit.
    fn select(&mut self, score: &Score, target: &Target) -> Result<()>;

    /// Sets the weights that the mask removes to 0.
    ///
    /// # Errors
    /// The backend fails.
    fn remove(&mut self) -> Result<()>;

    /// SparseGPT's pass over the columns (see [`solver`](crate::prune::solver)): removes what the mask
    /// says and makes up for it with the columns to the right. With a score to follow, the mask of each
    /// block of columns, or of each N:M group, is chosen from that score of the current weights when the
    /// pass reaches it; else it is the one chosen before. Returns the damping of the Hessian.
    ///
    /// # Errors
    /// A score is unusable, or the Hessian cannot be factored.
    fn reconstruct(&mut self, follow: Option<&Score>, target: &Target) -> Result<f64>;

    /// Rounds the weights to the checkpoint's type and reports. The workpiece is done.
    ///
    /// # Errors
    /// The backend fails.
    fn finish(&mut self) -> Result<Finished>;
}

/// What became of a workpiece.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was removed.
    pub mask: PackedMask,
    /// Weights that are 0.
    pub zeros: usize,
    /// A weight that is not finite, or was removed and is not 0: its place and value.
    pub fault: Option<((usize, usize), f32)>,
}

/// A backend that weights can be pruned on.
pub trait Workbench: Backend {
    /// Statistics of a tap's inputs, shared by the layers that read it.
    type Statistics;

    /// Statistics from accumulated moments over `sequences` sequences.
    ///
    /// # Errors
    /// An activation was not finite (names the feature), or the backend fails.
    fn statistics(&self, moments: &Self::Moments, sequences: usize, provider: Provider) -> Result<Self::Statistics>;

    /// Statistics for methods that look at weights only: every input feature counts as 1.
    fn no_statistics(&self, inputs: usize) -> Self::Statistics;

    /// Puts a layer's weights on the bench.
    fn workpiece<'a>(
        &'a self,
        weight: &'a mut Self::Tensor,
        storage: StorageType,
        statistics: &'a Self::Statistics,
    ) -> Box<dyn Workpiece + 'a>;
}
