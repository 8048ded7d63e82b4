//! Transforms: in which variables is a layer pruned?
//!
//! A layer computes the same with other weights if its inputs are other variables: `W x + b = (W S)(S^-1 (x - d)) + (b + W d)`. A
//! transform chooses the scales `s` and the shifts `d` of the input features; the steps after it see `W S` and the statistics of the
//! new variables, and what they leave is put back: weights are divided by `s`, and of what was removed, `(W - V) d` goes into the bias.
//! Nothing else in the model changes. Adding one is a file here and a line in [`TRANSFORMS`]; a program adds its own with
//! [`TRANSFORMS.register`](Components::register).

mod centre;
mod learned;
mod learning;
mod scale;
mod sparsity_induction;
mod step;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub use centre::Centre;
pub use learned::{Known, Learned, Masked, learn};
pub use learning::{Learning, Refresh, Start};
pub use scale::Scale;
pub use sparsity_induction::{Learn, SparsityInduction};
pub use step::{Applied, Change, Transform};

/// All transforms.
pub static TRANSFORMS: Components<dyn Transform> = Components::new(
    "transform",
    |transform| transform.validate(),
    &[
        Entry {
            name: "scale",
            summary: "columns of the weights times a power of the norms of their inputs; parameter beta",
            item: &|table| parsed(table, |it: Scale| Box::new(it)),
        },
        Entry {
            name: "centre",
            summary: "inputs less their means, which go into the bias; parameter layers",
            item: &|table| parsed(table, |it: Centre| Box::new(it)),
        },
        Entry {
            name: "sparsity-induction",
            summary: "scales and shifts learned from the outputs of each block (arXiv 2602.21652); many parameters",
            item: &|table| parsed(table, |it: SparsityInduction| Box::new(it)),
        },
    ],
);
