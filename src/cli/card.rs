//! `zprune card`.

use super::streams::print_lines;
use crate::error::Result;
use crate::jobs::card;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune card`.
#[derive(Debug, Args)]
pub struct Card {
    /// Model folder that `zprune prune` made
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Result of `zprune eval --json` for this model or for the one it was made from; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    measured: Vec<PathBuf>,
}

/// Carries out the command `zprune card`.
pub fn run(arguments: &Card) -> Result<()> {
    card::update(&arguments.folder, &arguments.measured)?;
    print_lines(&format!(
        "{}: has what was measured",
        arguments.folder.join(card::CARD).display()
    ))
}
