//! Checking a model directory: that it loads, that its weights are finite, that its files and zeros are what its
//! `pruning.json` says, or its files and sizes what its `structure.json` says, and that nothing else differs from the model it came from.
//!
//! Every difference is a fault of the verdict with the file or tensor it is in, and what cannot be checked is said: a
//! verdict without faults that left things out must not read like one that did not.

mod counted;
mod files;
mod original;
mod smaller;
mod verdict;

use super::provenance::PruningFile;
use crate::error::{Error, ErrorKind, Located, Result};
use crate::jobs::structure::Structure;
use crate::model::checkpoint::Checkpoint;
use crate::model::export::{PRUNING, STRUCTURE};
use crate::model::families::read_spec;
use crate::model::neurons::{Moved, is_order};
use crate::progress::Progress;
use crate::prune::found::outside_groups;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, removed, searched_tolerance};
use ndarray::{ArrayView2, Axis};
use original::Original;
use std::collections::BTreeSet;
use std::path::Path;
pub use verdict::{TensorFinding, Verdict};

/// Checks the directory `folder`. Compares it with the directory that it was made from, if one is given.
///
/// # Errors
/// A directory cannot be loaded at all, or its `pruning.json` was changed. What loads and is wrong is a fault of the
/// verdict.
pub fn verify(folder: &Path, against: Option<&Path>, progress: &dyn Progress) -> Result<Verdict> {
    let claim = PruningFile::read(folder)?;
    if claim.is_none()
        && let Some(structure) = Structure::read(folder)?
    {
        return of_smaller(folder, &structure, against, progress);
    }
    let mut verdict = Verdict {
        claimed: claim
            .as_ref()
            .map(|claim| format!("{PRUNING} says: {}", describe(claim))),
        ..Verdict::default()
    };
    for component in claim.iter().flat_map(PruningFile::unknown) {
        let what = format!("{component}: it is not built in; it is not run");
        verdict.unchecked.push(what);
    }
    progress.stage("hashing the files");
    files::check(folder, claim.as_ref(), &mut verdict)?;
    if let Err(error) = content(folder, against, claim.as_ref(), &mut verdict, progress) {
        // Files that are not what was written may be why nothing can be opened: then that is what was found.
        return Err(match verdict.listed() {
            None => error,
            Some(faults) => Error::new(ErrorKind::Mismatch, format!("{error}\n{faults}")),
        });
    }
    progress.finish();
    Ok(verdict)
}

