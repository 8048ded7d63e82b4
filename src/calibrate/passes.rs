//! Passes of calibration text through a model, for the moments of its layers' inputs.

use super::BlockMoments;
use crate::backend::Backend;
use crate::backend::moments::Needs;
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::model::blocks;
use crate::model::forward::{Before, Block, Ends, Hidden};
use crate::model::source::WeightSource;
use crate::spec::{ModelSpec, Tap};

/// Moves the windows once through the dense model, and returns the moments of every block.
///
/// # Errors
/// The checkpoint is unusable or the backend fails.
pub fn dense_moments<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
) -> Result<Vec<BlockMoments<B>>> {
    let mut all = Vec::new();
    dense(backend, source, ends, windows, needs, |_, _, moments| {
        all.push(moments);
        Ok(())
    })?;
    Ok(all)
}

/// One dense pass that keeps nothing: every block, in order, with the moments of its inputs.
///
/// # Errors
/// The checkpoint is unusable, the backend fails, or `each` does.
pub fn dense<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    needs: Needs,
    mut each: impl FnMut(usize, Block<B>, BlockMoments<B>) -> Result<()>,
) -> Result<()> {
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    blocks::each(backend, source, |index, block| {
        let taps = block.spec().taps();
        let moments = match index + 1 < spec.blocks {
            true => {
                let mut moments = BlockMoments::new(backend, &taps, needs, windows)?;
                hidden.advance(backend, spec, &block, |tap, x| {
                    moments.accumulate(backend, tap, x, None)
                })?;
                moments
            }
            // Nobody reads what comes out of the last block.
            false => observe(backend, spec, (&hidden, &block), None, &taps, needs, windows)?,
        };
        each(index, block, moments)
    })
}

/// Moves windows through a block up to the last of these taps, and returns the taps' moments. The
/// windows stay before the block. With `dense`, the windows before the block in the dense model and the dense block, the
/// moments include the products with the dense model's inputs.
///
/// # Errors
/// The backend fails.
pub fn observe<B: Backend>(
    backend: &B,
    spec: &ModelSpec,
    (hidden, block): Before<B>,
    dense: Option<Before<B>>,
    taps: &[Tap],
    needs: Needs,
    windows: &TokenWindows,
) -> Result<BlockMoments<B>> {
    let mut moments = BlockMoments::new(backend, taps, needs, windows)?;
    let Some(last) = taps.iter().copied().max() else {
        return Ok(moments);
    };
    if !needs.anything() {
        // Nothing is left but the samples, which are tokens of the first window.
        hidden.observe_first(backend, spec, block, last, |tap, x| match taps.contains(&tap) {
            true => moments.accumulate(backend, tap, x, None),
            false => Ok(()),
        })?;
        return Ok(moments);
    }
    hidden.observe(backend, spec, block, dense, last, |tap, x, dense| {
        match taps.contains(&tap) {
            true => moments.accumulate(backend, tap, x, dense),
            false => Ok(()),
        }
    })?;
    Ok(moments)
}
