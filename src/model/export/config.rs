//! The `config.json` of a model whose blocks have other numbers of heads or neurons than its original's, or more biases.

use super::class;
use crate::error::{Error, Result};
use crate::files::json;
use crate::model::families::{FAMILIES, HeadCounts, HeadKeys, PER_BLOCK, SizeKeys, parse_spec};
use crate::spec::{BlockSpec, ModelSpec, SubLayer};
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Lets transformers read the sizes of all blocks from a configuration that gives some blocks others.
const READABLE: &str = "allow_global_per_layer_attribute_access";

/// The key whose value is a list with the kind of each block's attention.
const KINDS: &str = "layer_types";

/// The text of a `config.json`, changed so that it says `spec`. The sizes that most blocks have stand where sizes of all
/// blocks do, those of other blocks in [`PER_BLOCK`]. Stock classes of transformers read that too, but build no such model: they
/// refuse the shapes of the tensors. A block without attention has 0 heads there, one without MLP 0 neurons; then the configuration does
/// not let stock classes read it, which would take random weights for those that are not there. The class beside the weights
/// ([`CLASS`](super::CLASS)) builds it, and is named.
///
/// A LLaMA whose heads do not share out the width evenly is refused by transformers, and written as what it is in all but
/// name: a Mistral model without a window, or a Granite model if it has biases.
///
/// `blocks` are the numbers that the blocks have in the original: a list of what kind each block is keeps those of these.
///
/// # Errors
/// A `config.json` of this family cannot say it.
pub fn emitted(text: &str, spec: &ModelSpec, blocks: &[usize]) -> Result<String> {
    let unsaid = |why: &str| Error::input(format!("this configuration cannot describe the new model: {why}"));
    let family = FAMILIES.find(spec.family)?;
    let mut config: Map<String, Value> = serde_json::from_str(&json::standard(text))
        .map_err(|error| Error::input(format!("not valid JSON: {error}")))?;
    config.shift_remove(PER_BLOCK);
    config.shift_remove(READABLE);

    let mut counts = BTreeMap::new();
    for index in 0..spec.blocks {
        let block = spec.block(index);
        let sizes = (block.attention.heads, block.attention.kv_heads, block.neurons());
        let (count, _) = counts.entry(sizes).or_insert((0, Reverse(index)));
        *count += 1;
    }
    // Of sizes that are equally frequent, the first. No configuration says that all blocks lack something.
    let whole = counts
        .into_iter()
        .filter(|((heads, _, neurons), _)| *heads > 0 && *neurons > 0);
    let most = whole.map(|(_, most)| most).max();
    let (_, Reverse(first)) = most.ok_or_else(|| unsaid("no block has both attention and an MLP"))?;
    let usual = spec.block(first);
    config.extend(sizes(usual, &family.item.sizes));
    if let Some(keys) = &family.item.sizes.heads {
        config.insert(keys.head_dim.to_string(), usual.attention.head_dim.into());
    }
    let before = parse_spec(text)?;
    if spec.blocks != before.blocks {
        config.insert(family.item.sizes.blocks.to_string(), spec.blocks.into());
        if let Some(Value::Array(kinds)) = config.get_mut(KINDS)
            && kinds.len() == before.blocks
        {
            *kinds = blocks.iter().filter_map(|block| kinds.get(*block).cloned()).collect();
        }
    }
    for bias in family.item.biases {
        if bias.is_set(spec) != bias.is_set(&before) {
            config.insert(bias.key.to_string(), bias.is_set(spec).into());
        }
    }
    let mut others = Map::new();
    for index in 0..spec.blocks {
        let own = sizes(spec.block(index), &family.item.sizes);
        let own: Map<String, Value> = own.into_iter().filter(|(key, size)| config[key] != *size).collect();
        if !own.is_empty() {
            others.insert(index.to_string(), own.into());
        }
    }
    class::name(&mut config, !others.is_empty());
    if others.is_empty() {
        let counts = family.item.sizes.heads.map(|keys| keys.counts);
        match counts.filter(|_| !spec.width.is_multiple_of(usual.attention.heads)) {
            Some(HeadCounts::DivisorsOrRenamed) => as_another(&mut config, usual, spec.max_positions),
            Some(HeadCounts::Divisors) => tracing::warn!(
                "config.json: transformers refuses a `{}` whose width ({}) is no multiple of its heads ({}); this program reads it",
                spec.family,
                spec.width,
                usual.attention.heads
            ),
            Some(HeadCounts::Any) | None => {}
        }
    } else {
        config.insert(PER_BLOCK.to_string(), others.into());
        if (0..spec.blocks).all(|index| SubLayer::ALL.into_iter().all(|part| spec.block(index).has(part))) {
            config.insert(READABLE.to_string(), true.into());
        }
    }
    let text = format!("{:#}\n", Value::Object(config));
    let said = parse_spec(&text)?;
    // A list of what blocks see may be repeated, so that two lists can mean the same.
    let wanted = ModelSpec {
        family: said.family,
        reaches: said.reaches.clone(),
        ..spec.clone()
    };
    if said == wanted && (0..spec.blocks).all(|index| said.reach(index) == spec.reach(index)) {
        return Ok(text);
    }
    Err(unsaid(match family.item.sizes.heads {
        Some(_) => {
            "blocks may be left out, and differ from the original's in their numbers of heads, key-value heads and neurons, and in biases only"
        }
        None => {
            "blocks of this family may be left out, and differ from the original's in their number of neurons and in biases only; \
             write zeros in place of what was removed (--pad)"
        }
    }))
}

