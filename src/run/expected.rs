//! Perplexities of unpruned models that are known beforehand.

use crate::error::{Error, ErrorKind, Result};
use crate::experiment::identity::Identity;
use crate::experiment::plan::{Cell, Experiment};
use crate::record::RecordFile;
use crate::stats::Shown;

/// Whether the dense perplexities of a model are the expected ones, so that pruning it is worth while; `false` while
/// another process measures them.
pub(crate) fn dense_fits(
    experiment: &Experiment,
    cells: &[(Cell, Identity)],
    file: &RecordFile,
    model: usize,
) -> Result<bool> {
    let plan = &experiment.models[model];
    if plan.expected.is_empty() {
        return Ok(true);
    }
    let dense = cells
        .iter()
        .find(|(cell, _)| cell.model == model && cell.pruning.is_none());
    let dense = dense.map_or(String::new(), |(_, identity)| identity.id());
    let fail = |message: String| Error::new(ErrorKind::Mismatch, message).at(&plan.name);
    let Some(record) = file.good(&dense) else {
        return match file.fresh().iter().any(|record| record.id == dense) {
            false => Ok(false),
            true => Err(fail(
                "the dense model has no result that can be compared with `expected`".to_string(),
            )),
        };
    };
    // The record may have been made under other labels; evaluations keep the experiment's order.
    for (plan_of, found) in experiment.evaluations.iter().zip(&record.evaluations) {
        let Some(expected) = plan.expected.get(&plan_of.name) else {
            continue;
        };
        let off = (found.perplexity - expected.perplexity).abs() / expected.perplexity;
        if off > expected.tolerance {
            return Err(fail(format!(
                "the dense perplexity on {} is {:.4}, but {:.4} is expected, within {} %: it is off by {:.3} %. \
                 Weights, tokens, BOS, join or context length differ from the run it comes from; nothing was pruned",
                plan_of.name,
                Shown(found.perplexity),
                Shown(expected.perplexity),
                100.0 * expected.tolerance,
                Shown(100.0 * off)
            )));
        }
    }
    Ok(true)
}
