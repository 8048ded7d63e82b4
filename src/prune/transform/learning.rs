//! How a transform learns from the outputs of blocks.

use serde::{Deserialize, Serialize};

/// How scales and shifts are learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learning {
    /// How often the windows are gone through.
    pub epochs: usize,
    /// Number of windows that make one step.
    pub batch: usize,
    /// The step of AdamW.
    pub learning_rate: f64,
    /// Its weight decay.
    pub weight_decay: f64,
    /// Whether scales are learned.
    pub scales: bool,
    /// Whether shifts are learned.
    pub shifts: bool,
    /// The shifts at the start.
    pub start: Start,
    /// What the steps that follow see.
    pub refresh: Refresh,
}

/// Shifts before anything was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The means of the inputs.
    #[default]
    Means,
    /// None.
    Zero,
}

/// What the steps after learning see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// The paper's equations (10) and (11): weights `W S`, and the inputs `x - d`, so that a score has the factor `s`.
    #[default]
    Published,
    /// The same layer in other variables: weights `W S`, and the inputs `S^-1 (x - d)`.
    Equivalent,
}
