//! Families: a Hugging Face `config.json` becomes a [`ModelSpec`].
//!
//! Owns the reading of configurations. A key that changes the mathematics and is not supported is an
//! error that names the key; keys that only concern training, generation or bookkeeping are ignored; a
//! key nobody here has heard of is reported in the log, since it may matter.
//!
//! What a key means, alone and beside others, is what transformers makes of it: `tools/check_config_keys.py` asks it.
//! The exception is [`PER_BLOCK`]: transformers reads it, but builds no model of these families with it.

use crate::error::{Error, Located, Result};
use crate::files::{input, json};
use crate::model::found::{Wanted, instead};
use crate::registry::{Entry, Registry};
use crate::spec::{Activation, BlockSpec, ModelSpec, Reach};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

mod gemma;
mod gpt2;
mod gpt_neox;
mod llama;
mod opt;
mod quantization;
mod rotary;

/// The function that reads the configurations of one family.
pub type Reader = fn(config: &mut Config) -> Result<ModelSpec>;

/// A family of models: how its configuration is read, and what that calls the sizes that blocks may differ in.
pub struct Family {
    /// Reads its configuration.
    pub read: Reader,
    /// The keys of sizes.
    pub sizes: SizeKeys,
}

/// The keys of `config.json` for the sizes that a block may have of its own (`per_layer_config`).
#[derive(Debug, Clone, Copy)]
pub struct SizeKeys {
    /// Hidden features of the MLP.
    pub neurons: &'static str,
    /// The heads of attention, in families that say how large a head is.
    pub heads: Option<HeadKeys>,
}

/// The keys for the heads of attention.
#[derive(Debug, Clone, Copy)]
pub struct HeadKeys {
    /// Query heads.
    pub heads: &'static str,
    /// Key and value heads.
    pub kv_heads: &'static str,
    /// Features of a head.
    pub head_dim: &'static str,
}

/// The keys of LLaMA and of the families that follow it.
const LIKE_LLAMA: SizeKeys = SizeKeys {
    neurons: "intermediate_size",
    heads: Some(HeadKeys {
        heads: "num_attention_heads",
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
    }),
};

/// The keys of a family whose heads share out the width of the model, so that none can be left out.
const fn neurons_only(neurons: &'static str) -> SizeKeys {
    SizeKeys { neurons, heads: None }
}

/// The key whose value is an object of blocks, each with the sizes that it has of its own.
pub const PER_BLOCK: &str = "per_layer_config";

/// All families, by the `model_type` of their `config.json`.
pub const FAMILIES: Registry<Family> = Registry {
    kind: "model family",
    entries: &[
        Entry {
            name: "gemma2",
            summary: "Gemma 2: norms around sub-layers, bounded scores and logits, alternating windows",
            item: Family {
                read: gemma::gemma2,
                sizes: LIKE_LLAMA,
            },
        },
        Entry {
            name: "gemma3_text",
            summary: "Gemma 3, text: norms around sub-layers and on query and key heads, one block in six unwindowed",
            item: Family {
                read: gemma::gemma3,
                sizes: LIKE_LLAMA,
            },
        },
        Entry {
            name: "gpt2",
            summary: "GPT-2: LayerNorm, learned positions, fused queries, keys and values, transposed weights",
            item: Family {
                read: gpt2::gpt2,
                sizes: neurons_only("n_inner"),
            },
        },
        Entry {
            name: "gpt_neox",
            summary: "GPT-NeoX, Pythia: parallel sub-layers, fused queries, keys and values, partial rotary positions",
            item: Family {
                read: gpt_neox::gpt_neox,
                sizes: neurons_only("intermediate_size"),
            },
        },
        Entry {
            name: "llama",
            summary: "LLaMA 1, 2, 3, 3.1, 3.2, SmolLM2: RMSNorm, rotary positions, SwiGLU, grouped-query attention",
            item: Family {
                read: llama::llama,
                sizes: LIKE_LLAMA,
            },
        },
        Entry {
            name: "mistral",
            summary: "Mistral: as llama, attention within a sliding window",
            item: Family {
                read: llama::mistral,
                sizes: LIKE_LLAMA,
            },
        },
        Entry {
            name: "opt",
            summary: "OPT: LayerNorm before or after, learned positions, biases, ReLU",
            item: Family {
                read: opt::opt,
                sizes: neurons_only("ffn_dim"),
            },
        },
        Entry {
            name: "qwen2",
            summary: "Qwen 2, 2.5: as llama, with biases of queries, keys and values",
            item: Family {
                read: llama::qwen2,
                sizes: LIKE_LLAMA,
            },
        },
        Entry {
            name: "qwen3",
            summary: "Qwen 3: as llama, with norms of query and key heads",
            item: Family {
                read: llama::qwen3,
                sizes: LIKE_LLAMA,
            },
        },
    ],
};