/// Checks a model that lost whole units.
fn of_smaller(
    folder: &Path,
    structure: &Structure,
    against: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Verdict> {
    let mut verdict = Verdict {
        claimed: Some(format!(
            "{STRUCTURE} says: {}, {:.1} % of the weights of the blocks removed",
            structure.method,
            100.0 * structure.removed
        )),
        ..Verdict::default()
    };
    progress.stage("hashing the files");
    smaller::check(folder, structure, against, &mut verdict)?;
    weights(folder, None, None, &mut verdict, progress)?;
    progress.finish();
    Ok(verdict)
}

/// Checks everything that needs open files: the weights, and the comparison with the original.
fn content(
    folder: &Path,
    against: Option<&Path>,
    claim: Option<&PruningFile>,
    verdict: &mut Verdict,
    progress: &dyn Progress,
) -> Result<()> {
    let original = match against {
        Some(path) if original::is_copy(path, folder) => {
            verdict.faults.push(format!(
                "{} is not the original: it is this model, or a copy of it with the same {PRUNING}; nothing was compared. Give the model \
                 that was pruned",
                path.display()
            ));
            None
        }
        Some(path) => Some(Original::open(path, claim)?),
        None => None,
    };
    if let Some(original) = &original {
        original.check_files(folder, verdict)?;
    }
    weights(folder, claim, original.as_ref(), verdict, progress)
}

/// Checks the weights of the directory `folder`.
fn weights(
    folder: &Path,
    claim: Option<&PruningFile>,
    original: Option<&Original>,
    verdict: &mut Verdict,
    progress: &dyn Progress,
) -> Result<()> {
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let spec = checkpoint.spec();
    progress.stage("checking that all weights are finite");
    checkpoint.check_finite().at(folder.display())?;

    progress.start(1, spec.blocks);
    progress.cell("zeros and patterns", spec.blocks);
    let mut counted = BTreeSet::new();
    for index in 0..spec.blocks {
        for layer in &spec.block(index).linears {
            let linear = checkpoint.linear(index, layer)?;
            let weight = linear.weight.view();
            verdict.tensors.push(TensorFinding {
                tensor: linear.name.clone(),
                shape: weight.dim(),
                zeros: weight.iter().filter(|weight| **weight == 0.0).count(),
                patterns: [(2, 4), (4, 8)]
                    .into_iter()
                    .filter(|(keep, of)| outside_groups(weight, *keep, *of).is_none())
                    .map(|(keep, of)| format!("{keep}:{of}"))
                    .collect(),
            });
            if let Some(claim) = claim {
                let folded = claim.layers.iter().any(|it| it.folded && it.tensor == linear.name);
                if folded && Moved::of(layer.role) != Some(Moved::Columns) {
                    let fault = "pruning.json says that its permutation is folded, which is possible in an MLP's second layer only";
                    verdict.faults.push(format!("{}: {fault}", linear.name));
                }
                let fault = hold(claim, &linear.name, weight);
                verdict
                    .faults
                    .extend(fault.map(|fault| format!("{}: {fault}", linear.name)));
            }
            counted.insert(linear.name);
        }
        progress.step()?;
    }
    if let Some(claim) = claim {
        if claim.cell.pruning.is_none() {
            let fault = "pruning.json does not say how the model was pruned";
            verdict.faults.push(fault.to_string());
        }
        let unknown = claim.layers.iter().filter(|layer| !counted.contains(&layer.tensor));
        let faults = unknown.map(|layer| {
            format!(
                "{}: pruning.json lists it, but the model has no such layer",
                layer.tensor
            )
        });
        verdict.faults.extend(faults);
        let removed: usize = claim.layers.iter().map(|layer| layer.removed).sum();
        let sparsity = removed as f64 / spec.prunable() as f64;
        if (sparsity - claim.sparsity).abs() > 1e-9 {
            let claimed = claim.sparsity;
            verdict.faults.push(format!(
                "pruning.json says that {claimed} of all weights were removed, but its layers add up to {sparsity}"
            ));
        }
    }
    if let Some(original) = original {
        progress.stage("comparing with the original");
        original.check_tensors(&checkpoint, &counted, verdict);
    }
    Ok(())
}

fn describe(claim: &PruningFile) -> String {
    match &claim.cell.pruning {
        Some(pruning) => format!("{}, {}", claim.method, pruning.pattern()),
        None => claim.method.clone(),
    }
}

/// Compares one layer with what `pruning.json` says about it; `None` if they agree.
fn hold(claim: &PruningFile, name: &str, weight: ArrayView2<f32>) -> Option<String> {
    let Some(layer) = claim.layers.iter().find(|layer| layer.tensor == name) else {
        return Some("pruning.json does not mention it".to_string());
    };
    let (outputs, inputs) = weight.dim();
    if layer.shape != [outputs, inputs] {
        return Some(format!(
            "is {outputs} x {inputs}, but pruning.json says {} x {}",
            layer.shape[0], layer.shape[1]
        ));
    }
    let zeros = weight.iter().filter(|weight| **weight == 0.0).count();
    if zeros != layer.zeros {
        return Some(format!("has {zeros} zeros, but pruning.json says {}", layer.zeros));
    }
    let pruning = claim.cell.pruning.as_ref()?.recipe()?;
    if let Some(order) = &layer.permutation
        && !is_order(order, inputs)
    {
        return Some(format!(
            "has a permutation in pruning.json that does not name each of its {inputs} columns once"
        ));
    }
    // Groups of columns are those of the order in which they were pruned, unless the file has that order.
    let order = layer.permutation.as_ref().filter(|_| !layer.folded);
    let reordered = order.map(|order| weight.select(Axis(1), order));
    let weight = reordered.as_ref().map_or(weight, |weight| weight.view());
    // The record says what each layer was given; before it did, all were given the same.
    match (layer.pattern.unwrap_or(pruning.pattern), pruning.group) {
        (Pattern::NofM { keep, of }, _) => outside_groups(weight, keep, of).map(|(row, column)| match order {
            None => format!(
                "is not {keep}:{of} at output {row}, inputs {column} to {}",
                column + of - 1
            ),
            Some(order) => format!(
                "is not {keep}:{of} at output {row}, inputs {:?}, which are a group by its permutation",
                &order[column..column + of]
            ),
        }),
        (Pattern::Unstructured { sparsity }, group) => {
            let sparsity = match (group, pruning.selection) {
                (Some(Group::RowShare), Selection::Reference) => {
                    (sparsity - searched_tolerance(weight.ncols())).max(0.0)
                }
                _ => sparsity,
            };
            let short = |what: &str, index: usize, part: ArrayView2<f32>| {
                let zeros = part.iter().filter(|weight| **weight == 0.0).count();
                let least = removed(part.len(), sparsity);
                (zeros < least).then(|| format!("{what} {index} has {zeros} zeros of {}, not {least}", part.len()))
            };
            match group {
                Some(Group::Row) => weight
                    .axis_chunks_iter(Axis(0), 1)
                    .enumerate()
                    .find_map(|(index, row)| short("output", index, row)),
                Some(Group::ColumnBlock) => weight
                    .axis_chunks_iter(Axis(1), COLUMN_BLOCK)
                    .enumerate()
                    .find_map(|(index, columns)| short("column block", index, columns)),
                Some(Group::Matrix | Group::RowShare) | None => short("matrix", 0, weight),
            }
        }
    }
}
