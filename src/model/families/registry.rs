//! The families of models that can be read, and those that are known and cannot.

use super::configuration::Config;
use super::{gemma, gpt_neox, gpt2, llama, opt};
use crate::error::Result;
use crate::registry::{Entry, Registry};
use crate::spec::{ModelSpec, TapPlace};

/// The function that reads the configurations of one family.
pub type Reader = fn(config: &mut Config) -> Result<ModelSpec>;

/// A family of models: how its configuration is read, and what that calls the sizes that blocks may differ in and the biases
/// that layers may have.
pub struct ModelFamily {
    /// Makes the specification of a model of this family from its configuration.
    pub read: Reader,
    /// What the configuration calls the sizes that blocks may differ in.
    pub sizes: SizeKeys,
    /// The keys that give biases to linear layers. Layers that none of them serves have a bias in all models of the family, or
    /// in none.
    pub biases: &'static [BiasKey],
}

/// A key of `config.json` that says whether some linear layers have biases.
#[derive(Debug, Clone, Copy)]
pub struct BiasKey {
    /// The key, whose value is true or false.
    pub key: &'static str,
    /// Where the layers read their input that it serves: all of them get a bias, or none.
    pub places: &'static [TapPlace],
}

/// The key for queries, keys, values and the attention's output.
const ATTENTION_BIAS: BiasKey = BiasKey {
    key: "attention_bias",
    places: &[TapPlace::AttentionIn, TapPlace::AttentionOut],
};

/// LLaMA's key for the layers of the MLP.
const MLP_BIAS: BiasKey = BiasKey {
    key: "mlp_bias",
    places: &[TapPlace::MlpIn, TapPlace::MlpMiddle],
};

/// OPT's key for all layers.
const ENABLE_BIAS: BiasKey = BiasKey {
    key: "enable_bias",
    places: &TapPlace::ALL,
};

/// The keys of `config.json` for the sizes that a block may have of its own (`per_layer_config`).
#[derive(Debug, Clone, Copy)]
pub struct SizeKeys {
    /// The key for the number of blocks, which all of them share.
    pub blocks: &'static str,
    /// The key for the number of hidden features of the MLP.
    pub neurons: &'static str,
    /// The keys for the heads of attention, in families that say how large a head is.
    pub heads: Option<HeadKeys>,
}

/// The keys for the heads of attention.
#[derive(Debug, Clone, Copy)]
pub struct HeadKeys {
    /// The key for the number of query heads.
    pub heads: &'static str,
    /// The key for the number of key and value heads.
    pub kv_heads: &'static str,
    /// The key for the number of features of a head.
    pub head_dim: &'static str,
    /// The numbers of query heads that stock loaders take.
    pub counts: HeadCounts,
}

/// The numbers of query heads that transformers takes in models of a family whose configuration says how large a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadCounts {
    /// Any.
    Any,
    /// Those that divide the width of the model.
    Divisors,
    /// The same. A model with another number is written as one of another family, which computes the same and takes any.
    DivisorsOrRenamed,
}

impl SizeKeys {
    /// Whether a model of this width, whose blocks have `before` query heads, can be written with `heads` in each block, so that
    /// stock loaders take it.
    pub fn takes(&self, heads: usize, before: usize, width: usize) -> bool {
        heads == before
            || self
                .heads
                .is_some_and(|keys| keys.counts != HeadCounts::Divisors || width.is_multiple_of(heads))
    }
}

/// The key for the number of blocks of nearly all families.
const BLOCKS: &str = "num_hidden_layers";

/// The keys of LLaMA and of the families that follow it, which take other numbers of heads.
const fn like_llama(counts: HeadCounts) -> SizeKeys {
    SizeKeys {
        blocks: BLOCKS,
        neurons: "intermediate_size",
        heads: Some(HeadKeys {
            heads: "num_attention_heads",
            kv_heads: "num_key_value_heads",
            head_dim: "head_dim",
            counts,
        }),
    }
}

/// The keys of a family whose heads share out the width of the model, so that none can be left out.
const fn neurons_only(blocks: &'static str, neurons: &'static str) -> SizeKeys {
    SizeKeys {
        blocks,
        neurons,
        heads: None,
    }
}