/// What is missing for mixtures of experts.
const EXPERTS: &str =
    "a mixture of experts: its router, and calibration statistics for each expert, are not implemented";

/// Model types that are known and not supported, each with what is missing.
const REFUSED: &[(&str, &str)] = &[
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

/// Reads `config.json` in the model directory `dir`.
///
/// # Errors
/// Names the file, and the key where there is one.
pub fn read_spec(dir: &Path) -> Result<ModelSpec> {
    let path = dir.join("config.json");
    if !path.exists()
        && let Some(found) = instead(dir, Wanted::Model)
    {
        return Err(Error::input(format!("is not there; {found}")).at(path.display()));
    }
    let text = input::read_text(&path, input::SMALL)?;
    parse_spec(&text).at(path.display())
}

/// Reads the text of a `config.json`.
///
/// # Errors
/// Names the line of broken JSON, or the key that is missing, of the wrong type or unsupported.
pub fn parse_spec(text: &str) -> Result<ModelSpec> {
    let json: Value = serde_json::from_str(&json::standard(text))
        .map_err(|error| Error::input(format!("not valid JSON: {error}")))?;
    let Value::Object(mut map) = json else {
        return Err(Error::input("not a JSON object"));
    };
    let of_blocks = map.shift_remove(PER_BLOCK).filter(|sizes| !sizes.is_null());
    let (mut spec, family) = read(map.clone())?;
    check_size(&spec)?;
    if let Some(sizes) = of_blocks {
        let blocks = blocks_of_their_own(&map, &spec, &family.item.sizes, &sizes)?;
        blocks
            .into_iter()
            .for_each(|(index, block)| spec.set_block(index, block));
        check_size(&spec)?;
    }
    Ok(spec)
}

/// Reads a configuration of equal blocks.
fn read(map: Map<String, Value>) -> Result<(ModelSpec, &'static Entry<Family>)> {
    let mut config = Config {
        map,
        read: BTreeSet::new(),
    };
    let family = config.text("model_type")?;
    if let Some((name, missing)) = REFUSED.iter().find(|(name, _)| *name == family) {
        return Err(Error::input(format!("key `model_type`: `{name}` is {missing}")));
    }
    let entry = FAMILIES
        .find(&family)
        .map_err(|error| Error::input(error.to_string()))
        .at("key `model_type`")?;
    let spec = (entry.item.read)(&mut config)?;
    quantization::refuse(&mut config)?;
    config.refuse_the_rest()?;
    Ok((spec, entry))
}

/// The blocks whose sizes [`PER_BLOCK`] gives, by their place: each is what the configuration says with these sizes in place
/// of its own. Key-value heads and the features of a head stay what they are in all blocks, unless they are given too.
fn blocks_of_their_own(
    map: &Map<String, Value>,
    spec: &ModelSpec,
    keys: &SizeKeys,
    sizes: &Value,
) -> Result<Vec<(usize, BlockSpec)>> {
    let wrong = |message: String| Error::input(format!("key `{PER_BLOCK}`: {message}"));
    let Value::Object(sizes) = sizes else {
        return Err(wrong("must be an object of blocks, by their numbers".to_string()));
    };
    let mut known = vec![keys.neurons];
    known.extend(keys.heads.iter().flat_map(|keys| [keys.heads, keys.kv_heads]));
    let mut blocks = Vec::new();
    for (name, own) in sizes {
        let index = name.parse().ok().filter(|index| *index < spec.blocks);
        let index = index.ok_or_else(|| wrong(format!("`{name}` is no block; there are {}", spec.blocks)))?;
        let Value::Object(own) = own else {
            return Err(wrong(format!("block {index} must be an object of sizes")));
        };
        if let Some(other) = own.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(wrong(format!(
                "block {index}: `{other}` is not supported; blocks of this family may differ in {}",
                known.join(", ")
            )));
        }
        let mut map = map.clone();
        if let Some(keys) = &keys.heads {
            let attention = spec.block(0).attention;
            map.insert(keys.kv_heads.to_string(), attention.kv_heads.into());
            map.insert(keys.head_dim.to_string(), attention.head_dim.into());
        }
        map.extend(own.clone());
        let (own, _) = read(map).at(format_args!("key `{PER_BLOCK}`, block {index}"))?;
        blocks.push((index, own.block(index).as_ref().clone()));
    }
    Ok(blocks)
}

