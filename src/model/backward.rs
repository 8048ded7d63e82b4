//! The backward pass: gradients of a language model's loss with respect to the weights of its linear layers, block by block from
//! the last to the first. Either all text passes a block before the next one is read, and the gradients of one block exist at a time;
//! or, where there is memory for the whole model, parts of the text pass it one after the other.

use super::blocks::{ahead, far_ahead};
use super::forward::{Backward, Block, Ends, Hidden, Tape, of_norms};
use super::source::WeightSource;
use crate::backend::Backend;
use crate::backend::gradient::{Gradient, GradientNeeds};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::memory::Room;
use crate::spec::{BlockSpec, LinearId, ModelSpec};

/// How much more than 1 every token's log-likelihood counts on the way back, so that small gradients keep their digits in half
/// precision. A power of two, which changes no digit in single precision.
const SCALE: f32 = 64.0;

/// Blocks that are read at the same time while the first windows pass the model, which takes less time than reading.
const LOADED: usize = 4;

/// The sums over windows of the gradients with respect to the weights of a block's linear layers.
pub struct BlockGradients<T>(Vec<(LinearId, Gradient<T>)>);

impl<T> BlockGradients<T> {
    /// Sums for all linear layers of a block, before any window was added.
    ///
    /// # Errors
    /// The backend has no room.
    pub fn new<B: Backend<Tensor = T>>(backend: &B, spec: &BlockSpec, needs: GradientNeeds) -> Result<Self> {
        let zeros = |outputs, inputs| Gradient::new(needs, || backend.zeros(outputs, inputs));
        let layers = spec
            .layers()
            .map(|(id, linear)| Ok((id, zeros(linear.outputs, linear.inputs)?)));
        Ok(BlockGradients(layers.collect::<Result<_>>()?))
    }

    /// Adds the gradients of so many windows, times `factor`: what [`Backward::retreat`] tells its listener.
    ///
    /// # Errors
    /// The backend fails.
    ///
    /// # Panics
    /// The block has no such layer.
    pub fn add<B: Backend<Tensor = T>>(
        &mut self,
        backend: &B,
        id: LinearId,
        (x, dy): (&T, &T),
        windows: usize,
        factor: f32,
    ) -> Result<()> {
        let found = self.0.iter_mut().find(|(known, _)| *known == id);
        let (_, gradient) = found.expect("a layer is named by its own block");
        backend.accumulate_gradient(gradient, dy, x, windows, factor)
    }

    /// The layers, in the order of the block's specification.
    pub fn into_layers(self) -> Vec<(LinearId, Gradient<T>)> {
        self.0
    }
}

/// Number of windows that move through a block together: half as many as elsewhere on a device that may keep what it computes. It does
/// not depend on the memory that is free, so that gradients do not either.
fn windows_of_a_batch<B: Backend>(backend: &B, spec: &ModelSpec, windows: &TokenWindows) -> usize {
    let most = Hidden::windows_of_a_batch(backend, spec, windows.length());
    match backend.free_bytes() {
        Some(_) => (most / 2).max(1),
        None => most,
    }
}

/// How text passes through the model and back. Losses and gradients are the same if a round is a batch of the other way, else but for the
/// order in which windows are added up.
#[derive(Debug, Clone)]
pub enum Way {
    /// All windows pass one block after the other. The weights of two blocks and the sums of one exist at a time, and the stream before
    /// every block.
    ByBlocks,
    /// A few windows at a time pass the whole model, forwards and back. All weights and all sums exist, and only the streams of these
    /// windows.
    InRounds {
        /// Number of windows in a round.
        windows: usize,
        /// Where there is a place in it, what a block computes is kept, and not computed again on the way back.
        room: Room,
    },
}

impl Way {
    /// In rounds where the backend's own memory has room for them.
    pub fn best<B: Backend>(
        backend: &B,
        spec: &ModelSpec,
        ends: &Ends<B>,
        windows: &TokenWindows,
        needs: GradientNeeds,
    ) -> Self {
        let round = windows_of_a_batch(backend, spec, windows).min(windows.count());
        let tokens = (round * windows.length()) as u64;
        let weights = spec.prunable() as u64;
        let streams = 4 * tokens * (spec.width * spec.blocks) as u64;
        let held = weights * (ends.weight_bytes(backend) + 4 * needs.count() as u64) + streams;
        // Beside that, what passes a block and the gradients with respect to it, each at most in single precision.
        let outputs =
            |(block, _): (&BlockSpec, usize)| block.linears.iter().map(|linear| linear.outputs).sum::<usize>();
        let widest = spec.kinds().map(outputs).max().unwrap_or(0);
        let passing = 4 * tokens * (3 * widest + 8 * spec.width) as u64;
        let left = backend.free_bytes().and_then(|free| free.checked_sub(held + passing));
        match left {
            Some(left) => Way::InRounds {
                windows: round,
                room: Room::new(left, &std::env::temp_dir()),
            },
            None => Way::ByBlocks,
        }
    }
}

/// Calls `take` with the gradients of every block, from the last to the first. A window's loss is the mean over its tokens 1, 2, ...
/// of their negative log-likelihoods given the tokens before them, or with the weights of tokens what [`TokenWindows::predictions`]
/// says; sums are over windows. Returns the losses.
///
/// # Errors
/// A tensor is unusable, the backend has no room, or `take` fails.
pub fn gradients<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: GradientNeeds,
    take: impl FnMut(usize, &Block<B>, BlockGradients<B::Tensor>) -> Result<()>,
) -> Result<Vec<f64>> {
    let way = Way::best(backend, source.spec(), ends, windows, needs);
    gradients_by(way, backend, source, ends, windows, needs, take)
}

