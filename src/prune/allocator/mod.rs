//! Allocators: how much is removed from which layer.
//!
//! An allocator turns the sweep's pattern into one pattern per layer, before anything is pruned. Adding
//! one is a file here and a line in [`ALLOCATORS`].

mod uniform;

use crate::error::Result;
use crate::prune::component::{Components, parsed};
use crate::prune::pattern::Pattern;
use crate::registry::Entry;
use crate::spec::{ModelSpec, Role};
pub use uniform::Uniform;

/// Shares a sparsity out among layers.
pub trait Allocator: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The pattern of one layer, given the pattern asked of the whole model.
    ///
    /// # Errors
    /// The share of a layer is impossible.
    fn layer(&self, spec: &ModelSpec, block: usize, role: Role, whole: Pattern) -> Result<Pattern>;
}

/// All allocators.
pub static ALLOCATORS: Components<dyn Allocator> = Components::new(
    "allocator",
    |allocator| allocator.validate(),
    &[Entry {
        name: "uniform",
        summary: "the same pattern in every layer",
        item: &|table| parsed(table, |it: Uniform| Box::new(it)),
    }],
);
