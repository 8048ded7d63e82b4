//! What every allocator can do, and what it is told of the model.

use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::workbench::Workpiece;
use crate::spec::{LinearId, LinearSpec, ModelSpec};

/// The step of a recipe that divides a sparsity among the layers.
pub trait Allocator: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Asks for a survey of the dense model, which costs a pass of the calibration text; by default there is none.
    fn survey(&self) -> Option<Question> {
        None
    }

    /// What a survey keeps of each linear layer of one block of the dense model, in their order. The layers are copies, which
    /// may be changed.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        Ok(vec![0.0; block.len()])
    }

    /// Whether [`Allocator::allocate`] tries shares out. Each trial prunes and scores the model once.
    fn tries(&self) -> bool {
        false
    }

    /// The share of its weights that each layer should lose when the whole model loses `sparsity`. They need not have that
    /// mean: the caller shifts all by the same number until they do, keeps them between 0 and 0.99, and rounds to whole weights.
    /// Where all are equal, each layer has the whole's pattern.
    ///
    /// # Errors
    /// The shares are impossible, or a trial fails.
    fn allocate(
        &self,
        layers: &[PlacedLinear],
        sparsity: f64,
        survey: &Survey,
        trial: &mut Trial<'_>,
    ) -> Result<Vec<f64>>;
}

/// Tries shares of the layers out: the mean negative log-likelihood, in nats per token of calibration text that is held out, of
/// the model pruned with them.
pub type Trial<'a> = dyn FnMut(&[f64]) -> Result<f64> + 'a;

/// What an allocator asks of the dense model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is measured, in words, with every parameter that the numbers depend on: allocators that ask the same share a survey.
    pub about: String,
    /// The statistics of the layers' inputs that [`Allocator::measure`] looks at, or [`Needs::NOTHING`] for the weights alone.
    pub needs: Needs,
}

/// A linear layer of a model, as an allocator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedLinear {
    /// Index of its block.
    pub block: usize,
    /// Which layer of the block it is.
    pub id: LinearId,
    /// Name of the weight's tensor.
    pub tensor: String,
    /// Its role and size.
    pub spec: LinearSpec,
}

impl PlacedLinear {
    /// All linear layers of a model that are pruned, block by block.
    pub fn all(spec: &ModelSpec) -> Vec<PlacedLinear> {
        let blocks = (0..spec.blocks).flat_map(|block| {
            let of_block = spec.block(block);
            let prefix = of_block.prefix_of(block);
            of_block.layers().map(move |(id, linear)| PlacedLinear {
                block,
                id,
                tensor: format!("{prefix}{}.weight", linear.tensor),
                spec: linear.clone(),
            })
        });
        blocks.collect()
    }

    /// Outputs and inputs.
    pub fn dim(&self) -> [usize; 2] {
        [self.spec.outputs, self.spec.inputs]
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.spec.outputs * self.spec.inputs
    }
}

/// What an allocator measured of every layer of the dense model, in the order of the layers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    pub(in crate::prune) values: Vec<f64>,
}

impl Survey {
    /// The values of all layers.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// For each layer, the mean of the values of all layers of its block.
    ///
    /// # Errors
    /// There is not one value for each layer.
    pub fn by_block(&self, layers: &[PlacedLinear]) -> Result<Vec<f64>> {
        if self.values.len() != layers.len() {
            let (got, want) = (self.values.len(), layers.len());
            return Err(Error::numeric(format!("a survey of {got} layers for {want} of them")));
        }
        let blocks = layers.last().map_or(0, |layer| layer.block + 1);
        let mut sums = vec![(0.0, 0usize); blocks];
        for (layer, value) in layers.iter().zip(&self.values) {
            let (sum, count) = &mut sums[layer.block];
            *sum += value;
            *count += 1;
        }
        let of = |layer: &PlacedLinear| sums[layer.block].0 / sums[layer.block].1 as f64;
        Ok(layers.iter().map(of).collect())
    }
}
