//! `plan.toml`: the experiment as the run that wrote it understood it.

use crate::error::{Error, Located, Result};
use crate::experiment::plan::Experiment;
use crate::files::input;
use crate::prune::pattern::Pattern;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `plan.toml`: the resolved experiment and its cells, as the run that wrote it saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Version of zprune.
    pub zprune: String,
    /// The resolved experiment.
    pub experiment: Experiment,
    /// Its cells, in the order they run.
    pub cell: Vec<PlannedCell>,
}

/// A cell of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// Content-derived id.
    pub id: String,
    /// Model label.
    pub model: String,
    /// Method label.
    pub method: String,
    /// Calibration seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Pattern; none for the dense model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

impl PlanFile {
    /// Reads a results folder's plan.
    ///
    /// # Errors
    /// The file is missing or not a plan.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("plan.toml");
        let text = input::read_text(&path, input::SMALL)?;
        toml::from_str(&text)
            .map_err(|error| {
                Error::input(format!(
                    "not a plan of this version of zprune: {}; run the experiment again, which keeps its results",
                    error.message()
                ))
            })
            .at(path.display())
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never for a resolved experiment.
    pub fn text(&self) -> Result<String> {
        let plan =
            toml::to_string(self).map_err(|error| Error::config(format!("the plan cannot be written: {error}")))?;
        Ok(format!(
            "# Written by zprune: the experiment as it was understood, and its cells.\n\n{plan}"
        ))
    }
}
