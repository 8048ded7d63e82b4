//! Allocators: how much is removed from which layer.
//!
//! An allocator turns the sweep's pattern into one pattern per layer, before anything is pruned. It may ask for a survey: a
//! number that it measures of every layer of the dense model. Adding one is a file here and a line in [`ALLOCATORS`]; a
//! program adds its own with [`ALLOCATORS.register`](Components::register).

mod uniform;

use crate::backend::moments::Needs;
use crate::error::{Error, Result};
use crate::prune::component::{Components, parsed};
use crate::prune::pattern::Pattern;
use crate::prune::workbench::LayerView;
use crate::registry::Entry;
use crate::spec::{ModelSpec, Role};
use std::collections::BTreeMap;
pub use uniform::Uniform;

/// The step of a recipe that divides a sparsity among the layers.
pub trait Allocator: Send + Sync {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and its legal range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Asks for a survey: the statistics of the dense model's inputs that [`Allocator::measure`] looks at, or
    /// [`Needs::NOTHING`] for the weights alone. A survey costs a pass of the calibration text through the dense model; by
    /// default there is none.
    fn survey(&self) -> Option<Needs> {
        None
    }

    /// What a survey keeps of one layer of the dense model.
    ///
    /// # Errors
    /// A statistic was not gathered, or the backend fails.
    fn measure(&self, _layer: &dyn LayerView) -> Result<f64> {
        Ok(0.0)
    }

    /// The pattern of one layer, given the pattern asked of the whole model and what was measured of the dense one.
    ///
    /// # Errors
    /// The share of a layer is impossible.
    fn layer(&self, spec: &ModelSpec, block: usize, role: Role, whole: Pattern, survey: &Survey) -> Result<Pattern>;
}

/// What an allocator measured of every layer of the dense model.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    pub(super) values: BTreeMap<(usize, Role), f64>,
}

impl Survey {
    /// The value of one layer.
    ///
    /// # Errors
    /// The allocator asked for no survey.
    pub fn layer(&self, block: usize, role: Role) -> Result<f64> {
        let value = self.values.get(&(block, role)).copied();
        value.ok_or_else(|| Error::numeric(format!("nothing was measured of {role:?} in block {block}")))
    }

    /// The values of all layers, in their order: block, what the layer is for, value.
    pub fn layers(&self) -> impl Iterator<Item = (usize, Role, f64)> + '_ {
        self.values.iter().map(|((block, role), value)| (*block, *role, *value))
    }
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
