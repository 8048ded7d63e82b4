//! Where a model's weights come from: the forward pass and pruning ask for them block by block and do not
//! care whether a checkpoint answers or a generator.

use crate::error::Result;
use crate::model::checkpoint::{Checkpoint, LinearWeights, NormWeights};
use crate::spec::{LinearSpec, ModelSpec, NormPlace, NormSpec};
use ndarray::Array2;

/// Reads the weights of one model: a checkpoint, or random weights.
pub trait WeightSource: Sync {
    /// The architecture of the model.
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

    /// One linear layer of block `index`.
    ///
    /// # Errors
    /// As [`WeightSource::matrix`].
    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights>;

    /// The norms of block `index`, in the order of the specification.
    ///
    /// # Errors
    /// As [`WeightSource::matrix`].
    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>>;
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

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        Checkpoint::linear(self, index, linear)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let block = Checkpoint::spec(self).block(index);
        let prefix = block.prefix_of(index);
        let norms = block.norms.iter();
        norms
            .map(|(place, norm)| Ok((*place, Checkpoint::norm(self, &prefix, norm)?)))
            .collect()
    }
}
