//! Magnitude: `S = |w|`. The baseline of every paper, compared over a whole matrix there.

use super::Criterion;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::pattern::Group;
use crate::prune::score::{Score, Term};
use crate::prune::workbench::LayerView;
use serde::{Deserialize, Serialize};

/// The magnitude criterion; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magnitude {}

impl Criterion for Magnitude {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn group(&self) -> Group {
        Group::Matrix
    }

    fn score(&self, _layer: &dyn LayerView) -> Result<Score> {
        Ok(Score::Terms(vec![Term::default()]))
    }
}
