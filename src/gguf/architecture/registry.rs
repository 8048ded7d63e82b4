//! The list of architectures.

use super::deci::DECI;
use super::description::Architecture;
use super::gemma3::GEMMA3;
use super::llama::LLAMA;
use super::qwen2::QWEN2;
use super::qwen3::QWEN3;
use crate::error::{Error, Result};

/// All architectures that can be read.
const ARCHITECTURES: &[&Architecture] = &[&LLAMA, &DECI, &GEMMA3, &QWEN2, &QWEN3];

/// The architecture of this name.
///
/// # Errors
/// It cannot be read; the message has those that can.
pub fn find(name: &str) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|known| known.name == name);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        Error::input(format!(
            "architecture \"{name}\" is not supported (supported: {})",
            known.join(", ")
        ))
    })
}
