//! Whether two models have the same architecture, so that one can stand for the other with other weights.

use crate::error::{Error, Result};
use crate::spec::{BlockSpec, ModelSpec};
use std::sync::Arc;

/// The most differences that a message names.
const MOST: usize = 4;

/// Checks that a model with other weights has the architecture of this one: the same sizes, and the same mathematics. Only biases may
/// have come.
///
/// # Errors
/// Says what is different.
pub fn check_alike(model: &ModelSpec, other: &ModelSpec) -> Result<()> {
    let found = differences(model, other);
    if found.is_empty() {
        return Ok(());
    }
    let more = match found.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!("; and {more} more differences"),
    };
    Err(Error::input(format!(
        "config.json is that of another architecture than the model's: {}{more}. A checkpoint must have the sizes of the model that it \
         was made from; write a model of other sizes as another [[model]]",
        found[..found.len().min(MOST)].join("; ")
    )))
}

/// What is different, in words.
fn differences(model: &ModelSpec, other: &ModelSpec) -> Vec<String> {
    if model.family != other.family {
        return vec![format!("its family is {} and not {}", other.family, model.family)];
    }
    let sizes = [
        ("vocabulary", model.vocabulary, other.vocabulary),
        ("width", model.width, other.width),
        ("number of blocks", model.blocks, other.blocks),
    ];
    let mut found: Vec<String> = sizes
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(what, ours, theirs)| format!("its {what} is {theirs} and not {ours}"))
        .collect();
    if !found.is_empty() {
        return found;
    }
    let tied = |spec: &ModelSpec| spec.head.tensor.is_none();
    if tied(model) != tied(other) {
        let is = |tied: bool| if tied { "tied to" } else { "apart from" };
        let (theirs, ours) = (is(tied(other)), is(tied(model)));
        found.push(format!(
            "its head is {theirs} the embedding (`tie_word_embeddings`) and not {ours} it"
        ));
    }
    for (what, same) in [
        ("embedding", model.embedding == other.embedding),
        ("head", tied(model) != tied(other) || model.head == other.head),
        ("encoding of positions", model.positions == other.positions),
        ("reach of attention", model.reaches == other.reaches),
        ("last norm", model.final_norm == other.final_norm),
    ] {
        if !same {
            found.push(format!("its {what} is another one"));
        }
    }
    for index in 0..model.blocks {
        let blocks = [model, other].map(|spec| spec.block(index));
        found.extend(of_block(blocks).map(|what| format!("block {index}: {what}")));
    }
    found
}

/// What is different in a block, if anything is.
fn of_block([model, other]: [&Arc<BlockSpec>; 2]) -> Option<String> {
    let mut biased = other.as_ref().clone();
    for (own, linear) in biased.linears.iter_mut().zip(&model.linears) {
        if linear.bias && !own.bias {
            return Some(format!("{} has no bias", own.tensor));
        }
        own.bias = linear.bias;
    }
    if biased == **model {
        return None;
    }
    let linears = || model.linears.iter().zip(&other.linears);
    let shaped = linears().find(|(ours, theirs)| (ours.outputs, ours.inputs) != (theirs.outputs, theirs.inputs));
    Some(match shaped {
        Some((ours, theirs)) => format!(
            "{} has {} outputs and {} inputs, and not {} and {}",
            ours.tensor, theirs.outputs, theirs.inputs, ours.outputs, ours.inputs
        ),
        None if model.attention != other.attention => "its attention has other heads or another scale".to_string(),
        None => "its norms, its activation or the order of its layers are others".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::families::parse_spec;

    fn spec(change: &[(&str, &str)]) -> ModelSpec {
        let mut text = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 259, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
            "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": true, "mlp_bias": false}"#
            .to_string();
        for (from, to) in change {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        parse_spec(&text).expect("a model")
    }

    #[test]
    fn other_weights_are_no_difference_and_other_sizes_are_named() {
        let model = spec(&[]);
        let alike = |change: &[(&str, &str)]| check_alike(&model, &spec(change)).map_err(|error| error.to_string());
        assert_eq!(alike(&[]), Ok(()));
        // A longer context, and biases that came with compensation.
        assert_eq!(
            alike(&[("\"max_position_embeddings\": 64", "\"max_position_embeddings\": 128")]),
            Ok(())
        );
        assert_eq!(alike(&[("\"mlp_bias\": false", "\"mlp_bias\": true")]), Ok(()));
        for (from, to, says) in [
            ("259", "260", "vocabulary is 260 and not 259"),
            (
                "\"num_hidden_layers\": 2",
                "\"num_hidden_layers\": 3",
                "blocks is 3 and not 2",
            ),
            (
                "\"intermediate_size\": 64",
                "\"intermediate_size\": 48",
                "has 48 outputs and 32 inputs, and not 64 and 32",
            ),
            (
                "\"tie_word_embeddings\": true",
                "\"tie_word_embeddings\": false",
                "apart from the embedding",
            ),
            ("1e-5", "1e-6", "last norm"),
            ("1e4", "1e6", "encoding of positions"),
            ("silu", "gelu_pytorch_tanh", "block 0: its norms, its activation"),
        ] {
            let error = alike(&[(from, to)]).expect_err(to);
            assert!(error.contains(says), "{to}: {error}");
        }
        let biased = spec(&[("\"mlp_bias\": false", "\"mlp_bias\": true")]);
        let error = check_alike(&biased, &model).expect_err("biases are gone").to_string();
        assert!(error.contains("mlp.gate_proj has no bias"), "{error}");
    }
}
