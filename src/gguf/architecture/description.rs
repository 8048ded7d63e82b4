//! What there is to know of an architecture, as data, and what its own settings are read from.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, required};
use serde_json::Value;

/// llama.cpp's factors of the rotary frequencies, where LLaMA 3.1 scales them.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Names of modules in a block: Hugging Face's, with llama.cpp's.
pub type Names = &'static [(&'static str, &'static str)];

/// What blocks of all architectures have.
pub const LAYERS: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Norms of the heads of queries and keys.
pub const HEAD_NORMS: Names = &[("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

/// The norm before an MLP, where none follows the attention.
pub const MLP_NORM: Names = &[("post_attention_layernorm", "ffn_norm")];

/// Settings of a `config.json`, in the order in which they are written.
pub type Settings = Vec<(&'static str, Value)>;

/// The whole number that a key must have, which must be positive.
///
/// # Errors
/// The key is missing, or its value is something else.
pub fn size(gguf: &Gguf, key: &str) -> Result<usize> {
    match required(key, gguf.count(key)?)? {
        0 => Err(Error::input(format!("key `{key}` must be positive, but is 0"))),
        count => Ok(count),
    }
}

/// An architecture of llama.cpp's, and what its models are in a Hugging Face directory.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// llama.cpp's name, with which the keys of its metadata begin.
    pub name: &'static str,
    /// The `model_type` of `config.json`.
    pub family: &'static str,
    /// The class that transformers makes of it.
    pub class: &'static str,
    /// Whether the metadata may have a list with a size for each block.
    pub blocks_differ: bool,
    /// Lists of the modules in a block.
    pub names: &'static [Names],
    /// Whether llama.cpp keeps the rows of queries and keys in rotary pairs.
    pub paired: bool,
    /// Whether Hugging Face keeps the gains of norms minus 1. llama.cpp never does.
    pub gains_minus_one: bool,
    /// Whether there may be a tensor [`ROPE_FACTORS`].
    pub rope_factors: bool,
    /// The key of `config.json` for the activation, and its value.
    pub activation: (&'static str, &'static str),
    /// Keys of its metadata that only [`Architecture::settings`] reads.
    pub known: &'static [&'static str],
    /// The settings of `config.json` that not all architectures have, from the metadata.
    pub settings: fn(&Shared) -> Result<Settings>,
}

/// What all architectures have, read already.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The file.
    pub gguf: &'a Gguf<'a>,
    /// The architecture that it names.
    pub architecture: &'a Architecture,
    /// Number of features between blocks.
    pub width: usize,
    /// Number of blocks. It is not larger than the number of tensors.
    pub blocks: usize,
    /// Number of query heads of the first block.
    pub heads: usize,
    /// Number of features of a head.
    pub head_dim: usize,
    /// Number of tokens of the longest text.
    pub longest: usize,
}

impl Architecture {
    /// A key of its metadata.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// llama.cpp's name of a Hugging Face tensor.
    pub fn stored_name(&self, name: &str) -> String {
        const WHOLE: Names = &[
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
        ];
        let find = |names: &[Names], stem: &str| {
            let mut names = names.iter().copied().flatten();
            let found = names.find(|(theirs, _)| *theirs == stem);
            found.map_or_else(|| stem.to_string(), |(_, ours)| ours.to_string())
        };
        let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
        let block = stem.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        match block {
            Some((index, stem)) => format!("blk.{index}.{}.{kind}", find(self.names, stem)),
            None => format!("{}.{kind}", find(&[WHOLE], stem)),
        }
    }

    /// Whether a tensor of llama.cpp's has rows, or is a bias of rows, that stand in rotary pairs.
    pub fn is_paired(&self, stored: &str) -> bool {
        self.paired && ["attn_q.", "attn_k."].iter().any(|part| stored.contains(part))
    }

    /// Whether Hugging Face keeps a tensor of llama.cpp's minus 1.
    pub fn is_minus_one(&self, stored: &str) -> bool {
        self.gains_minus_one && stored.ends_with("norm.weight")
    }
}

impl Shared<'_> {
    /// Whether blocks have biases of layers whose names contain `part`.
    pub fn has_bias(&self, part: &str) -> bool {
        let mut names = self.gguf.tensors().keys();
        names.any(|name| name.starts_with("blk.") && name.contains(part) && name.ends_with(".bias"))
    }

    /// Refuses a window of attention that is shorter than the longest text.
    ///
    /// # Errors
    /// There is one.
    pub fn refuse_window(&self) -> Result<()> {
        let key = self.architecture.key("attention.sliding_window");
        match self.gguf.count(&key)? {
            Some(window) if window > 0 && window < self.longest => {
                Err(Error::input(format!("key `{key}` = {window} is not supported")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::gguf::architecture::{LLAMA, find};

    #[test]
    fn names_are_translated() {
        for (theirs, ours) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.12.self_attn.o_proj.bias", "blk.12.attn_output.bias"),
            (
                "model.layers.0.post_attention_layernorm.weight",
                "blk.0.ffn_norm.weight",
            ),
            ("lm_head.weight", "output.weight"),
        ] {
            assert_eq!(LLAMA.stored_name(theirs), ours);
        }
        let gemma = find("gemma3").expect("it is known");
        let norm = gemma.stored_name("model.layers.3.post_attention_layernorm.weight");
        assert_eq!(norm, "blk.3.post_attention_norm.weight");
        assert!(gemma.is_minus_one(&norm) && !LLAMA.is_minus_one(&norm));
    }

    #[test]
    fn only_queries_and_keys_of_some_architectures_are_paired() {
        for (stored, paired) in [
            ("blk.0.attn_q.weight", true),
            ("blk.0.attn_k.bias", true),
            ("blk.0.attn_q_norm.weight", false),
            ("blk.0.attn_v.weight", false),
        ] {
            assert_eq!(LLAMA.is_paired(stored), paired, "{stored}");
            let qwen = find("qwen2").expect("it is known");
            assert!(!qwen.is_paired(stored), "{stored}");
        }
    }
}
