//! LLaMA (Touvron et al. 2023, arXiv 2302.13971) and the models that share its block: LLaMA 2, 3, 3.1,
//! 3.2, SmolLM2, and Mistral within its sliding window.
//!
//! Follows the conventions of Hugging Face checkpoints: rotary pairs are `(i, i + head_dim / 2)`, and
//! rotary settings are read from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`
//! (transformers 4).

use super::{Config, divide};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, LinearSpec, ModelSpec, NormKind, NormSpec,
    Positions, Role,
};
use serde_json::{Map, Value};
use std::f64::consts::TAU;

/// transformers' value when a Mistral configuration does not mention `sliding_window` (null means none).
const MISTRAL_WINDOW: usize = 4096;

/// Wider heads are a slip; their rotary frequencies would be computed before any tensor shows it.
const WIDEST_HEAD: usize = 65_536;

/// Reads a LLaMA configuration.
pub fn llama(config: &mut Config) -> Result<ModelSpec> {
    let heads = config.required_count("num_attention_heads")?;
    let kv_heads = config.count("num_key_value_heads")?.unwrap_or(heads);
    read(config, "llama", kv_heads, None)
}

/// Reads a Mistral configuration. Attention is full here, which equals the sliding window as long as
/// no text window is longer than it; longer ones are refused.
pub fn mistral(config: &mut Config) -> Result<ModelSpec> {
    let window = match config.count("sliding_window")? {
        None if !config.has("sliding_window") => Some(MISTRAL_WINDOW),
        window => window,
    };
    let kv_heads = config.required_count("num_key_value_heads")?;
    read(config, "mistral", kv_heads, window)
}

fn read(config: &mut Config, family: &'static str, kv_heads: usize, window: Option<usize>) -> Result<ModelSpec> {
    let width = config.required_count("hidden_size")?;
    let middle = config.required_count("intermediate_size")?;
    let heads = config.required_count("num_attention_heads")?;
    divide(heads, "num_attention_heads", kv_heads, "num_key_value_heads")?;
    let head_dim = match config.count("head_dim")? {
        Some(dim) => dim,
        None => divide(width, "hidden_size", heads, "num_attention_heads")?,
    };
    if !head_dim.is_multiple_of(2) || head_dim > WIDEST_HEAD {
        return Err(Error::input(format!(
            "key `head_dim` = {head_dim} must be even and at most {WIDEST_HEAD} for rotary positions"
        )));
    }
    let positions = config.count("max_position_embeddings")?.unwrap_or(2048);
    let epsilon = config.epsilon("rms_norm_eps", 1e-6)?;
    let activation = config.activation("hidden_act", Activation::Silu)?;
    let attention_bias = config.flag("attention_bias", false)?;
    let mlp_bias = config.flag("mlp_bias", false)?;
    let tied = config.flag("tie_word_embeddings", false)?;
    let frequencies = frequencies(config, head_dim)?;

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Rms,
        epsilon,
        tensor: Some(tensor.to_string()),
    };
    let linear = |role, tensor, outputs, inputs, bias| LinearSpec {
        role,
        tensor,
        outputs,
        inputs,
        bias,
    };
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    Ok(ModelSpec {
        family,
        vocabulary: config.required_count("vocab_size")?,
        width,
        blocks: config.required_count("num_hidden_layers")?,
        max_positions: positions,
        longest_window: window,
        embedding: EmbeddingSpec {
            tensor: "model.embed_tokens.weight".into(),
            width,
            project: None,
        },
        positions: Positions::Rotary { frequencies },
        block: BlockSpec {
            prefix: "model.layers.{}.",
            attention: AttentionSpec {
                heads,
                kv_heads,
                head_dim,
            },
            attention_norm: norm("input_layernorm"),
            mlp_norm: norm("post_attention_layernorm"),
            norm_first: true,
            activation,
            linears: vec![
                linear(Role::Query, "self_attn.q_proj", queries, width, attention_bias),
                linear(Role::Key, "self_attn.k_proj", keys, width, attention_bias),
                linear(Role::Value, "self_attn.v_proj", keys, width, attention_bias),
                linear(Role::Output, "self_attn.o_proj", width, queries, attention_bias),
                linear(Role::Gate, "mlp.gate_proj", middle, width, mlp_bias),
                linear(Role::Up, "mlp.up_proj", middle, width, mlp_bias),
                linear(Role::Down, "mlp.down_proj", width, middle, mlp_bias),
            ],
        },
        final_norm: Some(norm("model.norm")),
        head: HeadSpec {
            project: None,
            tensor: (!tied).then(|| "lm_head.weight".to_string()),
        },
    })
}