/// What a configuration says of a block's sizes.
fn sizes(block: &BlockSpec, keys: &SizeKeys) -> Vec<(String, Value)> {
    let mut sizes = vec![(keys.neurons, block.neurons())];
    if let Some(HeadKeys { heads, kv_heads, .. }) = keys.heads {
        sizes.push((heads, block.attention.heads));
        sizes.push((kv_heads, block.attention.kv_heads));
    }
    let said = |(key, size): (&str, usize)| (key.to_string(), Value::from(size));
    sizes.into_iter().map(said).collect()
}

/// Turns a LLaMA's configuration into that of a family whose heads need not share out the width evenly, and which computes the same: a
/// Mistral without a window, or with biases a Granite without factors.
fn as_another(config: &mut Map<String, Value>, usual: &BlockSpec, positions: usize) {
    // Where this key is missing, each family has its own number.
    config.insert("max_position_embeddings".to_string(), positions.into());
    let (family, class) = match usual.linears.iter().any(|linear| linear.bias) {
        true => {
            config.insert(
                "attention_multiplier".to_string(),
                f64::from(usual.attention.scale).into(),
            );
            for factor in ["embedding_multiplier", "residual_multiplier", "logits_scaling"] {
                config.insert(factor.to_string(), 1.0.into());
            }
            ("granite", "GraniteForCausalLM")
        }
        false => {
            for key in ["attention_bias", "mlp_bias"] {
                config.shift_remove(key);
            }
            config.insert("sliding_window".to_string(), Value::Null);
            ("mistral", "MistralForCausalLM")
        }
    };
    config.insert("model_type".to_string(), family.into());
    config.insert("architectures".to_string(), Value::from(vec![class]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edit::{BlockEdit, Edit};
    use crate::model::families::with_biases;
    use crate::spec::Role;

    const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 100, "max_position_embeddings": 128, "rope_theta": 500.0, "surprise": 3}"#;

    /// A block with other numbers of heads, key-value heads and neurons.
    fn narrowed(block: &BlockSpec, [heads, kv_heads, neurons]: [usize; 3]) -> BlockSpec {
        let mut block = block.clone();
        (block.attention.heads, block.attention.kv_heads) = (heads, kv_heads);
        let dim = block.attention.head_dim;
        for linear in &mut block.linears {
            match linear.role {
                Role::Query => linear.outputs = heads * dim,
                Role::Key | Role::Value => linear.outputs = kv_heads * dim,
                Role::Output => linear.inputs = heads * dim,
                Role::Gate | Role::Up => linear.outputs = neurons,
                Role::Down => linear.inputs = neurons,
                Role::Fused(_) => {}
            }
        }
        block
    }

    fn emit(text: &str, sizes: [[usize; 3]; 3]) -> Result<Map<String, Value>> {
        let mut spec = parse_spec(text).expect("supported");
        for (index, sizes) in sizes.into_iter().enumerate() {
            spec.set_block(index, narrowed(&spec.block(index).clone(), sizes));
        }
        let text = emitted(text, &spec, &[0, 1, 2])?;
        Ok(serde_json::from_str(&text).expect("JSON"))
    }

    #[test]
    fn equal_blocks_are_said_as_the_field_does() {
        let config = emit(LLAMA, [[2, 1, 84]; 3]).expect("sayable");
        assert_eq!(config["model_type"], "llama");
        let sizes = [
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
            "surprise",
        ];
        assert_eq!(
            sizes.map(|key| config[key].as_u64().expect("a number")),
            [2, 1, 16, 84, 3]
        );
        assert!(!config.contains_key(PER_BLOCK));
    }

    #[test]
    fn heads_that_do_not_share_out_the_width_make_another_family() {
        let config = emit(LLAMA, [[3, 1, 112]; 3]).expect("sayable");
        assert_eq!(config["model_type"], "mistral");
        assert_eq!(config["architectures"][0], "MistralForCausalLM");
        let biased = LLAMA.replace("\"surprise\": 3", "\"mlp_bias\": true");
        let config = emit(&biased, [[3, 1, 112]; 3]).expect("sayable");
        assert_eq!(config["model_type"], "granite");
        assert_eq!(config["architectures"][0], "GraniteForCausalLM");
        assert_eq!(config["attention_multiplier"], 0.25);
    }

    #[test]
    fn blocks_that_differ_are_said_one_by_one() {
        let config = emit(LLAMA, [[4, 2, 112], [4, 2, 84], [2, 2, 112]]).expect("sayable");
        let sizes = serde_json::json!({"1": {"intermediate_size": 84}, "2": {"num_attention_heads": 2}});
        assert_eq!(config[PER_BLOCK], sizes);
        assert_eq!(config[READABLE], true);
        assert_eq!(
            config["auto_map"]["AutoModelForCausalLM"],
            "modeling_zprune.BlocksForCausalLM"
        );
        // The other way round: a model with such blocks becomes one of equal blocks.
        let text = Value::Object(config).to_string();
        let equal = emit(&text, [[4, 2, 84]; 3]).expect("sayable");
        assert!(!equal.contains_key(PER_BLOCK) && !equal.contains_key("auto_map"));
    }

    #[test]
    fn whole_parts_of_blocks_may_be_gone() {
        let mut spec = parse_spec(LLAMA).expect("supported");
        spec.set_block(0, spec.block(0).without(SubLayer::Mlp));
        spec.set_block(2, spec.block(2).without(SubLayer::Attention));
        let text = emitted(LLAMA, &spec, &[0, 1, 2]).expect("sayable");
        let config: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
        let gone = serde_json::json!({
            "0": {"intermediate_size": 0},
            "2": {"num_attention_heads": 0, "num_key_value_heads": 0}
        });
        assert_eq!(config[PER_BLOCK], gone);
        assert!(!config.contains_key(READABLE), "transformers must refuse it");
        spec.set_block(1, spec.block(1).without(SubLayer::Attention));
        let error = emitted(LLAMA, &spec, &[0, 1, 2])
            .expect_err("no whole block")
            .to_string();
        assert!(error.contains("no block has both"), "{error}");
    }

    #[test]
    fn biases_are_switched_on_by_their_key_and_nothing_else_changes() {
        let spec = parse_spec(LLAMA).expect("supported");
        let with = with_biases(&spec, |linear| linear.role == Role::Down).expect("mlp_bias");
        let text = emitted(LLAMA, &with, &[0, 1, 2]).expect("sayable");
        let mut config: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(config.shift_remove("mlp_bias"), Some(Value::Bool(true)));
        // Said as it is for all families that say it.
        assert_eq!(config.shift_remove("head_dim"), Some(Value::from(16)));
        let original: Map<String, Value> = serde_json::from_str(LLAMA).expect("JSON");
        assert_eq!(config, original);
    }

    #[test]
    fn what_no_configuration_says_is_refused() {
        let opt = r#"{"model_type": "opt", "num_hidden_layers": 3}"#;
        let mut spec = parse_spec(opt).expect("supported");
        let heads = narrowed(spec.block(1), [6, 6, spec.block(1).neurons()]);
        spec.set_block(1, heads);
        let error = emitted(opt, &spec, &[0, 1, 2]).expect_err("not sayable").to_string();
        assert!(error.contains("their number of neurons and in biases only"), "{error}");
        let mut spec = parse_spec(LLAMA).expect("supported");
        spec.vocabulary += 1;
        let error = emitted(LLAMA, &spec, &[0, 1, 2]).expect_err("not sayable").to_string();
        assert!(
            error.contains("heads, key-value heads and neurons, and in biases only"),
            "{error}"
        );
    }

    #[test]
    fn blocks_that_are_left_keep_their_kinds() {
        let gemma = r#"{"model_type": "gemma2", "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}"#;
        let spec = parse_spec(gemma).expect("supported");
        let edit = Edit {
            blocks: [0, 1, 3]
                .map(|block| BlockEdit::whole(block, spec.block(block)))
                .to_vec(),
        };
        let left = edit.applied(&spec).expect("possible");
        let text = emitted(gemma, &left, &[0, 1, 3]).expect("sayable");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(config["num_hidden_layers"], 3);
        assert_eq!(
            config[KINDS],
            serde_json::json!(["sliding_attention", "full_attention", "full_attention"])
        );
        // Other kinds than those of the blocks that are left.
        assert!(emitted(gemma, &left, &[0, 1, 2]).is_err());
        let text = r#"{"model_type": "gpt2", "n_layer": 3}"#;
        let spec = parse_spec(text).expect("supported");
        let edit = Edit {
            blocks: vec![BlockEdit::whole(2, spec.block(2))],
        };
        let text = emitted(text, &edit.applied(&spec).expect("possible"), &[2]).expect("sayable");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["n_layer"], 1);
    }
}
