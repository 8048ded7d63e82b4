//! Uniform: the same pattern in every layer, as in the papers' main tables.

use super::{Allocator, Survey};
use crate::error::Result;
use crate::prune::pattern::Pattern;
use crate::spec::{ModelSpec, Role};
use serde::{Deserialize, Serialize};

/// The uniform allocator; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uniform {}

impl Allocator for Uniform {
    fn layer(
        &self,
        _spec: &ModelSpec,
        _block: usize,
        _role: Role,
        whole: Pattern,
        _survey: &Survey,
    ) -> Result<Pattern> {
        Ok(whole)
    }
}
