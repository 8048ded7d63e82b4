//! `deci`: llama.cpp's name of Nvidia's DeciLM, whose blocks are a LLaMA's, each with sizes of its own.

use super::description::Architecture;
use super::llama::LLAMA;

/// A LLaMA whose blocks may differ.
pub const DECI: Architecture = Architecture {
    name: "deci",
    blocks_differ: true,
    ..LLAMA
};
