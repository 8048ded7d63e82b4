//! Where a model's weights come from: the forward pass and pruning ask for them block by block and do not
//! care whether a checkpoint answers or a generator.

use crate::error::Result;
use crate::model::checkpoint::{BlockWeights, Checkpoint, NormWeights};
use crate::spec::{ModelSpec, NormSpec};
use ndarray::Array2;

/// Gives out the weights of one model.
pub trait WeightSource: Sync {
    /// The architecture.
    fn spec(&self) -> &ModelSpec;

    /// A two-dimensional tensor outside the blocks.
    ///
    /// # Errors
    /// It is missing or holds values that are not finite.
    fn matrix(&self, name: &str) -> Result<Array2<f32>>;

    /// The parameters of a norm whose tensors start with `prefix`.
    ///
    /// # Errors
    /// As [`WeightSource::matrix`].
    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights>;

    /// All weights of block `index`.
    ///
    /// # Errors
    /// As [`WeightSource::matrix`].
    fn block(&self, index: usize) -> Result<BlockWeights>;
}

impl WeightSource for Checkpoint {
    fn spec(&self) -> &ModelSpec {
        Checkpoint::spec(self)
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        Checkpoint::matrix(self, name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        Checkpoint::norm(self, prefix, norm)
    }

    fn block(&self, index: usize) -> Result<BlockWeights> {
        Checkpoint::block(self, index)
    }
}
