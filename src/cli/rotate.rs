//! `zprune rotate`.

use super::common::FollowLinks;
use super::display::Display;
use super::streams::print_lines;
use crate::error::Result;
use crate::jobs::rotate;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Model folder
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Safetensors file with `residual`, an orthogonal matrix, and perhaps `blocks.N.value`
    #[arg(long, value_name = "FILE")]
    rotation: PathBuf,
    /// Turn a pruned model anyway; it loses its zeros
    #[arg(long)]
    lose_zeros: bool,
    #[command(flatten)]
    links: FollowLinks,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Carries out the command `zprune rotate`.
pub fn run(arguments: &Rotate) -> Result<()> {
    let Rotate {
        model,
        rotation,
        out,
        lose_zeros,
        ..
    } = arguments;
    let done = rotate::rotate(
        model,
        rotation,
        out,
        (arguments.links.links(), *lose_zeros),
        &Display::new(),
    )?;
    let values = match done.values {
        0 => String::new(),
        blocks => format!(", and the values of {blocks} blocks"),
    };
    let untied = match done.untied {
        true => "Before, the head and the embedding were one matrix; now the head is its own matrix.\n",
        false => "",
    };
    let lost = match *lose_zeros && done.zeros > 0.0 {
        true => format!(
            "{:.1} % of the prunable weights were 0 and are not 0 any more, so pruning.json was left out.\n",
            100.0 * done.zeros
        ),
        false => String::new(),
    };
    print_lines(&format!(
        "{}: the residual stream{values} turned\n{untied}{lost}\
         Checked: logits differ by {:.0e} of the largest from the original's, and by {:.0e} with weights rounded to {}.",
        out.display(),
        done.difference,
        done.stored_difference,
        done.storage.name()
    ))
}
