//! What has become of the cells of an experiment, for those who plan.

use super::claims::Claims;
use super::pace::Costs;
use crate::experiment::identity::{Identity, identify};
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::Machine;
use crate::experiment::plan::{Cell, Experiment};
use crate::record::{Record, Status, standing};
use crate::registry::counted;
use std::collections::BTreeSet;
use std::path::Path;

/// What has become of a cell, as records and claims show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has a good record.
    Done,
    /// A living process has claimed it.
    Running,
    /// Its records say why it failed; a run tries again.
    Failed,
    /// It has no record, and no process is at it.
    Pending,
}

/// A cell of an experiment, what has become of it, and what it is expected to take.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The cell, by position in the experiment's lists.
    pub cell: Cell,
    /// Id of the cell; `None` if a file that it depends on is missing.
    pub id: Option<String>,
    /// What has become of the cell so far.
    pub state: State,
    /// Mean seconds of the recorded cells of the same method, model and tokens, whatever pattern and seed, on whatever
    /// machine; `None` if there are none.
    pub seconds: Option<f64>,
}

/// Says that a folder has records of other cells than those with these ids, if it has: somebody edited the experiment, or gave two
/// experiments one name.
pub fn of_others<'a>(records: &[Record], ids: impl Iterator<Item = &'a str>, folder: &Path) -> Option<String> {
    let ids: BTreeSet<&str> = ids.collect();
    let others = records
        .iter()
        .filter(|record| !record.ids().any(|id| ids.contains(&*id)));
    let others: BTreeSet<&str> = others.map(|record| record.id.as_str()).collect();
    (!others.is_empty()).then(|| {
        format!(
            "note: {} has {} of other settings, which tables and plots will leave out; another `name` gives this experiment a folder of \
             its own",
            folder.display(),
            counted(others.len(), "record")
        )
    })
}

/// All cells of an experiment, in its order, as `records` and the claims in `folder` show them. Changes nothing.
pub fn prospects(
    experiment: &Experiment,
    machine: Machine,
    inputs: &Inputs,
    records: &[Record],
    folder: &Path,
) -> Vec<Prospect> {
    let (claims, costs, standing) = (Claims::of(folder), Costs::of(records), standing(records));
    let cells = experiment
        .cells()
        .into_iter()
        .zip(identify(experiment, machine, inputs));
    cells
        .map(|(cell, identity)| {
            let id = identity.as_ref().map(Identity::id);
            let found = id.as_deref().and_then(|id| standing.get(id));
            let state = match (&id, found.map(|record| record.status)) {
                (_, Some(Status::Ok)) => State::Done,
                (Some(id), _) if claims.held(id) => State::Running,
                (_, Some(Status::Failed | Status::Withdrawn)) => State::Failed,
                (_, None) => State::Pending,
            };
            let seconds = identity.and_then(|identity| costs.expected(&identity));
            Prospect {
                cell,
                id,
                state,
                seconds,
            }
        })
        .collect()
}
