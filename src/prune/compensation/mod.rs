//! Compensations: what can a bias make up for?
//!
//! A compensation says what a layer's outputs were to be and what they are now; the difference is added to the layer's bias, which
//! models get where their configuration can say so. Adding one is a file here and a line in [`COMPENSATIONS`]; a program adds its own
//! with [`COMPENSATIONS.register`](Components::register).

mod bias;
mod step;

use crate::prune::component::{Components, parsed};
use crate::registry::Entry;
pub(super) use bias::outputs;
pub use bias::{Bias, Layers};
pub use step::Compensation;

/// All compensations.
pub static COMPENSATIONS: Components<dyn Compensation> = Components::new(
    "compensation",
    |compensation| compensation.validate(),
    &[Entry {
        name: "bias",
        summary: "add to the bias what the removed weights gave on average; parameter layers",
        item: &|table| parsed(table, |it: Bias| Box::new(it)),
    }],
);
