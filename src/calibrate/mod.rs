//! Calibration: what a method needs to know about a layer's inputs, streamed over the tokens.
//!
//! Owns which moments accumulate at which tap, the passes that gather them ([`passes`]), what the steps of a recipe see
//! of them ([`statistics`]), and a few inputs to measure a layer's output on. The pruning loop decides which pass a block
//! gets, by its [`Stage`].

pub mod passes;
pub mod statistics;

use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::spec::Tap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of the model in which a layer's statistics are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// With the block dense and the blocks before it pruned, as in the papers' code.
    #[default]
    Block,
    /// With everything pruned that comes before the layer, tap by tap: queries, keys and values, then the attention's
    /// output, then the MLP.
    Staged,
    /// Each block on its own: its inputs are those of the dense model, and in the block everything is pruned that comes
    /// before the layer, as in FISTAPruner.
    Separate,
    /// With the whole model dense; one pass serves every method and pattern of a sweep.
    Dense,
}

impl Goal {
    /// Checks that statistics of this stage serve the goal.
    ///
    /// # Errors
    /// The dense model's outputs cannot be reproduced with statistics of a whole block.
    pub fn check(self, stage: Stage) -> Result<()> {
        if self == Goal::Pruned || stage.is_staged() {
            return Ok(());
        }
        Err(Error::config(
            "target = \"dense\" needs statistics that are gathered again for each group of layers: with those of a whole \
             block, a layer is solved for inputs that it no longer gets once the layers before it are pruned, and \
             perplexities of hundreds and thousands were seen; add stage = \"staged\" or stage = \"separate\"",
        ))
    }

    /// Whether it is the usual one, which records do not name.
    pub fn is_default(&self) -> bool {
        *self == Goal::default()
    }
}

impl Stage {
    /// Whether statistics are gathered again for each group of layers of a block.
    pub fn is_staged(self) -> bool {
        matches!(self, Stage::Staged | Stage::Separate)
    }
}

/// The outputs that a solver tries to reproduce on calibration text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// The outputs of the dense layer for the inputs that it gets from the pruned model.
    #[default]
    Pruned,
    /// The outputs of the layer in the dense model.
    Dense,
}

/// Number of tokens on which outputs of layers are compared, evenly spaced over the first sequence. They are few
/// enough to cost nothing, and not only the first ones, whose activations are unlike all others.
pub const SAMPLE: usize = 128;

/// Inputs at a block's taps, each a matrix of tokens by features: [`SAMPLE`] tokens, or the whole sequence if it is
/// shorter.
pub type Samples<B> = BTreeMap<Tap, Arc<<B as Backend>::Tensor>>;

/// Moments of the inputs at each tap of one block, in a backend's memory.
pub struct BlockMoments<B: Backend> {
    moments: BTreeMap<Tap, B::Moments>,
    samples: Samples<B>,
    needs: Needs,
    length: usize,
}

impl<B: Backend> BlockMoments<B> {
    /// Empty accumulators for these taps, for sequences of `length` tokens.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new(backend: &B, taps: &[Tap], needs: Needs, length: usize) -> Result<Self> {
        let empty = |tap: &Tap| Ok((*tap, backend.moments(tap.width, needs)?));
        Ok(BlockMoments {
            moments: taps.iter().map(empty).collect::<Result<_>>()?,
            samples: Samples::<B>::new(),
            needs,
            length,
        })
    }

    /// Adds inputs at a tap; they must be whole sequences. `dense` are the dense model's inputs of the same tokens, where
    /// solvers reproduce the dense model's outputs.
    ///
    /// # Errors
    /// The backend fails.
    pub fn accumulate(&mut self, backend: &B, tap: Tap, x: &B::Tensor, dense: Option<&B::Tensor>) -> Result<()> {
        if !self.samples.contains_key(&tap) {
            let count = SAMPLE.min(self.length);
            // The middle of every run, so that the first token of a sequence is not among them unless all are.
            let place = |index: usize| ((2 * index + 1) * self.length / (2 * count)) as u32;
            let rows: Vec<u32> = (0..count).map(place).collect();
            self.samples.insert(tap, Arc::new(backend.rows(x, &rows)?));
        }
        let moments = self
            .moments
            .get_mut(&tap)
            .expect("a tap is listened to because it has an accumulator");
        backend.accumulate(moments, x)?;
        if let Some(dense) = dense {
            backend.accumulate_cross(moments, x, dense)?;
        }
        if self.needs.means {
            let sequences = backend.extent(x).rows / self.length;
            backend.accumulate_sums(moments, x, &vec![self.length as f64; sequences])?;
        }
        Ok(())
    }

    /// The moments gathered so far, by tap.
    pub fn taps(&self) -> impl Iterator<Item = (Tap, &B::Moments)> {
        self.moments.iter().map(|(tap, moments)| (*tap, moments))
    }

    /// A sample of the inputs at each tap, for comparing outputs.
    pub fn samples(&self) -> &Samples<B> {
        &self.samples
    }
}
