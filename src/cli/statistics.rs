//! `zprune export-statistics`.

use super::calibration::{CalibrationText, how_drawn};
use super::choice::choice;
use super::common::Common;
use super::display::Display;
use super::streams::print_lines;
use crate::error::Result;
use crate::experiment::single;
use crate::jobs::statistics::{self, Added, Exported, Statistics};
use bytesize::ByteSize;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune export-statistics`.
#[derive(Debug, Args)]
pub struct ExportStatistics {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    text: CalibrationText,
    /// Write Gram matrices, too: inputs by inputs for every layer
    #[arg(long)]
    gram: bool,
    /// Write gradients of the model's loss instead, for `--gradients` of other commands; the value says how the gradients of sequences
    /// are added up
    #[arg(long, value_name = "SUM", conflicts_with = "gram", value_parser = choice::<Added>(&[
        "Their mean (`taylor`)",
        "The root of the sum of their squares (`gblm`, `pruner-zero`)",
        "The sum of their magnitudes",
    ]))]
    gradients: Option<Added>,
    /// Safetensors file to make; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Carries out the command `zprune export-statistics`.
pub fn run(arguments: &ExportStatistics) -> Result<()> {
    let text = arguments.text.read()?;
    let free = arguments.common.protocol.is_none();
    let raw = arguments.text.raw(text.path.as_deref(), free);
    let experiment = single::calibrating(
        &arguments.common.resolved(),
        "export-statistics",
        Some(raw),
        arguments.text.seed,
    )?;
    let (wanted, what) = match arguments.gradients {
        Some(added) => (Statistics::Gradients(added), "gradients"),
        None => (Statistics::Inputs { gram: arguments.gram }, "statistics"),
    };
    let Exported { layers, tokens, bytes } = statistics::export(&experiment, &arguments.out, wanted, &Display::new())?;
    print_lines(&format!(
        "{}: {what} of {layers} layers on {tokens} tokens{}; {}",
        arguments.out.display(),
        how_drawn(&experiment),
        ByteSize(bytes)
    ))
}
