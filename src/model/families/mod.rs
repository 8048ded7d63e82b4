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
use crate::model::found::{Sought, instead};
use crate::registry::Entry;
use crate::spec::{BlockSpec, ModelSpec, SubLayer};
use serde_json::{Map, Value};
use std::path::Path;

mod biases;
mod configuration;
mod gemma;
mod gpt2;
mod gpt_neox;
mod llama;
mod opt;
mod quantization;
mod reach;
mod registry;
mod rotary;

pub use biases::with_biases;
pub use configuration::Config;
use registry::REFUSED;
pub use registry::{BiasKey, FAMILIES, HeadCounts, HeadKeys, ModelFamily, Reader, SizeKeys};

/// The key whose value is an object of blocks, each with the sizes that it has of its own.
pub const PER_BLOCK: &str = "per_layer_config";

/// Reads `config.json` in the model directory `dir`.
///
/// # Errors
/// Names the file, and the key where there is one.
pub fn read_spec(dir: &Path) -> Result<ModelSpec> {
    let path = dir.join("config.json");
    if !path.exists()
        && let Some(found) = instead(dir, Sought::Model)
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

/// Whether stock loaders take a model as its family: its blocks are equal and, if the family asks for that, the heads share out the width.
///
/// # Errors
/// The family is unknown.
pub fn is_stock(spec: &ModelSpec) -> Result<bool> {
    let sizes = &FAMILIES.find(spec.family)?.item.sizes;
    let mut kinds = spec.kinds();
    let (Some((block, _)), None) = (kinds.next(), kinds.next()) else {
        return Ok(false);
    };
    let any = sizes.heads.is_none_or(|keys| keys.counts == HeadCounts::Any);
    Ok(any || spec.width.is_multiple_of(block.attention.heads))
}

/// Reads a configuration of equal blocks.
fn read(map: Map<String, Value>) -> Result<(ModelSpec, &'static Entry<ModelFamily>)> {
    let mut config = Config::new(map);
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
/// of its own. Key-value heads and the features of a head stay what they are in all blocks, unless they are given too. A block
/// with 0 heads or 0 neurons has no attention or no MLP.
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
        let heads = keys.heads.iter().flat_map(|keys| [keys.heads, keys.kv_heads]).collect();
        let none = |keys: &Vec<&str>| {
            let given = keys.iter().filter_map(|key| own.get(*key));
            let zeros = given.filter(|size| size.as_u64() == Some(0));
            !keys.is_empty() && zeros.count() == keys.len()
        };
        let parts = [(SubLayer::Attention, heads), (SubLayer::Mlp, vec![keys.neurons])];
        let gone: Vec<&(SubLayer, Vec<&str>)> = parts.iter().filter(|(_, keys)| none(keys)).collect();
        if gone.len() == parts.len() {
            return Err(wrong(format!(
                "block {index} has neither attention nor MLP; leave it out"
            )));
        }
        let mut own = own.clone();
        own.retain(|key, _| !gone.iter().any(|(_, keys)| keys.contains(&key.as_str())));
        map.extend(own);
        let (own, _) = read(map).at(format_args!("key `{PER_BLOCK}`, block {index}"))?;
        let block = own.block(index).as_ref().clone();
        let left = gone.into_iter().fold(block, |block, (part, _)| block.without(*part));
        blocks.push((index, left));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Positions, Reach};
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
        let spec =
            read(r#"{"0": {"num_attention_heads": 0, "num_key_value_heads": 0}, "1": {"intermediate_size": 0}}"#);
        let spec = spec.expect("supported");
        assert_eq!(spec.prunable(), equal.prunable() - 4 * 64 * 64 - 3 * 64 * 128);
        let names: Vec<String> = spec.tensors().map(|(name, _)| name).collect();
        assert!(
            !names
                .iter()
                .any(|name| name.contains("layers.0.self_attn") || name.contains("layers.1.mlp"))
        );
        assert!(!names.contains(&"model.layers.0.input_layernorm.weight".to_string()));
        for (wrong, why) in [
            ("[1]", "must be an object of blocks"),
            (
                r#"{"1": {"num_attention_heads": 0, "num_key_value_heads": 0, "intermediate_size": 0}}"#,
                "block 1 has neither attention nor MLP",
            ),
            (
                r#"{"1": {"num_attention_heads": 0}}"#,
                "block 1: key `num_attention_heads` must be a positive integer",
            ),
            (r#"{"2": {"intermediate_size": 96}}"#, "`2` is no block; there are 2"),
            (r#"{"-1": {"intermediate_size": 96}}"#, "`-1` is no block"),
            (r#"{"1": 96}"#, "block 1 must be an object of sizes"),
            (r#"{"1": {"skip": ["mlp"]}}"#, "block 1: `skip` is not supported"),
            (
                r#"{"1": {"intermediate_size": -1}}"#,
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
             `gpt_neox`, `granite`, `llama`, `mistral`, `opt`, `qwen2`, `qwen3`)"
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
