//! How long pruning takes, on random weights of a known shape.
//!
//! Weights and tokens are seeded random numbers made on the fly, so that a model of any size can be timed
//! without its files. Scores, masks and updates are computed as for a real one; what the numbers are does not
//! change how long that takes.

use crate::backend::timed::{Tally, Timed};
use crate::backend::{Backend, Compute};
use crate::cell::{Opened, Prepared, Runner, Sharing, Treatment, Work};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Result};
use crate::experiment::machine::MachinePlan;
use crate::files::{Access, Staging};
use crate::linalg::Provider;
use crate::model::families;
use crate::model::random::RandomWeights;
use crate::progress::{Progress, Silent};
use crate::prune::model::PruneTime;
use crate::prune::pattern::Pattern;
use crate::prune::recipe::Recipe;
use crate::prune::workbench::Workbench;
use crate::registry::{Entry, Registry};
use crate::spec::ModelSpec;
use crate::tensor::StorageType;
use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// The model shapes that can be timed, each as the text of a `config.json`.
pub const SHAPES: Registry<&str> = Registry {
    kind: "shape",
    entries: &[
        Entry {
            name: "llama-2-7b",
            summary: "32 blocks, width 4096, MLP 11008, 32 heads",
            item: r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "rms_norm_eps": 1e-5,
                "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false}"#,
        },
        Entry {
            name: "llama-2-70b",
            summary: "80 blocks, width 8192, MLP 28672, 64 heads, 8 of keys and values",
            item: r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 32000, "rms_norm_eps": 1e-5,
                "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false}"#,
        },
        Entry {
            name: "llama-3-8b",
            summary: "32 blocks, width 4096, MLP 14336, 32 heads, 8 of keys and values",
            item: r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
                "max_position_embeddings": 8192, "rope_theta": 500000.0, "hidden_act": "silu",
                "tie_word_embeddings": false}"#,
        },
        Entry {
            name: "opt-6.7b",
            summary: "32 blocks, width 4096, MLP 16384, 32 heads",
            item: r#"{"model_type": "opt", "hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32,
                "num_attention_heads": 32, "vocab_size": 50272, "max_position_embeddings": 2048,
                "activation_function": "relu", "do_layer_norm_before": true, "word_embed_proj_dim": 4096,
                "tie_word_embeddings": true}"#,
        },
        Entry {
            name: "smollm2-135m",
            summary: "30 blocks, width 576, MLP 1536, 9 heads, 3 of keys and values",
            item: r#"{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5,
                "max_position_embeddings": 8192, "rope_theta": 100000.0, "hidden_act": "silu",
                "tie_word_embeddings": true}"#,
        },
    ],
};

/// What a benchmark prunes, and on which machine.
pub struct Benchmark {
    /// Name of one of the [`SHAPES`].
    pub shape: String,
    /// Number of blocks to prune; all blocks if the shape has fewer.
    pub layers: usize,
    /// The pattern that the weights are pruned to.
    pub pattern: Pattern,
    /// Number of calibration sequences.
    pub sequences: usize,
    /// Number of tokens per calibration sequence.
    pub length: usize,
    /// Seed of the random weights and tokens.
    pub seed: u64,
    /// The backend, device and number format to compute with.
    pub machine: MachinePlan,
}

/// Seconds that each stage takes for one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stages {
    /// Waiting for weights that are read, converted and uploaded.
    pub upload: f64,
    /// Forward passes for statistics, and computing the statistics.
    pub calibrate: f64,
    /// Scoring, selecting and updating the weights.
    pub prune: f64,
    /// Forward passes through pruned blocks, for the calibration of later blocks.
    pub propagate: f64,
}

impl From<PruneTime> for Stages {
    fn from(time: PruneTime) -> Self {
        Stages {
            upload: time.upload.as_secs_f64(),
            calibrate: time.calibrate.as_secs_f64(),
            prune: time.prune.as_secs_f64(),
            propagate: time.propagate.as_secs_f64(),
        }
    }
}