/// Most parameters that a model may claim to have, so that numbers computed from sizes (forecasts, counts) do not
/// overflow.
const MOST_PARAMETERS: u128 = 1 << 45;

/// Refuses a model with absurd sizes before any memory is allocated for it.
fn check_size(spec: &ModelSpec) -> Result<()> {
    let elements = |tensors: &[(String, Vec<usize>)]| -> u128 {
        let sizes = tensors.iter();
        let of = |shape: &[usize]| shape.iter().map(|size| *size as u128).product::<u128>();
        sizes.map(|(_, shape)| of(shape)).sum()
    };
    let [before, after] = spec.outer_tensors();
    let kinds = spec.kinds();
    let blocks: u128 = kinds
        .map(|(block, count)| elements(&spec.tensors_of(block, 0)) * count as u128)
        .sum();
    let total = elements(&before) + blocks + elements(&after);
    if total > MOST_PARAMETERS {
        return Err(Error::input(format!(
            "the sizes make a model of {total} parameters ({} blocks, {} wide, a vocabulary of {}); the limit is {MOST_PARAMETERS}",
            spec.blocks, spec.width, spec.vocabulary
        )));
    }
    Ok(())
}

/// The content of a `config.json`; remembers which keys were read.
pub struct Config {
    map: Map<String, Value>,
    read: BTreeSet<String>,
}

/// Keys that never change the scores of a text: they concern training, generation, bookkeeping or execution.
const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "activation_dropout",
    "add_cross_attention",
    "allow_global_per_layer_attribute_access",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "init_std",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "layerdrop",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Keys that change the computation in some family, each with the value that switches it off. A family that supports
/// a key reads it, and then it is not checked here.
const MATHEMATICAL: &[(&str, Value)] = &[
    ("alibi", Value::Bool(false)),
    ("attention_multiplier", Value::Null),
    ("attn_logit_softcapping", Value::Null),
    ("clip_qkv", Value::Null),
    ("embedding_multiplier", Value::Null),
    ("final_logit_softcapping", Value::Null),
    ("is_causal", Value::Bool(true)),
    ("kv_lora_rank", Value::Null),
    ("layer_types", Value::Null),
    ("logit_scale", Value::Null),
    ("logits_scaling", Value::Null),
    ("n_routed_experts", Value::Null),
    ("num_experts", Value::Null),
    ("num_local_experts", Value::Null),
    ("original_max_position_embeddings", Value::Null),
    ("parallel_residual", Value::Bool(false)),
    ("qk_layernorm", Value::Bool(false)),
    ("query_pre_attn_scalar", Value::Null),
    ("reorder_and_upcast_attn", Value::Bool(false)),
    ("residual_multiplier", Value::Null),
    ("rope_interleaved", Value::Bool(false)),
    ("rope_scaling", Value::Null),
    ("scale_attn_by_inverse_layer_idx", Value::Bool(false)),
    ("scale_attn_weights", Value::Bool(true)),
    ("sliding_window", Value::Null),
    ("transformers_weights", Value::Null),
    ("use_bidirectional_attention", Value::Bool(false)),
    ("use_mrope", Value::Bool(false)),
    ("use_parallel_residual", Value::Bool(false)),
    ("use_qk_norm", Value::Bool(false)),
    ("use_sliding_window", Value::Bool(false)),
];

impl Config {
    /// The value of `key`; `None` if it is absent or null.
    pub fn get(&mut self, key: &str) -> Option<&Value> {
        self.written(key).filter(|value| !value.is_null())
    }

    /// The value of `key`, even if it is null; `None` if it is absent.
    fn written(&mut self, key: &str) -> Option<&Value> {
        self.read.insert(key.to_string());
        self.map.get(key)
    }

    fn is_null(&mut self, key: &str) -> bool {
        self.written(key).is_some_and(Value::is_null)
    }

    /// Makes `old` another name of `key`. If both are present, `old` counts.
    pub fn alias(&mut self, old: &str, key: &str) {
        if let Some(value) = self.map.remove(old) {
            self.map.insert(key.to_string(), value);
        }
    }

