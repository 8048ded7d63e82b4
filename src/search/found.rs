//! What a search found.

use crate::report::Report;
use crate::run::Outcome;

/// A rung that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// Number of calibration windows.
    pub sequences: usize,
    /// What became of each of its trials, in their order.
    pub tried: Vec<Tried>,
    /// The trials that go on, the best first.
    pub kept: Vec<usize>,
}

/// A trial in a rung.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Number of the trial in the search's list.
    pub trial: usize,
    /// Its mean loss in nats per token over windows, seeds and patterns, or why there is none.
    pub score: std::result::Result<f64, String>,
}

/// What a search found.
pub struct Found {
    /// All rungs.
    pub rungs: Vec<Rung>,
    /// Number of the trial that won.
    pub winner: usize,
    /// The comparison of the winner with methods that were not searched for.
    pub comparison: Report,
    /// What became of all cells.
    pub outcome: Outcome,
    /// What became of the cells of the comparison.
    pub compared: Outcome,
}