/// The result of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Name of the model shape.
    pub shape: String,
    /// Name of the backend that computed.
    pub backend: String,
    /// Name of the device, if the backend has one.
    pub device: Option<String>,
    /// Number format that weights and activations were stored in.
    pub compute: Compute,
    /// Seconds that the allocator took to look at the pruned blocks before they were pruned.
    pub allocate: f64,
    /// Seconds that the gradients of the loss of a model of the pruned blocks took, if the method uses some.
    pub gradients: f64,
    /// Times of every pruned block, in order.
    pub blocks: Vec<Stages>,
    /// Number of blocks of the whole model.
    pub model_blocks: usize,
    /// Seconds for the whole model: measured if all blocks were pruned, otherwise extrapolated.
    pub model_seconds: f64,
    /// The most bytes of the device's memory that were in use at the same time; none where there is no such memory.
    pub device_peak_bytes: Option<u64>,
    /// The same as it is forecast from the shape.
    pub device_forecast_bytes: Option<u64>,
    /// Time per kind of operation in one or two blocks, where each operation is waited for.
    pub operations: BTreeMap<String, Tally>,
    /// Bytes per second (read and written) that a large copy on the device reaches.
    pub bandwidth: f64,
    /// Floating-point operations per second that a large matrix product reaches.
    pub products: f64,
}

/// Runs a benchmark.
///
/// # Errors
/// An unknown shape, a sequence longer than its context, or the device fails.
pub fn bench(benchmark: &Benchmark, method: &Recipe, progress: &dyn Progress) -> Result<Measured> {
    let spec = checked_shape(benchmark)?;
    let machine = benchmark.machine.here(Provider::Faer)?;
    let backend = Opened::new(&benchmark.machine, machine)?;
    backend.check(method, benchmark.pattern)?;
    backend.run(Measure {
        benchmark,
        method,
        spec,
        compute: machine.compute,
        progress,
    })
}

/// A tokenizer that knows no word. A model that is written here is meant for token windows, which need no tokenizer.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
"pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}}"#;

/// Name of the file of token windows beside a written model.
pub const WINDOWS: &str = "windows.safetensors";

/// Writes a model directory with random f16 weights of a shape, of the benchmark's number of layers, and a file of
/// random token windows. Every command accepts the directory.
///
/// # Errors
/// An unknown shape, a folder that exists, a disk that refuses; nothing is left then.
pub fn write(benchmark: &Benchmark, out: &Path, progress: &dyn Progress) -> Result<()> {
    let spec = checked_shape(benchmark)?;
    let text = SHAPES.find(&benchmark.shape)?.item;
    let mut config: serde_json::Value =
        serde_json::from_str(text).map_err(|error| Error::config(format!("shape {}: {error}", benchmark.shape)))?;
    config["num_hidden_layers"] = spec.blocks.into();
    config["torch_dtype"] = "float16".into();
    let staging = Staging::new(out)?;
    progress.stage(&format!("writing {}", out.display()));
    staging.write("config.json", config.to_string().as_bytes(), Access::OPEN)?;
    staging.write("tokenizer.json", TOKENIZER.as_bytes(), Access::OPEN)?;
    let windows = TokenWindows::new(random_ids(benchmark, &spec), benchmark.length)?;
    staging.write(WINDOWS, &windows.file()?, Access::OPEN)?;
    RandomWeights::new(spec, benchmark.seed, StorageType::F16).write(&staging)?;
    staging.commit()?;
    progress.finish();
    Ok(())
}

