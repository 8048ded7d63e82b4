//! `zprune export-statistics`.

use super::calibration::{CalibrationText, how_drawn};
use super::common::Common;
use super::display::Display;
use super::streams::print_lines;
use crate::error::Result;
use crate::experiment::single;
use crate::jobs::statistics::{self, Exported};
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
    let Exported { layers, tokens, bytes } =
        statistics::export(&experiment, &arguments.out, arguments.gram, &Display::new())?;
    print_lines(&format!(
        "{}: statistics of {layers} layers on {tokens} tokens{}; {}",
        arguments.out.display(),
        how_drawn(&experiment),
        ByteSize(bytes)
    ))
}
