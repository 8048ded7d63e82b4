//! `zprune prune`.

use super::calibration::{CalibrationText, how_drawn};
use super::choice::choice;
use super::common::{Common, FollowLinks};
use super::display::Display;
use super::streams::print_lines;
use crate::calibrate::{Goal, Stage};
use crate::error::{Error, Result};
use crate::experiment::raw::RawCalibration;
use crate::experiment::single;
use crate::files::names::quoted;
use crate::jobs::{self, prune::Writing};
use crate::prune::pattern::{Group, Pattern, Selection};
use bytesize::ByteSize;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune prune`.
#[derive(Debug, Args)]
#[command(
    override_usage = "zprune prune [OPTIONS] --model <DIR> --method <NAME> --sparsity <SHARE>\n              --out <DIR>\n       \
                      zprune prune [OPTIONS] --model <DIR> --method <NAME> --keep <N> --of <M>\n              --out <DIR>"
)]
pub struct Prune {
    #[command(flatten)]
    common: Common,
    /// Criterion (`wanda`), criterion+solver (`ria+obs`), or a recipe by name (`sparsegpt`); `zprune list` names them
    #[arg(long, value_name = "NAME")]
    method: String,
    /// Parameter of the criterion, or of any step as STEP.KEY=VALUE; may be repeated
    ///
    /// STEP is criterion, solver, allocator, transform, permutation, refine or compensate: solver.damping=0.1, refine.max_swaps=100. A parameter
    /// without a step belongs to the criterion. The method must have the step.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What to remove: a fraction of the weights, such as 0.5 or 50%, or a pattern, such as 2:4; or give --keep and --of
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["keep", "of"], value_parser = typed)]
    sparsity: Option<Pattern>,
    /// Number of weights to keep of every `--of` consecutive inputs; in place of --sparsity
    #[arg(long, value_name = "N", requires = "of")]
    keep: Option<usize>,
    /// Size of an N:M group: 2:4 is --keep 2 --of 4
    #[arg(long, value_name = "M", requires = "keep")]
    of: Option<usize>,
    /// Comparison group; the criterion's own by default
    #[arg(long, value_parser = choice::<Group>(&[
        "All weights of a matrix (magnitude, RIA, Z-Pruner)",
        "The inputs of one output (Wanda)",
        "128 consecutive columns of all rows (SparseGPT)",
        "The inputs of one output, each output loses the same share of its scores' sum (Wanda's variant)",
    ]))]
    group: Option<Group>,
    /// What happens to equal scores
    #[arg(long, value_parser = choice::<Selection>(&[
        "Exactly `trunc(n * sparsity)`; of equal scores, the one in the lower column is removed first, then the one in the lower row",
        "As the papers' code: in groups `matrix` and `column-block`, all scores up to the value at sorted index \
         `trunc(n * sparsity)` are removed, so at least one more than with `exact`, and all ties. Rows and N:M groups are counted \
         exactly; in `row-share` the sparsity is met to 0.001",
    ]))]
    selection: Option<Selection>,
    #[command(flatten)]
    text: CalibrationText,
    /// The model in which the inputs of a layer are measured [default: block]
    #[arg(long, alias = "propagate", value_parser = choice::<Stage>(&[
        "The dense block, with inputs from the blocks before it, which are pruned already: as in the papers' code",
        "As `block`, but measured again for each part of the block, after the parts before it are pruned: queries, keys and values, \
         then the attention's output, then the MLP",
        "As `staged`, but the inputs of each block come from the dense blocks before it: as in FISTAPruner",
        "The dense model; all methods and patterns of a sweep share one pass",
    ]))]
    stage: Option<Stage>,
    /// Which outputs a solver reproduces [default: pruned]
    #[arg(long, value_parser = choice::<Goal>(&["Those of the dense layer, on inputs from the pruned model", "Those of the dense model"]))]
    target: Option<Goal>,
    /// Step that decides how much each layer loses [default: uniform]
    #[arg(long, value_name = "NAME")]
    allocator: Option<String>,
    /// Step that chooses the variables in which layers are pruned [default: none]
    #[arg(long, value_name = "NAME")]
    transform: Option<String>,
    /// Step that improves the mask after selection [default: none]
    #[arg(long, value_name = "NAME")]
    refine: Option<String>,
    /// Step that decides which columns are in the same N:M group [default: none]
    #[arg(long, value_name = "NAME")]
    permutation: Option<String>,
    /// Reorder the neurons of each MLP, so that the N:M groups of its second layer are side by side; the model computes the same
    #[arg(long, requires = "permutation")]
    fold_permutation: bool,
    /// Step that lets a bias make up for removed weights [default: none]
    #[arg(long, value_name = "NAME")]
    compensate: Option<String>,
    /// Gradients of the model's loss for methods that use them: safetensors with the names and shapes of the weights [default: they are
    /// computed on the calibration text]
    #[arg(long, value_name = "FILE")]
    gradients: Option<PathBuf>,
    #[command(flatten)]
    links: FollowLinks,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The pattern of `--sparsity`.
fn typed(text: &str) -> std::result::Result<Pattern, String> {
    single::pattern(text).map_err(|error| error.to_string())
}

/// Carries out the command `zprune prune`.
pub fn run(arguments: &Prune) -> Result<()> {
    let pattern = match (arguments.sparsity, arguments.keep, arguments.of) {
        (Some(pattern), None, None) => pattern,
        (None, Some(keep), Some(of)) => Pattern::NofM { keep, of },
        _ => {
            let message = "say how much to remove: give --sparsity, as in --sparsity 0.5, or --keep and --of, as in --keep 2 --of 4";
            return Err(Error::config(message));
        }
    };
    let text = arguments.text.read()?;
    let calibration = RawCalibration {
        stage: arguments.stage,
        target: arguments.target,
        gradients: arguments.gradients.clone().map(single::typed),
        ..arguments
            .text
            .raw(text.path.as_deref(), arguments.common.protocol.is_none())
    };
    let pruning = single::SinglePruning {
        method: arguments.method.clone(),
        allocator: arguments.allocator.clone(),
        refine: arguments.refine.clone(),
        transform: arguments.transform.clone(),
        permutation: arguments.permutation.clone(),
        compensate: arguments.compensate.clone(),
        settings: arguments.set.clone(),
        group: arguments.group,
        selection: arguments.selection,
        pattern,
        calibration,
        seed: arguments.text.seed,
    };
    let common = arguments.common.resolved();
    let experiment = single::pruning(&common, pruning)?;
    let writing = Writing {
        links: arguments.links.links(),
        fold: arguments.fold_permutation,
    };
    let pruned = jobs::prune::prune(&experiment, &arguments.out, writing, &Display::new())?;
    let calibration = pruned.file.cell.pruning.as_ref().and_then(|it| it.calibration.as_ref());
    let windows = calibration.map_or(String::new(), |it| {
        format!(
            " on {} windows of {} tokens{}",
            it.sequences,
            it.length,
            how_drawn(&experiment)
        )
    });
    let removed: usize = pruned.file.layers.iter().map(|layer| layer.removed).sum();
    print_lines(&format!(
        "{}: {}, {pattern}: {removed} weights removed, {:.3} % of the prunable; calibration {:.1} s{windows}, pruning {:.1} s{}\n\
         zprune verify {} --against {} checks it",
        arguments.out.display(),
        pruned.file.method,
        100.0 * pruned.file.sparsity,
        pruned.calibrate_seconds,
        pruned.prune_seconds,
        pruned
            .peak_resident_bytes
            .map_or(String::new(), |bytes| format!(", at most {} resident", ByteSize(bytes))),
        quoted(&arguments.out),
        quoted(&pruned.original),
    ))
}
