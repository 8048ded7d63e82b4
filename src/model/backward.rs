//! The backward pass: gradients of a language model's loss with respect to the weights of its linear layers, block by block from
//! the last to the first. The gradients of one block exist at a time.

use super::blocks::ahead;
use super::forward::{Backward, Block, Ends, Hidden, Tape, of_norms};
use super::source::WeightSource;
use crate::backend::Backend;
use crate::backend::gradient::{Gradient, GradientNeeds};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::spec::{BlockSpec, LinearId, ModelSpec};

/// How much more than 1 every token's log-likelihood counts on the way back, so that small gradients keep their digits in half
/// precision. A power of two, which changes no digit in single precision.
const SCALE: f32 = 64.0;

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

/// Calls `take` with the gradients of every block, from the last to the first. A window's loss is the mean over its tokens 1, 2, ...
/// of their negative log-likelihoods given the tokens before them; sums are over windows. Returns the losses.
///
/// # Errors
/// Tokens have weights, a tensor is unusable, the backend has no room, or `take` fails.
pub fn gradients<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: GradientNeeds,
    mut take: impl FnMut(usize, &Block<B>, BlockGradients<B::Tensor>) -> Result<()>,
) -> Result<Vec<f64>> {
    let spec = source.spec();
    check_alike(windows)?;
    let targets = windows.length() - 1;
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    let mut tape = Tape::default();
    ahead(
        spec.blocks,
        |index| Block::load(backend, source, index),
        |_, block, _| tape.advance(backend, ends, spec, &mut hidden, &block),
    )?;
    let (losses, mut backward) = Backward::of_likelihood(backend, ends, spec, tape, hidden, windows, SCALE)?;
    let factor = 1.0 / (SCALE * targets as f32);
    ahead(
        spec.blocks,
        |place| Block::load(backend, source, spec.blocks - 1 - place),
        |place, block, _| {
            let mut sums = BlockGradients::new(backend, block.spec(), needs)?;
            backward.retreat(backend, spec, &block, |id, x, dy, windows| {
                sums.add(backend, id, (x, dy), windows, factor)
            })?;
            take(spec.blocks - 1 - place, &block, sums)
        },
    )?;
    Ok(losses)
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
    check_alike(windows)?;
    // Gradients with respect to outputs are as large as 1 on average then, so that they keep their digits in half precision.
    let scale = ((windows.length() * spec.width) as f32).sqrt().log2().round().exp2();
    let mut sums = BlockGradients::new(backend, block.spec(), needs)?;
    of_norms(backend, spec, hidden, block, scale, |id, x, dy, windows| {
        sums.add(backend, id, (x, dy), windows, 1.0 / scale)
    })?;
    Ok(sums)
}

fn check_alike(windows: &TokenWindows) -> Result<()> {
    match windows.weights() {
        None => Ok(()),
        Some(_) => Err(Error::config(
            "gradients are computed for a loss in which all tokens count alike; leave out the weights of calibration tokens, or use a \
             method without gradients",
        )),
    }
}
