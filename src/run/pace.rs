//! What cells cost, learned from records, and how long a sweep will still take.
//!
//! These are estimates: a cell is expected to take what cells of the same method took on the same model and tokens, whatever the
//! pattern and the seed. Cells that were skipped say nothing about the pace.

use crate::experiment::identity::{CONTENT, Identity, PruningKind};
use crate::prune::pattern::Pattern;
use crate::record::{Record, Status};
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds of the cells that have records, by what decides them.
#[derive(Default)]
pub(crate) struct Costs(BTreeMap<String, (f64, usize)>);

/// What decides how long a cell takes: its identity without pattern and seed.
fn kind(identity: &Identity) -> String {
    let mut identity = identity.clone();
    if let Some(pruning) = &mut identity.pruning {
        let any = Pattern::Unstructured { sparsity: 0.5 };
        match &mut pruning.kind {
            PruningKind::Recipe(recipe) => {
                (recipe.pattern, recipe.group) = (any, None);
                // Files of another program are one for each pattern and seed.
                if let Some(parameters) = recipe.criterion.parameters.as_object_mut() {
                    parameters.retain(|name, _| name != CONTENT && name != "seed");
                }
            }
            PruningKind::Units(units) => units.pattern = any,
            PruningKind::Checkpoint(checkpoint) => {
                checkpoint.checkpoint.weights.clear();
                checkpoint.checkpoint.config.clear();
                (checkpoint.pattern, checkpoint.seed) = (any, None);
            }
        }
        if let Some(calibration) = &mut pruning.calibration {
            calibration.seed = 0;
        }
    }
    serde_json::to_string(&identity).expect("an identity holds nothing that JSON cannot")
}

impl Costs {
    /// The costs of the cells in these records, whatever machine they were made on.
    pub(crate) fn of(records: &[Record]) -> Costs {
        let mut costs = Costs::default();
        for record in records.iter().filter(|record| record.status == Status::Ok) {
            costs.add(kind(&record.cell), record.run.total_seconds);
        }
        costs
    }

    fn add(&mut self, kind: String, seconds: f64) {
        let (sum, count) = self.0.entry(kind).or_default();
        *sum += seconds;
        *count += 1;
    }

    /// Seconds that a cell is expected to take; `None` if no cell of its kind has a record.
    pub(crate) fn expected(&self, identity: &Identity) -> Option<f64> {
        self.of_kind(&kind(identity))
    }

    fn of_kind(&self, kind: &str) -> Option<f64> {
        self.0.get(kind).map(|(sum, count)| sum / *count as f64)
    }

    /// The same, with the mean over all kinds for a kind without records. Without any records all cells
    /// are taken for equal.
    fn guess(&self, kind: &str) -> f64 {
        self.of_kind(kind).unwrap_or_else(|| match self.0.len() {
            0 => 1.0,
            kinds => self.0.values().map(|(sum, count)| sum / *count as f64).sum::<f64>() / kinds as f64,
        })
    }
}

/// How fast a sweep goes. It is told how much time has passed, so that a test needs no clock.
pub(crate) struct Pace {
    costs: Costs,
    /// The kind of every cell that is still to be run, by id.
    open: BTreeMap<String, String>,
    /// The kinds of the cells that were done since the start, by this process or by others.
    done: Vec<String>,
    current: Option<Current>,
}

struct Current {
    id: String,
    blocks: usize,
    steps: usize,
}

