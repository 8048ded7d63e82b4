//! `zprune prune`.

use super::{Display, print};
use crate::data::corpus::Join;
use crate::data::sampler::Sampling;
use crate::error::{Error, Result};
use crate::experiment::plan::CalibrationPlan;
use crate::experiment::single;
use crate::jobs;
use crate::prune::Propagate;
use crate::prune::pattern::{Group, Pattern, Selection};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Hugging Face model directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Criterion (`wanda`), criterion+solver (`ria+obs`), or `sparsegpt`; `zprune list` names them
    #[arg(long, value_name = "NAME")]
    method: String,
    /// Parameter of the criterion, or of the solver as solver.KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Fraction of the weights to remove
    #[arg(long, conflicts_with_all = ["keep", "of"], required_unless_present = "keep")]
    sparsity: Option<f64>,
    /// Weights kept of every `--of` consecutive inputs
    #[arg(long, requires = "of")]
    keep: Option<usize>,
    /// Size of an N:M group: 2:4 is --keep 2 --of 4
    #[arg(long, requires = "keep")]
    of: Option<usize>,
    /// Comparison group; the criterion's own by default
    #[arg(long, value_enum)]
    group: Option<Group>,
    /// What happens to ties
    #[arg(long, value_enum, default_value_t)]
    selection: Selection,
    /// Calibration corpus: text, JSONL or gzipped JSONL
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    calibration: Option<PathBuf>,
    /// Calibration windows: safetensors with `input_ids` [n, length]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How the corpus's rows become one text
    #[arg(long, value_enum, default_value_t = Join::Wikitext)]
    join: Join,
    /// How windows are drawn
    #[arg(long, value_enum, default_value_t = Sampling::Documents)]
    sampling: Sampling,
    /// Calibration windows
    #[arg(long, default_value_t = 128, value_name = "N")]
    sequences: usize,
    /// Tokens per calibration window
    #[arg(long, default_value_t = 2048, value_name = "L")]
    length: usize,
    /// Whose outputs the next block sees
    #[arg(long, value_enum, default_value_t)]
    propagate: Propagate,
    /// Calibration seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Prune) -> Result<()> {
    let pattern = match (arguments.sparsity, arguments.keep, arguments.of) {
        (Some(sparsity), None, None) => Pattern::Unstructured { sparsity },
        (None, Some(keep), Some(of)) => Pattern::Structured { keep, of },
        _ => return Err(Error::config("give either --sparsity, or --keep and --of")),
    };
    let method = single::named_method(&arguments.method, &arguments.set, arguments.group)?;
    let calibration = arguments.calibration.as_ref().map(|corpus| CalibrationPlan {
        corpus: corpus.clone(),
        obtain: None,
        join: arguments.join,
        sampling: arguments.sampling,
        sequences: arguments.sequences,
        length: arguments.length,
        propagate: arguments.propagate,
    });
    let experiment = single::pruning(
        &arguments.model,
        method,
        pattern,
        arguments.selection,
        calibration,
        arguments.seed,
    )?;
    let pruned = jobs::prune::prune(&experiment, &arguments.out, &Display::new())?;
    let removed: usize = pruned.file.layers.iter().map(|layer| layer.removed).sum();
    print(&format!(
        "{}: {}, {pattern}: {removed} weights removed, {:.3} % of the prunable; calibration {:.1} s, pruning {:.1} s\n\
         zprune verify {0} --against {} checks it",
        arguments.out.display(),
        pruned.file.method,
        100.0 * pruned.file.sparsity,
        pruned.calibrate_seconds,
        pruned.prune_seconds,
        arguments.model.display(),
    ))
}
