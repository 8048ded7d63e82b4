//! SparseSwaps (arXiv 2512.10922; the paper's repository has no code, so this follows the paper's formulas).
//!
//! With `r` the removed weights of a row and `G = X X^T`, the error of the row's output is `r G r^T`. As long as it makes the
//! error smaller, one kept weight is removed and one removed weight of the same group restored, always the two that lower the
//! error most. The weights themselves do not change. At the end no single swap lowers the error any more.
//!
//! Weights are only swapped within a row, and within a group where the groups are parts of rows, so that every comparison
//! group keeps as many weights as it had; with the group `matrix` every row keeps the number that the start mask gave it.
//!
//! Deviations: the paper stops after a number of swaps (100 in its tables); here rows go on until no swap gains, or `max_swaps`.
//! The best pair is the best of all pairs, not one of a preselection; see `workbench/cpu/swap.rs` for how it is found. On
//! the GPU a swap must gain more than what single precision rounds away.

use super::step::Refiner;
use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::pattern::Target;
use crate::prune::workbench::{Swapping, Workpiece};
use serde::{Deserialize, Serialize};

/// The refiner SparseSwaps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparseSwaps {
    /// Most swaps in a row; without it as many as the row has weights, which no row is known to need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_swaps: Option<usize>,
}

impl Refiner for SparseSwaps {
    fn validate(&self) -> Result<()> {
        match self.max_swaps {
            Some(0) => Err(Error::config(
                "parameter `max_swaps` = 0 must be at least 1; leave it out to swap until nothing is gained",
            )),
            _ => Ok(()),
        }
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()> {
        let (_, columns) = piece.dim();
        let (weight, kept, gram) = (piece.weight()?, piece.kept()?, piece.gram()?);
        let swapping = Swapping {
            width: target.width(columns),
            most: self.max_swaps.unwrap_or(columns),
        };
        let swapped = piece.swap(&weight, &kept, &gram, swapping)?;
        piece.keep(&swapped.kept)
    }
}
