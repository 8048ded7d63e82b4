//! One-shot: score once, remove the lowest, change nothing else.

use super::{Solution, Solver};
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::Layer;
use crate::prune::criterion::Criterion;
use crate::prune::mask::select;
use crate::prune::pattern::Target;
use serde::{Deserialize, Serialize};

/// The one-shot solver; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneShot {}

impl Solver for OneShot {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn solve(&self, layer: &Layer, criterion: &dyn Criterion, target: &Target) -> Result<Solution> {
        let scores = criterion.score(layer)?.evaluate(layer.weight)?;
        let mask = select(scores.view(), target)?;
        let mut weight = layer.weight.to_owned();
        mask.apply(&mut weight);
        Ok(Solution {
            weight,
            mask,
            damping: None,
        })
    }
}
