//! Claim: a GGUF file becomes a directory with the values of ggml's own block formats, to the last bit, and
//! the tokens of its own tokenizer; whatever cannot be carried over is refused, and then nothing is left behind.
//!
//! The files under `tests/golden/gguf` were written by the Python package `gguf` (`tools/make_golden_gguf.py`).

mod architectures;
mod export;

use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::gguf::import::{ImportOptions, Imported, import};
use zprune::gguf::{Array, Gguf, Value};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families;
use zprune::progress::Silent;
use zprune::tensor::StorageType;

const KINDS: [&str; 11] = [
    "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/gguf")
        .join(name)
}

fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).expect("a file of the repository")
}

/// A temporary folder, the import in its `model`, and its summary.
fn imported(kind: &str, options: ImportOptions) -> (tempfile::TempDir, PathBuf, Imported) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    let summary = import(&golden(&format!("{kind}.gguf")), &model, options, &Silent)
        .unwrap_or_else(|error| panic!("{kind}: {error}"));
    (folder, model, summary)
}

/// The bytes of all tensors of a directory, by name.
fn stored(model: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let mut tensors = BTreeMap::new();
    for entry in std::fs::read_dir(model).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = std::fs::read(&path).expect("readable");
            for (name, view) in SafeTensors::deserialize(&bytes).expect("a valid file").tensors() {
                tensors.insert(name, (view.shape().to_vec(), view.data().to_vec()));
            }
        }
    }
    tensors
}

/// The values an import must yield, by name.
fn expected(kind: &str) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = golden_bytes(&format!("{kind}.safetensors"));
    let file = SafeTensors::deserialize(&bytes).expect("a golden file");
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

#[test]
fn every_block_format_has_the_reference_values_bit_for_bit() {
    for kind in KINDS {
        let (_folder, model, summary) = imported(kind, ImportOptions::default());
        let (ours, theirs) = (stored(&model), expected(kind));
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>(),
            "{kind}"
        );
        for (name, expected) in &theirs {
            assert!(ours[name] == *expected, "{kind}: {name} differs");
        }
        assert_eq!(summary.tensors, theirs.len());
        let found: Vec<String> = summary.found.keys().map(|found| found.name().to_lowercase()).collect();
        assert!(found.contains(&kind.to_string()), "{found:?}");
        // Whoever reads the directory learns that these are not the values of the model that was quantised.
        let blocks: Vec<_> = summary.found.keys().filter(|found| found.is_quantised()).collect();
        let card = std::fs::read_to_string(model.join("README.md")).unwrap_or_default();
        for text in [&card, &summary.to_string()] {
            assert_eq!(
                text.contains("The file is quantised: "),
                !blocks.is_empty(),
                "{kind}: {text}"
            );
        }
        if let [only] = blocks[..] {
            let bits = 8.0 * only.bytes() as f64 / only.elements() as f64;
            assert_eq!(summary.bits, Some(bits), "{kind}");
        }
        let spec = families::read_spec(&model).expect("a configuration");
        Checkpoint::open(&model, spec)
            .and_then(|checkpoint| checkpoint.check_finite())
            .expect("a checkpoint");
    }
}

#[test]
fn narrow_types_are_rounded_to_nearest_even() {
    for dtype in [StorageType::F16, StorageType::BF16] {
        let options = ImportOptions {
            dtype,
            ..ImportOptions::default()
        };
        let (_folder, model, _) = imported("q4_k", options);
        let ours = stored(&model);
        for (name, (_, bytes)) in expected("q4_k") {
            let rounded: Vec<f32> = StorageType::F32
                .decode(&bytes)
                .into_iter()
                .map(|x| dtype.round(x))
                .collect();
            assert_eq!(dtype.decode(&ours[&name].1), rounded, "{name}");
        }
    }
}

