//! What a dense pass over calibration text tells of the inputs of the layers that write to the residual stream: the attention's
//! output and the MLP's second layer, whose columns are heads and neurons.

use crate::backend::Backend;
use crate::backend::moments::{Needs, SequenceSums};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::model::blocks;
use crate::model::forward::{Ends, Hidden, copy};
use crate::model::source::WeightSource;
use crate::spec::{Tap, TapPlace};
use std::collections::BTreeMap;

/// The inputs of a layer, feature by feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// The mean over sequences of each one's mean.
    pub mean: Vec<f64>,
    /// The mean over sequences of the sum of squares.
    pub squares: Vec<f64>,
    /// FLAP's fluctuation `1 / (N - 1) sum_k (k - 1) / k sum_t (x_kt - b_k)^2`, where `b_k` is the mean over the first `k` of `N`
    /// sequences. It is what the released recursion comes to: the first sequence does not count, and others less their part of it.
    pub fluctuation: Vec<f64>,
}

/// The inputs of a block's layers that write to the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFeatures {
    /// Those of the attention's output: heads side by side.
    pub heads: Features,
    /// Those of the MLP's second layer: neurons.
    pub neurons: Features,
    /// The mean over sequences of the sum of squares of the inputs of the block's other layers.
    inputs: BTreeMap<TapPlace, Vec<f64>>,
}

impl BlockFeatures {
    /// The mean over sequences of the sum of squares of every input at a place.
    pub fn squares(&self, place: TapPlace) -> &[f64] {
        match place {
            TapPlace::AttentionOut => &self.heads.squares,
            TapPlace::MlpMiddle => &self.neurons.squares,
            _ => self.inputs.get(&place).map_or(&[], Vec::as_slice),
        }
    }
}

/// Moves the windows through the dense model.
///
/// # Errors
/// There are less than two windows, the checkpoint is unusable, or the backend fails.
pub fn survey<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
) -> Result<Vec<BlockFeatures>> {
    if windows.count() < 2 {
        return Err(Error::config(
            "a fluctuation over sequences needs at least two of them; calibrate on more",
        ));
    }
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    let mut found = Vec::with_capacity(spec.blocks);
    blocks::each(backend, source, |index, block| {
        let mut gathered: BTreeMap<TapPlace, Gathered<B>> = BTreeMap::new();
        let mut others: BTreeMap<TapPlace, B::Moments> = BTreeMap::new();
        for tap in block.spec().taps() {
            match tap.place {
                TapPlace::AttentionOut | TapPlace::MlpMiddle => {
                    gathered.insert(tap.place, Gathered::new(backend, tap)?);
                }
                place => {
                    others.insert(place, backend.moments(tap.width, Needs::SQUARES)?);
                }
            }
        }
        hidden.advance(backend, spec, &block, |tap, x| {
            match (gathered.get_mut(&tap.place), others.get_mut(&tap.place)) {
                (Some(gathered), _) => gathered.add(backend, x, windows.length()),
                (None, Some(moments)) => backend.accumulate(moments, x),
                (None, None) => Ok(()),
            }
        })?;
        let mut inputs = BTreeMap::new();
        for (place, moments) in others {
            let squares = backend.read_moments(&moments)?.squares;
            let count = windows.count() as f64;
            inputs.insert(place, squares.iter().map(|sum| sum / count).collect());
        }
        let mut features = |place| match gathered.remove(&place) {
            Some(gathered) => gathered.finish(backend).at(format_args!("block {index}")),
            None => Err(Error::config("it has no such sub-layer").at(format_args!("block {index}"))),
        };
        found.push(BlockFeatures {
            heads: features(TapPlace::AttentionOut)?,
            neurons: features(TapPlace::MlpMiddle)?,
            inputs,
        });
        Ok(())
    })?;
    Ok(found)
}

