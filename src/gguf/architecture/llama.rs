//! `llama`: LLaMA 1 to 3.3, and what follows it (SmolLM2, Mistral without a window).

use super::description::{Architecture, Settings, Shared};
use super::rotary::rotary;
use crate::error::Result;
use serde_json::json;

/// All blocks have the same sizes.
pub const LLAMA: Architecture = Architecture {
    name: "llama",
    family: "llama",
    class: "LlamaForCausalLM",
    blocks_differ: false,
    names: &[
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ],
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