    /// Marks a key as read that has no effect in this family, although it has one in others; transformers ignores it,
    /// too. This is logged, since whoever wrote the key expected an effect.
    pub fn ignore(&mut self, key: &str) {
        if let Some(value) = self.get(key) {
            tracing::warn!("config.json: key `{key}` = {value} is ignored, as transformers ignores it for this family");
        }
    }

    /// The value of a key; `None` if it is absent. Null is refused, as in transformers.
    fn typed<T>(&mut self, key: &str, wanted: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        self.written(key)
            .map(|value| {
                convert(value).ok_or_else(|| {
                    let hint = if value.is_null() {
                        "; for the default, leave the key out"
                    } else {
                        ""
                    };
                    Error::input(format!("key `{key}` must be {wanted}, but is {value}{hint}"))
                })
            })
            .transpose()
    }

    /// A positive integer; `None` if the key is absent.
    pub fn count(&mut self, key: &str) -> Result<Option<usize>> {
        let count = self.typed(key, "a positive integer", |value| value.as_u64().filter(|n| *n > 0))?;
        let within = |count| limited(key, usize::try_from(count).unwrap_or(usize::MAX), u32::MAX as usize);
        count.map(within).transpose()
    }

    /// A positive integer. Null means "none"; if the key is absent, the value is `default`.
    pub fn count_or_null(&mut self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        if self.is_null(key) {
            return Ok(None);
        }
        Ok(self.count(key)?.or(default))
    }

    /// A size of tensors, at most `LARGEST_SIZE`. `default` is transformers' own; it rarely fits a model, so a
    /// warning is logged when it is used.
    pub fn size(&mut self, key: &str, default: usize) -> Result<usize> {
        let Some(size) = self.count(key)? else {
            tracing::warn!("config.json: key `{key}` is missing; {default} is taken, as transformers does");
            return Ok(default);
        };
        limited(key, size, LARGEST_SIZE)
    }

    /// A size of tensors that many configurations leave out.
    pub fn size_or(&mut self, key: &str, default: usize) -> Result<usize> {
        limited(key, self.count(key)?.unwrap_or(default), LARGEST_SIZE)
    }

    /// A size of tensors; `None` if it is absent or null, and follows from other sizes.
    pub fn size_or_null(&mut self, key: &str) -> Result<Option<usize>> {
        let size = self.count_or_null(key, None)?;
        size.map(|size| limited(key, size, LARGEST_SIZE)).transpose()
    }

    /// The number of blocks, as [`Config::size`].
    pub fn blocks(&mut self, key: &str, default: usize) -> Result<usize> {
        let blocks = self.count(key)?.map(|blocks| limited(key, blocks, MOST_BLOCKS));
        blocks.unwrap_or_else(|| self.size(key, default))
    }

    /// An integer that is 0 or larger; `None` if the key is absent.
    pub fn natural(&mut self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an integer from 0 on", |value| {
            value.as_u64().filter(|n| *n <= u64::from(u32::MAX)).map(|n| n as usize)
        })
    }

    /// A positive number; `None` if the key is absent.
    pub fn positive(&mut self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a positive number", |value| {
            value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    /// A positive number. Null means "none"; if the key is absent, the value is `default`.
    pub fn positive_or_null(&mut self, key: &str, default: Option<f32>) -> Result<Option<f32>> {
        if self.is_null(key) {
            return Ok(None);
        }
        Ok(self.positive(key)?.or(default))
    }

    /// A finite number; `None` if the key is absent.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| value.as_f64().filter(|x| x.is_finite()))
    }

    /// True or false; `default` if the key is absent.
    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A string that must be there.
    pub fn text(&mut self, key: &str) -> Result<String> {
        required(
            key,
            self.typed(key, "a string", |value| value.as_str().map(str::to_string))?,
        )
    }

    /// The activation function that `key` names; `default` if the key is absent.
    pub fn activation(&mut self, key: &str, default: Activation) -> Result<Activation> {
        let Some(value) = self.written(key) else {
            return Ok(default);
        };
        match value.as_str() {
            Some("relu") => Ok(Activation::Relu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu" | "gelu_python") => Ok(Activation::Gelu),
            // Names of one formula.
            Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate") => {
                Ok(Activation::GeluTanh)
            }
            _ => Err(Error::input(format!(
                "key `{key}`: activation {value} is not supported (supported: relu, silu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh)"
            ))),
        }
    }

    /// A small positive number such as a norm's epsilon; `default` if the key is absent.
    pub fn epsilon(&mut self, key: &str, default: f64) -> Result<f32> {
        let epsilon = self.number(key)?.unwrap_or(default);
        if epsilon > 0.0 {
            Ok(epsilon as f32)
        } else {
            Err(Error::input(format!("key `{key}` must be positive, but is {epsilon}")))
        }
    }

    /// Refuses keys that change the computation and were not read; logs keys that are not known.
    fn refuse_the_rest(&self) -> Result<()> {
        for (key, value) in &self.map {
            if self.read.contains(key) || INERT.contains(&key.as_str()) {
                continue;
            }
            match MATHEMATICAL.iter().find(|(name, _)| name == key) {
                Some((_, off)) if value == off => {}
                // transformers takes a null for "no", and then every token sees those after it.
                None | Some(_) if value.is_null() && key != "is_causal" => {}
                Some(_) if key == "layer_types" && all_full(value) => {}
                Some(_) => {
                    return Err(Error::input(format!(
                        "key `{key}` = {value} changes the model's mathematics and is not supported for this family; \
                         if it has no meaning for this model, remove it from config.json"
                    )));
                }
                None => tracing::warn!("config.json: key `{key}` = {value} is unknown and was ignored"),
            }
        }
        Ok(())
    }
}

