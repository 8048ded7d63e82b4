//! The content of a `config.json`, key by key: what a key must be, and which keys nobody has read.

use crate::error::{Error, Result};
use crate::spec::Activation;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The content of a `config.json`; remembers which keys were read.
pub struct Config {
    map: Map<String, Value>,
    read: BTreeSet<String>,
}

/// Most blocks that a model may have. Plans and forecasts use the number before a missing tensor could show that it
/// is wrong.
const MOST_BLOCKS: usize = 100_000;

/// Largest width, vocabulary or number of heads that a model may have.
const LARGEST_SIZE: usize = 1 << 24;

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
    "auto_map",
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
    /// The content of a file, of which nothing was read yet.
    pub fn new(map: Map<String, Value>) -> Self {
        Config {
            map,
            read: BTreeSet::new(),
        }
    }

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
    pub fn refuse_the_rest(&self) -> Result<()> {
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

fn limited(key: &str, value: usize, limit: usize) -> Result<usize> {
    if value > limit {
        return Err(Error::input(format!(
            "key `{key}` = {value} is too large; the limit is {limit}"
        )));
    }
    Ok(value)
}

/// `total / parts` if there is no remainder, otherwise an error that names both keys.
pub fn divide(total: usize, total_key: &str, parts: usize, parts_key: &str) -> Result<usize> {
    if total.is_multiple_of(parts) {
        Ok(total / parts)
    } else {
        Err(Error::input(format!(
            "key `{total_key}` = {total} is not divisible by `{parts_key}` = {parts}"
        )))
    }
}
