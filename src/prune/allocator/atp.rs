//! ATP, an arithmetic progression (ICML 2025): each block loses `beta` more than the one before it.
//!
//! `s_i = s - beta (B - 1) / 2 + beta i` for the blocks `i = 0 .. B - 1`. The paper tries multiples of 0.002 up to the largest `beta` that is
//! possible, and chooses by perplexity on WikiText-2, the text of its tables. Here the choice never sees an evaluation: the last
//! quarter of the calibration windows is held out, the model is pruned with the others and scored on these, once for every `beta`
//! that is tried; the model of the record is then pruned with all windows. `beta` itself can be given, and then nothing is tried.
//!
//! Deviations: the text of the choice; at most `trials` values are tried, evenly spaced, where more multiples are possible, as in
//! models of few blocks.

use super::step::{Allocator, PlacedLinear, Survey, Trial};
use crate::error::{Error, Result};
use crate::prune::range::within;
use serde::{Deserialize, Serialize};

/// The ATP allocator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Atp {
    /// How much more each block loses than the one before it; chosen on held-out calibration text if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Multiples of this are tried: 0.002.
    pub step: f64,
    /// At most so many are tried: 9, which is how many there are for 32 blocks at 70 %.
    pub trials: usize,
}

impl Default for Atp {
    fn default() -> Self {
        Atp {
            beta: None,
            step: 0.002,
            trials: 9,
        }
    }
}

impl Allocator for Atp {
    fn validate(&self) -> Result<()> {
        if let Some(beta) = self.beta {
            within("beta", beta, 0.0..=1.0)?;
        }
        match (self.step > 0.0 && self.step <= 1.0, self.trials) {
            (false, _) => Err(Error::config(format!(
                "parameter `step` = {} must be above 0 and at most 1",
                self.step
            ))),
            (true, 0) => Err(Error::config(
                "parameter `trials` = 0 must be at least 1; to try nothing, give `beta`",
            )),
            _ => Ok(()),
        }
    }

    fn tries(&self) -> bool {
        self.beta.is_none()
    }

    fn allocate(&self, layers: &[PlacedLinear], sparsity: f64, _: &Survey, trial: &mut Trial<'_>) -> Result<Vec<f64>> {
        let rising = |beta: f64| -> Vec<f64> { layers.iter().map(|layer| beta * layer.block as f64).collect() };
        let steps = layers.last().map_or(0, |layer| layer.block);
        // Before anything is cut off at 0, or at 1.
        let most = 2.0 * sparsity.min(1.0 - sparsity) / steps.max(1) as f64;
        if let Some(beta) = self.beta {
            return match beta <= most {
                true => Ok(rising(beta)),
                false => Err(Error::config(format!(
                    "parameter `beta` = {beta}: the first or the last of {} blocks would lose less than nothing or more than all of its \
                     weights; at {} % it can be at most {most:.6}",
                    steps + 1,
                    100.0 * sparsity
                ))),
            };
        }
        let mut best = (f64::INFINITY, 0.0);
        for beta in self.candidates(most) {
            let loss = trial(&rising(beta))?;
            tracing::info!("atp: beta {beta}: {loss:.4} nats per held-out token");
            if loss < best.0 {
                best = (loss, beta);
            }
        }
        Ok(rising(best.1))
    }
}

impl Atp {
    /// What is tried, given the largest possible value.
    fn candidates(&self, most: f64) -> Vec<f64> {
        // A multiple that is the largest value but for rounding is one.
        let multiples = (most / self.step + 1e-9) as usize;
        match multiples {
            0 => vec![most],
            count if count <= self.trials => (1..=count).map(|index| index as f64 * self.step).collect(),
            _ => (1..=self.trials)
                .map(|index| index as f64 * most / self.trials as f64)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_are_the_papers_multiples_where_they_are_few() {
        let atp = Atp::default();
        let papers = atp.candidates(2.0 * 0.3 / 31.0);
        assert_eq!(papers.len(), 9);
        assert!((papers[8] - 0.018).abs() < 1e-12);
        let few_blocks = atp.candidates(0.15);
        assert_eq!(few_blocks.len(), 9);
        assert!((few_blocks[8] - 0.15).abs() < 1e-12 && (few_blocks[0] - 0.15 / 9.0).abs() < 1e-12);
        assert_eq!(atp.candidates(0.001), [0.001]);
    }
}
