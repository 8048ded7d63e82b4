//! Timing how a method of whole units chooses what is removed.

use super::bench::{Benchmark, checked_shape, model_blocks, random_ids};
use crate::backend::Compute;
use crate::cell::{Opened, Work};
use crate::data::windows::TokenWindows;
use crate::error::Result;
use crate::linalg::Provider;
use crate::memory::{self, Room};
use crate::model::forward::Ends;
use crate::model::random::RandomWeights;
use crate::progress::Progress;
use crate::prune::units::dense::Dense;
use crate::prune::units::{UnitMethod, Widths};
use crate::prune::workbench::Workbench;
use crate::spec::ModelSpec;
use crate::tensor::StorageType;
use serde::Serialize;
use std::time::Instant;

/// What choosing units took.
#[derive(Debug, Clone, Serialize)]
pub struct UnitsMeasured {
    /// Name of the model shape.
    pub shape: String,
    /// Name of the backend that computed.
    pub backend: String,
    /// Name of the device, if the backend has one.
    pub device: Option<String>,
    /// Number format that weights and activations were stored in.
    pub compute: Compute,
    /// Number of blocks that were looked at.
    pub blocks: usize,
    /// Number of blocks of the whole model.
    pub model_blocks: usize,
    /// Seconds from the dense model to what is left of it, waiting for random weights included.
    pub seconds: f64,
    /// The fraction of the weights of the blocks' linear layers that would be removed.
    pub removed: f64,
    /// The most memory that the process had, in bytes, if the system says.
    pub peak_resident_bytes: Option<u64>,
    /// The most bytes of the device's memory that were in use at the same time; none where there is no such memory.
    pub device_peak_bytes: Option<u64>,
}

/// Lets a method choose what is left of a model of random weights, with uniform widths, and times it. Nothing is written.
///
/// # Errors
/// An unknown shape, a sequence longer than its context, a model that the method does not take, or the device fails.
pub fn bench_units(
    benchmark: &Benchmark,
    method: &dyn UnitMethod,
    share: f64,
    progress: &dyn Progress,
) -> Result<UnitsMeasured> {
    let spec = checked_shape(benchmark)?;
    method.check_model(&spec, share, Widths::Uniform)?;
    let machine = benchmark.machine.here(Provider::Faer)?;
    let backend = Opened::new(&benchmark.machine, machine)?;
    let measured = backend.run(Choose {
        benchmark,
        spec,
        method,
        share,
        compute: machine.compute,
        progress,
    })?;
    progress.finish();
    Ok(measured)
}

struct Choose<'a> {
    benchmark: &'a Benchmark,
    spec: ModelSpec,
    method: &'a dyn UnitMethod,
    share: f64,
    compute: Compute,
    progress: &'a dyn Progress,
}

impl Work for Choose<'_> {
    type Output = UnitsMeasured;

    fn on<B: Workbench>(self, backend: &B) -> Result<UnitsMeasured> {
        let Choose { benchmark, spec, .. } = self;
        let windows = TokenWindows::new(random_ids(benchmark, &spec), benchmark.length)?;
        let room = match benchmark.machine.memory {
            Some(budget) => Room::new(budget.0, &benchmark.machine.scratch_folder()),
            None => Room::unlimited(),
        };
        let source = RandomWeights::new(spec.clone(), benchmark.seed, StorageType::F16);
        let ends = Ends::upload(backend, &source)?.within(room);
        let dense = Dense {
            backend,
            source: &source,
            ends: &ends,
            windows: self.method.calibrates().then_some(&windows),
        };
        self.progress.stage("choosing units");
        let started = Instant::now();
        let edit = self.method.edit(&dense, self.share, Widths::Uniform)?;
        let seconds = started.elapsed().as_secs_f64();
        let left = edit.counts(&spec)?.weights;
        Ok(UnitsMeasured {
            shape: benchmark.shape.clone(),
            backend: backend.name().to_string(),
            device: backend.device(),
            compute: self.compute,
            blocks: spec.blocks,
            model_blocks: model_blocks(benchmark)?,
            seconds,
            removed: 1.0 - left as f64 / spec.prunable() as f64,
            peak_resident_bytes: memory::peak_resident(),
            device_peak_bytes: backend.peak_bytes(),
        })
    }
}
