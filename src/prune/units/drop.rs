//! Dropping whole blocks: by how little they turn the residual stream (ShortGPT, Men et al., arXiv 2403.03853), in a run that turns it
//! least from end to end (Gromov et al., arXiv 2403.17887), or by the perplexity without them.

use crate::backend::Backend;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::model::blocks;
use crate::model::edit::{BlockEdit, Edit};
use crate::model::forward::{Ends, Hidden};
use crate::model::source::WeightSource;
use crate::spec::ModelSpec;
use ndarray::{Array2, ArrayView1};

/// The tokens on which the residual stream before and after blocks is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// All.
    All,
    /// The last token of each window.
    Last,
}

/// How much runs of `blocks` consecutive blocks turn the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Turning {
    /// `1 - mean cos(x, y)` for each run, where `x` goes into its first block and `y` comes out of its last: block influence, if a
    /// run is one block.
    pub influence: Vec<f64>,
    /// The mean angle between the two, as a fraction of a half turn.
    pub angle: Vec<f64>,
}

/// Compares the stream before and after every run of `run` blocks of the dense model.
///
/// # Errors
/// The run is empty or longer than the model, the checkpoint is unusable, or the backend fails.
pub fn turning<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
    run: usize,
    tokens: Tokens,
) -> Result<Turning> {
    let spec = source.spec();
    if run == 0 || run > spec.blocks {
        return Err(Error::config(format!(
            "a run of {run} blocks, and the model has {}",
            spec.blocks
        )));
    }
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    let mut before = vec![states(backend, &hidden, windows, tokens)?];
    let (mut influence, mut angle) = (Vec::new(), Vec::new());
    blocks::each(backend, source, |_, block| {
        hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
        let after = states(backend, &hidden, windows, tokens)?;
        if before.len() == run {
            let cosines = before[0]
                .rows()
                .into_iter()
                .zip(after.rows())
                .map(|(x, y)| cosine(x, y));
            let (mut cosine, mut turn) = (0.0, 0.0);
            for each in cosines {
                cosine += each;
                turn += each.acos() / std::f64::consts::PI;
            }
            influence.push(1.0 - cosine / after.nrows() as f64);
            angle.push(turn / after.nrows() as f64);
            before.remove(0);
        }
        before.push(after);
        Ok(())
    })?;
    Ok(Turning { influence, angle })
}

/// The stream of the tokens that are compared.
fn states<B: Backend>(backend: &B, hidden: &Hidden<B>, windows: &TokenWindows, tokens: Tokens) -> Result<Array2<f32>> {
    let length = windows.length();
    let rows = match tokens {
        Tokens::All => None,
        Tokens::Last => Some(length - 1),
    };
    hidden.states(backend, rows)
}

fn cosine(x: ArrayView1<f32>, y: ArrayView1<f32>) -> f64 {
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
    }
    (xy / (xx * yy).sqrt().max(f64::MIN_POSITIVE)).clamp(-1.0, 1.0)
}

/// The model without these blocks.
pub fn without(spec: &ModelSpec, dropped: &[usize]) -> Edit {
    let left = (0..spec.blocks).filter(|block| !dropped.contains(block));
    Edit {
        blocks: left.map(|block| BlockEdit::whole(block, spec.block(block))).collect(),
    }
}

/// The `count` blocks with the lowest influence, in ascending order; of equal ones, the first.
pub fn least(influence: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..influence.len()).collect();
    order.sort_by(|a, b| influence[*a].total_cmp(&influence[*b]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Removes `count` blocks one after the other, each time the one without which `measure` (a perplexity) is lowest; of equal ones, the
/// first. Returns them in this order, each with what was measured.
///
/// # Errors
/// All blocks are to be removed, or a measurement fails.
pub fn greedy(
    spec: &ModelSpec,
    count: usize,
    mut measure: impl FnMut(&Edit) -> Result<f64>,
) -> Result<Vec<(usize, f64)>> {
    if count >= spec.blocks {
        return Err(Error::config(format!(
            "{count} blocks to remove, and the model has {}",
            spec.blocks
        )));
    }
    let mut removed: Vec<(usize, f64)> = Vec::new();
    while removed.len() < count {
        let mut best: Option<(usize, f64)> = None;
        for block in 0..spec.blocks {
            let mut dropped: Vec<usize> = removed.iter().map(|(block, _)| *block).collect();
            if dropped.contains(&block) {
                continue;
            }
            dropped.push(block);
            let found = measure(&without(spec, &dropped))?;
            if best.is_none_or(|(_, least)| found < least) {
                best = Some((block, found));
            }
        }
        removed.extend(best);
    }
    Ok(removed)
}
