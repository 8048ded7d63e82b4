//! Gemma 2 (arXiv 2408.00118) and the text models of Gemma 3 (arXiv 2503.19786).
//!
//! Norms stand before and after each sub-layer and their gains are stored minus 1; embeddings are scaled
//! by the root of the width; blocks alternate between a sliding window and full attention. Gemma 2 bounds
//! attention scores and logits by a hyperbolic tangent; Gemma 3 normalises query and key heads instead,
//! and turns them at another pace in windowed blocks.

use super::rotary::Rotary;
use super::{Config, divide, reaches};
use crate::error::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// transformers' value when a configuration does not mention `sliding_window`.
const WINDOW: usize = 4096;

/// Reads a Gemma 2 configuration: every second block, from the first on, within the window.
pub fn gemma2(config: &mut Config) -> Result<ModelSpec> {
    let window = window(config)?;
    let reaches = reaches(config, window, 2, |block| block % 2 == 0, |_| 0)?;
    let head_dim = config.count("head_dim")?.unwrap_or(256);
    let frequencies = vec![Rotary::PLAIN.frequencies(config, head_dim)?];
    let bounds = (
        softcap(config, "attn_logit_softcapping", Some(50.0))?,
        softcap(config, "final_logit_softcapping", Some(30.0))?,
    );
    read(config, "gemma2", head_dim, false, reaches, frequencies, bounds)
}

/// Reads the configuration of a Gemma 3 text model: full attention in every sixth block.
pub fn gemma3(config: &mut Config) -> Result<ModelSpec> {
    let window = window(config)?;
    let period = match config.count("sliding_window_pattern")? {
        Some(period) => period,
        None => config.count("_sliding_window_pattern")?.unwrap_or(6),
    };
    let reaches = reaches(config, window, period, |block| (block + 1) % period != 0, usize::from)?;
    let head_dim = config.count("head_dim")?.unwrap_or(256);
    let full = Rotary {
        theta: ("rope_theta", 1_000_000.0),
        layer: Some("full_attention"),
        ..Rotary::PLAIN
    };
    let sliding = Rotary {
        theta: ("rope_local_base_freq", 10_000.0),
        layer: Some("sliding_attention"),
        scaled: false,
        ..Rotary::PLAIN
    };
    let frequencies = vec![
        full.frequencies(config, head_dim)?,
        sliding.frequencies(config, head_dim)?,
    ];
    let bounds = (
        softcap(config, "attn_logit_softcapping", None)?,
        softcap(config, "final_logit_softcapping", None)?,
    );
    read(config, "gemma3_text", head_dim, true, reaches, frequencies, bounds)
}

fn window(config: &mut Config) -> Result<Option<usize>> {
    Ok(match config.count("sliding_window")? {
        None if !config.has("sliding_window") => Some(WINDOW),
        window => window,
    })
}

/// A bound that is absent has its default; a null switches it off.
fn softcap(config: &mut Config, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    if config.has(key) {
        config.positive(key)
    } else {
        Ok(default)
    }
}

fn read(
    config: &mut Config,
    family: &'static str,
    head_dim: usize,
    head_norms: bool,
    reaches: Vec<Reach>,
    frequencies: Vec<Vec<f32>>,
    (score_bound, logit_bound): (Option<f32>, Option<f32>),
) -> Result<ModelSpec> {
    let width = config.required_count("hidden_size")?;
    let middle = config.required_count("intermediate_size")?;
    let heads = config.required_count("num_attention_heads")?;
    let kv_heads = config.count("num_key_value_heads")?.unwrap_or(4);
    divide(heads, "num_attention_heads", kv_heads, "num_key_value_heads")?;
    let scalar = config.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let epsilon = config.epsilon("rms_norm_eps", 1e-6)?;
    let bias = config.flag("attention_bias", false)?;
    let tied = config.flag("tie_word_embeddings", true)?;
    // Old configurations carry both keys, and then `hidden_activation` is the one that counts.
    config.get("hidden_act");
    let activation = config.activation("hidden_activation", Activation::GeluTanh)?;

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Rms,
        epsilon,
        tensor: Some(tensor.to_string()),
        unit_offset: true,
    };
    let mut norms = vec![
        (NormPlace::Attention, norm("input_layernorm")),
        (NormPlace::AttentionOutput, norm("post_attention_layernorm")),
        (NormPlace::Mlp, norm("pre_feedforward_layernorm")),
        (NormPlace::MlpOutput, norm("post_feedforward_layernorm")),
    ];
    if head_norms {
        norms.push((NormPlace::Query, norm("self_attn.q_norm")));
        norms.push((NormPlace::Key, norm("self_attn.k_norm")));
    }
    let linear = |role, tensor, outputs, inputs, bias| LinearSpec {
        role,
        tensor,
        outputs,
        inputs,
        bias,
        transposed: false,
    };
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    Ok(ModelSpec {
        family,
        vocabulary: config.required_count("vocab_size")?,
        width,
        blocks: config.required_count("num_hidden_layers")?,
        max_positions: config.count("max_position_embeddings")?.unwrap_or(8192),
        longest_window: None,
        embedding: EmbeddingSpec {
            tensor: "model.embed_tokens.weight".into(),
            width,
            project: None,
            scale: Some((width as f64).sqrt() as f32),
        },
        positions: Positions::Rotary { frequencies },
        block: BlockSpec {
            prefix: "model.layers.{}.",
            attention: AttentionSpec {
                scale: f64::from(scalar).powf(-0.5) as f32,
                softcap: score_bound,
                ..AttentionSpec::new(heads, kv_heads, head_dim)
            },
            norms,
            norm_first: true,
            parallel: false,
            activation,
            linears: vec![
                linear(Role::Query, "self_attn.q_proj", queries, width, bias),
                linear(Role::Key, "self_attn.k_proj", keys, width, bias),
                linear(Role::Value, "self_attn.v_proj", keys, width, bias),
                linear(Role::Output, "self_attn.o_proj", width, queries, bias),
                linear(Role::Gate, "mlp.gate_proj", middle, width, false),
                linear(Role::Up, "mlp.up_proj", middle, width, false),
                linear(Role::Down, "mlp.down_proj", width, middle, false),
            ],
        },
        reaches,
        base_prefix: "model.",
        final_norm: Some(norm("model.norm")),
        head: HeadSpec {
            project: None,
            tensor: (!tied).then(|| "lm_head.weight".to_string()),
            softcap: logit_bound,
        },
    })
}
