//! The memory of a GPU that calibrating, pruning and measuring a model takes, from its shape alone. Gradients are left out: how they
//! are computed follows from the memory that is free.

use super::forecast::{Sizes, elements};
use crate::backend::moments::Needs;
use crate::prune::recipe::Recipe;
use crate::spec::{ModelSpec, TapPlace};
use bytesize::ByteSize;
use std::fmt;

/// Bytes of a number in single precision, and of one in double precision.
const SINGLE: u128 = 4;
const DOUBLE: u128 = 8;

/// Matrices larger than this are factorised in single precision, since a kernel sees no more at once.
const SEEN_AT_ONCE: u128 = 2 << 30;

/// What is done on a GPU, as far as its memory depends on it.
#[derive(Clone, Copy)]
pub struct OnDevice<'a> {
    /// The recipes that models are pruned with.
    pub recipes: &'a [&'a Recipe],
    /// Tokens of the calibration windows.
    pub calibrated: usize,
    /// Tokens of the texts that perplexity is measured on, of one model or, where models are compared, of both.
    pub evaluated: usize,
    /// Bytes of a number of weights and of activations within a block.
    pub stored: usize,
    /// Tokens that move through a block together.
    pub batch: usize,
}

/// The memory of a GPU that a run takes at its fullest, in bytes, by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceForecast {
    /// Embedding, positions and head.
    pub ends: u64,
    /// The weights of two blocks: the one that is worked on, and the next.
    pub blocks: u64,
    /// The larger of: Gram matrices and activations of one batch inside a block; Gram matrices, factor, scores and copies of a layer.
    pub work: u64,
    /// Residual streams of all calibration and evaluation windows. Only these can be put on disk.
    pub streams: u64,
}

impl DeviceForecast {
    /// The memory of a model.
    pub fn new(spec: &ModelSpec, on: &OnDevice) -> Self {
        let stored = on.stored as u128;
        let needs = on
            .recipes
            .iter()
            .fold(Needs::NOTHING, |all, it| all.and(it.layer_needs()));
        let Sizes { block, layer, taps, .. } = Sizes::largest(spec);
        let [before, after] = spec.outer_tensors();
        let width = spec.width as u128;
        let tokens = on.calibrated.max(on.evaluated).min(on.batch) as u128;
        let grams = 1 + u128::from(needs.cross) + u128::from(needs.goal_gram);
        let gram = |width: &u128| match needs.gram {
            true => SINGLE * grams * width.pow(2),
            false => 0,
        };
        let passing = taps.iter().map(gram).sum::<u128>() + tokens * (SINGLE * width + stored * inside(spec));
        // A tap's matrices are given up with its last layer.
        let pruning = (0..taps.len()).map(|place| {
            let left: u128 = taps[place..].iter().map(gram).sum();
            let square = taps[place].pow(2);
            let wide = match DOUBLE * square <= SEEN_AT_ONCE {
                true => DOUBLE,
                false => SINGLE,
            };
            let factored = if needs.gram { (wide + SINGLE) * square } else { 0 };
            let solving = on.recipes.iter().map(|recipe| recipe.solver.room(layer, taps[place]));
            // The keys of the scores, or the copy in single precision that is updated.
            left + factored.max(solving.max().unwrap_or(0)) + SINGLE * layer + layer / 8
        });
        let reproduces = on.recipes.iter().any(|recipe| recipe.reproduces_dense());
        let twice = if reproduces { 2 } else { 1 };
        let bytes = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        DeviceForecast {
            ends: bytes(stored * (elements(&before) + elements(&after))),
            blocks: bytes(stored * 2 * twice * block),
            work: bytes(passing.max(pruning.max().unwrap_or(0))),
            streams: bytes(SINGLE * width * (twice * on.calibrated as u128 + on.evaluated as u128)),
        }
    }

    /// What must be free for blocks and for the work on them beside the residual streams.
    pub fn beside_streams(&self) -> u64 {
        self.blocks.saturating_add(self.work)
    }

    /// Everything, with nothing on disk.
    pub fn whole(&self) -> u64 {
        [self.ends, self.blocks, self.work, self.streams]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// The most numbers of a token that exist at one time in a block beside the residual stream and its copy.
fn inside(spec: &ModelSpec) -> u128 {
    let width = spec.width as u128;
    let blocks = spec.kinds().map(|(block, _)| {
        let outputs = |place| -> u128 {
            let linears = block.linears.iter().filter(|linear| linear.role.place() == place);
            linears.map(|linear| linear.outputs as u128).sum()
        };
        let mixed = block.tap(TapPlace::AttentionOut).map_or(0, |tap| tap.width as u128);
        let attention = width + outputs(TapPlace::AttentionIn) + mixed;
        // The attention's output stays until the end.
        let mlp = 2 * width + outputs(TapPlace::MlpIn);
        attention.max(mlp)
    });
    blocks.max().unwrap_or(0)
}

impl fmt::Display for DeviceForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "embedding and head {}, two blocks {}, a batch or a layer under work {}, activations {}",
            ByteSize(self.ends),
            ByteSize(self.blocks),
            ByteSize(self.work),
            ByteSize(self.streams)
        )
    }
}
