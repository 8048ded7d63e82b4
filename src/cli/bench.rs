//! `zprune bench`.

use super::display::Display;
use super::json::{self, JsonOutput};
use super::machine::Machine;
use super::streams::{print, width};
use crate::backend::Compute;
use crate::error::{Error, Result};
use crate::experiment::single;
use crate::jobs::bench::{self, Benchmark, Measured};
use crate::jobs::bench_units::{UnitsMeasured, bench_units};
use crate::linalg::Provider;
use crate::prune::pattern::Pattern;
use crate::prune::units::{UNITS, Widths};
use crate::report::sheet::{Column, Sheet, SheetCell};
use crate::report::terminal;
use bytesize::ByteSize;
use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::{Path, PathBuf};

/// Arguments of `zprune bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The model whose shape the random weights have: llama-2-7b, llama-2-70b, llama-3-8b, opt-6.7b, smollm2-135m
    #[arg(long, value_name = "NAME")]
    shape: String,
    /// Blocks to prune; the whole model is extrapolated from them
    #[arg(long, default_value_t = 4, value_name = "N")]
    layers: usize,
    /// Write weights and token windows as a model folder, and measure no time (whole models need --layers 32)
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    write: Option<PathBuf>,
    /// Criterion (`wanda`), criterion+solver (`ria+obs`), a recipe (`sparsegpt`), or a method of whole units (`llm-pruner`), as `zprune list`
    /// names them
    #[arg(long, default_value = "z-pruner", value_name = "NAME")]
    method: String,
    /// Step that improves the mask after selection [default: none]
    #[arg(long, value_name = "NAME")]
    refine: Option<String>,
    /// Parameter of the criterion, or of another step, as refine.KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Step that decides how much each layer loses [default: uniform]
    #[arg(long, value_name = "NAME")]
    allocator: Option<String>,
    /// Fraction of the weights to remove
    #[arg(long, default_value_t = 0.5)]
    sparsity: f64,
    /// Calibration windows
    #[arg(long, default_value_t = 128, value_name = "N")]
    sequences: usize,
    /// Tokens per calibration window
    #[arg(long, default_value_t = 2048, value_name = "L")]
    length: usize,
    /// Seed of weights and tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also write what was measured as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace the file of --json even if it is not an earlier result
    #[arg(long, requires = "json")]
    force: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Carries out the command `zprune bench`.
pub fn run(arguments: &Bench) -> Result<()> {
    let pattern = Pattern::Unstructured {
        sparsity: arguments.sparsity,
    };
    pattern.validate()?;
    let benchmark = Benchmark {
        shape: arguments.shape.clone(),
        layers: arguments.layers,
        pattern,
        sequences: arguments.sequences,
        length: arguments.length,
        seed: arguments.seed,
        machine: arguments.machine.request().resolve(Provider::Faer)?,
    };
    if let Some(out) = &arguments.write {
        bench::write(&benchmark, out, &Display::new())?;
        return print(&format!("{0}: weights and {0}/{1}", out.display(), bench::WINDOWS));
    }
    let output = JsonOutput::new(arguments.json.as_deref(), &[], arguments.force, is_earlier)?;
    if UNITS.find(&arguments.method).is_ok() {
        let measured = of_units(arguments, &benchmark)?;
        output.write(&measured)?;
        return print(&shown_units(arguments, &measured));
    }
    let method = single::method_alone(
        &arguments.method,
        arguments.allocator.as_deref(),
        arguments.refine.as_deref(),
        &arguments.set,
    )?;
    let measured = bench::bench(&benchmark, &method, &Display::new())?;
    output.write(&measured)?;
    print(&shown(arguments, &measured))
}

/// Times a method of whole units.
fn of_units(arguments: &Bench, benchmark: &Benchmark) -> Result<UnitsMeasured> {
    if arguments.allocator.is_some() || arguments.refine.is_some() {
        return Err(Error::config(
            "--allocator and --refine are steps of methods that remove single weights",
        ));
    }
    let built = UNITS.build(&arguments.method, &single::parameters(&arguments.set)?)?;
    let method = built.component.as_ref();
    method.check(Widths::Uniform)?;
    bench_units(benchmark, method, arguments.sparsity, &Display::new())
}

/// What was measured, and what computed.
fn heading(arguments: &Bench, refined: &str, device: &str, compute: Compute) -> String {
    format!(
        "{}, {}{refined}, {} x {} tokens, {device} ({})",
        arguments.shape,
        arguments.method,
        arguments.sequences,
        arguments.length,
        compute.name()
    )
}

fn shown_units(arguments: &Bench, measured: &UnitsMeasured) -> String {
    let peak = |what: &str, bytes: Option<u64>| {
        bytes.map_or(String::new(), |bytes| format!(" At most {} {what}.", ByteSize(bytes)))
    };
    format!(
        "{}\n\nChoosing units: {:.1} s for {} of {} blocks; {:.1} % of their weights would be removed.{}{}",
        heading(
            arguments,
            "",
            measured.device.as_deref().unwrap_or(&measured.backend),
            measured.compute
        ),
        measured.seconds,
        measured.blocks,
        measured.model_blocks,
        100.0 * measured.removed,
        peak("of memory in use", measured.peak_resident_bytes),
        peak("of the device's memory in use", measured.device_peak_bytes),
    )
}

