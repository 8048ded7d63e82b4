//! Claims about writing: what llama.cpp is given is what an import reads, to the last bit and with the same logits; what GGUF cannot say is
//! refused by its key, and then nothing is left behind.

use super::{golden, left_in, stored};
use ndarray::Array2;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use zprune::backend::cpu::Cpu;
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::data::windows::TokenWindows;
use zprune::gguf::Gguf;
use zprune::gguf::dequantise::BlockType;
use zprune::gguf::export::{Exported, export};
use zprune::gguf::import::{ImportOptions, import};
use zprune::model::blocks;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::export::CLASS;
use zprune::model::families::read_spec;
use zprune::model::forward::{Ends, Hidden};
use zprune::model::source::WeightSource;
use zprune::progress::Silent;
use zprune::tensor::StorageType;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A byte-level tokenizer of fewer than 96 tokens, which is as many as the golden models have.
fn small_tokenizer() -> Value {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "\u{120}"].map(String::from).to_vec();
    tokens.extend(('a'..='z').chain('A'..='Z').chain('0'..='9').map(String::from));
    let merges = [["t", "h"], ["th", "e"], ["\u{120}", "the"], ["o", "w"]];
    tokens.extend(merges.iter().map(|pair| pair.concat()));
    let special = |id: usize| json!({"id": id, "content": tokens[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let ids: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let letters = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": null, "pre_tokenizer": letters.clone(), "decoder": letters,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": ids, "merges": merges},
    })
}

/// A copy of a golden model in `folder`, with a tokenizer and with changes of its configuration.
fn placed(folder: &Path, family: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let model = folder.join(family);
    std::fs::create_dir(&model).expect("writable");
    for entry in std::fs::read_dir(root().join("tests/golden/logits").join(family)).expect("a golden checkpoint") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("golden") {
            std::fs::copy(&path, model.join(name)).expect("writable");
        }
    }
    write_json(&model.join("tokenizer.json"), &small_tokenizer());
    change_json(&model.join("config.json"), change);
    model
}

fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).expect("writable");
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON");
    change(&mut value);
    write_json(path, &value);
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

/// The logits of a few tokens.
fn logits(model: &Path) -> Array2<f32> {
    logits_of(model, (0..4 * 16).map(|t| t * 37 % 96).collect(), 16)
}

/// The logits of windows of `length` tokens.
pub(super) fn logits_of(model: &Path, ids: Vec<u32>, length: usize) -> Array2<f32> {
    let checkpoint = Checkpoint::open(model, read_spec(model).expect("supported")).expect("a checkpoint");
    let windows = TokenWindows::new(ids, length).expect("whole windows");
    let ends = Ends::upload(&Cpu, &checkpoint).expect("finite");
    let mut hidden = Hidden::embed(&Cpu, checkpoint.spec(), &ends, &windows).expect("tokens of the model");
    blocks::each(&Cpu, &checkpoint as &dyn WeightSource, |_, block| {
        hidden.advance(&Cpu, checkpoint.spec(), &block, |_, _| Ok(()))
    })
    .expect("finite");
    hidden.logits(&Cpu, &ends).expect("finite")
}

/// The largest difference, as a part of the largest value.
pub(super) fn apart(one: &Array2<f32>, other: &Array2<f32>) -> f32 {
    assert_eq!(one.dim(), other.dim());
    let most = one.iter().map(|value| value.abs()).fold(0.0, f32::max);
    let apart = one.iter().zip(other).map(|(one, other)| (one - other).abs());
    apart.fold(0.0, f32::max) / most
}

/// Writes a model as GGUF beside it and imports that again.
fn there_and_back(model: &Path, kind: BlockType, dtype: StorageType) -> (Exported, PathBuf) {
    let file = model.with_extension("gguf");
    let told = export(model, &file, kind, &Silent).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let back = model.with_extension("back");
    let options = ImportOptions {
        dtype,
        ..ImportOptions::default()
    };
    import(&file, &back, options, &Silent).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    (told, back)
}