/// For every neuron of every block, the mean over windows of the norm over the window's tokens of what it gives to the MLP's second
/// layer. A block without MLP has none.
///
/// # Errors
/// The checkpoint is unusable, or the backend fails.
pub fn neuron_norms<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
) -> Result<Vec<Vec<f64>>> {
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    let mut found = Vec::with_capacity(spec.blocks);
    blocks::each(backend, source, |index, block| {
        let mut norms = vec![0.0; block.spec().neurons()];
        hidden.advance(backend, spec, &block, |tap, x| {
            if tap.place != TapPlace::MlpMiddle {
                return Ok(());
            }
            let rows: Vec<u32> = (0..backend.extent(x).rows as u32).collect();
            for rows in rows.chunks(windows.length()) {
                let mut moments = backend.moments(tap.width, Needs::SQUARES)?;
                backend.accumulate(&mut moments, &backend.rows(x, rows)?)?;
                let squares = backend.read_moments(&moments)?.squares;
                norms
                    .iter_mut()
                    .zip(squares)
                    .for_each(|(norm, sum)| *norm += sum.sqrt());
            }
            Ok(())
        })?;
        let count = windows.count() as f64;
        norms.iter_mut().for_each(|norm| *norm /= count);
        if norms.iter().any(|norm| !norm.is_finite()) {
            return Err(Error::numeric("a neuron's norm is not finite").at(format_args!("block {index}")));
        }
        found.push(norms);
        Ok(())
    })?;
    Ok(found)
}

/// Sums at one tap.
struct Gathered<B: Backend> {
    all: B::Moments,
    /// Squares, those of sequence `k` times `(k - 1) / k`.
    later: B::Moments,
    seen: usize,
}

/// By what FLAP multiplies sequence `k`, counted from 1.
fn part(k: usize) -> f64 {
    (k - 1) as f64 / k as f64
}

impl<B: Backend> Gathered<B> {
    fn new(backend: &B, tap: Tap) -> Result<Self> {
        Ok(Gathered {
            all: backend.moments(tap.width, Needs::MEANS)?,
            later: backend.moments(tap.width, Needs::SQUARES)?,
            seen: 0,
        })
    }

    fn add(&mut self, backend: &B, x: &B::Tensor, length: usize) -> Result<()> {
        let count = backend.extent(x).rows / length;
        backend.accumulate(&mut self.all, x)?;
        backend.accumulate_sums(&mut self.all, x, &vec![length as f64; count])?;
        let factors = (self.seen + 1..=self.seen + count).flat_map(|k| vec![part(k).sqrt() as f32; length]);
        let mut scaled = copy(backend, x)?;
        backend.scale_rows(&mut scaled, &factors.collect::<Vec<f32>>())?;
        backend.accumulate(&mut self.later, &scaled)?;
        self.seen += count;
        Ok(())
    }

    fn finish(self, backend: &B) -> Result<Features> {
        let (all, later) = (backend.read_moments(&self.all)?, backend.read_moments(&self.later)?);
        all.check_finite()?;
        let count = self.seen as f64;
        let SequenceSums { sums, weights } = all.sums.unwrap_or_default();
        let mut mean = vec![0.0; all.squares.len()];
        // The sum of (x - b)^2 is that of x^2, less 2 b times the sum of x, plus b^2 for each token.
        let mut fluctuation = later.squares;
        for (index, (sums, length)) in sums.iter().zip(&weights).enumerate() {
            let k = index + 1;
            for ((mean, fluctuation), sum) in mean.iter_mut().zip(&mut fluctuation).zip(sums) {
                *mean += (sum / length - *mean) / k as f64;
                *fluctuation += part(k) * (*mean * *mean * length - 2.0 * *mean * sum);
            }
        }
        let positive = |sum: f64| (sum / (count - 1.0)).max(0.0);
        Ok(Features {
            mean,
            squares: all.squares.iter().map(|sum| sum / count).collect(),
            fluctuation: fluctuation.into_iter().map(positive).collect(),
        })
    }
}
