//! The `config.json` of a GGUF's metadata.
//!
//! What the metadata ask of the mathematics and no `config.json` of the architecture says is refused by key.

use super::architecture::{Architecture, Shared, find, shortest, size};
use super::tokenizer::Converted;
use super::{Gguf, Value, required};
use crate::error::{Error, Located, Result};
use crate::model::families::PER_BLOCK;
use crate::tensor::StorageType;
use serde_json::{Map, json};

/// A size of all blocks, or one for each.
enum Sizes {
    Equal(usize),
    Own(Vec<usize>),
}

impl Sizes {
    fn of(&self, block: usize) -> usize {
        match self {
            Sizes::Equal(size) => *size,
            Sizes::Own(sizes) => sizes[block],
        }
    }

    /// Where blocks may differ, an array has a size for each of them.
    fn read(gguf: &Gguf, architecture: &Architecture, name: &str, blocks: usize) -> Result<Option<Sizes>> {
        let key = &architecture.key(name);
        if !architecture.blocks_differ || !matches!(gguf.metadata().get(key.as_str()), Some(Value::Array(_))) {
            return Ok(gguf.count(key)?.map(Sizes::Equal));
        }
        let sizes = gguf.integers(key)?.unwrap_or_default().into_iter();
        let sizes: Option<Vec<usize>> = sizes.map(|size| usize::try_from(size).ok()).collect();
        match sizes.filter(|sizes| sizes.len() == blocks) {
            Some(sizes) => Ok(Some(Sizes::Own(sizes))),
            None => Err(Error::input(format!(
                "key `{key}` must have a number for each of {blocks} blocks"
            ))),
        }
    }
}

/// Metadata that change the mathematics in ways that no configuration says, with the number that
/// switches each one off. Their keys begin with the architecture's name.
const MATHEMATICAL: &[(&str, f64)] = &[
    ("expert_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.scale", 0.0),
    ("attention.temperature_scale", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("rope.scaling.attn_factor", 1.0),
];

/// Metadata of the architecture that are read here or concern other things than mathematics.
const KNOWN: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_used_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "use_parallel_residual",
    "vocab_size",
];

/// Refuses other architectures, and metadata that ask for what no configuration says. Returns the architecture.
///
/// # Errors
/// Names the key.
pub(super) fn refuse_other_models(gguf: &Gguf) -> Result<&'static Architecture> {
    const ARCHITECTURE: &str = "general.architecture";
    let name = required(ARCHITECTURE, gguf.text(ARCHITECTURE)?)?;
    let architecture = find(name).at(format_args!("key `{ARCHITECTURE}`"))?;
    let own = MATHEMATICAL.iter().map(|(name, off)| (architecture.key(name), *off));
    for (key, off) in own.chain([("split.count".to_string(), 1.0)]) {
        // `split.count` is 0 or 1 in a file that is whole.
        match gguf.number(&key)? {
            Some(value) if value != off && value != 0.0 => {
                return Err(Error::input(format!("key `{key}` = {value} is not supported")));
            }
            _ => {}
        }
    }
    for (name, off) in [("use_parallel_residual", false), ("attention.causal", true)] {
        let key = architecture.key(name);
        if gguf.flag(&key)?.is_some_and(|value| value != off) {
            return Err(Error::input(format!("key `{key}` = {} is not supported", !off)));
        }
    }
    for key in gguf.metadata().keys() {
        let own = key
            .strip_prefix(architecture.name)
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(name) = own
            && !KNOWN.contains(&name)
            && !architecture.known.contains(&name)
            && !MATHEMATICAL.iter().any(|(known, _)| *known == name)
        {
            tracing::warn!("GGUF key `{key}` is unknown and was ignored");
        }
    }
    Ok(architecture)
}