/// Whether all blocks have full attention, as in families without windows.
fn all_full(kinds: &Value) -> bool {
    let kinds = kinds.as_array().map(Vec::as_slice).unwrap_or_default();
    !kinds.is_empty() && kinds.iter().all(|kind| kind == "full_attention")
}

fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::input(format!("key `{key}` is missing")))
}

/// Most blocks that a model may have. Plans and forecasts use the number before a missing tensor could show that it
/// is wrong.
const MOST_BLOCKS: usize = 100_000;

/// Largest width, vocabulary or number of heads that a model may have.
const LARGEST_SIZE: usize = 1 << 24;

fn limited(key: &str, value: usize, limit: usize) -> Result<usize> {
    if value > limit {
        return Err(Error::input(format!(
            "key `{key}` = {value} is too large; the limit is {limit}"
        )));
    }
    Ok(value)
}

/// Which tokens the attention of each block can see: as `layer_types` says, or repeated with a `period` if it is
/// absent. `sliding` tells whether a block has the window, and `rotary` which frequencies it then uses.
fn reaches(
    config: &mut Config,
    blocks: usize,
    window: Option<usize>,
    period: usize,
    sliding: impl Fn(usize) -> bool,
    rotary: impl Fn(bool) -> usize,
) -> Result<Vec<Reach>> {
    let kinds: Vec<bool> = match config.get("layer_types") {
        None => (0..period.min(blocks)).map(sliding).collect(),
        Some(Value::Array(kinds)) if kinds.len() == blocks => kinds
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(Error::input(format!(
                    "key `layer_types`: {kind} is not supported (supported: full_attention, sliding_attention)"
                ))),
            })
            .collect::<Result<_>>()?,
        Some(_) => {
            return Err(Error::input(format!(
                "key `layer_types` must list one kind for each of {blocks} blocks"
            )));
        }
    };
    if window.is_none() && kinds.contains(&true) {
        return Err(Error::input(
            "key `sliding_window` says that there is no window, but some blocks have sliding_attention",
        ));
    }
    Ok(kinds
        .into_iter()
        .map(|sliding| Reach {
            window: window.filter(|_| sliding),
            rotary: rotary(sliding),
        })
        .collect())
}

