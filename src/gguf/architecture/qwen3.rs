//! `qwen3`: Qwen 3, dense.

use super::description::{Architecture, Settings, Shared};
use super::qwen2::QWEN2;
use super::rotary::rotary;
use crate::error::Result;
use serde_json::json;

/// The modules of Qwen 2, with norms on the heads of queries and keys.
pub const QWEN3: Architecture = Architecture {
    name: "qwen3",
    family: "qwen3",
    class: "Qwen3ForCausalLM",
    names: &[
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ],
    settings,
    ..QWEN2
};

fn settings(shared: &Shared) -> Result<Settings> {
    shared.refuse_window()?;
    let (theta, scaling) = rotary(shared)?;
    Ok(vec![
        ("rope_theta", json!(theta)),
        ("rope_scaling", scaling),
        ("use_sliding_window", json!(false)),
        ("attention_bias", json!(shared.has_bias(".attn_"))),
    ])
}
