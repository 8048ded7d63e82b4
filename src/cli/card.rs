//! `zprune card`.

use super::streams::print_lines;
use crate::error::{Error, Result};
use crate::jobs::card;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune card`.
#[derive(Debug, Args)]
#[command(override_usage = "zprune card [OPTIONS] <DIR> --measured <FILE>...")]
pub struct Card {
    /// Model folder that `zprune prune` or `zprune shrink` made
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Results of `zprune eval --json`, for this model and for the one it was made from
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    measured: Vec<PathBuf>,
}

impl Card {
    /// The model's folder and the results. What stands behind `--measured` may be the folder, too.
    fn parts(&self) -> Result<(&PathBuf, Vec<PathBuf>)> {
        if let Some(folder) = &self.folder {
            return Ok((folder, self.measured.clone()));
        }
        let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) = self.measured.iter().partition(|path| path.is_dir());
        match folders[..] {
            [folder] if !files.is_empty() => Ok((folder, files.into_iter().cloned().collect())),
            _ => Err(Error::config(
                "nothing says which model the card is for: write `zprune card DIR --measured FILE`, with the folder of the model first",
            )),
        }
    }
}

/// Carries out the command `zprune card`.
pub fn run(arguments: &Card) -> Result<()> {
    let (folder, measured) = arguments.parts()?;
    card::update(folder, &measured)?;
    print_lines(&format!("{}: has what was measured", folder.join(card::CARD).display()))
}
