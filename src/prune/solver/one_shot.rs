//! One-shot: remove what the mask says, change nothing else.

use super::step::Solver;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::pattern::Target;
use crate::prune::values::Values;
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The one-shot solver; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneShot {}

impl Solver for OneShot {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn updates(&self) -> bool {
        false
    }

    fn solve(&self, piece: &mut dyn Workpiece, _follow: Option<&Values>, _target: &Target) -> Result<Option<f64>> {
        piece.remove()?;
        Ok(None)
    }
}
