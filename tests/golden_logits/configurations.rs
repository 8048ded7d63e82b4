//! Claim: every key of every family's `config.json`, alone and beside others, means here what it means in transformers.
//!
//! `tests/golden/configurations.json` (`tools/check_config_keys.py`) lists changes of a small configuration of each
//! family with what transformers made of them: the mean negative log-likelihood of two windows, or, where a size was
//! left to its default and the model is large, its counts. Weights are a formula of their name and stored nowhere.

use ndarray::{Array1, Array2};
use serde_json::{Map, Value};
use zprune::backend::cpu::Cpu;
use zprune::data::windows::TokenWindows;
use zprune::error::{Error, Result};
use zprune::model::checkpoint::{LinearWeights, NormWeights};
use zprune::model::families::parse_spec;
use zprune::model::forward::{Block, Ends, Hidden};
use zprune::model::source::WeightSource;
use zprune::spec::{LinearSpec, ModelSpec, NormKind, NormPlace, NormSpec};
use zprune::tensor::StorageType;

/// Nats per token; in proportion where a model is so sure of itself that tokens cost hundreds of nats.
const TOLERANCE: f64 = 1e-5;

/// Fewer cases than this means that the file is not whole.
const CASES: usize = 3500;

/// What is refused by key although transformers computes something, and why.
const DECLINED: &[(&str, &str)] = &[
    (
        "is_causal",
        "every token would see those after it, which no perplexity is about",
    ),
    ("use_bidirectional_attention", "as `is_causal`"),
    (
        "head_dim",
        "GPT-NeoX: transformers takes it for the rotated features and for nothing else",
    ),
    (
        "full_attention",
        "settings by kind of block, in families that have one: ignored",
    ),
    (
        "rope_parameters.",
        "Gemma 3: settings that are not by kind of block, which are ignored",
    ),
    (
        "scale_attn_by_inverse_layer_idx",
        "GPT-2: not implemented; other families: ignored",
    ),
    ("rope_theta", "null: an error in transformers wherever it is used"),
    // Keys that other families have. Whoever wrote them meant something; transformers ignores them.
    ("attn_logit_softcapping", ""),
    ("final_logit_softcapping", ""),
    ("layer_types", ""),
    ("original_max_position_embeddings", ""),
    ("query_pre_attn_scalar", ""),
    ("reorder_and_upcast_attn", ""),
    ("scale_attn_weights", ""),
    ("sliding_window", ""),
    ("use_parallel_residual", ""),
    ("use_sliding_window", ""),
];

/// Weights by formula, as `values` and `fill` of the script have it.
struct Formula(ModelSpec);

