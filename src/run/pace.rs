//! What cells cost, learned from records, and how long a sweep will still take.
//!
//! These are estimates: a cell is expected to take what cells of the same method took on the same model and tokens, whatever the
//! pattern and the seed. A method without finished cells is expected to take its share of the operations, at the speed of the
//! cells that are known. Cells that were skipped say nothing about the pace.

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
}

/// How fast a sweep goes. It is told how much time has passed, so that a test needs no clock.
pub(crate) struct Pace {
    /// Seconds of the cells that were recorded before the start, maybe on another machine.
    recorded: Costs,
    /// Seconds of the cells that this process ran.
    here: Costs,
    /// The operations of a cell of each kind.
    work: BTreeMap<String, f64>,
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
    /// Seconds of the cell until its first block was done, which may include calibration of the whole model.
    first: f64,
}

impl Current {
    /// The share of the blocks that is done.
    fn fraction(&self) -> f64 {
        (self.steps as f64 / self.blocks.max(1) as f64).min(1.0)
    }

    /// Seconds that the blocks that are left take if they are like those that are done.
    fn left(&self, within: f64) -> Option<f64> {
        let blocks = self.blocks.saturating_sub(self.steps) as f64;
        match self.steps {
            0 => None,
            1 => Some(within * blocks),
            steps => Some((within - self.first).max(0.0) / (steps - 1) as f64 * blocks),
        }
    }
}

/// What a cell of each kind takes on this machine, as far as it is known now.
struct Expected<'a> {
    known: BTreeMap<&'a str, f64>,
    work: &'a BTreeMap<String, f64>,
    /// Seconds for an operation, by the kinds that are known.
    speed: Option<f64>,
}

impl<'a> Expected<'a> {
    fn new(known: BTreeMap<&'a str, f64>, work: &'a BTreeMap<String, f64>) -> Self {
        let mut sums = (0.0, 0.0);
        for (kind, seconds) in &known {
            if let Some(work) = work.get(*kind) {
                sums = (sums.0 + seconds, sums.1 + work);
            }
        }
        let speed = (sums.1 > 0.0).then(|| sums.0 / sums.1);
        Expected { known, work, speed }
    }

    fn of(&self, kind: &str) -> Option<f64> {
        let by_work = || Some(self.speed? * self.work.get(kind)?);
        self.known.get(kind).copied().or_else(by_work)
    }
}

