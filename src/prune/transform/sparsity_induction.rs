//! Sparsity Induction: scales and shifts that are learned from the outputs of blocks.
//!
//! Before a block is pruned, its layers are written `W x + b = (W S)(S^-1 (x - d)) + (b + W d)`, and `s` and `d` are learned so that the
//! block whose weights are masked, `(M * W) x + (W - M * W) d + b`, gives the outputs of the dense one. Then the recipe's other steps
//! prune the layers in these variables. Paper: arXiv 2602.21652. It has no code, and leaves open much of what decides the numbers; what
//! is ours stands in `docs/methods/sparsity-induction.md`.
//!
//! A layer alone, without a block to learn from, is pruned in the variables that learning starts with.

use super::centre::Centre;
use super::learned::changed;
use super::learning::{Learning, Refresh, Start};
use super::step::{Change, Transform};
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::compensation::Layers;
use crate::prune::range::within;
use crate::prune::workbench::LayerView;
use crate::spec::LinearSpec;
use serde::{Deserialize, Serialize};

/// The transform whose scales and shifts are learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparsityInduction {
    /// How often the calibration windows are gone through.
    pub epochs: usize,
    /// Number of windows that make one step.
    pub batch: usize,
    /// The step of AdamW, for the logarithms of scales, and for shifts in standard deviations of their inputs.
    pub learning_rate: f64,
    /// The weight decay of AdamW.
    pub weight_decay: f64,
    /// What is learned: `both`, `scales` or `shifts`.
    pub learn: Learn,
    /// The shifts at the start: `means` of the inputs, or `zero`.
    pub start: Start,
    /// What the steps after it see: `published` or `equivalent`.
    pub refresh: Refresh,
    /// Which layers are pruned so: `all`, `outputs` or `biased`.
    pub layers: Layers,
}

/// What [`SparsityInduction`] learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// Scales and shifts.
    #[default]
    Both,
    /// Scales; nothing is shifted, so that no bias changes.
    Scales,
    /// Shifts; scales are 1.
    Shifts,
}

impl Default for SparsityInduction {
    fn default() -> Self {
        SparsityInduction {
            epochs: 2,
            batch: 1,
            learning_rate: 0.01,
            weight_decay: 0.01,
            learn: Learn::Both,
            start: Start::Means,
            refresh: Refresh::Published,
            layers: Layers::All,
        }
    }
}

impl Transform for SparsityInduction {
    fn validate(&self) -> Result<()> {
        for (name, value) in [("epochs", self.epochs), ("batch", self.batch)] {
            if !(1..=1000).contains(&value) {
                return Err(Error::config(format!(
                    "parameter `{name}` = {value} must be between 1 and 1000"
                )));
            }
        }
        within("learning_rate", self.learning_rate, 1e-8..=1.0)?;
        within("weight_decay", self.weight_decay, 0.0..=1.0)
    }

    fn transforms(&self, linear: &LinearSpec) -> bool {
        let layers = self.layers;
        Centre { layers }.transforms(linear)
    }

    fn shifts(&self) -> bool {
        self.learn != Learn::Scales
    }

    fn needs(&self) -> Needs {
        Needs::MEANS
    }

    fn learning(&self) -> Option<Learning> {
        Some(Learning {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            scales: self.learn != Learn::Shifts,
            shifts: self.shifts(),
            start: self.start,
            refresh: self.refresh,
        })
    }

    fn change(&self, layer: &dyn LayerView) -> Result<Change> {
        let means = &layer.means()?.mean;
        let shifts = match self.start {
            Start::Means => means.clone(),
            Start::Zero => vec![0.0; means.len()],
        };
        Ok(changed(
            vec![1.0; means.len()],
            self.shifts().then_some(shifts),
            self.refresh,
        ))
    }
}
