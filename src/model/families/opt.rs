//! OPT (Zhang et al. 2022, arXiv 2205.01068): LayerNorm before (or, in OPT-350M, after) each sub-layer,
//! learned positions whose table starts with two unused rows, biases, ReLU.

use super::configuration::{Config, divide};
use crate::error::Result;
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// Rows that fairseq reserved at the start of the position table; position 0 reads row 2.
const POSITION_OFFSET: usize = 2;

/// PyTorch's default epsilon of `LayerNorm`, which OPT does not change.
const EPSILON: f32 = 1e-5;

/// Reads the configuration of an OPT model.
pub fn opt(config: &mut Config) -> Result<ModelSpec> {
    let blocks = config.blocks("num_hidden_layers", 12)?;
    let vocabulary = config.size("vocab_size", 50_272)?;
    let width = config.size("hidden_size", 768)?;
    let middle = config.size("ffn_dim", 3072)?;
    let heads = config.size("num_attention_heads", 12)?;
    let head_dim = divide(width, "hidden_size", heads, "num_attention_heads")?;
    let norm_first = config.flag("do_layer_norm_before", true)?;
    let without_final_norm = config.flag("_remove_final_layer_norm", false)?;
    let embedding_width = config.size_or_null("word_embed_proj_dim")?.unwrap_or(width);
    let bias = config.flag("enable_bias", true)?;
    let affine = config.flag("layer_norm_elementwise_affine", true)?;
    let tied = config.flag("tie_word_embeddings", true)?;
    config.ignore("partial_rotary_factor");
    let activation = config.activation("activation_function", Activation::Relu)?;

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Layer,
        epsilon: EPSILON,
        tensor: affine.then(|| tensor.to_string()),
        unit_offset: false,
    };
    let linear = |role, tensor, outputs, inputs| LinearSpec {
        role,
        tensor,
        outputs,
        inputs,
        bias,
        transposed: false,
    };
    let max_positions = config.size("max_position_embeddings", 2048)?;
    let projected = embedding_width != width;
    Ok(ModelSpec {
        family: "opt",
        vocabulary,
        width,
        blocks,
        max_positions,
        longest_window: Some(max_positions),
        embedding: EmbeddingSpec {
            tensor: "model.decoder.embed_tokens.weight".into(),
            width: embedding_width,
            project: projected.then(|| "model.decoder.project_in.weight".to_string()),
            scale: None,
        },
        positions: Positions::Learned {
            tensor: "model.decoder.embed_positions.weight".into(),
            offset: POSITION_OFFSET,
        },
        shapes: BlockSpec {
            prefix: "model.decoder.layers.{}.",
            attention: AttentionSpec::new(heads, heads, head_dim),
            norms: vec![
                (NormPlace::Attention, norm("self_attn_layer_norm")),
                (NormPlace::Mlp, norm("final_layer_norm")),
            ],
            norm_first,
            parallel: false,
            activation,
            linears: vec![
                linear(Role::Key, "self_attn.k_proj", width, width),
                linear(Role::Value, "self_attn.v_proj", width, width),
                linear(Role::Query, "self_attn.q_proj", width, width),
                linear(Role::Output, "self_attn.out_proj", width, width),
                linear(Role::Up, "fc1", middle, width),
                linear(Role::Down, "fc2", width, middle),
            ],
        }
        .into(),
        reaches: vec![Reach::default()],
        base_prefix: "model.",
        final_norm: (norm_first && !without_final_norm).then(|| norm("model.decoder.final_layer_norm")),
        head: HeadSpec {
            project: projected.then(|| "model.decoder.project_out.weight".to_string()),
            tensor: (!tied).then(|| "lm_head.weight".to_string()),
            stored: &["lm_head.weight"],
            softcap: None,
        },
    })
}
