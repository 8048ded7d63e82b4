//! Claim: a model gives transformers' logits in every form that transformers loads: a shared matrix stored under either
//! name, an index that says too much or too little, configurations of several versions and with what programs leave in them.
//!
//! Each case is a change to a golden case, whose logits must stay; where the copies are ambiguous, they are refused.

use super::{compare, golden, logits};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Golden cases with tied embeddings, and the embedding's name.
const TIED: &[(&str, &str)] = &[
    ("gemma2", "model.embed_tokens.weight"),
    ("gemma3", "model.embed_tokens.weight"),
    ("gpt2", "transformer.wte.weight"),
    ("gpt_neox_sequential", "gpt_neox.embed_in.weight"),
    ("llama_gqa_tied", "model.embed_tokens.weight"),
    ("opt_base", "model.decoder.embed_tokens.weight"),
    ("opt_post_norm", "model.decoder.embed_tokens.weight"),
    ("qwen2", "model.embed_tokens.weight"),
];

type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a golden case, to change.
fn copy(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(golden(case)).expect("a golden case") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a file");
        std::fs::copy(&path, folder.path().join(name)).expect("the temporary folder is writable");
    }
    folder
}

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("a golden checkpoint");
    let tensors = SafeTensors::deserialize(&bytes).expect("golden checkpoints are valid");
    let of = |(name, view): (String, TensorView)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    tensors.tensors().into_iter().map(of).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.clone(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("a small checkpoint")).expect("writable");
}

fn change_weights(folder: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read(&path);
    change(&mut tensors);
    write(&path, &tensors);
}

fn change_config(folder: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).expect("every case has a configuration");
    let mut config: Map<String, Value> = serde_json::from_str(&text).expect("it is JSON");
    change(&mut config);
    std::fs::write(path, Value::Object(config).to_string()).expect("writable");
}

fn refusal(folder: &Path) -> String {
    let error = logits(folder, vec![1, 2], 2).expect_err("it cannot be trusted");
    error.to_string()
}

#[test]
fn a_tied_matrix_may_be_stored_as_the_head_only() {
    for (case, embedding) in TIED {
        let heads: &[&str] = match *case {
            "gpt_neox_sequential" => &["embed_out.weight", "lm_head.weight"],
            _ => &["lm_head.weight"],
        };
        for head in heads {
            let folder = copy(case);
            change_weights(folder.path(), |tensors| {
                let matrix = tensors.remove(*embedding).expect("the case has an embedding");
                tensors.insert(head.to_string(), matrix);
            });
            compare(folder.path()).unwrap_or_else(|error| panic!("{case} with {head} only: {error}"));

            // And stored twice: equal copies are read, others could mean either.
            change_weights(folder.path(), |tensors| {
                let matrix = tensors[*head].clone();
                tensors.insert(embedding.to_string(), matrix);
            });
            compare(folder.path()).unwrap_or_else(|error| panic!("{case} with {head} too: {error}"));
            change_weights(folder.path(), |tensors| {
                let (_, _, bytes) = tensors.get_mut(*head).expect("it was just stored");
                bytes[7] ^= 1;
            });
            let message = refusal(folder.path());
            assert!(
                message.contains(&format!("tensor `{head}` differs from the embedding")),
                "{case}: {message}"
            );
        }
    }
}

#[test]
fn an_untied_head_of_gpt_neox_has_two_names() {
    let folder = copy("gpt_neox");
    change_weights(folder.path(), |tensors| {
        let matrix = tensors.remove("embed_out.weight").expect("the case has its own head");
        tensors.insert("lm_head.weight".to_string(), matrix);
    });
    compare(folder.path()).expect("transformers reads either");
}

