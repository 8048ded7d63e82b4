//! Calibration: what a method needs to know about a layer's inputs, streamed over the tokens.
//!
//! Owns which moments accumulate at which tap and what a layer's criterion and solver see of them
//! ([`statistics`]). It does not choose inputs: the pruning loop decides whether they come from
//! pruned or dense blocks.

pub mod statistics;

use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::spec::{ModelSpec, Tap};
use std::collections::BTreeMap;

/// Moments of every tap of one block, in a backend's memory.
pub struct BlockMoments<B: Backend>(BTreeMap<Tap, B::Moments>);

impl<B: Backend> BlockMoments<B> {
    /// Empty accumulators for every tap.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new(backend: &B, spec: &ModelSpec, needs: Needs) -> Result<Self> {
        let empty = |tap| Ok((tap, backend.moments(spec.block.tap_width(tap), needs)?));
        Ok(BlockMoments(Tap::ALL.into_iter().map(empty).collect::<Result<_>>()?))
    }

    /// The accumulator of a tap.
    pub fn tap(&self, tap: Tap) -> &B::Moments {
        &self.0[&tap]
    }

    /// The accumulator of a tap, to add to.
    pub fn tap_mut(&mut self, tap: Tap) -> &mut B::Moments {
        self.0.get_mut(&tap).expect("every tap has an accumulator")
    }
}
