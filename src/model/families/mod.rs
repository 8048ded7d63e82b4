//! Families: a Hugging Face `config.json` becomes a [`ModelSpec`].
//!
//! Owns the reading of configurations. A key that changes the mathematics and is not supported is an
//! error that names the key; keys that only concern training, generation or bookkeeping are ignored; a
//! key nobody here has heard of is reported in the log, since it may matter.

use crate::error::{Error, Located, Result};
use crate::registry::{Entry, Registry};
use crate::spec::{Activation, ModelSpec};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

mod llama;
mod opt;

/// Reads one family's configuration.
pub type Reader = fn(config: &mut Config) -> Result<ModelSpec>;

/// All families, by the `model_type` of their `config.json`.
pub const FAMILIES: Registry<Reader> = Registry {
    kind: "model family",
    entries: &[
        Entry {
            name: "llama",
            summary: "LLaMA 1, 2, 3, 3.1, 3.2, SmolLM2: RMSNorm, rotary positions, SwiGLU, grouped-query attention",
            item: llama::llama,
        },
        Entry {
            name: "mistral",
            summary: "Mistral: as llama; windows up to the sliding window's length",
            item: llama::mistral,
        },
        Entry {
            name: "opt",
            summary: "OPT: LayerNorm before or after, learned positions, biases, ReLU",
            item: opt::opt,
        },
    ],
};

/// Reads `config.json` in the model directory `dir`.
///
/// # Errors
/// Names the file, and the key where there is one.
pub fn read_spec(dir: &Path) -> Result<ModelSpec> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| Error::reading(&path, source))?;
    parse_spec(&text).at(path.display())
}

/// Reads the text of a `config.json`.
///
/// # Errors
/// Names the line of broken JSON, or the key that is missing, of the wrong type or unsupported.
pub fn parse_spec(text: &str) -> Result<ModelSpec> {
    let json: Value = serde_json::from_str(text).map_err(|error| Error::input(format!("not valid JSON: {error}")))?;
    let Value::Object(map) = json else {
        return Err(Error::input("not a JSON object"));
    };
    let mut config = Config {
        map,
        read: BTreeSet::new(),
    };
    let family = config.text("model_type")?;
    let entry = FAMILIES
        .find(&family)
        .map_err(|error| Error::input(error.to_string()))
        .at("key `model_type`")?;
    let spec = (entry.item)(&mut config)?;
    config.refuse_the_rest()?;
    Ok(spec)
}

/// A `config.json` under reading; remembers which keys were used.
pub struct Config {
    map: Map<String, Value>,
    read: BTreeSet<String>,
}

/// Keys that never change the scores of a text: training, generation, bookkeeping, execution.
const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "activation_dropout",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
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
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
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

/// Keys known to change the mathematics in some family, with the value that switches each one off.
/// A family that supports one reads it, and it is then not looked up here.
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
    ("partial_rotary_factor", Value::Null),
    ("per_layer_config", Value::Null),
    ("qk_layernorm", Value::Bool(false)),
    ("quantization_config", Value::Null),
    ("residual_multiplier", Value::Null),
    ("rope_interleaved", Value::Bool(false)),
    ("rope_scaling", Value::Null),
    ("sliding_window", Value::Null),
    ("use_parallel_residual", Value::Bool(false)),
    ("use_qk_norm", Value::Bool(false)),
    ("use_sliding_window", Value::Bool(false)),
];

impl Config {
    /// The value of `key`, or `None` when it is absent or null.
    pub fn get(&mut self, key: &str) -> Option<&Value> {
        self.read.insert(key.to_string());
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is written at all, even as null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn typed<T>(&mut self, key: &str, wanted: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key)
            .map(|value| {
                convert(value).ok_or_else(|| Error::input(format!("key `{key}` must be {wanted}, but is {value}")))
            })
            .transpose()
    }

    /// A positive integer, if given.
    pub fn count(&mut self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a positive integer", |value| {
            value
                .as_u64()
                .filter(|n| (1..=u64::from(u32::MAX)).contains(n))
                .map(|n| n as usize)
        })
    }

    /// A finite number, if given.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| value.as_f64().filter(|x| x.is_finite()))
    }

    /// True or false; `default` when absent.
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

    /// A positive integer that must be there.
    pub fn required_count(&mut self, key: &str) -> Result<usize> {
        let value = self.count(key)?;
        required(key, value)
    }

    /// The activation function named by `key`; `default` when absent.
    pub fn activation(&mut self, key: &str, default: Activation) -> Result<Activation> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::String(name)) if name == "relu" => Ok(Activation::Relu),
            Some(Value::String(name)) if name == "silu" || name == "swish" => Ok(Activation::Silu),
            Some(Value::String(name)) if name == "gelu" => Ok(Activation::Gelu),
            Some(other) => Err(Error::input(format!(
                "key `{key}`: activation {other} is not supported (supported: relu, silu, gelu)"
            ))),
        }
    }

    /// A positive small number such as a norm's epsilon; `default` when absent.
    pub fn epsilon(&mut self, key: &str, default: f64) -> Result<f32> {
        let epsilon = self.number(key)?.unwrap_or(default);
        if epsilon > 0.0 {
            Ok(epsilon as f32)
        } else {
            Err(Error::input(format!("key `{key}` must be positive, but is {epsilon}")))
        }
    }

    /// Refuses keys that change the mathematics and were not read; logs keys nobody knows.
    fn refuse_the_rest(&self) -> Result<()> {
        for (key, value) in &self.map {
            if self.read.contains(key) || value.is_null() || INERT.contains(&key.as_str()) {
                continue;
            }
            match MATHEMATICAL.iter().find(|(name, _)| name == key) {
                Some((_, off)) if value == off => {}
                Some(_) => {
                    return Err(Error::input(format!(
                        "key `{key}` = {value} changes the model's mathematics and is not supported for this family"
                    )));
                }
                None => tracing::warn!("config.json: key `{key}` = {value} is unknown and was ignored"),
            }
        }
        Ok(())
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::input(format!("key `{key}` is missing")))
}

/// `total / parts` when it divides evenly, else an error naming both keys.
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
            r#""partial_rotary_factor": 0.5"#,
            r#""hidden_act": "gelu_pytorch_tanh""#,
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
            "key `model_type`: unknown model family `lama`; did you mean `llama`? (known: `llama`, `mistral`, `opt`)"
        );
    }
}