/// The content of config.json.
///
/// # Errors
/// Names the key or the tensor that is missing or cannot be carried over.
pub(super) fn config(
    gguf: &Gguf,
    architecture: &Architecture,
    tokenizer: &Converted,
    longest: usize,
    dtype: StorageType,
) -> Result<serde_json::Value> {
    const EMBEDDING: &str = "token_embd.weight";
    let epsilon = &architecture.key("attention.layer_norm_rms_epsilon");
    let width = size(gguf, &architecture.key("embedding_length"))?;
    let key = architecture.key("block_count");
    let blocks = size(gguf, &key)?;
    // Every block has a norm, so a model of more blocks than tensors lacks one; said before a list is made.
    let tensors = gguf.tensors().len();
    if blocks > tensors {
        return Err(Error::input(format!(
            "key `{key}` = {blocks}, but there are only {tensors} tensors"
        )));
    }
    let of_blocks = |name: &str| -> Result<Sizes> {
        let sizes = Sizes::read(gguf, architecture, name, blocks)?;
        required(&architecture.key(name), sizes)
    };
    let heads = of_blocks("attention.head_count")?;
    let kv_heads = Sizes::read(gguf, architecture, "attention.head_count_kv", blocks)?;
    let kv_heads = kv_heads.as_ref().unwrap_or(&heads);
    let neurons = of_blocks("feed_forward_length")?;
    let sizes = |block: usize| {
        [
            ("num_attention_heads", heads.of(block)),
            ("num_key_value_heads", kv_heads.of(block)),
            ("intermediate_size", neurons.of(block)),
        ]
    };
    for (key, size) in [
        ("attention.head_count", heads.of(0)),
        ("feed_forward_length", neurons.of(0)),
    ] {
        if size == 0 {
            let key = architecture.key(key);
            return Err(Error::input(format!(
                "key `{key}` must be positive, but is 0 for the first block"
            )));
        }
    }
    let head = head_dim(gguf, architecture, width, heads.of(0))?;
    let shared = Shared {
        gguf,
        architecture,
        width,
        blocks,
        heads: heads.of(0),
        head_dim: head,
        longest,
    };
    let settings = (architecture.settings)(&shared)?;
    let embedding = gguf
        .tensors()
        .get(EMBEDDING)
        .ok_or_else(|| Error::input(format!("tensor `{EMBEDDING}` is missing")))?;
    let vocabulary = embedding.shape[0];
    match gguf.count(&architecture.key("vocab_size"))? {
        Some(size) if size != vocabulary => {
            return Err(Error::input(format!(
                "key `{}` = {size}, but tensor `{EMBEDDING}` has {vocabulary} rows",
                architecture.key("vocab_size")
            )));
        }
        _ if tokenizer.tokens > vocabulary => {
            return Err(Error::input(format!(
                "the tokenizer has {} tokens, but tensor `{EMBEDDING}` has {vocabulary} rows",
                tokenizer.tokens
            )));
        }
        _ => {}
    }
    let mut config = Map::new();
    let mut set = |key: &str, value: serde_json::Value| {
        config.insert(key.to_string(), value);
    };
    set("architectures", json!([architecture.class]));
    set("model_type", json!(architecture.family));
    set("hidden_size", json!(width));
    set("intermediate_size", json!(neurons.of(0)));
    set("num_hidden_layers", json!(blocks));
    set("num_attention_heads", json!(heads.of(0)));
    set("num_key_value_heads", json!(kv_heads.of(0)));
    set("head_dim", json!(head));
    let (activation, function) = architecture.activation;
    set(activation, json!(function));
    set("max_position_embeddings", json!(longest));
    set(
        "rms_norm_eps",
        json!(shortest(required(epsilon, gguf.number(epsilon)?)?)),
    );
    for (key, value) in settings {
        set(key, value);
    }
    set("use_cache", json!(true));
    set("vocab_size", json!(vocabulary));
    set(
        "tie_word_embeddings",
        json!(!gguf.tensors().contains_key("output.weight")),
    );
    set("torch_dtype", json!(dtype.torch_name()));
    config.extend(tokenizer.ids.clone());
    if [&heads, kv_heads, &neurons]
        .iter()
        .any(|sizes| matches!(sizes, Sizes::Own(_)))
    {
        let (first, mut others) = (sizes(0), Map::new());
        for block in 1..blocks {
            let differs = sizes(block) != first;
            let own = sizes(block).map(|(key, size)| (key.to_string(), json!(size)));
            if differs {
                others.insert(block.to_string(), Map::from_iter(own).into());
            }
        }
        config.insert(PER_BLOCK.to_string(), others.into());
    }
    Ok(serde_json::Value::Object(config))
}

fn head_dim(gguf: &Gguf, architecture: &Architecture, width: usize, heads: usize) -> Result<usize> {
    let key = architecture.key("attention.key_length");
    let rotary = architecture.key("rope.dimension_count");
    let head = match gguf.count(&key)?.or(gguf.count(&rotary)?) {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(Error::input(format!(
                "key `{key}` is missing, and {width} features are not divisible by {heads} heads"
            )));
        }
    };
    for key in [rotary, architecture.key("attention.value_length")] {
        if let Some(other) = gguf.count(&key)?
            && other != head
        {
            return Err(Error::input(format!(
                "key `{key}` = {other}, but heads have {head} features; that is not supported"
            )));
        }
    }
    Ok(head)
}
