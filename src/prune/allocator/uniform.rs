//! Uniform: the same pattern in every layer, as in the papers' main tables.

use super::step::{Allocator, PlacedLinear, Survey, Trial};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The uniform allocator; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uniform {}

impl Allocator for Uniform {
    fn allocate(&self, layers: &[PlacedLinear], sparsity: f64, _: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        Ok(vec![sparsity; layers.len()])
    }
}
