//! Allocators: how much is removed from which layer.
//!
//! An allocator turns the sweep's pattern into one pattern per layer, before anything is pruned. Adding
//! one is a file here and a line in [`ALLOCATORS`].

mod uniform;

use crate::error::Result;
use crate::prune::component::{Build, parsed};
use crate::prune::pattern::Pattern;
use crate::registry::{Entry, Registry};
use crate::spec::{ModelSpec, Role};

/// Shares a sparsity out among layers.
pub trait Allocator: Send + Sync {
    /// The pattern of one layer, given the pattern asked of the whole model.
    ///
    /// # Errors
    /// The share of a layer is impossible.
    fn layer(&self, spec: &ModelSpec, block: usize, role: Role, whole: Pattern) -> Result<Pattern>;
}

/// All allocators.
pub const ALLOCATORS: Registry<Build<dyn Allocator>> = Registry {
    kind: "allocator",
    entries: &[Entry {
        name: "uniform",
        summary: "the same pattern in every layer",
        item: |table| parsed(table, |it: uniform::Uniform| Box::new(it)),
    }],
};