impl Pace {
    /// The pace of a sweep over these cells, with what is known from earlier ones.
    pub(crate) fn new<'a>(open: impl Iterator<Item = &'a Identity>, costs: Costs) -> Pace {
        Pace {
            costs,
            open: open.map(|identity| (identity.id(), kind(identity))).collect(),
            done: Vec::new(),
            current: None,
        }
    }

    /// Whether a cell is still to be run, as far as this process was told.
    pub(crate) fn is_open(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Notes that a cell starts, whose model has so many blocks.
    pub(crate) fn begin(&mut self, id: &str, blocks: usize) {
        self.current = Some(Current {
            id: id.to_string(),
            blocks,
            steps: 0,
        });
    }

    /// Notes that the current cell passes so many blocks more.
    pub(crate) fn more(&mut self, blocks: usize) {
        if let Some(current) = &mut self.current {
            current.blocks += blocks;
        }
    }

    /// Notes that a block of the current cell is done.
    pub(crate) fn step(&mut self) {
        if let Some(current) = &mut self.current {
            current.steps += 1;
        }
    }

    /// Notes that a cell is done; `seconds` says how long it took, if this process ran it and has a good record of it.
    pub(crate) fn end(&mut self, id: &str, seconds: Option<f64>) {
        if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current = None;
        }
        if let Some(kind) = self.open.remove(id) {
            if let Some(seconds) = seconds {
                self.costs.add(kind.clone(), seconds);
            }
            self.done.push(kind);
        }
    }

    /// Time left for the current cell, `within` its work, and for the sweep, `since` it started. `None` where there is
    /// nothing to tell it from.
    pub(crate) fn left(&self, within: Duration, since: Duration) -> (Option<Duration>, Option<Duration>) {
        let (mut part, mut cell) = (0.0, None);
        if let Some(current) = &self.current {
            let fraction = (current.steps as f64 / current.blocks.max(1) as f64).min(1.0);
            let kind = self.open.get(&current.id);
            part = fraction * kind.map_or(0.0, |kind| self.costs.guess(kind));
            cell = if fraction > 0.0 {
                Some(within.as_secs_f64() * (1.0 - fraction) / fraction)
            } else {
                kind.and_then(|kind| self.costs.of_kind(kind))
            };
        }
        let sum = |kinds: &mut dyn Iterator<Item = &String>| kinds.map(|kind| self.costs.guess(kind)).sum::<f64>();
        let done = sum(&mut self.done.iter()) + part;
        let open = sum(&mut self.open.values()) - part;
        let sweep = (done > 0.0).then(|| since.as_secs_f64() * open.max(0.0) / done);
        let duration = |seconds: Option<f64>| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        (duration(cell), duration(sweep))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A sweep of cells `a0`, `a1`, ... of kind `a`, and so on.
    fn pace(cells: &[&str], known: &[(&str, f64)]) -> Pace {
        let mut costs = Costs::default();
        for (kind, seconds) in known {
            costs.add(kind.to_string(), *seconds);
        }
        Pace {
            costs,
            open: cells.iter().map(|id| (id.to_string(), id[..1].to_string())).collect(),
            done: Vec::new(),
            current: None,
        }
    }

    #[test]
    fn nothing_is_said_before_anything_is_known() {
        let mut pace = pace(&["a0", "a1"], &[]);
        assert_eq!(pace.left(SECOND, SECOND), (None, None));
        pace.begin("a0", 4);
        assert_eq!(pace.left(SECOND, SECOND), (None, None));
    }

    #[test]
    fn the_first_cell_tells_by_its_blocks() {
        let mut pace = pace(&["a0", "a1", "a2"], &[]);
        pace.begin("a0", 4);
        pace.step();
        // A quarter of three equal cells took ten seconds: 30 are left of it, 110 of all.
        assert_eq!(
            pace.left(10 * SECOND, 10 * SECOND),
            (Some(30 * SECOND), Some(110 * SECOND))
        );
    }

    #[test]
    fn cells_count_by_what_their_kind_took() {
        let mut pace = pace(&["a0", "a1", "b0"], &[("a", 10.0), ("b", 50.0)]);
        pace.begin("a0", 2);
        assert_eq!(
            pace.left(Duration::ZERO, Duration::ZERO).0,
            Some(10 * SECOND),
            "known before its first block"
        );
        pace.end("a0", Some(10.0));
        // 10 of 70 are done in 20 seconds, on a machine half as fast as that of the records.
        assert_eq!(pace.left(Duration::ZERO, 20 * SECOND), (None, Some(120 * SECOND)));
    }

    #[test]
    fn what_others_do_quickens_the_sweep() {
        let mut alone = pace(&["a0", "a1", "a2", "a3"], &[]);
        alone.end("a0", Some(10.0));
        let mut shared = pace(&["a0", "a1", "a2", "a3"], &[]);
        shared.end("a0", Some(10.0));
        shared.end("a1", None);
        assert_eq!(alone.left(SECOND, 10 * SECOND).1, Some(30 * SECOND));
        assert_eq!(shared.left(SECOND, 10 * SECOND).1, Some(10 * SECOND));
    }

    #[test]
    fn a_finished_sweep_has_no_time_left() {
        let mut pace = pace(&["a0"], &[]);
        pace.end("a0", Some(1.0));
        assert_eq!(pace.left(SECOND, SECOND), (None, Some(Duration::ZERO)));
    }
}
