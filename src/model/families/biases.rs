//! Biases that a model has not and its configuration could give it.

use super::registry::{BiasKey, FAMILIES};
use crate::error::{Error, Result};
use crate::spec::{LinearSpec, ModelSpec};
use std::collections::BTreeSet;

impl BiasKey {
    /// Whether the key says whether this layer has a bias.
    fn serves(&self, linear: &LinearSpec) -> bool {
        self.places.contains(&linear.role.place())
    }

    /// Whether the layers that it serves have biases in a model.
    pub fn is_set(&self, spec: &ModelSpec) -> bool {
        let mut linears = spec.kinds().flat_map(|(block, _)| &block.linears);
        linears.any(|linear| self.serves(linear) && linear.bias)
    }
}

/// The same model with a bias at all layers that are `wanted`, and at those others that a configuration cannot tell from them.
///
/// # Errors
/// No configuration of the family gives such a layer a bias; names the layers.
pub fn with_biases(spec: &ModelSpec, wanted: impl Fn(&LinearSpec) -> bool) -> Result<ModelSpec> {
    let linears = spec.kinds().flat_map(|(block, _)| &block.linears);
    let lacking: Vec<&LinearSpec> = linears.filter(|linear| !linear.bias && wanted(linear)).collect();
    if lacking.is_empty() {
        return Ok(spec.clone());
    }
    let family = FAMILIES.find(spec.family)?;
    let keys: Vec<&BiasKey> = family.item.biases.iter().collect();
    let serving = |linear: &LinearSpec| keys.iter().any(|key| key.serves(linear));
    let impossible: BTreeSet<&str> = lacking
        .iter()
        .filter(|linear| !serving(linear))
        .map(|linear| linear.tensor)
        .collect();
    if !impossible.is_empty() {
        let names: Vec<&str> = impossible.into_iter().collect();
        return Err(Error::config(format!(
            "{} cannot have a bias: no key of a `{}` configuration gives them one, so no program that loads the model would read it",
            names.join(", "),
            spec.family
        )));
    }
    let set: Vec<&&BiasKey> = keys
        .iter()
        .filter(|key| lacking.iter().any(|linear| key.serves(linear)))
        .collect();
    let mut biased = spec.clone();
    for index in 0..spec.blocks {
        let mut block = spec.block(index).as_ref().clone();
        for linear in &mut block.linears {
            linear.bias |= set.iter().any(|key| key.serves(linear));
        }
        biased.set_block(index, block);
    }
    Ok(biased)
}

#[cfg(test)]
mod tests {
    use super::super::parse_spec;
    use super::*;
    use crate::spec::{Role, TapPlace};

    fn spec(family: &str, more: &str) -> ModelSpec {
        let text = format!("{{\"model_type\": \"{family}\", \"num_hidden_layers\": 3{more}}}");
        parse_spec(&text).expect("a small configuration")
    }

    fn biased(spec: &ModelSpec) -> Vec<&'static str> {
        let linears = spec.block(2).linears.iter().filter(|linear| linear.bias);
        linears.map(|linear| linear.tensor).collect()
    }

    #[test]
    fn layers_that_a_configuration_cannot_tell_apart_get_biases_together() {
        let llama = spec("llama", "");
        assert_eq!(biased(&llama), [""; 0]);
        let output = |linear: &LinearSpec| linear.role == Role::Output;
        let with = with_biases(&llama, output).expect("attention_bias");
        let attention = [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
        ];
        assert_eq!(biased(&with), attention);
        assert_eq!(with, spec("llama", ", \"attention_bias\": true"));
        let all = with_biases(&llama, |_| true).expect("both keys");
        assert_eq!(all, spec("llama", ", \"attention_bias\": true, \"mlp_bias\": true"));
        let opt = with_biases(&spec("opt", ", \"enable_bias\": false"), output).expect("enable_bias");
        assert_eq!(opt, spec("opt", ""));
    }

    #[test]
    fn what_has_its_biases_needs_no_key_and_what_cannot_have_them_is_named() {
        for family in ["gpt2", "gpt_neox", "opt"] {
            let spec = spec(family, "");
            assert_eq!(with_biases(&spec, |_| true).expect("all are there"), spec);
        }
        let qwen = spec("qwen2", "");
        let input = |linear: &LinearSpec| linear.role.place() == TapPlace::AttentionIn;
        assert_eq!(with_biases(&qwen, input).expect("they are there"), qwen);
        let error = with_biases(&qwen, |_| true).expect_err("no key").to_string();
        assert!(
            error.contains("mlp.down_proj, mlp.gate_proj, mlp.up_proj, self_attn.o_proj cannot have"),
            "{error}"
        );
        assert!(error.contains("`qwen2`"), "{error}");
        let mlp = with_biases(&spec("gemma2", ""), |_| true)
            .expect_err("no key")
            .to_string();
        assert!(
            mlp.starts_with("mlp.down_proj, mlp.gate_proj, mlp.up_proj cannot have"),
            "{mlp}"
        );
    }
}