#[test]
fn every_model_that_can_be_said_comes_back_with_its_logits() {
    for family in [
        "llama_bf16",
        "llama_biases",
        "llama_f16",
        "llama_gqa_tied",
        "llama_head_dim",
        "llama_mha_untied",
        "llama_mqa",
        "llama_old_config",
        "llama_rope_linear",
        "llama_rope_llama3",
        "llama_sharded",
        "mistral",
        "mistral_no_window",
        "granite",
        "qwen2",
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = placed(folder.path(), family, |config| {
            if family == "granite" {
                config["embedding_multiplier"] = json!(1.0);
                config["attention_multiplier"] = json!(f64::from(1.0 / 8f32.sqrt()));
            }
        });
        let (told, back) = there_and_back(&model, BlockType::F32, StorageType::F32);
        assert_eq!(told.architecture, "llama", "{family}");
        let difference = apart(&logits(&model), &logits(&back));
        // Frequencies may be rounded once more, everything else is the same.
        let allowed = if family.contains("rope") { 1e-5 } else { 0.0 };
        assert!(difference <= allowed, "{family}: {difference}");
        let tokens = |folder: &Path| {
            let tokenizer = Tokenizer::load(folder).expect("a tokenizer");
            tokenizer
                .encode("The owl 12 then", Bos::Tokenizer, 96)
                .expect("all known")
        };
        assert_eq!(tokens(&model), tokens(&back), "{family}");
    }
}

#[test]
fn a_file_that_was_imported_is_written_as_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    import(&golden("f16.gguf"), &model, ImportOptions::default(), &Silent).expect("a golden file");
    let (_, back) = there_and_back(&model, BlockType::F32, StorageType::F32);
    assert!(stored(&model) == stored(&back));
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        assert_eq!(json_of(&back.join(name)), json_of(&model.join(name)), "{name}");
    }
}

