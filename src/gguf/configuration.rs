//! The `config.json` of a GGUF's metadata.
//!
//! What the metadata ask of the mathematics and a LLaMA `config.json` cannot say is refused by key.

use super::tokenizer::Converted;
use super::{Gguf, Tensor, Value, required};
use crate::error::{Error, Located, Result};
use crate::model::families::PER_BLOCK;
use crate::tensor::StorageType;
use serde_json::{Map, json};
use std::f64::consts::TAU;

/// llama.cpp's factors of the rotary frequencies, where LLaMA 3.1 scales them.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Where the sizes are the same in all blocks, as `config.json` of a LLaMA has them.
pub(super) const LLAMA: &str = "llama";

/// Where each block has sizes of its own: llama.cpp's name of Nvidia's DeciLM, whose blocks are a LLaMA's.
pub(super) const DECI: &str = "deci";

/// The keys that say what a model's architecture is: they begin with its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a>(pub(super) &'a str);

impl Keys<'_> {
    /// The whole key.
    pub(super) fn of(&self, name: &str) -> String {
        format!("{}.{name}", self.0)
    }
}

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
    fn read(gguf: &Gguf, keys: &Keys, name: &str, blocks: usize) -> Result<Option<Sizes>> {
        let key = &keys.of(name);
        if keys.0 != DECI || !matches!(gguf.metadata().get(key.as_str()), Some(Value::Array(_))) {
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

/// The whole number that a key must have, which must be positive.
///
/// # Errors
/// The key is missing, or its value is something else.
pub(super) fn count(gguf: &Gguf, key: &str) -> Result<usize> {
    match required(key, gguf.count(key)?)? {
        0 => Err(Error::input(format!("key `{key}` must be positive, but is 0"))),
        count => Ok(count),
    }
}

/// Metadata that change the mathematics in ways a LLaMA configuration cannot say, with the number that
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

/// Refuses other architectures, and metadata that ask for what no LLaMA configuration says. Returns the keys of the architecture.
///
/// # Errors
/// Names the key.
pub(super) fn refuse_other_models<'a>(gguf: &Gguf<'a>) -> Result<Keys<'a>> {
    const ARCHITECTURE: &str = "general.architecture";
    let architecture = required(ARCHITECTURE, gguf.text(ARCHITECTURE)?)?;
    if ![LLAMA, DECI].contains(&architecture) {
        return Err(Error::input(format!(
            "key `{ARCHITECTURE}`: architecture \"{architecture}\" is not supported (supported: {LLAMA}, {DECI})"
        )));
    }
    let keys = Keys(architecture);
    let own = MATHEMATICAL.iter().map(|(name, off)| (keys.of(name), *off));
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
        let key = keys.of(name);
        if gguf.flag(&key)?.is_some_and(|value| value != off) {
            return Err(Error::input(format!("key `{key}` = {} is not supported", !off)));
        }
    }
    for key in gguf.metadata().keys() {
        let own = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'));
        if let Some(name) = own
            && !KNOWN.contains(&name)
            && !MATHEMATICAL.iter().any(|(known, _)| *known == name)
        {
            tracing::warn!("GGUF key `{key}` is unknown and was ignored");
        }
    }
    Ok(keys)
}

