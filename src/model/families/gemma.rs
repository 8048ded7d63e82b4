//! Gemma 2 (arXiv 2408.00118) and the text models of Gemma 3 (arXiv 2503.19786).
//!
//! Norms stand before and after each sub-layer and their gains are stored minus 1; embeddings are scaled
//! by the root of the width; blocks alternate between a sliding window and full attention. Gemma 2 bounds
//! attention scores and logits by a hyperbolic tangent; Gemma 3 normalises query and key heads instead,
//! and turns them at another pace in windowed blocks.

use super::configuration::{Config, divide};
use super::reach::reaches;
use super::rotary::Rotary;
use crate::error::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// transformers' default for `sliding_window`.
const WINDOW: usize = 4096;

/// Reads a Gemma 2 configuration. The first block and every second one after it have a window.
pub fn gemma2(config: &mut Config) -> Result<ModelSpec> {
    let positions = config.count("max_position_embeddings")?.unwrap_or(8192);
    let head_dim = config.size_or("head_dim", 256)?;
    let bounds = (
        config.positive_or_null("attn_logit_softcapping", Some(50.0))?,
        config.positive_or_null("final_logit_softcapping", Some(30.0))?,
    );
    let variant = Variant {
        family: "gemma2",
        vocabulary: 256_000,
        positions,
        head_dim,
        head_norms: false,
        reaches: reached(config, 2, |_| 0)?,
        frequencies: vec![Rotary::shared(config, positions)?.frequencies(head_dim)?],
        bounds,
    };
    read(config, variant)
}

/// Reads the configuration of a Gemma 3 text model. Every sixth block has full attention.
pub fn gemma3(config: &mut Config) -> Result<ModelSpec> {
    let positions = config.count("max_position_embeddings")?.unwrap_or(131_072);
    let head_dim = config.size_or("head_dim", 256)?;
    let period = config.count("sliding_window_pattern")?.unwrap_or(6);
    // Written beside `layer_types`, which it was made into.
    config.get("_sliding_window_pattern");
    let reaches = reached(config, period, usize::from)?;
    let [full, sliding] = Rotary::by_kind(config, positions)?;
    // Without blocks of a kind, nobody looks at the settings of that kind.
    let used = |list: usize| reaches.iter().any(|reach| reach.rotary == list);
    let frequencies = vec![
        if used(0) {
            full.frequencies(head_dim)?
        } else {
            Vec::new()
        },
        if used(1) {
            sliding.frequencies(head_dim)?
        } else {
            Vec::new()
        },
    ];
    // The configuration class has the key from Gemma 2; the attention has no bound.
    config.ignore("attn_logit_softcapping");
    let variant = Variant {
        family: "gemma3_text",
        vocabulary: 262_208,
        positions,
        head_dim,
        head_norms: true,
        reaches,
        frequencies,
        bounds: (None, config.positive_or_null("final_logit_softcapping", None)?),
    };
    read(config, variant)
}

/// Gives full attention to every block whose number, counted from 1, is a multiple of `period`.
fn reached(config: &mut Config, period: usize, rotary: impl Fn(bool) -> usize) -> Result<Vec<Reach>> {
    let window = config.count_or_null("sliding_window", Some(WINDOW))?;
    let blocks = blocks(config)?;
    reaches(
        config,
        blocks,
        window,
        period,
        |block| (block + 1) % period != 0,
        rotary,
    )
}

fn blocks(config: &mut Config) -> Result<usize> {
    config.blocks("num_hidden_layers", 26)
}

/// Settings in which Gemma 2 and Gemma 3 differ.
struct Variant {
    family: &'static str,
    /// Number of token ids if the configuration does not say.
    vocabulary: usize,
    positions: usize,
    head_dim: usize,
    /// Whether each query and key head is normalised.
    head_norms: bool,
    reaches: Vec<Reach>,
    frequencies: Vec<Vec<f32>>,
    /// Bounds of the attention scores and of the logits.
    bounds: (Option<f32>, Option<f32>),
}

fn read(config: &mut Config, variant: Variant) -> Result<ModelSpec> {
    let Variant { head_dim, .. } = variant;
    let (score_bound, logit_bound) = variant.bounds;
    let blocks = blocks(config)?;
    let vocabulary = config.size("vocab_size", variant.vocabulary)?;
    let width = config.size("hidden_size", 2304)?;
    let middle = config.size("intermediate_size", 9216)?;
    let heads = config.size("num_attention_heads", 8)?;
    let kv_heads = config.size_or("num_key_value_heads", 4)?;
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
    if variant.head_norms {
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
        family: variant.family,
        vocabulary,
        width,
        blocks,
        max_positions: variant.positions,
        longest_window: None,
        embedding: EmbeddingSpec {
            tensor: "model.embed_tokens.weight".into(),
            width,
            project: None,
            scale: Some((width as f64).sqrt() as f32),
        },
        positions: Positions::Rotary {
            frequencies: variant.frequencies,
        },
        shapes: BlockSpec {
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
        }
        .into(),
        reaches: variant.reaches,
        base_prefix: "model.",
        final_norm: Some(norm("model.norm")),
        head: HeadSpec {
            project: None,
            tensor: (!tied).then(|| "lm_head.weight".to_string()),
            stored: &["lm_head.weight"],
            softcap: logit_bound,
        },
    })
}
