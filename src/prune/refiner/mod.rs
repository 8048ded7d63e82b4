//! Refiners: which mask of the same size is better than the one that the scores chose?
//!
//! A refiner starts from the mask that is there, whatever chose it, and leaves every comparison group as many weights as it
//! had. It does not change weights. Adding one is a file here and a line in [`REFINERS`]; a program adds its own with
//! [`REFINERS.register`](Components::register).

mod dsnot;
mod sparse_fw;
mod sparse_swaps;
mod step;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub use dsnot::{Dsnot, Layers};
pub use sparse_fw::SparseFw;
pub use sparse_swaps::SparseSwaps;
pub use step::Refiner;

/// All refiners.
pub static REFINERS: Components<dyn Refiner> = Components::new(
    "mask refinement",
    |refiner| refiner.validate(),
    &[
        Entry {
            name: "sparse-swaps",
            summary: "swap the two weights of a row that lower the output's error most, until none do (arXiv 2512.10922); \
                      parameter max_swaps",
            item: &|table| parsed(table, |it: SparseSwaps| Box::new(it)),
        },
        Entry {
            name: "dsnot",
            summary: "restore and remove weights until the mean output of a row is as before (arXiv 2310.08915); \
                      parameters layers, sign_guard, max_cycles, threshold, variance_power",
            item: &|table| parsed(table, |it: Dsnot| Box::new(it)),
        },
        Entry {
            name: "sparse-fw",
            summary: "relax the mask and minimise the output's error by Frank and Wolfe's method (arXiv 2510.13713); \
                      parameters iterations, fixed_share",
            item: &|table| parsed(table, |it: SparseFw| Box::new(it)),
        },
    ],
);
