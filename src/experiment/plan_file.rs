//! `plan.toml`: the experiment as the run that wrote it understood it.

use super::identity::Identity;
use super::inputs::Inputs;
use super::machine::Machine;
use super::plan::{Cell, Experiment, check_confidence};
use crate::error::{Error, Located, Result};
use crate::files::{input, only_plain, write_whole};
use crate::prune::pattern::Pattern;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the plan's file in a results folder.
const NAME: &str = "plan.toml";

/// How the plan's file begins.
const MARK: &str = "# Written by zprune";

/// `plan.toml`: the resolved experiment and its cells, as the run that wrote it saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Version of zprune that wrote the plan.
    pub zprune: String,
    /// The experiment with all defaults filled in.
    pub experiment: Experiment,
    /// The cells of the experiment, in the order in which they run.
    pub cell: Vec<PlannedCell>,
}

/// A cell of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// Id of the cell, computed from its content.
    pub id: String,
    /// Label of the cell's model.
    pub model: String,
    /// Label of the cell's method; `dense` for the unpruned model.
    pub method: String,
    /// Calibration seed; none if the method does not calibrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Pattern of the cell; none for the dense model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

impl PlanFile {
    /// The plan of a run on this machine, whose cells have these identities.
    pub fn new(experiment: &Experiment, machine: Machine, inputs: &Inputs, cells: &[(Cell, Identity)]) -> Self {
        let planned = |(cell, identity): &(Cell, Identity)| PlannedCell {
            id: identity.id(),
            model: experiment.models[cell.model].name.clone(),
            method: experiment.method_name(cell).to_string(),
            seed: cell.pruning.and_then(|pruning| pruning.seed),
            pattern: cell.pruning.map(|pruning| pruning.pattern),
        };
        let cell = cells.iter().map(planned).collect();
        let mut experiment = experiment.clone();
        experiment.machine = experiment.machine.settled(machine);
        // Several processes write the same plan, each with another card; the device is in every record.
        experiment.machine.adapter = None;
        for (plan, folder) in experiment.models.iter_mut().zip(&inputs.folders) {
            plan.commit = folder.as_ref().and_then(|folder| folder.commit.clone());
        }
        PlanFile {
            zprune: env!("CARGO_PKG_VERSION").to_string(),
            experiment,
            cell,
        }
    }

    /// Reads the plan of a results folder.
    ///
    /// # Errors
    /// The file is missing or not a plan.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let text = input::read_text(&path, input::SMALL)?;
        let plan: PlanFile = toml::from_str(&text)
            .map_err(|error| {
                Error::input(format!(
                    "not a plan of this version of zprune: {}; run the experiment again, which keeps its results",
                    error.message()
                ))
            })
            .at(path.display())?;
        check_confidence(plan.experiment.confidence).at(path.display())?;
        Ok(plan)
    }

    /// Checks that a plan could be written to a results folder: there is no file, or one that zprune wrote.
    ///
    /// # Errors
    /// Somebody else's `plan.toml` is there.
    pub fn check(folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        only_plain(&path)?;
        match std::fs::read(&path) {
            Ok(text) if !(text.is_empty() || text.starts_with(MARK.as_bytes())) => {
                let message = "zprune did not write it; rename it, or choose another results folder";
                Err(Error::output(&path, message))
            }
            _ => Ok(()),
        }
    }

    /// Writes the plan to a results folder.
    ///
    /// # Errors
    /// Somebody else's `plan.toml` is there, or the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        PlanFile::check(folder)?;
        write_whole(&folder.join(NAME), self.text()?.as_bytes())
    }

    /// The text of the plan's file.
    ///
    /// # Errors
    /// Never for a resolved experiment.
    pub fn text(&self) -> Result<String> {
        let plan = toml::to_string(self)
            .map_err(|error| Error::config(format!("the plan cannot be written: {error}")).caused_by(error))?;
        Ok(format!(
            "{MARK}: the experiment as it was understood, and its cells.\n\n{plan}"
        ))
    }
}
