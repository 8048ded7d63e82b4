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

/// What a layer's statistics are gathered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// On the dense block, whose inputs come from the blocks pruned before it: as in the papers' code.
    #[default]
    Block,
    /// On what was pruned so far, tap by tap: queries, keys and values, then the attention's output, then the MLP.
    Staged,
    /// On the dense model; one pass serves every method and pattern of a sweep.
    Dense,
}

/// Whose outputs a solver reproduces on calibration text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// The layer's own, on the inputs it now gets.
    #[default]
    Pruned,
    /// The dense model's.
    Dense,
}

/// Tokens that layers' outputs are compared on, evenly spaced over the first sequence: few enough to cost nothing, and not only
/// the first ones, whose activations are unlike all others.
pub const SAMPLE: usize = 128;

/// Inputs of a block's taps, [`SAMPLE`] tokens or a whole sequence of fewer: `(tokens, features)`.
pub type Samples<B> = BTreeMap<Tap, Arc<<B as Backend>::Tensor>>;

/// Moments of every tap of one block, in a backend's memory.
pub struct BlockMoments<B: Backend> {
    moments: BTreeMap<Tap, B::Moments>,
    samples: Samples<B>,
    length: usize,
}

impl<B: Backend> BlockMoments<B> {
    /// Empty accumulators for some taps, of sequences of `length` tokens.
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

    /// Adds a tap's inputs, whole sequences of them.
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

    /// The accumulators.
    pub fn taps(&self) -> impl Iterator<Item = (Tap, &B::Moments)> {
        self.moments.iter().map(|(tap, moments)| (*tap, moments))
    }

    /// Some of the inputs.
    pub fn samples(&self) -> &Samples<B> {
        &self.samples
    }
}