/// The model of this shape with the benchmark's number of blocks.
pub(super) fn checked_shape(benchmark: &Benchmark) -> Result<ModelSpec> {
    let mut spec = families::parse_spec(SHAPES.find(&benchmark.shape)?.item)?;
    if benchmark.layers == 0 || benchmark.sequences == 0 {
        return Err(Error::config("a benchmark needs at least one block and one window"));
    }
    if benchmark.length > spec.max_positions {
        return Err(Error::config(format!(
            "--length {} is beyond the {} positions of {}",
            benchmark.length, spec.max_positions, benchmark.shape
        )));
    }
    spec.blocks = benchmark.layers.min(spec.blocks);
    Ok(spec)
}

/// Number of blocks of the whole model.
pub(super) fn model_blocks(benchmark: &Benchmark) -> Result<usize> {
    Ok(families::parse_spec(SHAPES.find(&benchmark.shape)?.item)?.blocks)
}

/// Token ids that mean nothing.
pub(super) fn random_ids(benchmark: &Benchmark, spec: &ModelSpec) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(benchmark.seed);
    let vocabulary = spec.vocabulary as u32;
    let count = benchmark.sequences * benchmark.length;
    (0..count).map(|_| random.random_range(0..vocabulary)).collect()
}

/// Times a benchmark on a backend.
struct Measure<'a> {
    benchmark: &'a Benchmark,
    method: &'a Recipe,
    spec: ModelSpec,
    compute: Compute,
    progress: &'a dyn Progress,
}

impl Work for Measure<'_> {
    type Output = Measured;

    fn on<B: Workbench>(self, backend: &B) -> Result<Measured> {
        let Measure {
            benchmark,
            method,
            spec,
            compute,
            progress,
        } = self;
        let model_blocks = model_blocks(benchmark)?;
        let ids = random_ids(benchmark, &spec);
        let with_blocks = |blocks: usize| {
            let spec = ModelSpec { blocks, ..spec.clone() };
            RandomWeights::new(spec, benchmark.seed, StorageType::F16)
        };
        progress.start(1, spec.blocks);

        progress.stage("one block that is not timed");
        let one = TokenWindows::new(ids[..benchmark.length].to_vec(), benchmark.length)?;
        prune(backend, &with_blocks(1), (benchmark, method), &one, &Silent, |_| ())?;

        progress.cell(&benchmark.shape, spec.blocks);
        let windows = TokenWindows::new(ids, benchmark.length)?;
        let mut blocks: Vec<Stages> = Vec::new();
        let (before, device_forecast_bytes) = prune(
            backend,
            &with_blocks(spec.blocks),
            (benchmark, method),
            &windows,
            progress,
            |time| {
                blocks.push(time.into());
            },
        )?;

        // Before operations are timed, which takes memory for large copies and products.
        let device_peak_bytes = backend.peak_bytes();
        progress.stage("timing each operation");
        let timed = Timed::new(backend);
        let few = with_blocks(spec.blocks.min(2));
        prune(&timed, &few, (benchmark, method), &windows, &Silent, |_| ())?;
        let operations = timed.tallies();
        let (bandwidth, products) = ceilings(backend)?;
        progress.finish();
        Ok(Measured {
            shape: benchmark.shape.clone(),
            backend: backend.name().to_string(),
            device: backend.device(),
            compute,
            model_seconds: whole(&blocks, model_blocks)
                + before.passes().as_secs_f64() * model_blocks as f64 / spec.blocks as f64,
            allocate: before.allocate.as_secs_f64(),
            gradients: before.gradients.as_secs_f64(),
            blocks,
            model_blocks,
            device_peak_bytes,
            device_forecast_bytes,
            operations: operations
                .into_iter()
                .map(|(name, tally)| (name.to_string(), tally))
                .collect(),
            bandwidth,
            products,
        })
    }
}

