//! GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each sub-layer, weights stored as
//! `(inputs, outputs)` and queries, keys and values in one matrix.

use super::configuration::{Config, divide};
use crate::error::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, Fusion, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// Reads the configuration of a GPT-2 model.
pub fn gpt2(config: &mut Config) -> Result<ModelSpec> {
    for (common, own) in [
        ("hidden_size", "n_embd"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
        ("max_position_embeddings", "n_positions"),
    ] {
        config.alias(common, own);
    }
    let blocks = config.blocks("n_layer", 12)?;
    let vocabulary = config.size("vocab_size", 50_257)?;
    let width = config.size("n_embd", 768)?;
    let heads = config.size("n_head", 12)?;
    let head_dim = divide(width, "n_embd", heads, "n_head")?;
    let middle = config.size_or_null("n_inner")?.unwrap_or(4 * width);
    let max_positions = config.size("n_positions", 1024)?;
    let epsilon = config.epsilon("layer_norm_epsilon", 1e-5)?;
    let tied = config.flag("tie_word_embeddings", true)?;
    let activation = config.activation("activation_function", Activation::GeluTanh)?;
    let scaled = config.flag("scale_attn_weights", true)?;
    let usual = AttentionSpec::new(heads, heads, head_dim);
    // Scores are always computed in single precision here.
    config.flag("reorder_and_upcast_attn", false)?;
    config.ignore("partial_rotary_factor");

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Layer,
        epsilon,
        tensor: Some(tensor.to_string()),
        unit_offset: false,
    };
    let linear = |role, tensor, outputs, inputs| LinearSpec {
        role,
        tensor,
        outputs,
        inputs,
        bias: true,
        transposed: true,
    };
    Ok(ModelSpec {
        family: "gpt2",
        vocabulary,
        width,
        blocks,
        max_positions,
        longest_window: Some(max_positions),
        embedding: EmbeddingSpec {
            tensor: "transformer.wte.weight".into(),
            width,
            project: None,
            scale: None,
        },
        positions: Positions::Learned {
            tensor: "transformer.wpe.weight".into(),
            offset: 0,
        },
        shapes: BlockSpec {
            prefix: "transformer.h.{}.",
            attention: AttentionSpec {
                scale: if scaled { usual.scale } else { 1.0 },
                ..usual
            },
            norms: vec![(NormPlace::Attention, norm("ln_1")), (NormPlace::Mlp, norm("ln_2"))],
            norm_first: true,
            parallel: false,
            activation,
            linears: vec![
                linear(Role::Fused(Fusion::Sections), "attn.c_attn", 3 * width, width),
                linear(Role::Output, "attn.c_proj", width, width),
                linear(Role::Up, "mlp.c_fc", middle, width),
                linear(Role::Down, "mlp.c_proj", width, middle),
            ],
        }
        .into(),
        reaches: vec![Reach::default()],
        base_prefix: "transformer.",
        final_norm: Some(norm("transformer.ln_f")),
        head: HeadSpec {
            project: None,
            tensor: (!tied).then(|| "lm_head.weight".to_string()),
            stored: &["lm_head.weight"],
            softcap: None,
        },
    })
}
