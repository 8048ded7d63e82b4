//! GPT-NeoX (Black et al. 2022, arXiv 2204.06745) and Pythia: attention and MLP side by side, queries,
//! keys and values fused head by head, rotary positions on the first features of a head.

use super::configuration::{Config, divide};
use super::rotary::Rotary;
use crate::error::{Error, Result};
use crate::spec::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, Fusion, HeadSpec, LinearSpec, ModelSpec, NormKind, NormPlace,
    NormSpec, Positions, Reach, Role,
};

/// Reads the configuration of a GPT-NeoX model.
pub fn gpt_neox(config: &mut Config) -> Result<ModelSpec> {
    let blocks = config.blocks("num_hidden_layers", 44)?;
    let vocabulary = config.size("vocab_size", 50_432)?;
    let width = config.size("hidden_size", 6144)?;
    let middle = config.size("intermediate_size", 24_576)?;
    let heads = config.size("num_attention_heads", 64)?;
    let head_dim = divide(width, "hidden_size", heads, "num_attention_heads")?;
    // No key of this family, but transformers takes it for the rotated features, and for nothing else.
    if let Some(written) = config
        .count_or_null("head_dim", None)?
        .filter(|written| *written != head_dim)
    {
        return Err(Error::input(format!(
            "key `head_dim` = {written} is not `hidden_size` / `num_attention_heads` = {head_dim}, which this family's heads have"
        )));
    }
    let positions = config.count("max_position_embeddings")?.unwrap_or(2048);
    let epsilon = config.epsilon("layer_norm_eps", 1e-5)?;
    let bias = config.flag("attention_bias", true)?;
    let tied = config.flag("tie_word_embeddings", false)?;
    let parallel = config.flag("use_parallel_residual", true)?;
    let activation = config.activation("hidden_act", Activation::Gelu)?;
    let frequencies = Rotary::neox(config, positions)?.frequencies(head_dim)?;

    let norm = |tensor: &str| NormSpec {
        kind: NormKind::Layer,
        epsilon,
        tensor: Some(tensor.to_string()),
        unit_offset: false,
    };
    let linear = |role, tensor, outputs, inputs, bias| LinearSpec {
        role,
        tensor,
        outputs,
        inputs,
        bias,
        transposed: false,
    };
    Ok(ModelSpec {
        family: "gpt_neox",
        vocabulary,
        width,
        blocks,
        max_positions: positions,
        longest_window: None,
        embedding: EmbeddingSpec {
            tensor: "gpt_neox.embed_in.weight".into(),
            width,
            project: None,
            scale: None,
        },
        positions: Positions::Rotary {
            frequencies: vec![frequencies],
        },
        shapes: BlockSpec {
            prefix: "gpt_neox.layers.{}.",
            attention: AttentionSpec::new(heads, heads, head_dim),
            norms: vec![
                (NormPlace::Attention, norm("input_layernorm")),
                (NormPlace::Mlp, norm("post_attention_layernorm")),
            ],
            norm_first: true,
            parallel,
            activation,
            linears: vec![
                linear(
                    Role::Fused(Fusion::Heads),
                    "attention.query_key_value",
                    3 * width,
                    width,
                    bias,
                ),
                linear(Role::Output, "attention.dense", width, width, bias),
                linear(Role::Up, "mlp.dense_h_to_4h", middle, width, true),
                linear(Role::Down, "mlp.dense_4h_to_h", width, middle, true),
            ],
        }
        .into(),
        reaches: vec![Reach::default()],
        base_prefix: "gpt_neox.",
        final_norm: Some(norm("gpt_neox.final_layer_norm")),
        head: HeadSpec {
            project: None,
            tensor: (!tied).then(|| "embed_out.weight".to_string()),
            stored: &["embed_out.weight", "lm_head.weight"],
            softcap: None,
        },
    })
}
