//! `gemma3`: the text models of Gemma 3.
//!
//! The metadata leave out what llama.cpp has in its code (`llama-model.cpp`): every sixth block sees the whole text, the bases of
//! rotary frequencies in the others, and the factor of attention scores.

use super::description::{Architecture, HEAD_NORMS, LAYERS, Settings, Shared, size};
use super::rotary::{base, rotary};
use crate::error::Result;
use serde_json::json;

/// Number of blocks of which the last sees the whole text.
const PERIOD: usize = 6;

/// The number of blocks of Gemma 3 27B, by which llama.cpp knows it.
const BLOCKS_OF_27B: usize = 62;

/// Norms stand before and after each sub-layer and on the heads of queries and keys.
pub const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    family: "gemma3_text",
    class: "Gemma3ForCausalLM",
    blocks_differ: false,
    names: &[
        LAYERS,
        HEAD_NORMS,
        &[
            ("post_attention_layernorm", "post_attention_norm"),
            ("pre_feedforward_layernorm", "ffn_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ],
    ],
    paired: false,
    gains_minus_one: true,
    rope_factors: false,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    known: &["attention.sliding_window_pattern", "rope.freq_base_swa"],
    settings,
};

fn settings(shared: &Shared) -> Result<Settings> {
    let gguf = shared.gguf;
    let window = gguf.count(&shared.architecture.key("attention.sliding_window"))?;
    let window = window.filter(|window| *window > 0);
    let pattern = shared.architecture.key("attention.sliding_window_pattern");
    let period = match gguf.metadata().contains_key(pattern.as_str()) {
        true => size(gguf, &pattern)?,
        false => PERIOD,
    };
    let kind = |block: usize| match window.is_some() && !(block + 1).is_multiple_of(period) {
        true => "sliding_attention",
        false => "full_attention",
    };
    let kinds: Vec<&str> = (0..shared.blocks).map(kind).collect();
    let scalar = match shared.blocks {
        BLOCKS_OF_27B => shared.width / shared.heads,
        _ => shared.head_dim,
    };
    let (theta, scaling) = rotary(shared)?;
    Ok(vec![
        ("rope_theta", json!(theta)),
        ("rope_local_base_freq", json!(base(shared, "rope.freq_base_swa")?)),
        ("rope_scaling", scaling),
        ("sliding_window", json!(window)),
        ("layer_types", json!(kinds)),
        ("query_pre_attn_scalar", json!(scalar)),
        ("attention_bias", json!(false)),
    ])
}
