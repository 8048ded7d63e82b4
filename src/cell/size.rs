//! What a model has, what it computes, and how long it takes: to compare two models.

use crate::backend::{Backend, Compute};
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::experiment::forecast::{TIMED_TOKENS, timed_windows};
use crate::model::blocks;
use crate::model::forward::{Ends, Hidden};
use crate::model::source::WeightSource;
use crate::spec::ModelSpec;
use ndarray::Array2;
use std::time::{Duration, Instant};

/// How often the time of each model is taken.
const ROUNDS: usize = 5;

/// Number of parameters of a model.
pub fn parameters(spec: &ModelSpec) -> u64 {
    let sizes = spec.tensors().map(|(_, shape)| shape.iter().product::<usize>() as u64);
    sizes.sum()
}

/// Multiply-adds of a token in linear layers and the head.
pub fn multiply_adds(spec: &ModelSpec) -> u64 {
    (spec.prunable() + spec.vocabulary * spec.embedding.width) as u64
}

/// A text for comparing models and for measuring time: the first windows of the calibration, or tokens that mean nothing.
///
/// # Errors
/// Never for the windows of a calibration.
pub fn sample(windows: Option<&TokenWindows>, spec: &ModelSpec) -> Result<TokenWindows> {
    match windows {
        Some(windows) => {
            let count = timed_windows(windows.length(), windows.count());
            windows.part(0..count)
        }
        None => {
            let half = TIMED_TOKENS / 2;
            let length = half.min(spec.longest_window.unwrap_or(half)).max(2);
            let ids = (0..2 * length as u64).map(|place| (place * 7919 % spec.vocabulary as u64) as u32);
            TokenWindows::new(ids.collect(), length)
        }
    }
}

/// The logits of every token, and how long the blocks and the head took to compute them.
///
/// # Errors
/// The weights are unusable, or the backend fails.
pub fn logits<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
) -> Result<(Array2<f32>, Duration)> {
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    let mut time = Duration::ZERO;
    blocks::each(backend, source, |_, block| {
        backend.wait()?;
        let started = Instant::now();
        hidden.advance(backend, spec, &block, |_, _| Ok(()))?;
        backend.wait()?;
        time += started.elapsed();
        Ok(())
    })?;
    let started = Instant::now();
    let logits = hidden.logits(backend, ends)?;
    Ok((logits, time + started.elapsed()))
}

/// The largest difference of logits that rounding explains in a model with so many blocks, as a fraction of the largest logit. Sums
/// in another order differ in the last bits, and every block adds to that.
pub fn tolerance(compute: Compute, blocks: usize) -> f64 {
    match compute {
        Compute::F32 => 1e-4f64.max(2e-5 * blocks as f64),
        Compute::F16 | Compute::Bf16 => 3e-2,
    }
}

/// The largest difference of two matrices, as a fraction of the largest entry of the second.
pub fn difference(got: &Array2<f32>, want: &Array2<f32>) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let apart = largest(&mut got.iter().zip(want).map(|(got, want)| f64::from((got - want).abs())));
    let most = largest(&mut want.iter().map(|value| f64::from(value.abs())));
    // Logits that are not finite are like no others.
    match got.iter().all(|value| value.is_finite()) {
        true => apart / most.max(f64::MIN_POSITIVE),
        false => f64::INFINITY,
    }
}

/// Seconds per token that two models take to score a text, without reading weights. They take turns, so that what else the machine
/// does meets both, and the fastest of several passes counts.
///
/// # Errors
/// As [`logits`].
pub fn seconds_per_token<B: Backend>(
    backend: &B,
    models: [(&dyn WeightSource, &Ends<B>); 2],
    windows: &TokenWindows,
) -> Result<[f64; 2]> {
    let mut seconds = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (fastest, (source, ends)) in seconds.iter_mut().zip(models) {
            let (_, time) = logits(backend, source, ends, windows)?;
            *fastest = time.as_secs_f64().min(*fastest);
        }
    }
    Ok(seconds.map(|seconds| seconds / windows.ids().len() as f64))
}
