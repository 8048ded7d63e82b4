//! Calibration: what a method needs to know about a layer's inputs, streamed over the tokens.
//!
//! Owns which moments accumulate at which tap, the passes that gather them ([`passes`]), what the steps of a recipe see
//! of them ([`statistics`]), and a few inputs to measure a layer's output on. The pruning loop decides which pass a block
//! gets, by its [`Stage`].

pub mod passes;
pub mod statistics;

use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::error::Result;
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
    /// With the whole model dense; one pass serves every method and pattern of a sweep.
    Dense,
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
            length,
        })
    }

    /// Adds inputs at a tap; they must be whole sequences.
    ///
    /// # Errors
    /// The backend fails.
    pub fn accumulate(&mut self, backend: &B, tap: Tap, x: &B::Tensor) -> Result<()> {
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
        backend.accumulate(moments, x)
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
