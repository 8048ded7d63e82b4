//! What a model has, what it computes, and how long it takes: to compare two models.

use crate::backend::{Backend, Compute};
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::experiment::forecast::{TIMED_TOKENS, timed_windows};
use crate::model::blocks;
use crate::model::forward::{Block, Ends, Hidden};
use crate::model::source::WeightSource;
use crate::progress::Progress;
use crate::spec::ModelSpec;
use ndarray::Array2;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How often the time of each model is taken at least, and at most.
const ROUNDS: RangeInclusive<usize> = 5..=25;

/// No further pass of the models begins after this time, if each has had two.
const ENOUGH: Duration = Duration::from_secs(60);

/// How many times as long as the fastest pass the next one may take, if the fastest is to be no accident.
const SETTLED: f64 = 1.01;

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

/// The logits of every token, to compare two models.
///
/// # Errors
/// The weights are unusable, or the backend fails.
pub fn logits<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
) -> Result<Array2<f32>> {
    let spec = source.spec();
    let mut hidden = Hidden::embed(backend, spec, ends, windows)?;
    blocks::each(backend, source, |_, block| {
        hidden.advance(backend, spec, &block, |_, _| Ok(()))
    })?;
    hidden.logits(backend, ends)
}

/// How long a model takes to score a text as evaluation does: embedding, blocks, and the log-likelihood of every next token, with the
/// logits of few tokens in memory at a time. Reading weights does not count, and nothing is read meanwhile.
///
/// # Errors
/// As [`logits`].
fn scoring_time<B: Backend>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    windows: &TokenWindows,
) -> Result<Duration> {
    let spec = source.spec();
    let mut time = Duration::ZERO;
    let mut hidden = timed(backend, &mut time, || Hidden::embed(backend, spec, ends, windows))?;
    for index in 0..spec.blocks {
        let block = Block::load(backend, source, index)?;
        timed(backend, &mut time, || {
            hidden.advance(backend, spec, &block, |_, _| Ok(()))
        })?;
    }
    timed(backend, &mut time, || {
        hidden.log_likelihoods(backend, ends, windows, |_| {})
    })?;
    Ok(time)
}

/// Does some work, and adds the time until the backend is done with it.
fn timed<B: Backend, R>(backend: &B, time: &mut Duration, work: impl FnOnce() -> Result<R>) -> Result<R> {
    backend.wait()?;
    let started = Instant::now();
    let done = work()?;
    backend.wait()?;
    *time += started.elapsed();
    Ok(done)
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
/// does meets both, and the fastest of several passes counts. On a busy machine there are more passes: until another one is nearly as
/// fast, for both models.
///
/// # Errors
/// As [`logits`], and if `progress` stops the work after a pass.
pub fn seconds_per_token<B: Backend>(
    backend: &B,
    models: [(&dyn WeightSource, &Ends<B>); 2],
    windows: &TokenWindows,
    progress: &dyn Progress,
) -> Result<[f64; 2]> {
    let mut passes = [Vec::new(), Vec::new()];
    let started = Instant::now();
    for round in 1..=*ROUNDS.end() {
        for (passes, (source, ends)) in passes.iter_mut().zip(models) {
            passes.push(scoring_time(backend, source, ends, windows)?.as_secs_f64());
            progress.tried()?;
        }
        let settled = round >= *ROUNDS.start() && passes.iter().all(|passes| is_settled(passes));
        if settled || (round > 1 && started.elapsed() > ENOUGH) {
            break;
        }
    }
    Ok(passes.map(|passes| fastest(&passes) / windows.ids().len() as f64))
}

fn fastest(passes: &[f64]) -> f64 {
    passes.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Whether a second pass took nearly as little time as the fastest.
fn is_settled(passes: &[f64]) -> bool {
    let most = SETTLED * fastest(passes);
    passes.iter().filter(|seconds| **seconds <= most).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::error::{Error, ErrorKind};
    use crate::model::checkpoint::Checkpoint;
    use crate::model::families::read_spec;
    use std::cell::Cell;
    use std::path::Path;

    /// Asks to stop when so many passes are done.
    struct Stops {
        after: usize,
        passes: Cell<usize>,
    }

    impl Progress for Stops {
        fn stage(&self, _what: &str) {}
        fn start(&self, _cells: usize, _steps: usize) {}
        fn cell(&self, _label: &str, _blocks: usize) {}
        fn step(&self) -> Result<()> {
            Ok(())
        }
        fn tried(&self) -> Result<()> {
            self.passes.set(self.passes.get() + 1);
            match self.passes.get() >= self.after {
                true => Err(Error::new(ErrorKind::Interrupted, "stopped")),
                false => Ok(()),
            }
        }
        fn cell_done(&self, _label: &str, _result: &str) {}
        fn finish(&self) {}
    }

    #[test]
    fn the_timing_ends_with_the_pass_in_which_it_was_stopped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-llama");
        let spec = read_spec(&folder).expect("a model of the repository");
        let model = Checkpoint::open(&folder, spec).expect("a model of the repository");
        let ends = Ends::upload(&Cpu, &model).expect("a small model");
        let windows = TokenWindows::new(vec![1, 2, 3, 4], 4).expect("a window");
        let stops = Stops {
            after: 3,
            passes: Cell::new(0),
        };
        let models: [(&dyn WeightSource, &Ends<Cpu>); 2] = [(&model, &ends), (&model, &ends)];
        let error = seconds_per_token(&Cpu, models, &windows, &stops).expect_err("stopped");
        assert_eq!((error.kind(), stops.passes.get()), (ErrorKind::Interrupted, 3));
    }

    #[test]
    fn one_fast_pass_alone_settles_nothing() {
        assert!(!is_settled(&[1.0]));
        assert!(!is_settled(&[1.3, 1.0, 1.2, 1.1, 1.5]));
        assert!(is_settled(&[1.3, 1.0, 1.2, 1.005, 1.5]));
        assert!(!is_settled(&[1.3, 1.0, 1.005, 0.9]), "faster than both");
    }
}
