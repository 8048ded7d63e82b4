//! Permutations: which columns share an N:M group?
//!
//! A permutation gives every layer an order of its own columns. Neighbours in that order share a group; the weights stay in
//! their places in the file, and the record has the order. Adding one is a file here and a line in [`PERMUTATIONS`]; a program adds its own with
//! [`PERMUTATIONS.register`](Components::register).

mod assignment;
mod ria;
mod step;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub use ria::Ria;
pub use step::Permutation;

/// All of them.
pub static PERMUTATIONS: Components<dyn Permutation> = Components::new(
    "permutation",
    |permutation| permutation.validate(),
    &[Entry {
        name: "ria",
        summary: "columns are grouped so that the kept scores are largest: channel allocation and assignment (ICLR 2024); \
                  parameter assignment",
        item: &|table| parsed(table, |it: Ria| Box::new(it)),
    }],
);