/// `count` numbers between -1 and 1, in steps of 1 / 32768.
fn values(name: &str, count: usize) -> Vec<f32> {
    let mut crc = flate2::Crc::new();
    crc.update(name.as_bytes());
    let number = |index: usize| {
        let mut x = crc.sum().wrapping_add(2_654_435_761_u32.wrapping_mul(index as u32));
        for (shift, factor) in [(16, 0x85EB_CA6B_u32), (13, 0xC2B2_AE35)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        ((x >> 16) as f32 - 32768.0) / 32768.0
    };
    (0..count).map(number).collect()
}

impl Formula {
    fn matrix_of(&self, name: &str, shape: &[usize]) -> Array2<f32> {
        let values = values(name, shape.iter().product()).into_iter().map(|x| x / 2.0);
        Array2::from_shape_vec((shape[0], shape[1]), values.collect()).expect("as many as there are")
    }

    fn bias(&self, name: &str, length: usize) -> Array1<f32> {
        values(name, length).into_iter().map(|x| x / 4.0).collect()
    }

    fn norm_of(&self, prefix: &str, norm: &NormSpec, width: usize) -> NormWeights {
        let Some(name) = &norm.tensor else {
            return NormWeights::default();
        };
        // Stored around 0 or around 1, the gain is around 1.
        let gain = values(&format!("{prefix}{name}.weight"), width);
        NormWeights {
            gain: Some(gain.into_iter().map(|x| 1.0 + x / 2.0).collect()),
            bias: (norm.kind == NormKind::Layer).then(|| self.bias(&format!("{prefix}{name}.bias"), width)),
        }
    }
}

impl WeightSource for Formula {
    fn spec(&self) -> &ModelSpec {
        &self.0
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let shape = self.0.tensors().find(|(known, _)| known == name);
        let (_, shape) = shape.ok_or_else(|| Error::input(format!("there is no `{name}`")))?;
        Ok(self.matrix_of(name, &shape))
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        Ok(self.norm_of(prefix, norm, self.0.width))
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let stem = format!("{}{}", self.0.block(index).prefix_of(index), linear.tensor);
        let name = format!("{stem}.weight");
        let stored = self.matrix_of(&name, &linear.stored_shape());
        Ok(LinearWeights {
            role: linear.role,
            weight: if linear.transposed {
                stored.t().as_standard_layout().into_owned()
            } else {
                stored
            },
            bias: linear.bias.then(|| self.bias(&format!("{stem}.bias"), linear.outputs)),
            storage: StorageType::F32,
            bias_storage: StorageType::F32,
            transposed: linear.transposed,
            name,
        })
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let block = self.0.block(index);
        let prefix = block.prefix_of(index);
        let of = |(place, norm): &(NormPlace, NormSpec)| {
            let width = block.norm_width(*place, self.0.width);
            (*place, self.norm_of(&prefix, norm, width))
        };
        Ok(block.norms.iter().map(of).collect())
    }
}

/// Mean negative log-likelihood of every window.
fn score(spec: ModelSpec, windows: &TokenWindows, ids: &[u32]) -> Result<Vec<f64>> {
    let source = Formula(spec);
    let ends = Ends::upload(&Cpu, &source)?;
    let mut hidden = Hidden::embed(&Cpu, source.spec(), &ends, windows)?;
    for index in 0..source.spec().blocks {
        let block = Block::load(&Cpu, &source, index)?;
        hidden.advance(&Cpu, source.spec(), &block, |_, _| Ok(()))?;
    }
    let logits = hidden.logits(&Cpu, &ends)?;
    let length = windows.length();
    let token = |position: usize| {
        let row = logits.row(position).mapv(f64::from);
        let largest = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        largest + row.mapv(|x| (x - largest).exp()).sum().ln() - row[ids[position + 1] as usize]
    };
    let window = |start: usize| (start..start + length - 1).map(token).sum::<f64>() / (length - 1) as f64;
    Ok((0..ids.len()).step_by(length).map(window).collect())
}

/// Whether a refusal names this key, or one within an object.
fn names(message: &str, key: &str) -> bool {
    let named = message.split('`').nth(1).unwrap_or_default();
    named == key || named.ends_with(&format!(".{key}")) || (key.ends_with('.') && named.starts_with(key))
}

/// What differs from transformers, if anything does.
fn disagreement(config: &Map<String, Value>, case: &Value, windows: &TokenWindows, ids: &[u32]) -> Option<String> {
    let text = Value::Object(config.clone()).to_string();
    let spec = match parse_spec(&text) {
        Ok(spec) => spec,
        Err(error) => {
            let message = error.to_string();
            let declined = DECLINED.iter().any(|(key, _)| names(&message, key));
            return (!declined).then(|| format!("refused: {message}"));
        }
    };
    let positions = case["positions"].as_u64();
    if positions != Some(spec.max_positions as u64) {
        return Some(format!("positions {} instead of {positions:?}", spec.max_positions));
    }
    if let Some(parameters) = case.get("parameters") {
        let shapes: Vec<Vec<usize>> = spec.tensors().map(|(_, shape)| shape).collect();
        let total: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let agree = *parameters == total && case["tensors"] == shapes.len();
        return (!agree).then(|| format!("{total} parameters in {} tensors", shapes.len()));
    }
    let wanted: Vec<f64> = case["nll"].as_array()?.iter().filter_map(Value::as_f64).collect();
    match score(spec, windows, ids) {
        Err(error) => Some(format!("fails: {error}")),
        Ok(found) => {
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * b.max(1.0);
            let agree = found.len() == wanted.len() && found.iter().zip(&wanted).all(close);
            (!agree).then(|| format!("{found:?} instead of {wanted:?}"))
        }
    }
}

#[test]
fn keys_mean_what_they_mean_in_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/configurations.json");
    let text = std::fs::read_to_string(path).expect("golden files are in the repository");
    let golden: Value = serde_json::from_str(&text).expect("golden files are JSON");
    let size = |key: &str| golden["made_by"][key].as_u64().expect("a size") as usize;
    let ids: Vec<u32> = values("input_ids", size("windows") * size("length"))
        .into_iter()
        .map(|x| (x * 32768.0 + 32768.0) as u32 % size("vocabulary") as u32)
        .collect();
    let windows = TokenWindows::new(ids.clone(), size("length")).expect("whole windows");
    let (mut cases, mut failures) = (0, Vec::new());
    for (family, content) in golden["families"].as_object().expect("families by name") {
        for case in content["cases"].as_array().expect("a list of cases") {
            cases += 1;
            let mut config = content["base"].as_object().expect("a configuration").clone();
            for key in case["without"].as_array().into_iter().flatten() {
                config.remove(key.as_str().expect("a key"));
            }
            config.extend(case["set"].as_object().expect("keys with values").clone());
            if let Some(what) = disagreement(&config, case, &windows, &ids) {
                failures.push(format!("{family} {} without {}: {what}", case["set"], case["without"]));
            }
        }
    }
    assert!(cases >= CASES, "only {cases} cases");
    assert!(
        failures.is_empty(),
        "{} of {cases} configurations are read otherwise:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
