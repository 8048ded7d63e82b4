//! Calibration: what a method needs to know about a layer's inputs, streamed over the tokens.
//!
//! Owns which moments accumulate at which tap, the passes that gather them ([`passes`]), what the steps of a recipe see
//! of them ([`statistics`]), also in other variables ([`variables`]), gradients of the dense model ([`gradients`]), and a
//! few inputs to measure a layer's output on. The pruning loop decides which pass a block gets, by its [`Stage`].

pub mod gradients;
pub mod passes;
pub mod statistics;
pub mod variables;

use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::model::forward::copy;
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
            "target = \"dense\" needs statistics that are gathered again for each group of layers: add stage = \"staged\" or stage = \
             \"separate\". With statistics of a whole block, each layer would be solved for inputs that it does not get any more, and \
             perplexities were in the hundreds and thousands",
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
    /// The sums of the dense model's inputs, if their means are needed.
    goals: BTreeMap<Tap, B::Moments>,
    samples: Samples<B>,
    needs: Needs,
    length: usize,
    /// How much each token counts, window after window; all alike without.
    weights: Option<Arc<[f32]>>,
    /// Number of tokens that were seen at each tap.
    seen: BTreeMap<Tap, usize>,
}

impl<B: Backend> BlockMoments<B> {
    /// Empty accumulators for these taps, for the tokens of these windows.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new(backend: &B, taps: &[Tap], needs: Needs, windows: &TokenWindows) -> Result<Self> {
        let empty = |needs: Needs| move |tap: &Tap| Ok((*tap, backend.moments(tap.width, needs)?));
        let goals: &[Tap] = if needs.goal_means { taps } else { &[] };
        let sums = Needs {
            means: true,
            ..Needs::NOTHING
        };
        Ok(BlockMoments {
            moments: taps.iter().map(empty(needs)).collect::<Result<_>>()?,
            goals: goals.iter().map(empty(sums)).collect::<Result<_>>()?,
            samples: Samples::<B>::new(),
            needs,
            length: windows.length(),
            weights: windows.weights().cloned(),
            seen: BTreeMap::new(),
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
        let rows = backend.extent(x).rows;
        let seen = self.seen.entry(tap).or_default();
        let first = std::mem::replace(seen, *seen + rows);
        let Some(weights) = &self.weights else {
            backend.accumulate(moments, x)?;
            if let Some(dense) = dense {
                backend.accumulate_cross(moments, x, dense)?;
            }
            let lengths = || vec![self.length as f64; rows / self.length];
            if self.needs.means {
                backend.accumulate_sums(moments, x, &lengths())?;
            }
            if let Some((goal, dense)) = self.goals.get_mut(&tap).zip(dense) {
                backend.accumulate_sums(goal, dense, &lengths())?;
            }
            return Ok(());
        };
        let weights = &weights[first..first + rows];
        let scaled = |x: &B::Tensor, factors: &[f32]| -> Result<B::Tensor> {
            let mut scaled = copy(backend, x)?;
            backend.scale_rows(&mut scaled, factors)?;
            Ok(scaled)
        };
        // Products of two inputs have the weight once.
        let roots: Vec<f32> = weights.iter().map(|weight| weight.sqrt()).collect();
        let x_root = scaled(x, &roots)?;
        backend.accumulate(moments, &x_root)?;
        if let Some(dense) = dense {
            backend.accumulate_cross(moments, &x_root, &scaled(dense, &roots)?)?;
        }
        let windows = weights.chunks(self.length);
        let totals = windows.map(|weights| weights.iter().map(|weight| f64::from(*weight)).sum());
        let totals: Vec<f64> = totals.collect();
        if self.needs.means {
            backend.accumulate_sums(moments, &scaled(x, weights)?, &totals)?;
        }
        if let Some((goal, dense)) = self.goals.get_mut(&tap).zip(dense) {
            backend.accumulate_sums(goal, &scaled(dense, weights)?, &totals)?;
        }
        Ok(())
    }

    /// The moments gathered so far, by tap.
    pub fn taps(&self) -> impl Iterator<Item = (Tap, &B::Moments)> {
        self.moments.iter().map(|(tap, moments)| (*tap, moments))
    }

    /// The sums of the dense model's inputs at a tap, where they were gathered.
    pub fn goal(&self, tap: Tap) -> Option<&B::Moments> {
        self.goals.get(&tap)
    }

    /// A sample of the inputs at each tap, for comparing outputs.
    pub fn samples(&self) -> &Samples<B> {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::spec::TapPlace;
    use ndarray::Array2;

    const TAP: Tap = Tap {
        place: TapPlace::MlpIn,
        width: 3,
    };

    /// The moments of two windows of four tokens, given in two batches.
    fn moments(weights: Option<Vec<f32>>) -> crate::backend::moments::Moments {
        let windows = TokenWindows::new((0..8).collect(), 4).expect("two windows");
        let windows = match weights {
            Some(weights) => windows.weighted(weights).expect("good weights"),
            None => windows,
        };
        let needs = Needs {
            cross: true,
            ..Needs::GRAM.and(Needs::MEANS)
        };
        let mut all = BlockMoments::new(&Cpu, &[TAP], needs, &windows).expect("room");
        for batch in 0..2 {
            let x = Array2::from_shape_fn((4, 3), |(row, column)| (12 * batch + 3 * row + column) as f32 - 7.0);
            let dense = x.mapv(|x| x * x + 1.0);
            all.accumulate(&Cpu, TAP, &x, Some(&dense)).expect("computes");
        }
        all.moments.remove(&TAP).expect("it was asked for")
    }

    #[test]
    fn weights_of_tokens_multiply_everything_that_is_gathered() {
        let (plain, ones) = (moments(None), moments(Some(vec![1.0; 8])));
        assert_eq!(plain, ones);
        // A token of weight 4 counts as four such tokens, one of weight 0 as none.
        let weights = [0.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.25, 1.0f32];
        let got = moments(Some(weights.to_vec()));
        let x = |token: usize, feature: usize| (3 * token + feature) as f64 - 7.0;
        let sum =
            |of: &dyn Fn(usize) -> f64| -> f64 { (0..8).map(|token| f64::from(weights[token]) * of(token)).sum() };
        let (gram, cross) = (got.gram.expect("asked for"), got.cross.expect("asked for"));
        let sums = got.sums.expect("asked for");
        assert_eq!(sums.weights, [5.0, 1.25]);
        for i in 0..3 {
            assert_eq!(got.squares[i], sum(&|token| x(token, i).powi(2)));
            let first: f64 = (0..4).map(|token| f64::from(weights[token]) * x(token, i)).sum();
            assert_eq!(sums.sums[0][i], first);
            for j in 0..3 {
                if j <= i {
                    assert_eq!(gram[[i, j]], sum(&|token| x(token, i) * x(token, j)));
                }
                assert_eq!(cross[[i, j]], sum(&|token| x(token, i) * (x(token, j).powi(2) + 1.0)));
            }
        }
    }
}