/// Whether a file holds what an earlier `zprune bench` wrote.
fn is_earlier(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Earlier {
        shape: String,
        #[serde(rename = "blocks")]
        _blocks: Vec<IgnoredAny>,
        model_blocks: usize,
        #[serde(rename = "operations")]
        _operations: IgnoredAny,
    }
    json::read(path).is_some_and(|it: Earlier| !it.shape.is_empty() && it.model_blocks > 0)
}

fn shown(arguments: &Bench, measured: &Measured) -> String {
    let mut stages = Vec::new();
    for (index, it) in measured.blocks.iter().enumerate() {
        let seconds = [it.upload, it.calibrate, it.prune, it.propagate].map(|value| format!("{value:.3} s"));
        stages.push([vec![index.to_string()], seconds.to_vec()].concat());
    }
    let stages = table(&["block", "upload", "calibrate", "prune", "propagate"], stages);
    let mut operations = Vec::new();
    let mut by_time: Vec<_> = measured.operations.iter().collect();
    by_time.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    for (name, tally) in by_time {
        let (flops, bytes) = (tally.flops / tally.seconds, tally.bytes / tally.seconds);
        // Whatever it is closer to limits it.
        let (of_products, of_bandwidth) = (flops / measured.products, bytes / measured.bandwidth);
        let (rate, share) = if of_products > of_bandwidth {
            (scaled(flops, "FLOP/s"), of_products)
        } else {
            (scaled(bytes, "B/s"), of_bandwidth)
        };
        let told = if tally.flops + tally.bytes > 0.0 {
            [rate, format!("{:.0} %", 100.0 * share)]
        } else {
            [String::new(), String::new()]
        };
        let row = [
            name.clone(),
            tally.calls.to_string(),
            format!("{:.1} ms", 1e3 * tally.seconds),
        ];
        operations.push(row.into_iter().chain(told).collect());
    }
    let operations = table(&["operation", "calls", "time", "rate", "of the ceiling"], operations);
    let refined = arguments
        .refine
        .as_ref()
        .map_or(String::new(), |name| format!(" refined by {name}"));
    let allocate = arguments.allocator.as_ref().map_or(String::new(), |name| {
        format!(
            "{name}, before any block is pruned: {:.3} s for these blocks.\n\n",
            measured.allocate
        )
    });
    let gradients = match measured.gradients {
        0.0 => String::new(),
        seconds => {
            let passes = measured.blocks.iter().map(|it| it.propagate);
            let pass = passes.fold(0.0, f64::max);
            let times = match pass {
                0.0 => String::new(),
                pass => format!(
                    ", {:.2} times as long as forward passes",
                    seconds / (pass * measured.blocks.len() as f64)
                ),
            };
            format!("Gradients of the loss, before any block is pruned: {seconds:.3} s for these blocks{times}.\n\n")
        }
    };
    let how = match measured.blocks.len() == measured.model_blocks {
        true => "measured".to_string(),
        false => format!("from {} of {} blocks", measured.blocks.len(), measured.model_blocks),
    };
    let memory = measured.device_peak_bytes.map_or(String::new(), |bytes| {
        let forecast = measured.device_forecast_bytes.map_or(String::new(), |bytes| {
            format!(", of {} that were forecast", ByteSize(bytes))
        });
        format!(" At most {} of the device's memory in use{forecast}.", ByteSize(bytes))
    });
    format!(
        "{}\n\n{stages}\n\n{allocate}{gradients}The whole model: {:.1} s, {how}.{memory}\n\n\
         Two blocks again, each operation waited for; rates count every operand and result once. Ceilings: \
         {} for a copy in place, {} for a matrix product.\n\n{operations}",
        heading(
            arguments,
            &refined,
            measured.device.as_deref().unwrap_or(&measured.backend),
            measured.compute
        ),
        measured.model_seconds,
        scaled(measured.bandwidth, "B/s"),
        scaled(measured.products, "FLOP/s"),
    )
}

/// A value with its unit and prefix, such as `12.3 GFLOP/s` for 12.3e9.
fn scaled(value: f64, unit: &str) -> String {
    match value {
        1e12.. => format!("{:.1} T{unit}", value / 1e12),
        1e9.. => format!("{:.1} G{unit}", value / 1e9),
        _ => format!("{:.1} M{unit}", value / 1e6),
    }
}

/// A table whose columns but the first are numbers, as wide as the terminal allows.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let columns = header.iter().enumerate().map(|(index, title)| match index {
        0 => Column::words(*title),
        _ => Column::numbers(*title),
    });
    let sheet = Sheet {
        title: String::new(),
        columns: columns.collect(),
        rows: rows
            .into_iter()
            .map(|row| row.into_iter().map(SheetCell::plain).collect())
            .collect(),
        notes: Vec::new(),
    };
    terminal::sheet(&sheet, width()).trim_end().to_string()
}
