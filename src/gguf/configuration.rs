//! The `config.json` of a GGUF's metadata.
//!
//! What the metadata ask of the mathematics and a LLaMA `config.json` cannot say is refused by key.

use super::tokenizer::Converted;
use super::{Gguf, Tensor, required};
use crate::error::{Error, Located, Result};
use crate::tensor::StorageType;
use serde_json::{Map, json};
use std::f64::consts::TAU;

/// llama.cpp's factors of the rotary frequencies, where LLaMA 3.1 scales them.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

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
/// switches each one off.
const MATHEMATICAL: &[(&str, f64)] = &[
    ("llama.expert_count", 0.0),
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.scale", 0.0),
    ("llama.attention.temperature_scale", 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.final_logit_softcapping", 0.0),
    ("llama.embedding_scale", 1.0),
    ("llama.residual_scale", 1.0),
    ("llama.logit_scale", 1.0),
    ("llama.rope.scaling.attn_factor", 1.0),
    ("split.count", 1.0),
];

/// Metadata of the architecture that are read here or concern other things than mathematics.
const KNOWN: &[&str] = &[
    "llama.attention.causal",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.layer_norm_epsilon",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.sliding_window",
    "llama.attention.value_length",
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.expert_used_count",
    "llama.feed_forward_length",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.type",
    "llama.tensor_data_layout",
    "llama.use_parallel_residual",
    "llama.vocab_size",
];

/// Refuses other architectures, and metadata that ask for what no LLaMA configuration says.
///
/// # Errors
/// Names the key.
pub(super) fn refuse_other_models(gguf: &Gguf) -> Result<()> {
    const ARCHITECTURE: &str = "general.architecture";
    let architecture = required(ARCHITECTURE, gguf.text(ARCHITECTURE)?)?;
    if architecture != "llama" {
        return Err(Error::input(format!(
            "key `{ARCHITECTURE}`: architecture \"{architecture}\" is not supported (supported: llama)"
        )));
    }
    for (key, off) in MATHEMATICAL {
        // `split.count` is 0 or 1 in a file that is whole.
        match gguf.number(key)? {
            Some(value) if value != *off && value != 0.0 => {
                return Err(Error::input(format!("key `{key}` = {value} is not supported")));
            }
            _ => {}
        }
    }
    for (key, off) in [("llama.use_parallel_residual", false), ("llama.attention.causal", true)] {
        if gguf.flag(key)?.is_some_and(|value| value != off) {
            return Err(Error::input(format!("key `{key}` = {} is not supported", !off)));
        }
    }
    for key in gguf.metadata().keys().filter(|key| key.starts_with("llama.")) {
        if !KNOWN.contains(key) && !MATHEMATICAL.iter().any(|(name, _)| name == key) {
            tracing::warn!("GGUF key `{key}` is unknown and was ignored");
        }
    }
    Ok(())
}

/// The content of config.json.
///
/// # Errors
/// Names the key or the tensor that is missing or cannot be carried over.
pub(super) fn config(
    gguf: &Gguf,
    tokenizer: &Converted,
    longest: usize,
    dtype: StorageType,
) -> Result<serde_json::Value> {
    const EMBEDDING: &str = "token_embd.weight";
    const EPSILON: &str = "llama.attention.layer_norm_rms_epsilon";
    let width = count(gguf, "llama.embedding_length")?;
    let heads = count(gguf, "llama.attention.head_count")?;
    let kv_heads = gguf.count("llama.attention.head_count_kv")?.unwrap_or(heads);
    let head = head_dim(gguf, width, heads)?;
    let (theta, scaling) = rotary(gguf, head)?;
    if let Some(window) = gguf.count("llama.attention.sliding_window")?
        && window > 0
        && window < longest
    {
        return Err(Error::input(format!(
            "key `llama.attention.sliding_window` = {window} is not supported"
        )));
    }
    let embedding = gguf
        .tensors()
        .get(EMBEDDING)
        .ok_or_else(|| Error::input(format!("tensor `{EMBEDDING}` is missing")))?;
    let vocabulary = embedding.shape[0];
    match gguf.count("llama.vocab_size")? {
        Some(size) if size != vocabulary => {
            return Err(Error::input(format!(
                "key `llama.vocab_size` = {size}, but tensor `{EMBEDDING}` has {vocabulary} rows"
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
    set("intermediate_size", json!(count(gguf, "llama.feed_forward_length")?));
    set("num_hidden_layers", json!(count(gguf, "llama.block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(kv_heads));
    set("head_dim", json!(head));
    set("hidden_act", json!("silu"));
    set("max_position_embeddings", json!(longest));
    set(
        "rms_norm_eps",
        json!(shortest(required(EPSILON, gguf.number(EPSILON)?)?)),
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
    Ok(serde_json::Value::Object(config))
}

/// The shortest decimal that is this number in single precision, as which the metadata hold it:
/// 0.00001 and not 0.000009999999747378752.
fn shortest(number: f64) -> f64 {
    let decimal: Option<f64> = (number as f32).to_string().parse().ok();
    // Only a file that holds double precision can leave the range; its number stands as it is.
    decimal.filter(|decimal| decimal.is_finite()).unwrap_or(number)
}

fn head_dim(gguf: &Gguf, width: usize, heads: usize) -> Result<usize> {
    const KEY: &str = "llama.attention.key_length";
    const ROTARY: &str = "llama.rope.dimension_count";
    let rotary = gguf.count(ROTARY)?;
    let head = match gguf.count(KEY)?.or(rotary) {
        Some(head) => head,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(Error::input(format!(
                "key `{KEY}` is missing, and {width} features are not divisible by {heads} heads"
            )));
        }
    };
    for key in [ROTARY, "llama.attention.value_length"] {
        if let Some(other) = gguf.count(key)?
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
fn rotary(gguf: &Gguf, head: usize) -> Result<(f64, serde_json::Value)> {
    const KIND: &str = "llama.rope.scaling.type";
    const FACTOR: &str = "llama.rope.scaling.factor";
    const OLD_FACTOR: &str = "llama.rope.scale_linear";
    let theta = shortest(gguf.number("llama.rope.freq_base")?.unwrap_or(10_000.0));
    // A factor of 0 means none, and one without a type is linear (llama.cpp's defaults).
    let factor = match gguf.number(FACTOR)? {
        None => gguf.number(OLD_FACTOR)?,
        factor => factor,
    };
    let factor = factor.map(shortest).filter(|factor| *factor != 0.0 && *factor != 1.0);
    let scaling = match (gguf.text(KIND)?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => serde_json::Value::Null,
        ("linear", Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (other, _) => {
            return Err(Error::input(format!(
                "key `{KIND}`: rotary scaling \"{other}\" is not supported (supported: none, linear)"
            )));
        }
    };
    let Some(tensor) = gguf.tensors().get(ROPE_FACTORS) else {
        return Ok((theta, scaling));
    };
    let original = gguf.count("llama.rope.scaling.original_context_length")?;
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
fn bands(tensor: &Tensor, head: usize, theta: f64, original: Option<usize>) -> Result<Option<serde_json::Value>> {
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