/// The content of config.json.
///
/// # Errors
/// Names the key or the tensor that is missing or cannot be carried over.
pub(super) fn config(
    gguf: &Gguf,
    keys: &Keys,
    tokenizer: &Converted,
    longest: usize,
    dtype: StorageType,
) -> Result<serde_json::Value> {
    const EMBEDDING: &str = "token_embd.weight";
    let epsilon = &keys.of("attention.layer_norm_rms_epsilon");
    let width = count(gguf, &keys.of("embedding_length"))?;
    let blocks = count(gguf, &keys.of("block_count"))?;
    let of_blocks = |name: &str| -> Result<Sizes> {
        let sizes = Sizes::read(gguf, keys, name, blocks)?;
        required(&keys.of(name), sizes)
    };
    let heads = of_blocks("attention.head_count")?;
    let kv_heads = Sizes::read(gguf, keys, "attention.head_count_kv", blocks)?;
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
            let key = keys.of(key);
            return Err(Error::input(format!(
                "key `{key}` must be positive, but is 0 for the first block"
            )));
        }
    }
    let head = head_dim(gguf, keys, width, heads.of(0))?;
    let (theta, scaling) = rotary(gguf, keys, head)?;
    if let Some(window) = gguf.count(&keys.of("attention.sliding_window"))?
        && window > 0
        && window < longest
    {
        return Err(Error::input(format!(
            "key `{}` = {window} is not supported",
            keys.of("attention.sliding_window")
        )));
    }
    let embedding = gguf
        .tensors()
        .get(EMBEDDING)
        .ok_or_else(|| Error::input(format!("tensor `{EMBEDDING}` is missing")))?;
    let vocabulary = embedding.shape[0];
    match gguf.count(&keys.of("vocab_size"))? {
        Some(size) if size != vocabulary => {
            return Err(Error::input(format!(
                "key `{}` = {size}, but tensor `{EMBEDDING}` has {vocabulary} rows",
                keys.of("vocab_size")
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
    let bias = |part: &str| {
        let mut names = gguf.tensors().keys();
        names.any(|name| name.starts_with("blk.") && name.contains(part) && name.ends_with(".bias"))
    };

    let mut config = Map::new();
    let mut set = |key: &str, value: serde_json::Value| {
        config.insert(key.to_string(), value);
    };
    set("architectures", json!(["LlamaForCausalLM"]));
    set("model_type", json!("llama"));
    set("hidden_size", json!(width));
    set("intermediate_size", json!(neurons.of(0)));
    set("num_hidden_layers", json!(blocks));
    set("num_attention_heads", json!(heads.of(0)));
    set("num_key_value_heads", json!(kv_heads.of(0)));
    set("head_dim", json!(head));
    set("hidden_act", json!("silu"));
    set("max_position_embeddings", json!(longest));
    set(
        "rms_norm_eps",
        json!(shortest(required(epsilon, gguf.number(epsilon)?)?)),
    );
    set("rope_theta", json!(theta));
    set("rope_scaling", scaling);
    set("attention_bias", json!(bias(".attn_")));
    set("mlp_bias", json!(bias(".ffn_")));
    set("attention_dropout", json!(0.0));
    set("initializer_range", json!(0.02));
    set("pretraining_tp", json!(1));
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

/// The shortest decimal that is this number in single precision, as which the metadata hold it:
/// 0.00001 and not 0.000009999999747378752.
fn shortest(number: f64) -> f64 {
    let decimal: Option<f64> = (number as f32).to_string().parse().ok();
    // Only a file that holds double precision can leave the range; its number stands as it is.
    decimal.filter(|decimal| decimal.is_finite()).unwrap_or(number)
}

fn head_dim(gguf: &Gguf, keys: &Keys, width: usize, heads: usize) -> Result<usize> {
    let key = keys.of("attention.key_length");
    let rotary = keys.of("rope.dimension_count");
    let head = match gguf.count(&key)?.or(gguf.count(&rotary)?) {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(Error::input(format!(
                "key `{key}` is missing, and {width} features are not divisible by {heads} heads"
            )));
        }
    };
    for key in [rotary, keys.of("attention.value_length")] {
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

/// The values of `rope_theta` and `rope_scaling`: the base of the rotary frequencies, and how they are scaled for longer texts.
fn rotary(gguf: &Gguf, keys: &Keys, head: usize) -> Result<(f64, serde_json::Value)> {
    let theta = shortest(gguf.number(&keys.of("rope.freq_base"))?.unwrap_or(10_000.0));
    // A factor of 0 means none, and one without a type is linear (llama.cpp's defaults).
    let factor = match gguf.number(&keys.of("rope.scaling.factor"))? {
        None => gguf.number(&keys.of("rope.scale_linear"))?,
        factor => factor,
    };
    let factor = factor.map(shortest).filter(|factor| *factor != 0.0 && *factor != 1.0);
    let kind = keys.of("rope.scaling.type");
    let scaling = match (gguf.text(&kind)?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => serde_json::Value::Null,
        ("linear", Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (other, _) => {
            return Err(Error::input(format!(
                "key `{kind}`: rotary scaling \"{other}\" is not supported (supported: none, linear)"
            )));
        }
    };
    let Some(tensor) = gguf.tensors().get(ROPE_FACTORS) else {
        return Ok((theta, scaling));
    };
    let original = gguf.count(&keys.of("rope.scaling.original_context_length"))?;
    let bands = bands(tensor, head, theta, original.filter(|original| *original > 0))
        .at(format_args!("tensor `{ROPE_FACTORS}`"))?;
    match (bands, scaling) {
        (None, scaling) => Ok((theta, scaling)),
        (Some(bands), serde_json::Value::Null) => Ok((theta, bands)),
        (Some(_), _) => Err(Error::input(format!(
            "tensor `{ROPE_FACTORS}` and linear rotary scaling together are not supported"
        ))),
    }
}

/// LLaMA 3.1's scaling, found again from the factors llama.cpp divides the rotary frequencies by; `None` if
/// all are 1. The file does not hold the settings themselves, so all published models' are tried.
///
/// # Errors
/// The factors are no published model's.
pub(super) fn bands(
    tensor: &Tensor,
    head: usize,
    theta: f64,
    original: Option<usize>,
) -> Result<Option<serde_json::Value>> {
    /// Settings of LLaMA 3.1, 3.2 and 3.3.
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL: usize = 8192;
    /// llama.cpp computes the factors in single precision.
    const TOLERANCE: f64 = 1e-5;
    if head == 0 || tensor.shape != [head / 2] {
        return Err(Error::input(format!(
            "has shape {:?}, but heads of {head} features need [{}]",
            tensor.shape,
            head / 2
        )));
    }
    let mut stored = vec![0.0f32; head / 2];
    tensor.kind.dequantise(tensor.data, &mut stored);
    if stored.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let factor = stored.iter().copied().fold(1.0f32, f32::max);
    let (factor, original) = (f64::from(factor), original.unwrap_or(ORIGINAL));
    let expected = |pair: usize| {
        let length = original as f64;
        let wavelength = TAU * theta.powf(2.0 * pair as f64 / head as f64);
        if wavelength < length / HIGH {
            1.0
        } else if wavelength > length / LOW {
            factor
        } else {
            let kept = (length / wavelength - LOW) / (HIGH - LOW);
            1.0 / ((1.0 - kept) / factor + kept)
        }
    };
    let fits = |(pair, stored): (usize, &f32)| (f64::from(*stored) / expected(pair) - 1.0).abs() <= TOLERANCE;
    if !stored.iter().enumerate().all(fits) {
        return Err(Error::input(format!(
            "these factors are not LLaMA 3.1's (low {LOW}, high {HIGH}, original context {original}); others are not supported"
        )));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": original,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::dequantise::BlockType;

    #[test]
    fn llama_3_scaling_is_found_again_and_nothing_else() {
        let (head, theta) = (64, 500_000.0);
        let stored = |scale: &dyn Fn(f64) -> f64| -> Vec<u8> {
            let wavelength = |pair: usize| TAU * f64::powf(theta, 2.0 * pair as f64 / head as f64);
            (0..head / 2)
                .flat_map(|pair| (scale(wavelength(pair)) as f32).to_le_bytes())
                .collect()
        };
        let find = |bytes: &[u8]| {
            let tensor = Tensor {
                kind: BlockType::F32,
                shape: vec![head / 2],
                data: bytes,
            };
            bands(&tensor, head, theta, None)
        };
        let llama = stored(&|wavelength| {
            let kept = ((8192.0 / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
            1.0 / ((1.0 - kept) / 32.0 + kept)
        });
        let found = find(&llama).expect("LLaMA 3.2's factors").expect("they are not 1");
        assert_eq!(found["factor"], 32.0);
        assert!(find(&stored(&|_| 1.0)).expect("no scaling").is_none());
        assert!(find(&stored(&|wavelength| 1.0 + wavelength)).is_err());
    }
}
