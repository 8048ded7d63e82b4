//! LLaMA (Touvron et al. 2023, arXiv 2302.13971) and the families that share its block: LLaMA 2, 3, 3.1,
//! 3.2, SmolLM2, Mistral, Qwen 2 and 2.5 (biases of queries, keys and values), Qwen 3 (norms of query and
//! key heads).
//!
//! Follows the conventions of Hugging Face checkpoints: rotary pairs are `(i, i + head_dim / 2)`.

use super::configuration::{Config, divide};
use super::reach::reaches;
use super::rotary::Rotary;
use crate::error::{Error, Result};
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// transformers' default for `sliding_window` in Mistral and Qwen configurations (null means that there is no
/// window).
const WINDOW: usize = 4096;

/// Settings in which the families with this kind of block differ. Defaults are those of transformers' configuration
/// classes.
struct Variant {
    family: &'static str,
    /// Defaults for the number of token ids, the width of the MLP and the number of positions.
    defaults: [usize; 3],
    /// Default number of key and value heads; `None` for as many as query heads.
    kv_heads: Option<usize>,
    /// Default number of features per head; `None` for the model's width divided by the number of heads.
    head_dim: Option<usize>,
    /// Whether there are biases for queries, keys and values, and for the attention's output.
    biases: (bool, bool),
    /// Whether the MLP's layers have biases.
    mlp_bias: bool,
    /// Whether each query and key head is normalised.
    head_norms: bool,
    reaches: Vec<Reach>,
}

/// Reads the configuration of a LLaMA model.
pub fn llama(config: &mut Config) -> Result<ModelSpec> {
    let bias = config.flag("attention_bias", false)?;
    let variant = Variant {
        family: "llama",
        defaults: [32_000, 11_008, 2048],
        kv_heads: None,
        head_dim: None,
        biases: (bias, bias),
        mlp_bias: config.flag("mlp_bias", false)?,
        head_norms: false,
        reaches: vec![Reach::default()],
    };
    read(config, variant)
}

/// Reads the configuration of a Granite model, which is a LLaMA with factors of its own. Those of the residual stream and of the logits
/// must be 1.
pub fn granite(config: &mut Config) -> Result<ModelSpec> {
    let bias = config.flag("attention_bias", false)?;
    let variant = Variant {
        family: "granite",
        defaults: [32_000, 11_008, 2048],
        kv_heads: None,
        head_dim: None,
        biases: (bias, bias),
        mlp_bias: config.flag("mlp_bias", false)?,
        head_norms: false,
        reaches: vec![Reach::default()],
    };
    let scale = config.positive("attention_multiplier")?.unwrap_or(1.0);
    let embedding = config.positive("embedding_multiplier")?.unwrap_or(1.0);
    for key in ["residual_multiplier", "logits_scaling"] {
        let factor = config.positive(key)?.unwrap_or(1.0);
        if factor != 1.0 {
            return Err(Error::input(format!(
                "key `{key}` = {factor} is not supported (supported: 1)"
            )));
        }
    }
    let mut spec = read(config, variant)?;
    spec.embedding.scale = Some(embedding).filter(|factor| *factor != 1.0);
    let mut block = spec.block(0).as_ref().clone();
    block.attention.scale = scale;
    spec.shapes = block.into();
    Ok(spec)
}

/// Reads a Mistral configuration; every block has the sliding window. If it has `layer_types`, transformers reads it
/// as another family.
pub fn mistral(config: &mut Config) -> Result<ModelSpec> {
    let window = config.count_or_null("sliding_window", Some(WINDOW))?;
    if let Some(kinds) = config.get("layer_types") {
        return Err(Error::input(format!(
            "key `layer_types` = {kinds}: with this key, transformers reads a Mistral model as a `ministral`, whose blocks differ, and \
             zprune does not support that family; remove the key if all blocks are alike"
        )));
    }
    let variant = Variant {
        family: "mistral",
        defaults: [32_000, 14_336, 131_072],
        kv_heads: Some(8),
        head_dim: None,
        biases: (false, false),
        mlp_bias: false,
        head_norms: false,
        reaches: vec![Reach { window, rotary: 0 }],
    };
    read(config, variant)
}

