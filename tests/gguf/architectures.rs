//! Claim: architectures besides LLaMA become directories with transformers' logits and the tokens of their own tokenizers.
//!
//! The files under `tests/golden/gguf_models` were written by the Python package `gguf` (`tools/make_golden_gguf_models.py`).

use super::export::{apart, logits_of};
use super::{Draft, number_value, refusal, u32_value};
use ndarray::Array2;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::gguf::import::{ImportOptions, import};
use zprune::progress::Silent;
use zprune::tensor::StorageType;

/// Of the largest logit.
const TOLERANCE: f32 = 1e-5;

/// The model's architecture, and the `model_type` that it gets.
const MODELS: [(&str, &str); 3] = [("gemma3", "gemma3_text"), ("qwen2", "qwen2"), ("qwen3", "qwen3")];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/gguf_models")
        .join(name)
}

/// A temporary folder, and the import of a file in its `model`.
fn imported(file: &Path) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    import(file, &model, ImportOptions::default(), &Silent).unwrap_or_else(|error| panic!("{error}"));
    (folder, model)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, family) in MODELS {
        let (_folder, model) = imported(&golden(&format!("{name}.gguf")));
        assert_eq!(json_of(&model.join("config.json"))["model_type"], family);
        let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).expect("a golden file");
        let tensors = SafeTensors::deserialize(&bytes).expect("a golden file");
        let (ids, wanted) = (tensors.tensor("input_ids"), tensors.tensor("logits"));
        let (ids, wanted) = (ids.expect("tokens"), wanted.expect("logits"));
        let length = ids.shape()[1];
        let ids = ids.data().as_chunks().0.iter();
        let ids: Vec<u32> = ids.map(|id| i64::from_le_bytes(*id) as u32).collect();
        let shape = (ids.len(), wanted.shape()[2]);
        let wanted = Array2::from_shape_vec(shape, StorageType::F32.decode(wanted.data())).expect("one row for each");
        let apart = apart(&wanted, &logits_of(&model, ids, length));
        println!("{name}: {apart:.1e} of the largest logit");
        assert!(apart <= TOLERANCE, "{name}: {apart:e} of the largest logit");
    }
}

#[test]
fn tokens_are_those_of_the_reference_tokenizers() {
    for (name, _) in MODELS {
        let (_folder, model) = imported(&golden(&format!("{name}.gguf")));
        let tokenizer = Tokenizer::load(&model).expect("a tokenizer");
        let vocabulary = json_of(&model.join("config.json"))["vocab_size"]
            .as_u64()
            .expect("a number");
        let cases = std::fs::read(golden(&format!("{name}.json"))).expect("a golden file");
        let cases: BTreeMap<String, Vec<u32>> = serde_json::from_slice(&cases).expect("a golden file");
        for (text, ids) in cases {
            let ours = tokenizer.encode(&text, Bos::Tokenizer, vocabulary as usize);
            assert_eq!(ours.expect("all ids are known"), ids, "{name}: {text:?}");
        }
    }
}

/// The configuration of Gemma's tiny model, changed.
fn gemma(change: impl FnOnce(&mut Draft)) -> Value {
    let mut draft = Draft::of("../gguf_models/gemma3.gguf");
    change(&mut draft);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.gguf");
    std::fs::write(&file, draft.bytes()).expect("a small file");
    let (_model, model) = imported(&file);
    json_of(&model.join("config.json"))
}

#[test]
fn windows_of_gemma_are_where_its_metadata_or_llama_cpp_put_them() {
    let full = |config: &Value| -> Vec<usize> {
        let kinds = config["layer_types"].as_array().expect("a list").iter().enumerate();
        kinds
            .filter(|(_, kind)| **kind == "full_attention")
            .map(|(block, _)| block)
            .collect()
    };
    let usual = gemma(|_| {});
    assert_eq!(full(&usual), [5]);
    assert_eq!(
        (&usual["sliding_window"], &usual["query_pre_attn_scalar"]),
        (&5.into(), &4.into())
    );
    assert_eq!(
        (&usual["rope_theta"], &usual["rope_local_base_freq"]),
        (&1e6.into(), &1e4.into())
    );
    let other = gemma(|draft| {
        draft.set("gemma3.attention.sliding_window_pattern", u32_value(3));
        draft.set("gemma3.rope.freq_base_swa", number_value(2e4));
    });
    assert_eq!(full(&other), [2, 5]);
    assert_eq!(other["rope_local_base_freq"], 2e4);
    let none = gemma(|draft| draft.unset("gemma3.attention.sliding_window"));
    assert_eq!(full(&none), (0..7).collect::<Vec<_>>());
    assert_eq!(none["sliding_window"], Value::Null);
}

#[test]
fn what_an_architecture_does_not_have_is_refused() {
    type Change = fn(&mut Draft);
    let cases: [(&str, Change, &str); 4] = [
        (
            "gemma3",
            |draft| draft.set("gemma3.final_logit_softcapping", number_value(30.0)),
            "key `gemma3.final_logit_softcapping` = 30",
        ),
        (
            "gemma3",
            |draft| draft.set("gemma3.attention.sliding_window_pattern", u32_value(0)),
            "key `gemma3.attention.sliding_window_pattern` must be positive",
        ),
        (
            "gemma3",
            |draft| draft.set("gemma3.block_count", u32_value(u32::MAX)),
            "key `gemma3.block_count` = 4294967295, but there are only",
        ),
        (
            "qwen3",
            |draft| draft.set("qwen3.attention.sliding_window", u32_value(8)),
            "key `qwen3.attention.sliding_window` = 8",
        ),
    ];
    for (name, change, expect) in cases {
        let mut draft = Draft::of(&format!("../gguf_models/{name}.gguf"));
        assert_eq!(refusal(&draft.bytes()).0, "accepted", "{name}");
        change(&mut draft);
        let (message, left) = refusal(&draft.bytes());
        assert!(message.contains(expect) && left == ["x.gguf"], "{name}: {message}");
    }
    // Factors of the rotary frequencies are a LLaMA's.
    let mut draft = Draft::of("../gguf_models/qwen2.gguf");
    let mut extra = draft.tensor("output_norm.weight").clone();
    extra.0 = "rope_freqs.weight".to_string();
    draft.tensors.push(extra);
    let message = refusal(&draft.bytes()).0;
    assert!(
        message.contains("tensor `rope_freqs.weight` has no counterpart in a model of architecture \"qwen2\""),
        "{message}"
    );
}