/// The rotary settings, wherever this version of the configuration keeps them.
fn frequencies(config: &mut Config, head_dim: usize) -> Result<Vec<f32>> {
    let top_theta = config.number("rope_theta")?;
    let mut scaling: Option<(&str, Map<String, Value>)> = None;
    // As in transformers: a `rope_scaling` that says something replaces `rope_parameters` altogether.
    for key in ["rope_scaling", "rope_parameters"] {
        match config.get(key) {
            None => {}
            Some(Value::Object(map)) if map.is_empty() => {}
            Some(Value::Object(map)) => {
                scaling.get_or_insert((key, map.clone()));
            }
            Some(other) => return Err(Error::input(format!("key `{key}` must be an object, but is {other}"))),
        }
    }
    let Some((key, map)) = scaling else {
        return base(head_dim, top_theta.unwrap_or(10_000.0));
    };
    let number = |name: &str| match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(x) => Ok(Some(x)),
            None => Err(Error::input(format!(
                "key `{key}.{name}` must be a positive number, but is {value}"
            ))),
        },
    };
    let need = |name: &str| number(name)?.ok_or_else(|| Error::input(format!("key `{key}.{name}` is missing")));
    if number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(Error::input(format!(
            "key `{key}.partial_rotary_factor` is not supported for this family"
        )));
    }
    let plain = base(head_dim, number("rope_theta")?.or(top_theta).unwrap_or(10_000.0))?;
    let kind = ["rope_type", "type"].into_iter().find_map(|name| {
        let value = map.get(name).filter(|value| !value.is_null())?;
        Some((name, value))
    });
    let kind = match kind {
        None => "default",
        Some((_, Value::String(kind))) => kind,
        Some((name, other)) => {
            return Err(Error::input(format!(
                "key `{key}.{name}` must be a string, but is {other}"
            )));
        }
    };
    match kind {
        "default" => Ok(plain),
        "linear" => {
            let factor = need("factor")? as f32;
            Ok(plain.into_iter().map(|frequency| frequency / factor).collect())
        }
        "llama3" => {
            let bands = Bands {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: need("original_max_position_embeddings")?,
            };
            Ok(plain.into_iter().map(|frequency| bands.scale(frequency)).collect())
        }
        other => Err(Error::input(format!(
            "key `{key}.rope_type` = \"{other}\" is not supported (supported: default, linear, llama3)"
        ))),
    }
}

/// `theta^(-2i / head_dim)` for every pair `i`.
fn base(head_dim: usize, theta: f64) -> Result<Vec<f32>> {
    if theta <= 0.0 {
        return Err(Error::input(format!(
            "key `rope_theta` must be positive, but is {theta}"
        )));
    }
    Ok((0..head_dim / 2)
        .map(|pair| theta.powf(-((2 * pair) as f64) / head_dim as f64) as f32)
        .collect())
}

/// LLaMA 3.1's scaling: long wavelengths are stretched by `factor`, short ones kept, the band between
/// (`original / high` to `original / low` tokens) blended linearly in inverse wavelength.
struct Bands {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Bands {
    fn scale(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let wavelength = TAU / frequency;
        let scaled = if wavelength < self.original / self.high {
            frequency
        } else if wavelength > self.original / self.low {
            frequency / self.factor
        } else {
            let kept = (self.original / wavelength - self.low) / (self.high - self.low);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        };
        scaled as f32
    }
}