impl Pace {
    /// The pace of a sweep over cells that have these operations, of which those with the ids `open` are to be run, with what is known
    /// from earlier ones.
    pub(crate) fn new(cells: &[(&Identity, f64)], is_open: impl Fn(&str) -> bool, recorded: Costs) -> Pace {
        let (mut work, mut open) = (BTreeMap::new(), BTreeMap::new());
        for (identity, operations) in cells {
            let (id, kind) = (identity.id(), kind(identity));
            work.insert(kind.clone(), *operations);
            if is_open(&id) {
                open.insert(id, kind);
            }
        }
        Pace {
            recorded,
            here: Costs::default(),
            work,
            open,
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
            first: 0.0,
        });
    }

    /// Notes that the current cell passes so many blocks more.
    pub(crate) fn more(&mut self, blocks: usize) {
        if let Some(current) = &mut self.current {
            current.blocks += blocks;
        }
    }

    /// Notes that a block of the current cell is done, `within` its work.
    pub(crate) fn step(&mut self, within: Duration) {
        if let Some(current) = &mut self.current {
            current.steps += 1;
            if current.steps == 1 {
                current.first = within.as_secs_f64();
            }
        }
    }

    /// Notes that a cell is done; `seconds` says how long it took, if this process ran it and has a good record of it.
    pub(crate) fn end(&mut self, id: &str, seconds: Option<f64>) {
        if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current = None;
        }
        if let Some(kind) = self.open.remove(id) {
            if let Some(seconds) = seconds {
                self.here.add(kind.clone(), seconds);
            }
            self.done.push(kind);
        }
    }

    /// How much longer a cell takes here than its record says.
    fn slower(&self) -> f64 {
        let both = self.here.0.iter().filter_map(|(kind, (sum, count))| {
            let recorded = self.recorded.of_kind(kind)?;
            Some((*sum, recorded * *count as f64))
        });
        let (here, recorded) = both.fold((0.0, 0.0), |sums, (here, there)| (sums.0 + here, sums.1 + there));
        if recorded > 0.0 { here / recorded } else { 1.0 }
    }

    /// The kinds that were finished, here or before the start, and what a cell of each takes here.
    fn finished(&self) -> BTreeMap<&str, f64> {
        let slower = self.slower();
        let kinds = self.work.keys();
        let known = kinds.filter_map(|kind| {
            let recorded = || Some(slower * self.recorded.of_kind(kind)?);
            Some((kind.as_str(), self.here.of_kind(kind).or_else(recorded)?))
        });
        known.collect()
    }

    /// Time left for the current cell, `within` its work, and for the sweep, `since` it started. `None` where there is
    /// nothing to tell it from.
    pub(crate) fn left(&self, within: Duration, since: Duration) -> (Option<Duration>, Option<Duration>) {
        let (within, since) = (within.as_secs_f64(), since.as_secs_f64());
        let mut known = self.finished();
        let (mut cell, mut slower) = (None, 1.0);
        if let Some(current) = &self.current {
            let seen = current.left(within);
            let kind = self.open.get(&current.id).map(String::as_str);
            match (kind.and_then(|kind| known.get(kind)).copied(), seen) {
                // The more of the cell is done, the more it tells itself.
                (Some(whole), Some(seen)) => {
                    let fraction = current.fraction();
                    let left = (1.0 - fraction) * (1.0 - fraction) * whole + fraction * seen;
                    cell = Some(left);
                    if self.done.is_empty() && whole > 0.0 {
                        slower = (within + left) / whole;
                    }
                }
                (Some(whole), None) => cell = Some(whole),
                (None, Some(seen)) => {
                    cell = Some(seen);
                    if let Some(kind) = kind {
                        known.insert(kind, within + seen);
                    }
                }
                (None, None) => {}
            }
        }
        let expected = Expected::new(known, &self.work);
        let sum =
            |kinds: &mut dyn Iterator<Item = &String>| -> Option<f64> { kinds.map(|kind| expected.of(kind)).sum() };
        let current = self.current.as_ref().map(|current| current.id.as_str());
        let working = within * f64::from(u8::from(current.is_some()));
        // Other processes may do their share, and what is between cells takes time, too.
        if let Some(done) = sum(&mut self.done.iter()).filter(|done| *done > 0.0) {
            slower = (since - working).max(0.0) / done;
        }
        let current_kind = current.and_then(|id| self.open.get(id));
        cell = cell.or_else(|| expected.of(current_kind?));
        let others = self.open.iter().filter(|(id, _)| current != Some(id.as_str()));
        let others = sum(&mut others.map(|(_, kind)| kind)).map(|seconds| slower * seconds);
        let sweep = match current {
            Some(_) => cell.zip(others).map(|(cell, others)| cell + others),
            None => others.filter(|_| !self.done.is_empty()),
        };
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
            recorded: costs,
            here: Costs::default(),
            // Cells of kind `b` have five times the operations of the others.
            work: BTreeMap::from([("a".into(), 2.0), ("b".into(), 10.0), ("c".into(), 2.0)]),
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
        pace.step(10 * SECOND);
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
    fn a_kind_without_records_counts_by_its_operations_until_its_own_blocks_tell() {
        // Resumed: cells of kind `a` took 10 seconds, and 5 seconds for an operation is the speed.
        let mut pace = pace(&["b0", "b1", "a1", "c0"], &[("a", 10.0)]);
        pace.begin("b0", 10);
        assert_eq!(
            pace.left(Duration::ZERO, Duration::ZERO),
            (Some(50 * SECOND), Some((50 + 50 + 10 + 10) * SECOND)),
            "known before its first block"
        );
        // Its first block comes after calibration. Each further block takes 10 seconds, so the cell takes 120.
        pace.step(30 * SECOND);
        for block in 1..3 {
            pace.step((30 + 10 * block) * SECOND);
        }
        let (cell, sweep) = pace.left(50 * SECOND, 50 * SECOND);
        assert_eq!(cell, Some(70 * SECOND));
        // The other cell of its kind takes 120 seconds, that of kind `a` what is recorded, and `c` its two operations of 130 / 12
        // seconds. A cell of `a` is not taken for one of `b`, whatever its blocks took.
        let left = sweep.expect("it is known").as_secs_f64();
        assert!(
            (left - (70.0 + 120.0 + 10.0 + 2.0 * 130.0 / 12.0)).abs() < 1e-6,
            "{left}"
        );
    }

    #[test]
    fn a_kind_with_records_trusts_them_at_the_beginning_of_a_cell_and_its_blocks_at_the_end() {
        let mut pace = pace(&["a0", "a1"], &[("a", 40.0)]);
        pace.begin("a0", 4);
        // Twice as slow as recorded.
        let mut told = Vec::new();
        for block in 1..=4 {
            pace.step(20 * block * SECOND);
            told.push(pace.left(20 * block * SECOND, 20 * block * SECOND));
        }
        let cell = |it: usize| told[it].0.expect("known").as_secs_f64();
        // 0.75 of 0.75 of 40 seconds, and a quarter of 60.
        assert_eq!(cell(0), 0.75 * 0.75 * 40.0 + 0.25 * 60.0);
        assert_eq!(
            told[3],
            (Some(Duration::ZERO), Some(80 * SECOND)),
            "the next one is as slow"
        );
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
