//! DLP, dynamic layerwise pruning (ICML 2025): blocks whose Wanda scores are large lose more.
//!
//! The unimportance `S` of a block of the dense model is the mean (the released code) or the median (the paper) of Wanda's scores of all
//! its layers, its importance `1 - S / sum S`. Shares fall linearly with it and differ by `2 alpha` at most. All layers of a block
//! have the same share.
//!
//! Deviations: the mean of the shares counts weights and not blocks, and is exact after rounding.

use super::step::{Allocator, PlacedLinear, Question, Survey, Trial};
use super::wanda_scores::WandaScores;
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::range::within;
use crate::prune::shares::falling;
use crate::prune::workbench::Workpiece;
use serde::{Deserialize, Serialize};

/// The DLP allocator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dlp {
    /// What stands for the scores of a block: `mean`.
    pub statistic: DlpStatistic,
    /// `alpha`: shares differ by at most twice this; 0.15.
    pub alpha: f64,
}

/// A number that stands for all scores of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DlpStatistic {
    /// Their mean, as in the released code.
    Mean,
    /// Their median, as in the paper.
    Median,
}

impl Default for Dlp {
    fn default() -> Self {
        Dlp {
            statistic: DlpStatistic::Mean,
            alpha: 0.15,
        }
    }
}

impl Allocator for Dlp {
    fn validate(&self) -> Result<()> {
        within("alpha", self.alpha, 0.0..=0.5)
    }

    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: format!("{:?} of Wanda's scores of a block", self.statistic),
            needs: Needs::SQUARES,
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        let scores = WandaScores::new(block)?;
        let value = match self.statistic {
            DlpStatistic::Mean => scores.mean()?,
            DlpStatistic::Median => scores.median()?,
        };
        Ok(vec![value; block.len()])
    }

    fn allocate(&self, layers: &[PlacedLinear], _: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        // The importance 1 - S / sum S, but for what makes no difference to the shares.
        let importance: Vec<f64> = survey.by_block(layers)?.iter().map(|value| -value).collect();
        Ok(falling(&importance, self.alpha))
    }
}