/// All families, by the `model_type` of their `config.json`.
pub const FAMILIES: Registry<ModelFamily> = Registry {
    kind: "model family",
    entries: &[
        Entry {
            name: "gemma2",
            summary: "Gemma 2: norms around sub-layers, bounded scores and logits, alternating windows",
            item: ModelFamily {
                read: gemma::gemma2,
                sizes: like_llama(HeadCounts::Divisors),
                biases: &[ATTENTION_BIAS],
            },
        },
        Entry {
            name: "gemma3_text",
            summary: "Gemma 3, text: norms around sub-layers and on query and key heads, one block in six unwindowed",
            item: ModelFamily {
                read: gemma::gemma3,
                sizes: like_llama(HeadCounts::Divisors),
                biases: &[ATTENTION_BIAS],
            },
        },
        Entry {
            name: "gpt2",
            summary: "GPT-2: LayerNorm, learned positions, fused queries, keys and values, transposed weights",
            item: ModelFamily {
                read: gpt2::gpt2,
                sizes: neurons_only("n_layer", "n_inner"),
                biases: &[],
            },
        },
        Entry {
            name: "gpt_neox",
            summary: "GPT-NeoX, Pythia: parallel sub-layers, fused queries, keys and values, partial rotary positions",
            item: ModelFamily {
                read: gpt_neox::gpt_neox,
                sizes: neurons_only(BLOCKS, "intermediate_size"),
                biases: &[ATTENTION_BIAS],
            },
        },
        Entry {
            name: "granite",
            summary: "Granite without factors of the stream and of the logits: as llama, with any number of heads and biases",
            item: ModelFamily {
                read: llama::granite,
                sizes: like_llama(HeadCounts::Any),
                biases: &[ATTENTION_BIAS, MLP_BIAS],
            },
        },
        Entry {
            name: "llama",
            summary: "LLaMA 1, 2, 3, 3.1, 3.2, SmolLM2: RMSNorm, rotary positions, SwiGLU, grouped-query attention",
            item: ModelFamily {
                read: llama::llama,
                sizes: like_llama(HeadCounts::DivisorsOrRenamed),
                biases: &[ATTENTION_BIAS, MLP_BIAS],
            },
        },
        Entry {
            name: "mistral",
            summary: "Mistral: as llama, attention within a sliding window",
            item: ModelFamily {
                read: llama::mistral,
                sizes: like_llama(HeadCounts::Any),
                biases: &[],
            },
        },
        Entry {
            name: "opt",
            summary: "OPT: LayerNorm before or after, learned positions, biases, ReLU",
            item: ModelFamily {
                read: opt::opt,
                sizes: neurons_only(BLOCKS, "ffn_dim"),
                biases: &[ENABLE_BIAS],
            },
        },
        Entry {
            name: "qwen2",
            summary: "Qwen 2, 2.5: as llama, with biases of queries, keys and values",
            item: ModelFamily {
                read: llama::qwen2,
                sizes: like_llama(HeadCounts::Any),
                biases: &[],
            },
        },
        Entry {
            name: "qwen3",
            summary: "Qwen 3: as llama, with norms of query and key heads",
            item: ModelFamily {
                read: llama::qwen3,
                sizes: like_llama(HeadCounts::Any),
                biases: &[ATTENTION_BIAS],
            },
        },
    ],
};

/// What is missing for mixtures of experts.
const EXPERTS: &str =
    "a mixture of experts: its router, and calibration statistics for each expert, are not implemented";

/// Model types that are known and not supported, each with what is missing.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("dbrx", EXPERTS),
    ("deepseek_v2", EXPERTS),
    ("deepseek_v3", EXPERTS),
    ("ernie4_5_moe", EXPERTS),
    ("glm4_moe", EXPERTS),
    ("gpt_oss", EXPERTS),
    ("granitemoe", EXPERTS),
    ("hunyuan_v1_moe", EXPERTS),
    ("jamba", EXPERTS),
    ("jetmoe", EXPERTS),
    ("llama4", EXPERTS),
    ("llama4_text", EXPERTS),
    ("minimax", EXPERTS),
    ("mixtral", EXPERTS),
    ("olmoe", EXPERTS),
    ("phimoe", EXPERTS),
    ("qwen2_moe", EXPERTS),
    ("qwen3_moe", EXPERTS),
    ("qwen3_next", EXPERTS),
    (
        "gemma3",
        "a model of images and text: take its text model (`gemma3_text`)",
    ),
    ("mamba", "a state-space model: it has no attention"),
    ("mamba2", "a state-space model: it has no attention"),
];