#[test]
fn a_large_model_is_cut_into_indexed_files() {
    let options = ImportOptions {
        shard_bytes: 8_000,
        ..ImportOptions::default()
    };
    let (_folder, model, summary) = imported("q4_0", options);
    assert!(summary.files > 3, "{summary}");
    assert!(
        model
            .join(format!("model-00001-of-{:05}.safetensors", summary.files))
            .exists()
    );
    assert!(stored(&model) == expected("q4_0"));
    let index = std::fs::read_to_string(model.join("model.safetensors.index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(index["metadata"]["total_size"], summary.bytes);
    let spec = families::read_spec(&model).expect("a configuration");
    Checkpoint::open(&model, spec).expect("zprune reads the index");
}

#[test]
fn tokens_are_those_of_the_reference_tokenizers() {
    for kind in ["f32", "f16"] {
        let (_folder, model, summary) = imported(kind, ImportOptions::default());
        let tokenizer = Tokenizer::load(&model).expect("a tokenizer");
        let golden = golden_bytes(&format!("{kind}.json"));
        let cases: BTreeMap<String, Vec<u32>> = serde_json::from_slice(&golden).expect("a golden file");
        for (text, ids) in cases {
            let ours = tokenizer
                .encode(&text, Bos::Tokenizer, summary.tokens)
                .expect("all ids are known");
            assert_eq!(ours, ids, "{kind}: {text:?}");
        }
    }
}

#[test]
fn the_configuration_says_what_the_metadata_say() {
    let read = |kind: &str, file: &str| -> serde_json::Value {
        let (_folder, model, _) = imported(kind, ImportOptions::default());
        serde_json::from_slice(&std::fs::read(model.join(file)).expect("written")).expect("JSON")
    };
    let config = read("f32", "config.json");
    for (key, value) in [
        ("hidden_size", 32.into()),
        ("num_key_value_heads", 2.into()),
        ("head_dim", 8.into()),
        ("max_position_embeddings", 16384.into()),
        ("rms_norm_eps", 1e-5.into()),
        ("attention_bias", true.into()),
        ("mlp_bias", false.into()),
        ("tie_word_embeddings", false.into()),
        ("bos_token_id", 1.into()),
        ("rope_scaling", serde_json::Value::Null),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(read("q6_k", "config.json")["head_dim"], 2);
    assert_eq!(read("q6_k", "config.json")["tie_word_embeddings"], true);
    let scaling = &read("q8_0", "config.json")["rope_scaling"];
    assert_eq!(
        (&scaling["rope_type"], &scaling["factor"]),
        (&"llama3".into(), &8.0.into())
    );
    let tokenizer = read("f16", "tokenizer_config.json");
    assert_eq!(tokenizer["chat_template"], "{{ messages }}");
    assert_eq!(tokenizer["bos_token"], "<|end|>");
    assert_eq!(read("f32", "generation_config.json")["eos_token_id"], 2);
}

/// A GGUF written anew from a golden one, piece by piece.
struct Draft {
    metadata: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

fn u32_value(value: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), value.to_le_bytes()].concat()
}

fn text_value(value: &str) -> Vec<u8> {
    [8u32.to_le_bytes().to_vec(), text(value)].concat()
}

fn flag_value(value: bool) -> Vec<u8> {
    [7u32.to_le_bytes().to_vec(), vec![value.into()]].concat()
}

fn number_value(value: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), value.to_le_bytes()].concat()
}

