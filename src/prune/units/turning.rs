//! How much blocks turn the residual stream.

use crate::backend::Backend;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::model::blocks;
use crate::model::forward::{Ends, Hidden};
use crate::model::source::WeightSource;
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

/// The tokens on which the residual stream before and after blocks is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// All.
    #[default]
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
