//! The architectures that are imported: each is a description in a file of its own, and a line of the registry.
//!
//! What all of them share is read in `configuration.rs`, which asks the description for the rest.

mod deci;
mod description;
mod gemma3;
mod llama;
mod qwen2;
mod qwen3;
mod registry;
mod rotary;

pub(super) use deci::DECI;
pub(super) use description::{Architecture, ROPE_FACTORS, Shared, size};
pub(super) use llama::LLAMA;
pub(super) use registry::find;
pub(super) use rotary::{bands, shortest};
