//! Calibration: what a method needs to know about a layer's inputs, streamed over the tokens.
//!
//! Owns which moments accumulate at which tap and what a layer's criterion and solver see of them
//! ([`statistics`]). It does not choose inputs: the pruning loop decides whether they come from
//! pruned or dense blocks.

pub mod statistics;

use crate::backend::moments::{Moments, Needs};
use crate::spec::{ModelSpec, Tap};
use std::collections::BTreeMap;

/// Moments of every tap of one block.
#[derive(Debug, Clone)]
pub struct BlockMoments(BTreeMap<Tap, Moments>);

impl BlockMoments {
    /// Empty accumulators for every tap.
    pub fn new(spec: &ModelSpec, needs: Needs) -> Self {
        let empty = |tap| (tap, Moments::new(spec.block.tap_width(tap), needs));
        BlockMoments(Tap::ALL.into_iter().map(empty).collect())
    }

    /// The accumulator of a tap.
    pub fn tap(&self, tap: Tap) -> &Moments {
        &self.0[&tap]
    }

    /// The accumulator of a tap, to add to.
    pub fn tap_mut(&mut self, tap: Tap) -> &mut Moments {
        self.0.get_mut(&tap).expect("every tap has an accumulator")
    }
}
