//! Which cells a run has to do.

use crate::error::{Error, Result};
use crate::experiment::identity::Identity;
use crate::experiment::plan::{Cell, Experiment};
use crate::registry::nearest;
use std::collections::{BTreeSet, HashSet};

/// The cells with these ids, or all.
pub(crate) fn select<'a>(
    experiment: &Experiment,
    cells: &'a [(Cell, Identity)],
    ids: &[String],
) -> Result<Vec<&'a (Cell, Identity)>> {
    if ids.is_empty() {
        return Ok(cells.iter().collect());
    }
    let known: Vec<String> = cells.iter().map(|(_, identity)| identity.id()).collect();
    for id in ids {
        if !known.contains(id) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(id, &names).and_then(|near| cells.iter().find(|(_, identity)| identity.id() == near));
            let near = near.map_or(";".to_string(), |(cell, identity)| {
                format!("; did you mean {} ({})?", identity.id(), experiment.describe(cell))
            });
            return Err(Error::config(format!(
                "{} has no cell {id}{near} `zprune plan` lists all. An id changes with everything that changes a cell's numbers: \
                 files, settings, backend",
                experiment.name
            )));
        }
    }
    let wanted = cells.iter().zip(known).filter(|(_, id)| ids.contains(id));
    Ok(wanted.map(|(cell, _)| cell).collect())
}

/// The wanted cells without a good record, which `has` knows, and the dense cells that must be held against `expected` before.
pub(crate) fn pending<'a>(
    experiment: &Experiment,
    cells: &'a [(Cell, Identity)],
    wanted: &[&'a (Cell, Identity)],
    has: &dyn Fn(&str) -> bool,
) -> Vec<&'a (Cell, Identity)> {
    let open = |entry: &&(Cell, Identity)| !has(&entry.1.id());
    let asked: HashSet<String> = wanted.iter().map(|(_, identity)| identity.id()).collect();
    let pruned: BTreeSet<usize> = wanted
        .iter()
        .copied()
        .filter(open)
        .filter(|(cell, _)| cell.pruning.is_some())
        .map(|(cell, _)| cell.model)
        .collect();
    let needed = |entry: &&(Cell, Identity)| {
        let (cell, identity) = entry;
        let asked = asked.contains(&identity.id());
        let held_against = cell.pruning.is_none()
            && pruned.contains(&cell.model)
            && !experiment.models[cell.model].expected.is_empty();
        asked || held_against
    };
    cells.iter().filter(open).filter(needed).collect()
}