/// The program's `shrink` makes a model smaller.
fn shrunk(model: &Path, out: &Path, rest: &[&str]) {
    let tokens = out.with_extension("safetensors");
    let ids: Vec<u32> = (0..4 * 16).map(|t| t * 37 % 96).collect();
    let windows = TokenWindows::new(ids, 16).expect("whole windows");
    windows.write(&tokens).expect("writable");
    let output = Command::new(env!("CARGO_BIN_EXE_zprune"))
        .arg("shrink")
        .arg("--model")
        .arg(model)
        .arg("--tokens")
        .arg(&tokens)
        .arg("--out")
        .arg(out)
        .args(rest)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn smaller_models_come_back_with_the_sizes_of_their_blocks() {
    for (widths, bias, architecture) in [
        ("per-block", "bias=true", "deci"),
        ("per-block", "bias=false", "deci"),
        ("uniform", "bias=true", "llama"),
        ("uniform", "bias=false", "llama"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = placed(folder.path(), "llama_mha_untied", |_| {});
        let small = folder.path().join("small");
        shrunk(
            &model,
            &small,
            &["--method", "flap", "--units", "0.4", "--widths", widths, "--set", bias],
        );
        let (told, back) = there_and_back(&small, BlockType::F32, StorageType::F32);
        assert_eq!(told.architecture, architecture, "{widths} {bias}");
        assert_eq!(apart(&logits(&small), &logits(&back)), 0.0, "{widths} {bias}");
        // The class for transformers is there where blocks differ.
        let [here, there] = [&small, &back].map(|folder| folder.join(CLASS).exists());
        assert_eq!([here, there], [architecture == "deci"; 2], "{widths} {bias}");
        let [own, read] = [&small, &back].map(|folder| read_spec(folder).expect("supported"));
        for block in 0..own.blocks {
            let sizes = |block: &zprune::spec::BlockSpec| (block.attention, block.neurons());
            assert_eq!(sizes(own.block(block)), sizes(read.block(block)));
        }
        let bytes = std::fs::read(small.with_extension("gguf")).expect("written");
        let gguf = Gguf::parse(&bytes).expect("a GGUF file");
        let heads = gguf.integers("deci.attention.head_count").expect("numbers");
        assert_eq!(
            heads.map(|heads| heads.len()),
            (architecture == "deci").then_some(own.blocks)
        );
    }
}

#[test]
fn blocks_without_attention_or_mlp_come_back_with_their_logits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let no_heads = json!({"num_attention_heads": 0, "num_key_value_heads": 0});
    let model = placed(folder.path(), "llama_mha_untied", |config| {
        config["per_layer_config"] = json!({"0": {"intermediate_size": 0}, "1": no_heads.clone()});
    });
    let (told, back) = there_and_back(&model, BlockType::F32, StorageType::F32);
    assert_eq!(told.architecture, "deci");
    assert_eq!(apart(&logits(&model), &logits(&back)), 0.0);
    // llama.cpp forgets the attention of a block with 0 neurons.
    assert_eq!(read_spec(&back).expect("supported").block(0).neurons(), 32);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = placed(folder.path(), "llama_mha_untied", |config| {
        config["per_layer_config"] = json!({"0": no_heads});
    });
    // llama.cpp finds the size of heads in the first block.
    let (told, back) = there_and_back(&model, BlockType::F32, StorageType::F32);
    assert_eq!(told.architecture, "deci");
    assert_eq!(apart(&logits(&model), &logits(&back)), 0.0);
    assert_eq!(read_spec(&back).expect("supported").block(0).attention.heads, 1);
}

#[test]
fn rows_that_are_no_whole_blocks_are_half_precision_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = placed(folder.path(), "llama_mha_untied", |_| {});
    let small = folder.path().join("small");
    let rest = [
        "--method",
        "flap",
        "--set",
        "bias=false",
        "--units",
        "0.3",
        "--widths",
        "per-block",
    ];
    shrunk(&model, &small, &rest);
    let (told, _) = there_and_back(&small, BlockType::Q8_0, StorageType::F32);
    let bytes = std::fs::read(small.with_extension("gguf")).expect("written");
    let gguf = Gguf::parse(&bytes).expect("a GGUF file");
    let mut halves = 0;
    for (name, tensor) in gguf.tensors() {
        let columns = tensor.shape.last().copied().expect("dimensions");
        let wanted = match (tensor.shape.len(), columns % 32) {
            (1, _) => BlockType::F32,
            (_, 0) => BlockType::Q8_0,
            _ => BlockType::F16,
        };
        assert_eq!(tensor.kind, wanted, "{name}");
        if wanted == BlockType::F16 {
            halves += 1;
            assert!(told.others.contains(&name.to_string()), "{name}: {:?}", told.others);
        }
    }
    assert!(halves > 0 && halves == told.others.len(), "{told}");
    assert!(
        told.to_string()
            .contains("are F16, since the lengths of their rows are not multiples of 32"),
        "{told}"
    );
}

/// A tokenizer as SentencePiece makes them, with these merges.
fn pieces(merges: &[[&str; 2]], normalizer: Value, pre_tokenizer: Value) -> Value {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(merges.iter().map(|pair| pair.concat()));
    tokens.extend(["\u{2581}", "a", "b", "c", "d", "e", "h", "t", "<extra>"].map(String::from));
    let mut whole = small_tokenizer();
    whole["normalizer"] = normalizer;
    whole["pre_tokenizer"] = pre_tokenizer;
    whole["decoder"] = Value::Null;
    let model = &mut whole["model"];
    model["unk_token"] = json!("<unk>");
    model["fuse_unk"] = json!(true);
    model["byte_fallback"] = json!(true);
    let ids = tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id)));
    model["vocab"] = Value::Object(ids.collect());
    model["merges"] = json!(merges);
    let extra = json!({"id": tokens.len() - 1, "content": "<extra>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false});
    whole["added_tokens"].as_array_mut().expect("a list").push(extra);
    whole
}

/// A tiny model of 300 tokens with this tokenizer.
fn with_tokenizer(tokenizer: &Value) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model");
    std::fs::create_dir(&model).expect("writable");
    write_json(&model.join("tokenizer.json"), tokenizer);
    let config = json!({"model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 64, "tie_word_embeddings": true});
    write_json(&model.join("config.json"), &config);
    let spec = read_spec(&model).expect("supported");
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = spec
        .tensors()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|place: usize| (place % 13) as f32 / 16.0);
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as long as its shape says");
        (name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, None).expect("small");
    std::fs::write(model.join("model.safetensors"), bytes).expect("writable");
    (folder, model)
}

const MERGES: [[&str; 2]; 6] = [
    ["h", "e"],
    ["t", "he"],
    ["\u{2581}", "the"],
    ["\u{2581}", "a"],
    ["\u{2581}", "\u{2581}"],
    ["a", "b"],
];

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false})
}