/// Prunes random weights as one cell that measures nothing; `done` is told what each block took. Returns the time before the first
/// block, and the memory of the device that was forecast.
fn prune<B: Workbench>(
    backend: &B,
    source: &RandomWeights,
    (benchmark, method): (&Benchmark, &Recipe),
    windows: &TokenWindows,
    progress: &dyn Progress,
    mut done: impl FnMut(PruneTime),
) -> Result<(PruneTime, Option<u64>)> {
    let calibrated = method.calibrates();
    let mut model = Prepared::new(source);
    if calibrated {
        model.calibration.insert(benchmark.seed, windows.clone());
    }
    let treatment = Treatment {
        recipe: method,
        pattern: benchmark.pattern,
        seed: calibrated.then_some(benchmark.seed),
        file: None,
    };
    let mut runner = Runner::new(backend, &model, Sharing::NONE)?;
    let forecast = runner.device_forecast(Some(method), calibrated.then_some(windows));
    let findings = runner.run(Some(treatment), progress, |pruned| {
        done(pruned.time);
        Ok(())
    })?;
    let time = PruneTime {
        allocate: findings.time.allocate,
        gradients: findings.time.gradients,
        ..PruneTime::default()
    };
    Ok((time, forecast.map(|it| it.whole())))
}

/// Estimates the seconds for all blocks of a model from the times of its first blocks.
fn whole(measured: &[Stages], blocks: usize) -> f64 {
    let mean = |values: &[f64]| match values.len() {
        0 => 0.0,
        count => values.iter().sum::<f64>() / count as f64,
    };
    let each = |stage: fn(&Stages) -> f64| measured.iter().map(stage).collect::<Vec<_>>();
    if measured.len() == blocks {
        let of = |it: &Stages| it.upload + it.calibrate + it.prune + it.propagate;
        return measured.iter().map(of).sum();
    }
    // The first block's weights are waited for by nobody else's work; the last block moves nothing on.
    let upload = each(|it| it.upload);
    let first = upload.first().copied().unwrap_or_default();
    let propagate = each(|it| it.propagate);
    let moved = &propagate[..propagate.len().saturating_sub(1)];
    first
        + (blocks - 1) as f64 * (mean(&upload[1..]) + mean(moved))
        + blocks as f64 * (mean(&each(|it| it.calibrate)) + mean(&each(|it| it.prune)))
}

/// The highest rates that the device reaches with these kernels: bytes and operations per second.
fn ceilings<B: Backend>(backend: &B) -> Result<(f64, f64)> {
    let rows = backend.batch_tokens(4096).min(8192);
    // Noise, because a GPU slows down under the load of real numbers.
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut noise = |rows: usize| Array2::from_shape_fn((rows, 4096), |_| random.random_range(-1.0..1.0f32));
    let mut x = backend.upload(noise(rows).view())?;
    let w = backend.upload_weight(noise(4096))?;
    let best = |operation: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            backend.wait()?;
            let started = Instant::now();
            for _ in 0..4 {
                operation()?;
            }
            backend.wait()?;
            best = best.min(started.elapsed().as_secs_f64() / 4.0);
        }
        Ok(best)
    };
    let copied = best(&mut || backend.scale(&mut x, 1.0))?;
    let multiplied = best(&mut || backend.linear(&w, None, &x).map(drop))?;
    let moved = 2 * backend.extent(&x).bytes;
    let flops = 2.0 * rows as f64 * 4096.0 * 4096.0;
    Ok((moved as f64 / copied, flops / multiplied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_model() {
        for entry in SHAPES.entries {
            let spec = families::parse_spec(entry.item).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert!(
                entry.summary.contains(&format!("{} blocks", spec.blocks)),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn a_model_is_extrapolated_from_blocks_that_did_everything() {
        let block = |upload, propagate| Stages {
            upload,
            calibrate: 2.0,
            prune: 1.0,
            propagate,
        };
        let measured = [block(9.0, 3.0), block(0.5, 3.0), block(0.5, 0.0)];
        assert_eq!(whole(&measured, 3), 9.0 + 1.0 + 9.0 + 6.0);
        assert_eq!(whole(&measured, 10), 9.0 + 9.0 * 3.5 + 30.0);
    }
}
