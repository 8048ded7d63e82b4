//! `zprune merge`.

use super::choice::choice;
use super::streams::{print_lines, say};
use crate::error::Result;
use crate::jobs::merge;
use crate::record::Part;
use crate::registry::counted;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune merge`.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Results folders to read; they stay as they are
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Results folder that the records are added to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Leave this out of the records that are added. Tables, comparisons and runs that are continued do not need it, and it takes most of
    /// the space
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = choice::<Part>(&[
        "What pruning did to each layer; without it, plots of layers cannot be drawn",
        "The likelihoods of every document of tasks, and the answers to prompts",
    ]))]
    without: Vec<Part>,
}

/// Carries out the command `zprune merge`.
pub(super) fn run(arguments: &Merge) -> Result<()> {
    let merged = merge::merge(&arguments.folders, &arguments.into, &arguments.without)?;
    for (cell, folder) in &merged.different {
        say(&format!(
            "warning: cell {cell} has other numbers in {}; its record was left out, and the one that was there first was kept",
            folder.display()
        ));
    }
    for folder in &merged.unfinished {
        say(&format!(
            "warning: {}: the last line of runs.jsonl is unfinished and was left out; the process that writes it was killed, or is still \
             writing",
            folder.display()
        ));
    }
    let missing = match merged.missing {
        0 => "every cell has a result".to_string(),
        1 => "1 cell has no result yet".to_string(),
        count => format!("{count} cells have no result yet"),
    };
    print_lines(&format!(
        "{}: {} added, {} were there already; {missing}; `zprune report {}` makes the tables",
        arguments.into.display(),
        counted(merged.added, "record"),
        merged.known,
        arguments.into.display()
    ))
}
