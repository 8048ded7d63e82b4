//! `llama`: LLaMA 1 to 3.3, and what follows it (SmolLM2, Mistral without a window).

use super::description::{Architecture, LAYERS, MLP_NORM, Settings, Shared};
use super::rotary::rotary;
use crate::error::Result;
use serde_json::json;

/// All blocks have the same sizes.
pub const LLAMA: Architecture = Architecture {
    name: "llama",
    family: "llama",
    class: "LlamaForCausalLM",
    blocks_differ: false,
    names: &[LAYERS, MLP_NORM],
    paired: true,
    gains_minus_one: false,
    rope_factors: true,
    activation: ("hidden_act", "silu"),
    known: &[],
    settings,
};

fn settings(shared: &Shared) -> Result<Settings> {
    shared.refuse_window()?;
    let (theta, scaling) = rotary(shared)?;
    Ok(vec![
        ("rope_theta", json!(theta)),
        ("rope_scaling", scaling),
        ("attention_bias", json!(shared.has_bias(".attn_"))),
        ("mlp_bias", json!(shared.has_bias(".ffn_"))),
        ("attention_dropout", json!(0.0)),
        ("initializer_range", json!(0.02)),
        ("pretraining_tp", json!(1)),
    ])
}