/// Reads a Qwen 2 or 2.5 configuration.
pub fn qwen2(config: &mut Config) -> Result<ModelSpec> {
    let variant = Variant {
        family: "qwen2",
        defaults: [151_936, 22_016, 32_768],
        kv_heads: Some(32),
        head_dim: None,
        biases: (true, false),
        mlp_bias: false,
        head_norms: false,
        reaches: late_windows(config)?,
    };
    read(config, variant)
}

/// Reads a Qwen 3 configuration.
pub fn qwen3(config: &mut Config) -> Result<ModelSpec> {
    let bias = config.flag("attention_bias", false)?;
    let variant = Variant {
        family: "qwen3",
        defaults: [151_936, 22_016, 32_768],
        kv_heads: Some(32),
        head_dim: Some(128),
        biases: (bias, bias),
        mlp_bias: false,
        head_norms: true,
        reaches: late_windows(config)?,
    };
    read(config, variant)
}

/// The windows of Qwen models: if they are switched on, blocks from number `max_window_layers` on have one.
fn late_windows(config: &mut Config) -> Result<Vec<Reach>> {
    let on = config.flag("use_sliding_window", false)?;
    let window = config.count_or_null("sliding_window", Some(WINDOW))?.filter(|_| on);
    let first = config.natural("max_window_layers")?.unwrap_or(28);
    let blocks = blocks(config)?;
    let period = if window.is_some() && first < blocks { blocks } else { 1 };
    reaches(
        config,
        blocks,
        window,
        period,
        |block| window.is_some() && block >= first,
        |_| 0,
    )
}

fn blocks(config: &mut Config) -> Result<usize> {
    config.blocks("num_hidden_layers", 32)
}

fn read(config: &mut Config, variant: Variant) -> Result<ModelSpec> {
    let [vocabulary, middle, positions] = variant.defaults;
    let blocks = blocks(config)?;
    let vocabulary = config.size("vocab_size", vocabulary)?;
    let width = config.size("hidden_size", 4096)?;
    let middle = config.size("intermediate_size", middle)?;
    let heads = config.size("num_attention_heads", 32)?;
    // A null, written out, means as many as query heads in every family.
    let kv_heads = config
        .count_or_null("num_key_value_heads", variant.kv_heads)?
        .unwrap_or(heads);
    divide(heads, "num_attention_heads", kv_heads, "num_key_value_heads")?;
    let head_dim = match config.count_or_null("head_dim", variant.head_dim)? {
        Some(dim) => dim,
        None => divide(width, "hidden_size", heads, "num_attention_heads")?,
    };
    let positions = config.count("max_position_embeddings")?.unwrap_or(positions);
    let epsilon = config.epsilon("rms_norm_eps", 1e-6)?;
    let activation = config.activation("hidden_act", Activation::Silu)?;
    let tied = config.flag("tie_word_embeddings", false)?;
    let frequencies = Rotary::shared(config, positions)?.frequencies(head_dim)?;

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Rms,
        epsilon,
        tensor: Some(tensor.to_string()),
        unit_offset: false,
    };
    let mut norms = vec![
        (NormPlace::Attention, norm("input_layernorm")),
        (NormPlace::Mlp, norm("post_attention_layernorm")),
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
    let ((bias, output_bias), mlp_bias) = (variant.biases, variant.mlp_bias);
    Ok(ModelSpec {
        family: variant.family,
        vocabulary,
        width,
        blocks,
        max_positions: positions,
        longest_window: None,
        embedding: EmbeddingSpec {
            tensor: "model.embed_tokens.weight".into(),
            width,
            project: None,
            scale: None,
        },
        positions: Positions::Rotary {
            frequencies: vec![frequencies],
        },
        shapes: BlockSpec {
            prefix: "model.layers.{}.",
            attention: AttentionSpec::new(heads, kv_heads, head_dim),
            norms,
            norm_first: true,
            parallel: false,
            activation,
            linears: vec![
                linear(Role::Query, "self_attn.q_proj", queries, width, bias),
                linear(Role::Key, "self_attn.k_proj", keys, width, bias),
                linear(Role::Value, "self_attn.v_proj", keys, width, bias),
                linear(Role::Output, "self_attn.o_proj", width, queries, output_bias),
                linear(Role::Gate, "mlp.gate_proj", middle, width, mlp_bias),
                linear(Role::Up, "mlp.up_proj", middle, width, mlp_bias),
                linear(Role::Down, "mlp.down_proj", width, middle, mlp_bias),
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
            softcap: None,
        },
    })
}
