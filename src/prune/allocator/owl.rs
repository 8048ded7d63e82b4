//! OWL, outlier-weighed layerwise sparsity (Yin et al., ICML 2024, arXiv 2310.05175; reference: luuyin/OWL).
//!
//! In each block of the dense model, `D` is the fraction of Wanda's scores of all its layers that are above `m` times their mean. Blocks
//! with more such outliers keep more: shares fall linearly with `D` and differ by `2 lambda` at most. All layers of a block have
//! the same share.
//!
//! Deviations: the mean of the shares counts weights and not blocks, and is exact after rounding; the reference's smallest share is
//! 0.01 and its largest has no limit.

use super::step::{Allocator, PlacedLinear, Question, Survey, Trial};
use super::wanda_scores::WandaScores;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::range::within;
use crate::prune::shares::falling;
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The OWL allocator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Owl {
    /// `M`: a score above so many times the mean of its block is an outlier. 5, as in the authors' commands; their code's default is 3.
    pub m: f64,
    /// `lambda`: shares differ by at most twice this; 0.08.
    pub lambda: f64,
}

impl Default for Owl {
    fn default() -> Self {
        Owl { m: 5.0, lambda: 0.08 }
    }
}

impl Allocator for Owl {
    fn validate(&self) -> Result<()> {
        within("m", self.m, 0.0..=1e6)?;
        within("lambda", self.lambda, 0.0..=0.5)
    }

    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: format!(
                "fraction of Wanda's scores of a block above {} times their mean",
                self.m
            ),
            needs: Needs::SQUARES,
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        let scores = WandaScores::new(block)?;
        let outliers = scores.above(self.m * scores.mean()?)? / scores.count;
        Ok(vec![outliers; block.len()])
    }

    fn allocate(&self, layers: &[PlacedLinear], _: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        Ok(falling(&survey.by_block(layers)?, self.lambda))
    }
}
