//! What was found in a model and what its row says: whether they agree.

use super::results::MethodResult;
use crate::experiment::method::{MethodKind, MethodPlan};
use crate::prune::found::TOLERANCE;
use crate::prune::pattern::Pattern;

/// How far the found sparsity may be from the row's before a table says so: what rounding to whole weights of a row makes.
const UNSAID: f64 = 5e-4;

/// How far the share that whole units are may be from the row's before a table says so.
const UNITS_UNSAID: f64 = 5e-3;

/// The share of the weights that went with whole units, in percent, if it is not what the entry's pattern says: units have sizes.
pub fn of_units(entry: &MethodResult) -> Option<f64> {
    let (asked, removed, _) = (entry.pattern?, entry.sparsity?, entry.sizes.as_ref()?);
    ((removed - asked.sparsity()).abs() > UNITS_UNSAID).then_some(100.0 * removed)
}

/// What was found in an entry of another program, if it is not what the entry's pattern says.
pub fn otherwise(entry: &MethodResult) -> Option<String> {
    let (asked, sparsity) = (entry.pattern?, entry.sparsity?);
    let off = (sparsity - asked.sparsity()).abs() > UNSAID;
    let broken = broken(entry, asked);
    let found = format!("{:.2} % zeros", 100.0 * sparsity);
    match (off, broken) {
        (false, 0) => None,
        (_, 0) => Some(format!("{} at {asked}: {found}", entry.method)),
        (_, broken) => Some(format!(
            "{} at {asked}: {found}, and {broken} of {} layers are not {asked}",
            entry.method,
            entry.layers.len()
        )),
    }
}

/// Whether a checkpoint of another program kept more weights than the row says that it stands in: its score is no result of that pattern.
pub fn keeps_more(plan: &MethodPlan, entry: &MethodResult) -> bool {
    let (MethodKind::Checkpoint(_), Some(asked), Some(sparsity)) = (&plan.kind, entry.pattern, entry.sparsity) else {
        return false;
    };
    sparsity < asked.sparsity() - TOLERANCE || broken(entry, asked) > 0
}

/// The layers that do not have the N:M pattern that was asked for.
fn broken(entry: &MethodResult, asked: Pattern) -> usize {
    match asked {
        Pattern::NofM { .. } => entry.layers.iter().filter(|layer| layer.pattern != Some(asked)).count(),
        Pattern::Unstructured { .. } => 0,
    }
}
