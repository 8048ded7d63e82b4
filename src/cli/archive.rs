//! `zprune compress` and `zprune expand`.

use super::Display;
use super::streams::print;
use crate::error::Result;
use crate::jobs::archive;
use clap::Args;
use indicatif::HumanBytes;
use std::path::PathBuf;

/// Arguments of both commands.
#[derive(Debug, Args)]
pub struct Archive {
    /// Model directory, or archive
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs `zprune compress`.
pub fn compress(arguments: &Archive) -> Result<()> {
    let sizes = archive::compress(&arguments.folder, &arguments.out, &Display::new())?;
    let percent = |bytes: f64| 100.0 * bytes / sizes.dense as f64;
    print(&format!(
        "{}: {} tensors compressed, {} left as they are\n\
         dense {}, stored {} ({:.1} %), least possible with these values {} ({:.1} %)\n\
         storage only: no program runs faster for it, and zprune expand restores the directory before use",
        arguments.out.display(),
        sizes.compressed,
        sizes.plain,
        HumanBytes(sizes.dense),
        HumanBytes(sizes.stored),
        percent(sizes.stored as f64),
        HumanBytes(sizes.bound as u64),
        percent(sizes.bound),
    ))
}

/// Runs `zprune expand`.
pub fn expand(arguments: &Archive) -> Result<()> {
    let expanded = archive::expand(&arguments.folder, &arguments.out, &Display::new())?;
    print(&format!("{}: {expanded} tensors expanded", arguments.out.display()))
}