impl Draft {
    fn of(name: &str) -> Draft {
        let bytes = golden_bytes(name);
        let gguf = Gguf::parse(&bytes).expect("a golden file");
        let encode = |value: &Value| match value {
            Value::Unsigned(value) => u32_value(*value as u32),
            Value::Single(value) => number_value(*value),
            Value::Flag(value) => flag_value(*value),
            Value::Text(value) => text_value(value),
            Value::Array(Array::Texts(texts)) => {
                let mut bytes = [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
                bytes.extend((texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|part| bytes.extend(text(part)));
                bytes
            }
            Value::Array(Array::Scalars(scalar, data)) => {
                // The golden files hold arrays of i32 and f32.
                let kind: u32 = if *scalar == zprune::gguf::Scalar::Float(4) {
                    6
                } else {
                    5
                };
                let mut bytes = [9u32.to_le_bytes(), kind.to_le_bytes()].concat();
                bytes.extend((data.len() as u64 / 4).to_le_bytes());
                bytes.extend(*data);
                bytes
            }
            other => panic!("the golden files hold no {other:?}"),
        };
        let metadata = gguf
            .metadata()
            .iter()
            .map(|(key, value)| (key.to_string(), encode(value)));
        let tensors = gguf.tensors().iter().map(|(name, tensor)| {
            let shape = tensor.shape.iter().rev().map(|length| *length as u64).collect();
            let id = (0..)
                .find(|id| zprune::gguf::dequantise::BlockType::from_id(*id).is_ok_and(|kind| kind == tensor.kind));
            (name.to_string(), shape, id.expect("a known type"), tensor.data.to_vec())
        });
        Draft {
            metadata: metadata.collect(),
            tensors: tensors.collect(),
        }
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        self.metadata.retain(|(old, _)| old != key);
        self.metadata.push((key.to_string(), value));
    }

    fn unset(&mut self, key: &str) {
        let before = self.metadata.len();
        self.metadata.retain(|(old, _)| old != key);
        assert_eq!(self.metadata.len() + 1, before, "{key} was there");
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, u32, Vec<u8>) {
        self.tensors
            .iter_mut()
            .find(|(old, ..)| old == name)
            .expect("the tensor is there")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        let mut offset = 0u64;
        for (name, shape, id, data) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
            bytes.extend(id.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += (data.len() as u64).next_multiple_of(32);
        }
        for (.., data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(data);
        }
        bytes
    }
}

struct Case {
    /// What is wrong, in words.
    name: &'static str,
    /// The golden file it is done to.
    file: &'static str,
    change: fn(&mut Draft),
    /// What the message must say.
    expect: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "another architecture",
        file: "q8_0.gguf",
        change: |draft| draft.set("general.architecture", text_value("mamba")),
        expect: "key `general.architecture`: architecture \"mamba\" is not supported (supported: llama, deci, gemma3, qwen2, qwen3)",
    },
    Case {
        name: "a mixture of experts",
        file: "q8_0.gguf",
        change: |draft| draft.set("llama.expert_count", u32_value(8)),
        expect: "key `llama.expert_count` = 8 is not supported",
    },
    Case {
        name: "one part of a split file",
        file: "q8_0.gguf",
        change: |draft| draft.set("split.count", u32_value(3)),
        expect: "key `split.count` = 3",
    },
    Case {
        name: "another rotary scaling",
        file: "q4_0.gguf",
        change: |draft| draft.set("llama.rope.scaling.type", text_value("yarn")),
        expect: "rotary scaling \"yarn\" is not supported",
    },
    Case {
        name: "rotary factors of nobody",
        file: "q8_0.gguf",
        change: |draft| draft.tensor("rope_freqs.weight").3[12..].copy_from_slice(&3.0f32.to_le_bytes()),
        expect: "tensor `rope_freqs.weight`: these factors are not LLaMA 3.1's",
    },
    Case {
        name: "rotary factors and linear scaling",
        file: "q8_0.gguf",
        change: |draft| draft.set("llama.rope.scaling.factor", number_value(2.0)),
        expect: "linear rotary scaling together",
    },
    Case {
        name: "partial rotary positions",
        file: "q4_0.gguf",
        change: |draft| {
            draft.set("llama.attention.key_length", u32_value(8));
            draft.set("llama.rope.dimension_count", u32_value(4));
        },
        expect: "key `llama.rope.dimension_count` = 4",
    },
    Case {
        name: "a sliding window",
        file: "q4_0.gguf",
        change: |draft| draft.set("llama.attention.sliding_window", u32_value(128)),
        expect: "sliding_window` = 128",
    },
    Case {
        name: "more blocks than tensors",
        file: "q4_0.gguf",
        change: |draft| draft.set("llama.block_count", u32_value(u32::MAX)),
        expect: "key `llama.block_count` = 4294967295, but there are only",
    },
    Case {
        name: "heads that do not divide",
        file: "q4_0.gguf",
        change: |draft| draft.set("llama.attention.head_count_kv", u32_value(3)),
        expect: "num_key_value_heads",
    },
    Case {
        name: "a missing key",
        file: "q4_0.gguf",
        change: |draft| draft.unset("llama.attention.layer_norm_rms_epsilon"),
        expect: "key `llama.attention.layer_norm_rms_epsilon` is missing",
    },
    Case {
        name: "a key of another type",
        file: "q4_0.gguf",
        change: |draft| draft.set("llama.context_length", text_value("long")),
        expect: "key `llama.context_length` must be a whole number",
    },
    Case {
        name: "a missing tensor",
        file: "q4_0.gguf",
        change: |draft| draft.tensors.retain(|(name, ..)| name != "blk.0.ffn_up.weight"),
        expect: "tensor `blk.0.ffn_up.weight` is missing",
    },
    Case {
        name: "an unknown tensor",
        file: "q4_0.gguf",
        change: |draft| {
            let extra = draft.tensor("blk.0.attn_norm.weight").clone();
            draft
                .tensors
                .push(("blk.0.attn_q_norm.weight".into(), extra.1, extra.2, extra.3));
        },
        expect: "tensor `blk.0.attn_q_norm.weight` has no counterpart",
    },
    Case {
        name: "a wrong shape",
        file: "q4_0.gguf",
        change: |draft| {
            let tensor = draft.tensor("blk.1.attn_k.weight");
            tensor.1 = vec![16, 32];
            tensor.2 = 0;
            tensor.3 = vec![0; 4 * 16 * 32];
        },
        expect: "tensor `blk.1.attn_k.weight` has shape [32, 16], but the metadata imply [16, 32]",
    },
    Case {
        name: "an unsupported type",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.1.attn_k.weight").2 = 10,
        expect: "tensor `blk.1.attn_k.weight`: type Q2_K is not supported",
    },
    Case {
        name: "a type that does not exist",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.1.attn_k.weight").2 = 1000,
        expect: "tensor `blk.1.attn_k.weight`: type number 1000 is not supported",
    },
    Case {
        name: "two tensors of one name",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.1.attn_k.weight").0 = "blk.1.attn_q.weight".into(),
        expect: "tensor `blk.1.attn_q.weight` occurs twice",
    },
    Case {
        name: "rows of broken blocks",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.1.attn_k.weight").1 = vec![16, 32],
        expect: "rows of 16 elements are not whole blocks of 32 (Q4_0)",
    },
    Case {
        name: "a tensor of more elements than memory",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.1.attn_k.weight").1 = vec![1 << 32, 1 << 32, 1 << 32, 32],
        expect: "too many elements",
    },
    Case {
        name: "a tensor that reaches past the end",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("token_embd.weight").1 = vec![32, 1 << 40],
        expect: "tensor `token_embd.weight`: truncated file",
    },
    Case {
        name: "a tensor over the next one",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.0.attn_k.weight").1 = vec![32, 256],
        expect: "overlap",
    },
    Case {
        name: "a dimension of length zero",
        file: "q4_0.gguf",
        change: |draft| draft.tensor("blk.0.attn_k.weight").1 = vec![32, 0],
        expect: "a dimension of length 0",
    },
    Case {
        name: "an odd alignment",
        file: "q4_0.gguf",
        change: |draft| draft.set("general.alignment", u32_value(24)),
        expect: "key `general.alignment` = 24 is not a power of two",
    },
    Case {
        name: "an alignment of zero",
        file: "q4_0.gguf",
        change: |draft| draft.set("general.alignment", u32_value(0)),
        expect: "key `general.alignment` = 0 is not a power of two",
    },
    Case {
        name: "an alignment the tensors do not keep",
        file: "q4_0.gguf",
        change: |draft| draft.set("general.alignment", u32_value(1 << 12)),
        expect: "is not a multiple of the alignment 4096",
    },
    Case {
        name: "a key twice",
        file: "q4_0.gguf",
        change: |draft| draft.metadata.push(("llama.block_count".into(), u32_value(1))),
        expect: "key `llama.block_count` occurs twice",
    },
    Case {
        name: "a metadata type that does not exist",
        file: "q4_0.gguf",
        change: |draft| draft.set("x", 77u32.to_le_bytes().to_vec()),
        expect: "key `x`: metadata type 77 does not exist",
    },
    Case {
        name: "a truth value of two",
        file: "q4_0.gguf",
        change: |draft| draft.set("x", [7u32.to_le_bytes().to_vec(), vec![2]].concat()),
        expect: "key `x`: truth value 2",
    },
    Case {
        name: "a string that is not UTF-8",
        file: "q4_0.gguf",
        change: |draft| {
            let mut value = text_value("abc");
            *value.last_mut().expect("not empty") = 0xff;
            draft.set("x", value);
        },
        expect: "key `x`: the string at byte",
    },
    Case {
        name: "an array of more strings than bytes",
        file: "q4_0.gguf",
        change: |draft| {
            let mut value = [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
            value.extend(u64::MAX.to_le_bytes());
            draft.set("x", value);
        },
        expect: "key `x`: truncated file: it announces 18446744073709551615",
    },
    Case {
        name: "arrays nested without end",
        file: "q4_0.gguf",
        change: |draft| {
            let mut value = 9u32.to_le_bytes().to_vec();
            for _ in 0..1000 {
                value.extend(9u32.to_le_bytes());
                value.extend(1u64.to_le_bytes());
            }
            draft.set("x", value);
        },
        expect: "key `x`: arrays are nested deeper than 4 levels",
    },
    Case {
        name: "not a number among the weights",
        file: "f32.gguf",
        change: |draft| draft.tensor("blk.0.ffn_up.weight").3[36..40].copy_from_slice(&f32::NAN.to_le_bytes()),
        expect: "tensor `blk.0.ffn_up.weight`: element 9 is NaN",
    },
    Case {
        name: "an infinite bias",
        file: "f32.gguf",
        change: |draft| draft.tensor("blk.0.attn_v.bias").3[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
        expect: "tensor `blk.0.attn_v.bias`: element 0 is inf",
    },
    Case {
        name: "an infinite scale",
        file: "q6_k.gguf",
        change: |draft| {
            let data = &mut draft.tensor("blk.0.attn_k.weight").3;
            let end = data.len();
            data[end - 2..].copy_from_slice(&[0x00, 0x7c]);
        },
        expect: "tensor `blk.0.attn_k.weight`: element ",
    },
    Case {
        name: "no tokenizer",
        file: "q4_0.gguf",
        change: |draft| draft.unset("tokenizer.ggml.model"),
        expect: "key `tokenizer.ggml.model` is missing",
    },
    Case {
        name: "another tokenizer",
        file: "q4_0.gguf",
        change: |draft| draft.set("tokenizer.ggml.model", text_value("bert")),
        expect: "key `tokenizer.ggml.model` = \"bert\" is not supported",
    },
    Case {
        name: "no tokens",
        file: "q4_0.gguf",
        change: |draft| draft.unset("tokenizer.ggml.tokens"),
        expect: "key `tokenizer.ggml.tokens` is missing",
    },
    Case {
        name: "no token types",
        file: "q4_0.gguf",
        change: |draft| draft.unset("tokenizer.ggml.token_type"),
        expect: "key `tokenizer.ggml.token_type` is missing",
    },
    Case {
        name: "no scores",
        file: "q4_0.gguf",
        change: |draft| draft.unset("tokenizer.ggml.scores"),
        expect: "key `tokenizer.ggml.scores` is missing",
    },
    Case {
        name: "no merges",
        file: "f16.gguf",
        change: |draft| draft.unset("tokenizer.ggml.merges"),
        expect: "key `tokenizer.ggml.merges` is missing",
    },
    Case {
        name: "no pre-tokenizer",
        file: "f16.gguf",
        change: |draft| draft.unset("tokenizer.ggml.pre"),
        expect: "key `tokenizer.ggml.pre` is missing",
    },
    Case {
        name: "an unknown pre-tokenizer",
        file: "f16.gguf",
        change: |draft| draft.set("tokenizer.ggml.pre", text_value("viking")),
        expect: "pre-tokenizer \"viking\" is not supported",
    },
    Case {
        name: "a BOS token outside the vocabulary",
        file: "f16.gguf",
        change: |draft| draft.set("tokenizer.ggml.bos_token_id", u32_value(100_000)),
        expect: "key `tokenizer.ggml.bos_token_id` = 100000",
    },
    Case {
        name: "a text that begins with a BOS token nobody knows",
        file: "q4_0.gguf",
        change: |draft| draft.unset("tokenizer.ggml.bos_token_id"),
        expect: "adds a bos token to every text, but has none",
    },
    Case {
        name: "a vocabulary of another size",
        file: "f16.gguf",
        change: |draft| draft.set("llama.vocab_size", u32_value(5)),
        expect: "key `llama.vocab_size` = 5",
    },
];

/// Imports `bytes` in a folder of its own; the message and what is left beside the file.
fn refusal(bytes: &[u8]) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.gguf");
    std::fs::write(&file, bytes).expect("a small file");
    let message = match import(&file, &folder.path().join("model"), ImportOptions::default(), &Silent) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    };
    (message, left_in(folder.path()))
}

fn left_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("readable").file_name();
    entries
        .map(name)
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn what_cannot_be_carried_over_is_refused_by_name() {
    for file in ["f32.gguf", "f16.gguf", "q4_0.gguf", "q6_k.gguf", "q8_0.gguf"] {
        assert_eq!(refusal(&Draft::of(file).bytes()).0, "accepted", "{file}");
    }
    let mut failures = Vec::new();
    for case in CASES {
        let mut draft = Draft::of(case.file);
        (case.change)(&mut draft);
        let (message, left) = refusal(&draft.bytes());
        if !message.contains(case.expect) || left != ["x.gguf"] {
            failures.push(format!("{}: {message} (left: {left:?})", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_known_pre_tokenizer_compiles() {
    for name in [
        "gpt-2",
        "smollm",
        "starcoder",
        "refact",
        "command-r",
        "llama-bpe",
        "llama3",
        "llama-v3",
        "qwen2",
        "tekken",
        "default",
    ] {
        let mut draft = Draft::of("f16.gguf");
        draft.set("tokenizer.ggml.pre", text_value(name));
        assert_eq!(refusal(&draft.bytes()).0, "accepted", "{name}");
    }
}

#[test]
fn other_versions_and_byte_orders_are_refused() {
    let good = golden_bytes("q4_0.gguf");
    for (version, expect) in [
        (1u32.to_le_bytes(), "GGUF version 1 is not supported"),
        (4u32.to_le_bytes(), "GGUF version 4 is not supported"),
        (3u32.to_be_bytes(), "big-endian"),
    ] {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&version);
        let message = refusal(&bytes).0;
        assert!(message.contains(expect), "{message}");
    }
    let mut version_two = good.clone();
    version_two[4] = 2;
    assert_eq!(refusal(&version_two).0, "accepted");
    let mut magic = good;
    magic[0] = b'g';
    assert!(refusal(&magic).0.contains("not a GGUF file"));
    assert!(refusal(b"").0.contains("not a GGUF file"));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = golden_bytes("q4_0.gguf");
    // The last tensor's padding may be missing.
    let gguf = Gguf::parse(&bytes).expect("a golden file");
    let base = bytes.as_ptr() as usize;
    let ends = gguf
        .tensors()
        .values()
        .map(|tensor| tensor.data.as_ptr() as usize - base + tensor.data.len());
    let end = ends.max().expect("tensors");
    for length in 0..end {
        assert!(Gguf::parse(&bytes[..length]).is_err(), "{length} bytes were accepted");
    }
    assert!(Gguf::parse(&bytes[..end]).is_ok());
}

#[test]
fn no_damaged_byte_makes_the_reader_panic() {
    let bytes = golden_bytes("q4_0.gguf");
    let gguf = Gguf::parse(&bytes).expect("a golden file");
    let base = bytes.as_ptr() as usize;
    let starts = gguf
        .tensors()
        .values()
        .map(|tensor| tensor.data.as_ptr() as usize - base);
    let header = starts.min().expect("tensors");
    for position in 0..header {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] = value;
            // Accepted or refused, it must come back.
            let _ = Gguf::parse(&damaged);
        }
    }
}

/// The program, about to import a golden file in `folder`.
fn command(folder: &Path, shell: &str) -> Output {
    Command::new("sh")
        .current_dir(folder)
        .args(["-c", shell])
        .env("ZPRUNE", env!("CARGO_BIN_EXE_zprune"))
        .env("GGUF", golden("q4_1.gguf"))
        .output()
        .expect("a shell")
}

#[test]
fn the_command_prints_what_it_wrote() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = command(
        folder.path(),
        r#"exec "$ZPRUNE" import "$GGUF" --out deep/model --dtype bf16"#,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in ["wrote deep/model", "Q4_1", "bf16, in 1 file", "tokens"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(left_in(&folder.path().join("deep")), ["model"]);
}

#[test]
fn an_import_that_cannot_be_written_leaves_nothing() {
    for (name, shell, code, expect) in [
        (
            "an existing folder",
            r#"mkdir model; touch model/mine; "$ZPRUNE" import "$GGUF" --out model"#,
            3,
            "it exists already",
        ),
        (
            "a full disk",
            r#"trap '' XFSZ; ulimit -f 4; exec "$ZPRUNE" import "$GGUF" --out model"#,
            3,
            "cannot write",
        ),
        (
            "a parent that is a file",
            r#"touch parent; exec "$ZPRUNE" import "$GGUF" --out parent/model"#,
            3,
            "parent",
        ),
        (
            "a missing file",
            r#"exec "$ZPRUNE" import nothing.gguf --out model"#,
            2,
            "nothing.gguf: no such file",
        ),
        (
            "an unknown type",
            r#"exec "$ZPRUNE" import "$GGUF" --out model --dtype f8"#,
            2,
            "none of f32, f16, bf16",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = command(folder.path(), shell);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {message}");
        assert!(
            message.contains(expect) && !message.contains("panicked"),
            "{name}: {message}"
        );
        let left = left_in(folder.path());
        assert!(
            left.iter().all(|file| file == "model" || file == "parent"),
            "{name}: {left:?}"
        );
        if let Ok(entries) = std::fs::read_dir(folder.path().join("model")) {
            assert_eq!(entries.count(), 1, "{name}");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_parent_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parent = folder.path().join("parent");
    std::fs::create_dir(&parent).expect("a folder");
    let allow = |mode| std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(mode)).expect("our folder");
    allow(0o555);
    // The superuser may write all the same; there is nothing to see then.
    if std::fs::write(parent.join("probe"), "").is_err() {
        let message = import(
            &golden("q4_1.gguf"),
            &parent.join("model"),
            ImportOptions::default(),
            &Silent,
        )
        .expect_err("the folder is read-only")
        .to_string();
        assert!(message.contains("cannot write"), "{message}");
        assert!(left_in(&parent).is_empty());
    }
    allow(0o755);
}
