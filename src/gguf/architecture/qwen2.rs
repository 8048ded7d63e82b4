//! `qwen2`: Qwen 2 and 2.5.

use super::description::{Architecture, Settings, Shared};
use super::llama::LLAMA;
use super::rotary::rotary;
use crate::error::Result;
use serde_json::json;

/// The modules of a LLaMA. llama.cpp keeps the rows of queries and keys as Hugging Face does.
pub const QWEN2: Architecture = Architecture {
    name: "qwen2",
    family: "qwen2",
    class: "Qwen2ForCausalLM",
    paired: false,
    rope_factors: false,
    settings,
    ..LLAMA
};

/// What the configurations of Qwen 2 and of Qwen 3 say beside sizes.
pub(super) fn settings(shared: &Shared) -> Result<Settings> {
    shared.refuse_window()?;
    let (theta, scaling) = rotary(shared)?;
    Ok(vec![
        ("rope_theta", json!(theta)),
        ("rope_scaling", scaling),
        ("use_sliding_window", json!(false)),
    ])
}