#[test]
fn an_index_may_name_what_nobody_needs_and_need_not_name_all() {
    let folder = copy("llama_sharded");
    let path = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&path).expect("the case has an index");
    let index: Value = serde_json::from_str(&text).expect("it is JSON");
    let first = index["weight_map"]["model.embed_tokens.weight"].clone();
    let mut more = index.clone();
    more["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = first;
    more["metadata"] = json!({});
    let more = more
        .to_string()
        .replace("\"metadata\":{}", "\"metadata\":{\"total_size\":Infinity}");
    std::fs::write(&path, more).expect("writable");
    compare(folder.path()).expect("nobody reads that tensor");

    let mut less = index.clone();
    less["weight_map"]
        .as_object_mut()
        .expect("a map")
        .remove("model.norm.weight")
        .expect("the norm is listed");
    std::fs::write(&path, less.to_string()).expect("writable");
    compare(folder.path()).expect("the file is read for its other tensors");

    let mut absent = index;
    absent["weight_map"]["extra"] = json!("model-00009-of-00009.safetensors");
    std::fs::write(&path, absent.to_string()).expect("writable");
    let message = refusal(folder.path());
    let expected = "shard `model-00009-of-00009.safetensors`, which holds 1 of the tensors, is not there";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_tensor_in_two_shards_is_read_if_its_copies_are_equal() {
    const NAME: &str = "model.norm.weight";
    let folder = copy("llama_sharded");
    let text = std::fs::read_to_string(folder.path().join("model.safetensors.index.json")).expect("an index");
    let index: Value = serde_json::from_str(&text).expect("it is JSON");
    let place = index["weight_map"][NAME].as_str().expect("the norm is listed");
    let other = (1..=3).map(|shard| format!("model-0000{shard}-of-00003.safetensors"));
    let other = other.into_iter().find(|name| name != place).expect("there are three");
    let mut tensors = read(&folder.path().join(&other));
    let copied = read(&folder.path().join(place))[NAME].clone();
    tensors.insert(NAME.to_string(), copied);
    write(&folder.path().join(&other), &tensors);
    compare(folder.path()).expect("equal copies are one tensor");

    tensors.get_mut(NAME).expect("it was just stored").2[3] ^= 1;
    write(&folder.path().join(&other), &tensors);
    let message = refusal(folder.path());
    for part in [NAME, place, other.as_str(), "remove the copy that is out of date"] {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn numbers_that_are_not_finite_are_accepted_where_nobody_reads_them() {
    let with = |key: &str, value: Value| {
        let folder = copy("llama_gqa_tied");
        change_config(folder.path(), |config| drop(config.insert(key.into(), value)));
        let path = folder.path().join("config.json");
        let text = std::fs::read_to_string(&path).expect("just written");
        std::fs::write(&path, text.replace("\"@", "").replace("@\"", "")).expect("writable");
        folder
    };
    for value in [json!("@Infinity@"), json!({"a": ["@NaN@", "@-Infinity@"], "b": "NaN"})] {
        compare(with("some_limit", value).path()).expect("nobody reads this key");
    }
    let message = refusal(with("rms_norm_eps", json!("@NaN@")).path());
    assert!(
        message.contains("key `rms_norm_eps` must be a number, but is \"NaN\""),
        "{message}"
    );
}

#[test]
fn settings_left_over_from_compression_are_accepted_and_real_ones_refused() {
    let dense = [
        json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "dense", "global_sparsity": 0.5,
            "sparsity_structure": "2:4", "targets": ["Linear"]}}),
        json!({"config_groups": {}, "format": "dense", "quant_method": "compressed-tensors", "kv_cache_scheme": null,
            "quantization_status": "compressed", "global_compression_ratio": 1.0, "ignore": ["lm_head"], "version": "0.11.0",
            "transform_config": {"config_groups": {}}, "sparsity_config": {}}),
        json!({"quant_method": "compressed-tensors", "format": "dense",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": null, "input_activations": null}}}),
        json!({}),
    ];
    for settings in dense {
        for key in ["quantization_config", "compression_config"] {
            let folder = copy("llama_gqa_tied");
            change_config(folder.path(), |config| {
                drop(config.insert(key.into(), settings.clone()))
            });
            compare(folder.path()).unwrap_or_else(|error| panic!("{settings}: {error}"));
        }
    }
    let real = [
        (json!({"quant_method": "gptq", "bits": 4}), "quant_method gptq"),
        (
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
            "quant_method bitsandbytes",
        ),
        (
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            "format \"pack-quantized\"",
        ),
        (
            json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}),
            "sparsity_config.format",
        ),
        (
            json!({"quant_method": "compressed-tensors", "format": "dense",
            "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}),
            "config_groups.group_0 has weights",
        ),
        (
            json!({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}),
            "kv_cache_scheme",
        ),
        (json!({"bits": 4}), "bits 4"),
        (json!([4]), "must be an object"),
    ];
    for (settings, reason) in real {
        let folder = copy("llama_gqa_tied");
        change_config(folder.path(), |config| {
            drop(config.insert("quantization_config".into(), settings.clone()))
        });
        let message = refusal(folder.path());
        assert!(
            message.contains("key `quantization_config`") && message.contains(reason),
            "{settings}: {message}"
        );
    }
}

#[test]
fn gpt_neox_saved_by_late_versions_of_transformers_4_is_the_same_model() {
    let folder = copy("gpt_neox");
    change_config(folder.path(), |config| {
        config.remove("rope_parameters").expect("the case is of version 5");
        let old = json!({"rotary_pct": 0.25, "rotary_emb_base": 10000, "rope_theta": 10000, "partial_rotary_factor": 0.25,
            "rope_scaling": null, "is_decoder": false, "transformers_version": "4.49.0"});
        config.extend(old.as_object().expect("an object").clone());
    });
    compare(folder.path()).expect("both names say the same");
}