#[test]
fn tokenizers_of_pieces_keep_their_tokens() {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let prepend =
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, replace.clone()]});
    for (name, normalizer, pre) in [
        ("prepended", prepend, Value::Null),
        ("replaced", replace, Value::Null),
        ("always", Value::Null, metaspace("always")),
        ("first", Value::Null, metaspace("first")),
        ("never", Value::Null, metaspace("never")),
    ] {
        let (_folder, model) = with_tokenizer(&pieces(&MERGES, normalizer, pre));
        let (told, back) = there_and_back(&model, BlockType::F32, StorageType::F32);
        assert!(told.tokenizer.starts_with("llama, 300 tokens"), "{}", told.tokenizer);
        let [own, read] = [&model, &back].map(|folder| Tokenizer::load(folder).expect("a tokenizer"));
        let mut texts = vec!["the ab  at\u{e9}\n", "abcab bathe"];
        // Behind a token, llama.cpp puts a space in any case.
        texts.extend((name != "first").then_some("he the <extra>the"));
        for text in texts {
            let ids = [&own, &read].map(|tokenizer| tokenizer.encode(text, Bos::Tokenizer, 300).expect("known"));
            assert_eq!(ids[0], ids[1], "{name}: {text}");
        }
    }
}

/// Writes a model that cannot be said; the message, and what is left beside the model.
fn refusal(model: &Path) -> (String, Vec<String>) {
    let file = model.with_extension("gguf");
    let message = match export(model, &file, BlockType::F16, &Silent) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    };
    (message, left_in(model.parent().expect("a folder")))
}

#[test]
fn what_no_file_can_say_is_refused_by_its_key() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 10] = [
        (
            "qwen3",
            |_| {},
            "key `model_type`: the family `qwen3` cannot be written as GGUF",
        ),
        ("gemma2", |_| {}, "key `model_type`: the family `gemma2`"),
        ("opt_base", |_| {}, "key `model_type`: the family `opt`"),
        ("mistral_window", |_| {}, "attention has a window of 5 tokens"),
        ("qwen2_windows", |_| {}, "set `max_position_embeddings` to 5"),
        ("granite", |_| {}, "key `embedding_multiplier`: 2"),
        (
            "granite",
            |config| config["embedding_multiplier"] = json!(1.0),
            "key `attention_multiplier`: 0.3",
        ),
        (
            "llama_gqa_tied",
            |config| config["hidden_act"] = json!("gelu"),
            "key `hidden_act`: a GGUF file can only express silu",
        ),
        (
            "llama_rope_llama3",
            |config| {
                for key in ["rope_parameters", "rope_scaling"] {
                    if config[key].is_object() {
                        config[key]["high_freq_factor"] = json!(3.0);
                    }
                }
            },
            "key `rope_scaling`: these factors are not LLaMA 3.1's",
        ),
        (
            "llama_gqa_tied",
            |config| config["num_hidden_layers"] = json!(3),
            "is missing",
        ),
    ];
    for (family, change, expect) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (message, left) = refusal(&placed(folder.path(), family, change));
        assert!(message.contains(expect), "{family}: {message}");
        assert_eq!(left, [family], "{family}");
    }
}

