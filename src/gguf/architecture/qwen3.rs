//! `qwen3`: Qwen 3, dense.

use super::description::{Architecture, HEAD_NORMS, LAYERS, MLP_NORM, Settings, Shared};
use super::qwen2::{self, QWEN2};
use crate::error::Result;
use serde_json::json;

/// The modules of Qwen 2, with norms on the heads of queries and keys.
pub const QWEN3: Architecture = Architecture {
    name: "qwen3",
    family: "qwen3",
    class: "Qwen3ForCausalLM",
    names: &[LAYERS, HEAD_NORMS, MLP_NORM],
    settings,
    ..QWEN2
};

fn settings(shared: &Shared) -> Result<Settings> {
    let mut settings = qwen2::settings(shared)?;
    settings.push(("attention_bias", json!(shared.has_bias(".attn_"))));
    Ok(settings)
}
