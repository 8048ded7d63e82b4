//! Permutations: which columns share an N:M group?
//!
//! A permutation gives every layer an order of its own columns. Neighbours in that order share a group; the weights stay in
//! their places in the file, and the record has the order. Adding one is a file here and a line in [`PERMUTATIONS`]; a program adds its own with
//! [`PERMUTATIONS.register`](Components::register).

mod assignment;
mod ria;

use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::component::{Components, parsed};
use crate::prune::values::Values;
use crate::prune::workbench::LayerView;
use crate::registry::Entry;
pub use ria::Ria;

/// The step of a recipe that decides which columns share an N:M group.
pub trait Permutation: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The statistics of the layer's inputs that the step uses, in addition to those of the score.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// The new order of a layer's columns, given the scores of its weights and a pattern that keeps `keep` of each `of`:
    /// the `j`-th is column `order[j]`.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn order(&self, layer: &dyn LayerView, score: &Values, keep: usize, of: usize) -> Result<Vec<usize>>;
}

/// All of them.
pub static PERMUTATIONS: Components<dyn Permutation> = Components::new(
    "permutation",
    |permutation| permutation.validate(),
    &[Entry {
        name: "ria",
        summary: "columns that keep the most score share N:M groups: channel allocation and assignment (ICLR 2024); parameter assignment",
        item: &|table| parsed(table, |it: Ria| Box::new(it)),
    }],
);