#[test]
fn tokenizers_that_no_file_can_say_are_refused_with_the_part() {
    let piece = |merges: &[[&str; 2]]| pieces(merges, Value::Null, metaspace("first"));
    let changed = |change: fn(&mut Value)| {
        let mut whole = small_tokenizer();
        change(&mut whole);
        whole
    };
    for (tokenizer, expect) in [
        (
            changed(|whole| whole["normalizer"] = json!({"type": "Lowercase"})),
            "`normalizer` = {\"type\":\"Lowercase\"}",
        ),
        (
            changed(|whole| whole["pre_tokenizer"]["add_prefix_space"] = json!(true)),
            "zprune knows no name of llama.cpp's",
        ),
        (
            changed(|whole| whole["model"]["ignore_merges"] = json!(true)),
            "`model.ignore_merges` = true",
        ),
        (
            changed(|whole| whole["added_tokens"][2]["lstrip"] = json!(true)),
            "the added token `</s>` has `lstrip`",
        ),
        (
            changed(|whole| whole["model"] = json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"})),
            "`model.type` = \"WordLevel\"",
        ),
        // A token that is reached in one of two ways only.
        (
            piece(&[["h", "e"], ["t", "h"], ["th", "e"]]),
            "such as that of `t` and `he`",
        ),
        // The whole before its parts.
        (
            piece(&[["t", "he"], ["h", "e"], ["a", "b"], ["t", "h"], ["th", "e"]]),
            "such as that of `th` and `e`",
        ),
        (
            pieces(
                &MERGES,
                Value::Null,
                json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true}),
            ),
            "\"split\":true",
        ),
        (
            {
                let mut whole = piece(&MERGES);
                whole["model"]["vocab"]
                    .as_object_mut()
                    .expect("an object")
                    .shift_remove("<0x0A>");
                whole
            },
            "there is no token `<0x0A>`",
        ),
    ] {
        let (_folder, model) = with_tokenizer(&tokenizer);
        let (message, left) = refusal(&model);
        assert!(
            message.contains(expect) && message.contains("tokenizer.json"),
            "{expect}: {message}"
        );
        assert_eq!(left, ["model"], "{expect}");
    }
    let (_folder, model) = with_tokenizer(&piece(&MERGES));
    std::fs::remove_file(model.join("tokenizer.json")).expect("written");
    assert!(refusal(&model).0.contains("tokenizer.json: no such file"));
}

#[test]
fn numbers_that_are_too_large_for_half_precision_are_refused() {
    let (_folder, model) = with_tokenizer(&small_tokenizer());
    let path = model.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("written");
    // The first tensor is the embedding.
    let header = u64::from_le_bytes(*bytes.first_chunk().expect("a header"));
    let data = 8 + header as usize;
    bytes[data..data + 4].copy_from_slice(&1e6f32.to_le_bytes());
    std::fs::write(&path, bytes).expect("writable");
    let (message, left) = refusal(&model);
    assert!(
        message.contains("element 0 is 1000000, too large for F16; choose --dtype f32 or bf16"),
        "{message}"
    );
    assert_eq!(left, ["model"]);
}

#[test]
fn the_command_says_what_it_wrote_and_replaces_nothing() {
    let (folder, _) = with_tokenizer(&small_tokenizer());
    for (shell, code, expect) in [
        (
            r#""$ZPRUNE" export model --out deep/m.gguf --dtype q8_0"#,
            0,
            "architecture  llama",
        ),
        (
            r#"touch mine; "$ZPRUNE" export model --out mine"#,
            3,
            "mine: cannot write: it exists already",
        ),
        (
            r#"mkdir empty; "$ZPRUNE" export model --out empty"#,
            3,
            "it exists already",
        ),
        (
            r#"trap '' XFSZ; ulimit -f 4; exec "$ZPRUNE" export model --out full.gguf"#,
            3,
            "full.gguf: cannot write",
        ),
        (
            r#""$ZPRUNE" export model --out x.gguf --dtype q4_0"#,
            2,
            "none of f32, f16, bf16, q8_0",
        ),
        (r#""$ZPRUNE" export nothing --out x.gguf"#, 2, "nothing"),
    ] {
        let output = Command::new("sh")
            .current_dir(folder.path())
            .args(["-c", shell])
            .env("ZPRUNE", env!("CARGO_BIN_EXE_zprune"))
            .output()
            .expect("a shell");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{shell}: {said}");
        assert!(said.contains(expect) && !said.contains("panicked"), "{shell}: {said}");
    }
    let mut left = left_in(folder.path());
    left.sort();
    assert_eq!(left, ["deep", "empty", "mine", "model"]);
    assert_eq!(left_in(&folder.path().join("deep")), ["m.gguf"]);
    assert_eq!(std::fs::read(folder.path().join("mine")).expect("there"), b"");
}
