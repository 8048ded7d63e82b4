//! `zprune compress` and `zprune expand`.

use super::common::FollowLinks;
use super::display::Display;
use super::streams::print_lines;
use crate::error::Result;
use crate::jobs::archive;
use crate::registry::counted;
use clap::Args;
use indicatif::HumanBytes;
use std::path::PathBuf;

/// Arguments of `zprune compress`.
#[derive(Debug, Args)]
pub struct Compress {
    /// Model folder to store without its zeros
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    links: FollowLinks,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Arguments of `zprune expand`.
#[derive(Debug, Args)]
pub struct Expand {
    /// Archive that `zprune compress` made
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Carries out the command `zprune compress`.
pub fn compress(arguments: &Compress) -> Result<()> {
    let sizes = archive::compress(
        &arguments.folder,
        &arguments.out,
        arguments.links.links(),
        &Display::new(),
    )?;
    let percent = |bytes: f64| 100.0 * bytes / sizes.dense as f64;
    print_lines(&format!(
        "{}: {} compressed, {} left as they are\n\
         {} of weights take {} ({:.1} %). zstd would need about {} ({:.1} %) for the same weights{}\n\
         storage only: no program reads or runs it; `zprune expand` restores the model{}",
        arguments.out.display(),
        counted(sizes.compressed, "tensor"),
        sizes.plain,
        HumanBytes(sizes.dense),
        HumanBytes(sizes.stored),
        percent(sizes.stored as f64),
        HumanBytes(sizes.zstd),
        percent(sizes.zstd as f64),
        match sizes.zstd < sizes.stored {
            true => ": if only size counts, use zstd on the model instead",
            false => "",
        },
        left_out(&sizes.left_out),
    ))
}

/// Carries out the command `zprune expand`.
pub fn expand(arguments: &Expand) -> Result<()> {
    let expanded = archive::expand(&arguments.folder, &arguments.out, &Display::new())?;
    print_lines(&format!(
        "{}: {} files are as they were archived (SHA-256 compared); {} expanded{}",
        arguments.out.display(),
        expanded.files,
        counted(expanded.tensors, "tensor"),
        left_out(&expanded.left_out)
    ))
}

fn left_out(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    match &names[..] {
        [] => String::new(),
        names => format!("\nleft out, not part of the model: {}", names.join(", ")),
    }
}