/// `total / parts` if there is no remainder, otherwise an error that names both keys.
fn divide(total: usize, total_key: &str, parts: usize, parts_key: &str) -> Result<usize> {
    if total.is_multiple_of(parts) {
        Ok(total / parts)
    } else {
        Err(Error::input(format!(
            "key `{total_key}` = {total} is not divisible by `{parts_key}` = {parts}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Positions;
    use std::collections::BTreeMap;

    const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 128"#;

    fn message(text: &str) -> String {
        parse_spec(text)
            .expect_err("this configuration is unsupported")
            .to_string()
    }

    #[test]
    fn unsupported_mathematics_is_refused_by_key() {
        for extra in [
            r#""attn_logit_softcapping": 50.0"#,
            r#""num_local_experts": 8"#,
            r#""hidden_act": "quick_gelu""#,
            r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#,
            r#""quantization_config": {"bits": 4}"#,
            r#""num_key_value_heads": 3"#,
        ] {
            let key = extra.split('"').nth(1).expect("the key is quoted");
            let text = format!("{LLAMA}, {extra}}}");
            assert!(message(&text).contains(key), "{extra}: {}", message(&text));
        }
    }

    #[test]
    fn a_fraction_of_a_head_counts_where_transformers_looks_at_it() {
        let read = |rest: &str| parse_spec(&format!("{LLAMA}, {rest}}}"));
        let whole = read("\"rope_theta\": 500.0").expect("supported");
        for ignored in [
            r#""rope_theta": 500.0, "partial_rotary_factor": 0.5"#,
            r#""partial_rotary_factor": 0.5, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}"#,
            r#""rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}"#,
        ] {
            assert_eq!(read(ignored).expect("ignored"), whole, "{ignored}");
        }
        for (rest, key) in [
            (
                r#""partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}"#,
                "key `partial_rotary_factor` = 0.5 with `rope_type` \"linear\"",
            ),
            (
                r#""rope_parameters": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}"#,
                "key `rope_parameters.partial_rotary_factor` = 0.5 with `rope_type` \"linear\"",
            ),
        ] {
            let text = format!("{LLAMA}, {rest}}}");
            assert!(message(&text).contains(key), "{}", message(&text));
        }
        let whole = r#""partial_rotary_factor": 1.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}"#;
        read(whole).expect("all of a head");
    }

    #[test]
    fn blocks_have_the_sizes_that_are_theirs() {
        let read = |of_blocks: &str| parse_spec(&format!(r#"{LLAMA}, "per_layer_config": {of_blocks}}}"#));
        let equal = parse_spec(&format!("{LLAMA}}}")).expect("supported");
        let sizes = |spec: &ModelSpec, index: usize| {
            let block = spec.block(index);
            let attention = block.attention;
            (attention.heads, attention.kv_heads, attention.head_dim, block.neurons())
        };
        assert_eq!(read("null").expect("nothing"), equal);
        assert_eq!(read(r#"{"1": {"intermediate_size": 128}}"#).expect("what it is"), equal);
        let spec = read(r#"{"1": {"intermediate_size": 96, "num_attention_heads": 3, "num_key_value_heads": 3}}"#);
        let spec = spec.expect("supported");
        assert_eq!((sizes(&spec, 0), sizes(&spec, 1)), ((4, 4, 16, 128), (3, 3, 16, 96)));
        assert_eq!(spec.prunable(), equal.prunable() - 3 * 64 * 32 - 4 * 64 * 16);
        let shapes: BTreeMap<_, _> = spec.tensors().collect();
        assert_eq!(shapes["model.layers.0.mlp.down_proj.weight"], [64, 128]);
        assert_eq!(shapes["model.layers.1.mlp.down_proj.weight"], [64, 96]);
        assert_eq!(shapes["model.layers.1.self_attn.o_proj.weight"], [64, 48]);
        for (wrong, why) in [
            ("[1]", "must be an object of blocks"),
            (r#"{"2": {"intermediate_size": 96}}"#, "`2` is no block; there are 2"),
            (r#"{"-1": {"intermediate_size": 96}}"#, "`-1` is no block"),
            (r#"{"1": 96}"#, "block 1 must be an object of sizes"),
            (r#"{"1": {"skip": ["mlp"]}}"#, "block 1: `skip` is not supported"),
            (
                r#"{"1": {"intermediate_size": 0}}"#,
                "block 1: key `intermediate_size` must be a positive integer",
            ),
            (
                r#"{"1": {"num_attention_heads": 3}}"#,
                "block 1: key `num_attention_heads` = 3 is not divisible",
            ),
        ] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(
                error.contains("per_layer_config") && error.contains(why),
                "{wrong}: {error}"
            );
        }
        let heads = r#"{"model_type": "opt", "per_layer_config": {"1": {"num_attention_heads": 3}}}"#;
        assert!(
            message(heads).contains("blocks of this family may differ in ffn_dim"),
            "{}",
            message(heads)
        );
    }

    #[test]
    fn a_model_is_what_its_blocks_are_in_whatever_order_they_were_given() {
        let text = include_str!("../../../models/tiny-llama/config.json");
        let equal = parse_spec(text).expect("the embedded model's");
        let other = BlockSpec {
            parallel: true,
            ..equal.block(0).as_ref().clone()
        };
        let mut forwards = equal.clone();
        let mut backwards = equal.clone();
        for index in 0..equal.blocks {
            forwards.set_block(index, other.clone());
            assert_ne!(forwards, equal);
            assert_eq!(forwards.kinds().map(|(_, count)| count).sum::<usize>(), equal.blocks);
            backwards.set_block(equal.blocks - 1 - index, other.clone());
        }
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.kinds().collect::<Vec<_>>(), [(&other, equal.blocks)]);
        for index in 0..equal.blocks {
            forwards.set_block(index, equal.block(index).as_ref().clone());
        }
        assert_eq!(forwards, equal);
    }

    #[test]
    fn switched_off_and_inert_keys_are_accepted() {
        let text = format!(
            r#"{LLAMA}, "rope_interleaved": false, "sliding_window": null, "bos_token_id": 1, "surprise": 3}}"#
        );
        assert!(parse_spec(&text).is_ok());
    }

    #[test]
    fn an_unknown_family_is_answered_with_the_known_ones() {
        assert_eq!(
            message(r#"{"model_type": "lama"}"#),
            "key `model_type`: unknown model family `lama`; did you mean `llama`? (known: `gemma2`, `gemma3_text`, `gpt2`, \
             `gpt_neox`, `llama`, `mistral`, `opt`, `qwen2`, `qwen3`)"
        );
    }

    #[test]
    fn mixtures_of_experts_are_refused_by_name() {
        let message = message(r#"{"model_type": "mixtral"}"#);
        assert!(
            message.contains("`mixtral` is a mixture of experts: its router"),
            "{message}"
        );
    }

    /// Configurations as transformers 4 wrote them for models on the hub, shortened to what is read.
    #[test]
    fn configurations_of_the_hub_are_read() {
        let read = |text: &str| parse_spec(text).expect("a configuration of the hub");
        let frequencies = |spec: &ModelSpec| match &spec.positions {
            Positions::Rotary { frequencies } => frequencies.clone(),
            Positions::Learned { .. } => Vec::new(),
        };

        let pythia = read(
            r#"{"model_type": "gpt_neox", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
            "num_attention_heads": 8, "vocab_size": 50304, "max_position_embeddings": 2048, "hidden_act": "gelu",
            "rotary_emb_base": 10000, "rotary_pct": 0.25, "use_parallel_residual": true, "layer_norm_eps": 1e-05}"#,
        );
        assert_eq!(frequencies(&pythia)[0].len(), 8, "a quarter of 64 features is 8 pairs");

        let gemma2 = read(
            r#"{"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096,
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256,
            "cache_implementation": "hybrid", "rope_theta": 10000.0, "max_position_embeddings": 8192}"#,
        );
        assert_eq!((gemma2.reach(0).window, gemma2.reach(25).window), (Some(4096), None));
        assert_eq!(
            (gemma2.block(0).attention.softcap, gemma2.head.softcap),
            (Some(50.0), Some(30.0))
        );

        let gemma3 = read(
            r#"{"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
            "sliding_window": 512, "sliding_window_pattern": 6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "attn_logit_softcapping": null}"#,
        );
        let reaches: Vec<_> = (4..7).map(|block| gemma3.reach(block)).collect();
        let expected = [(Some(512), 1), (None, 0), (Some(512), 1)].map(|(window, rotary)| Reach { window, rotary });
        assert_eq!(reaches, expected);
        let turns = frequencies(&gemma3);
        assert_eq!(
            (turns[0][0], turns[1][0]),
            (0.125, 1.0),
            "scaling concerns full attention only"
        );

        let gpt2 = read(
            r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024,
            "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
            "scale_attn_weights": true, "reorder_and_upcast_attn": false, "scale_attn_by_inverse_layer_idx": false}"#,
        );
        assert_eq!(gpt2.prunable(), 12 * 12 * 768 * 768);

        let qwen = read(
            r#"{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "rope_theta": 1000000.0,
            "sliding_window": 32768, "max_window_layers": 24, "use_sliding_window": false, "use_mrope": false,
            "tie_word_embeddings": true}"#,
        );
        assert_eq!(qwen.reach(23).window, None);
        assert!(qwen.block(0).linears[0].bias && !qwen.block(0).linears[3].bias);
    }
}
