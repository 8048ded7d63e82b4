//! Which tokens the attention of each block can see, as `layer_types` and windows say.

use super::configuration::Config;
use crate::error::{Error, Result};
use crate::spec::Reach;
use serde_json::Value;

/// Which tokens the attention of each block can see: as `layer_types` says, or repeated with a `period` if it is
/// absent. `sliding` tells whether a block has the window, and `rotary` which frequencies it then uses.
pub fn reaches(
    config: &mut Config,
    blocks: usize,
    window: Option<usize>,
    period: usize,
    sliding: impl Fn(usize) -> bool,
    rotary: impl Fn(bool) -> usize,
) -> Result<Vec<Reach>> {
    let kinds: Vec<bool> = match config.get("layer_types") {
        None => (0..period.min(blocks)).map(sliding).collect(),
        Some(Value::Array(kinds)) if kinds.len() == blocks => kinds
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(Error::input(format!(
                    "key `layer_types`: {kind} is not supported (supported: full_attention, sliding_attention)"
                ))),
            })
            .collect::<Result<_>>()?,
        Some(_) => {
            return Err(Error::input(format!(
                "key `layer_types` must list one kind for each of {blocks} blocks"
            )));
        }
    };
    if window.is_none() && kinds.contains(&true) {
        return Err(Error::input(
            "key `sliding_window` says that there is no window, but some blocks have sliding_attention",
        ));
    }
    Ok(kinds
        .into_iter()
        .map(|sliding| Reach {
            window: window.filter(|_| sliding),
            rotary: rotary(sliding),
        })
        .collect())
}