/// As [`gradients`], by a way that the caller chooses.
///
/// # Errors
/// As [`gradients`].
pub fn gradients_by<B: Backend>(
    way: Way,
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: GradientNeeds,
    take: impl FnMut(usize, &Block<B>, BlockGradients<B::Tensor>) -> Result<()>,
) -> Result<Vec<f64>> {
    let asked = Asked {
        backend,
        source,
        ends,
        windows,
        needs,
        factor: 1.0 / (SCALE * (windows.length() - 1) as f32),
    };
    match way {
        Way::ByBlocks => asked.by_blocks(take),
        Way::InRounds { windows, room } => asked.in_rounds(windows.max(1), &room, take),
    }
}

/// Gradients that are asked for.
struct Asked<'a, B: Backend> {
    backend: &'a B,
    source: &'a dyn WeightSource,
    ends: &'a Ends<B>,
    windows: &'a TokenWindows,
    needs: GradientNeeds,
    /// What makes a window's loss of the sum of its tokens'.
    factor: f32,
}

impl<B: Backend> Asked<'_, B> {
    fn by_blocks(
        &self,
        mut take: impl FnMut(usize, &Block<B>, BlockGradients<B::Tensor>) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let Asked { backend, ends, .. } = *self;
        let spec = self.source.spec();
        let batch = windows_of_a_batch(backend, spec, self.windows);
        let mut hidden = Hidden::embed_by(batch, backend, spec, ends, self.windows)?;
        let mut tape = Tape::default();
        ahead(
            spec.blocks,
            |index| Block::load(backend, self.source, index),
            |_, block, _| tape.advance(backend, ends, spec, &mut hidden, &block),
        )?;
        let (losses, mut backward) = Backward::of_likelihood(backend, ends, spec, tape, hidden, self.windows, SCALE)?;
        ahead(
            spec.blocks,
            |place| Block::load(backend, self.source, spec.blocks - 1 - place),
            |place, block, _| {
                let mut sums = BlockGradients::new(backend, block.spec(), self.needs)?;
                self.retreat(&mut backward, &block, &mut sums)?;
                take(spec.blocks - 1 - place, &block, sums)
            },
        )?;
        Ok(losses)
    }

    fn in_rounds(
        &self,
        windows: usize,
        room: &Room,
        mut take: impl FnMut(usize, &Block<B>, BlockGradients<B::Tensor>) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let Asked { backend, ends, .. } = *self;
        let spec = self.source.spec();
        let count = self.windows.count();
        let mut losses = Vec::with_capacity(count);
        let mut blocks: Vec<(Block<B>, BlockGradients<B::Tensor>)> = Vec::with_capacity(spec.blocks);
        for first in (0..count).step_by(windows) {
            let part = self.windows.part(first..(first + windows).min(count))?;
            let mut hidden = Hidden::embed(backend, spec, ends, &part)?;
            let mut tape = Tape::keeping(room.clone());
            if first == 0 {
                far_ahead(
                    LOADED,
                    spec.blocks,
                    |index| Block::load(backend, self.source, index),
                    |_, block, _| {
                        tape.advance(backend, ends, spec, &mut hidden, &block)?;
                        let sums = BlockGradients::new(backend, block.spec(), self.needs)?;
                        blocks.push((block, sums));
                        Ok(())
                    },
                )?;
            } else {
                for (block, _) in &blocks {
                    tape.advance(backend, ends, spec, &mut hidden, block)?;
                }
            }
            let (found, mut backward) = Backward::of_likelihood(backend, ends, spec, tape, hidden, &part, SCALE)?;
            losses.extend(found);
            for (block, sums) in blocks.iter_mut().rev() {
                self.retreat(&mut backward, block, sums)?;
            }
        }
        while let Some((block, sums)) = blocks.pop() {
            take(blocks.len(), &block, sums)?;
        }
        Ok(losses)
    }

    /// Moves the gradient back through a block, and adds the gradients of its weights.
    fn retreat(
        &self,
        backward: &mut Backward<B>,
        block: &Block<B>,
        sums: &mut BlockGradients<B::Tensor>,
    ) -> Result<()> {
        backward.retreat(self.backend, self.source.spec(), block, |id, x, dy, windows| {
            sums.add(self.backend, id, (x, dy), windows, self.factor)
        })
    }
}

/// The sums over windows of the gradients of the norms of a block's outputs, each over all tokens and features of a window. `hidden` is
/// the stream before the block.
///
/// # Errors
/// Tokens have weights, or the backend has no room.
pub fn of_outputs<B: Backend>(
    backend: &B,
    spec: &ModelSpec,
    (hidden, windows): (&Hidden<B>, &TokenWindows),
    block: &Block<B>,
    needs: GradientNeeds,
) -> Result<BlockGradients<B::Tensor>> {
    if windows.weights().is_some() {
        return Err(Error::config(
            "gradients of a block's outputs are those of all its tokens alike; leave out the weights of calibration tokens, or use a method \
             without such gradients",
        ));
    }
    // Gradients with respect to outputs are as large as 1 on average then, so that they keep their digits in half precision.
    let scale = ((windows.length() * spec.width) as f32).sqrt().log2().round().exp2();
    let mut sums = BlockGradients::new(backend, block.spec(), needs)?;
    of_norms(backend, spec, hidden, block, scale, |id, x, dy, windows| {
        sums.add(backend, id, (x, dy), windows, 1.0 / scale)
    })?;
    Ok(sums)
}
