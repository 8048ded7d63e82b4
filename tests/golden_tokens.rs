//! Claim: token ids equal those of transformers' tokenizers, text by text and over whole corpora.
//!
//! `tests/golden/tokens` was made by `tools/make_golden_tokens.py`, which names its versions in each file.

#[path = "golden_tokens/chats.rs"]
mod chats;

use std::collections::BTreeSet;
use std::path::Path;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::digest;
use zprune::data::tokenizer::{Bos, Tokenizer};

const VOCABULARY: usize = 2048;

#[test]
fn token_ids_equal_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for model in ["tiny-llama", "tiny-opt"] {
        let text = std::fs::read_to_string(root.join(format!("tests/golden/tokens/{model}.json")));
        let golden: serde_json::Value =
            serde_json::from_str(&text.expect("golden tokens are in the repository")).expect("golden files are JSON");
        let tokenizer = Tokenizer::load(&root.join("models").join(model)).expect("the embedded tokenizer");
        let texts = golden["texts"].as_array().expect("a list of texts");
        assert!(texts.len() > 20, "only {} texts", texts.len());
        for case in texts {
            let text = case["text"].as_str().expect("a text");
            let want: Vec<u64> = case["ids"]
                .as_array()
                .expect("ids")
                .iter()
                .filter_map(|id| id.as_u64())
                .collect();
            let got = tokenizer.encode(text, Bos::Tokenizer, VOCABULARY).expect("encodable");
            let got: Vec<u64> = got.into_iter().map(u64::from).collect();
            assert_eq!(got, want, "{model}: {text:?}");
        }
        let corpora = golden["corpora"].as_array().expect("a list of corpora");
        assert_eq!(corpora.len(), 2);
        for case in corpora {
            let name = case["file"].as_str().expect("a file name");
            let corpus = Corpus::read(&root.join("corpora").join(name), Join::None).expect("an embedded corpus");
            let ids = tokenizer
                .encode(&corpus.joined(Join::None), Bos::Tokenizer, VOCABULARY)
                .expect("encodable");
            assert_eq!(
                ids.len() as u64,
                case["count"].as_u64().expect("a count"),
                "{model}: {name}"
            );
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(
                digest::of_bytes(&bytes),
                case["ids_sha256"].as_str().expect("a digest"),
                "{model}: {name}"
            );
        }
    }
}

/// The tiny tokenizer of the tests with these files beside it.
fn tiny_with(files: &serde_json::Value) -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(fixtures.join(name), folder.path().join(name)).expect("fixtures are in the repository");
    }
    for (name, text) in files.as_object().expect("files by name") {
        std::fs::write(folder.path().join(name), text.as_str().expect("a text")).expect("writable");
    }
    folder
}

#[test]
fn files_beside_the_tokenizer_count_as_for_transformers() {
    let golden = include_str!("golden/tokens/settings.json");
    let golden: serde_json::Value = serde_json::from_str(golden).expect("golden files are JSON");
    let text = golden["text"].as_str().expect("a text");
    let cases = golden["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut digests = BTreeSet::new();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let folder = tiny_with(&case["files"]);
        let tokenizer = Tokenizer::load(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let want: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
        let got = tokenizer.encode(text, Bos::Tokenizer, VOCABULARY).expect("encodable");
        assert_eq!(got, want, "{name}");
        for (role, key) in [("bos_token", "bos"), ("eos_token", "eos")] {
            let id = tokenizer.special(role).map(|special| u64::from(special.id));
            assert_eq!(id, case[key].as_u64(), "{name}: {role}");
        }
        let digest = zprune::data::tokenizer::digest(folder.path()).expect("readable");
        assert_eq!(digest, tokenizer.digest(), "{name}");
        digests.insert((digest, want));
    }
    let unlike: BTreeSet<&String> = digests.iter().map(|(digest, _)| digest).collect();
    let ids: BTreeSet<&Vec<u32>> = digests.iter().map(|(_, ids)| ids).collect();
    assert!(unlike.len() >= ids.len(), "other tokens, but the same digest");
}

/// Why zprune refuses tokenizers that transformers loads: their files name other ids than they get.
const REFUSALS: [&str; 1] = ["has the id"];

#[test]
fn classes_make_tokenizers_anew_as_in_transformers() {
    let golden = match std::env::var_os("ZPRUNE_TOKEN_CLASSES") {
        None => include_str!("golden/tokens/classes.json").to_string(),
        Some(path) => std::fs::read_to_string(path).expect("a file of more cases"),
    };
    let golden: serde_json::Value = serde_json::from_str(&golden).expect("golden files are JSON");
    let text = golden["text"].as_str().expect("a text");
    let cases = golden["cases"].as_array().expect("a list of cases");
    assert!(cases.len() > 300, "only {} cases", cases.len());
    let (mut failures, mut refused, mut equal) = (Vec::new(), 0, 0);
    let mut digests = std::collections::BTreeMap::new();
    for case in cases {
        let name = format!(
            "{} {} {} {}",
            case["family"], case["class"], case["base"], case["setting"]
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
        write(
            "config.json",
            &serde_json::json!({"model_type": case["family"]}).to_string(),
        );
        let base = case["base"].as_str().expect("a name");
        write("tokenizer.json", golden["bases"][base].as_str().expect("a text"));
        for (file, content) in case["files"].as_object().expect("files by name") {
            write(file, &content.to_string());
        }
        let tokenizer = match Tokenizer::load(folder.path()) {
            Ok(tokenizer) => tokenizer,
            Err(_) if case["ids"].is_null() => continue,
            Err(error) if REFUSALS.iter().any(|why| error.to_string().contains(why)) => {
                refused += 1;
                continue;
            }
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let digest = zprune::data::tokenizer::digest(folder.path()).expect("readable");
        assert_eq!(digest, tokenizer.digest(), "{name}");
        let got = tokenizer.encode(text, Bos::Tokenizer, VOCABULARY);
        let want: Option<Vec<u32>> = serde_json::from_value(case["ids"].clone()).expect("ids");
        match (got, want) {
            (Ok(got), Some(want)) if got == want => {
                equal += 1;
                let before = digests.insert(digest, got.clone());
                if before.is_some_and(|before| before != got) {
                    failures.push(format!("{name}: other tokens, but the digest of another case"));
                }
            }
            (Err(_), None) => {}
            (got, want) => failures.push(format!("{name}: {got:?}, not {want:?}")),
        }
        if !case["ids"].is_null() {
            for (role, key) in [("bos_token", "bos"), ("eos_token", "eos")] {
                let id = tokenizer.special(role).map(|special| u64::from(special.id));
                if id != case[key].as_u64() {
                    failures.push(format!("{name}: {role} is {id:?}, not {}", case[key]));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    assert!(equal > 10 * refused, "{equal} equal, {refused} refused");
}

#[test]
fn files_that_contradict_the_tokenizer_are_refused_by_name() {
    let class = |class: &str, rest: &str| format!("{{\"tokenizer_class\": \"{class}\"{rest}}}");
    for (file, text, expect) in [
        (
            "tokenizer_config.json",
            class(
                "PreTrainedTokenizerFast",
                r#", "added_tokens_decoder": {"300": {"content": "<x>"}}"#,
            ),
            &["tokenizer_config.json: token `<x>` has the id 300 there, but 259 with tokenizer.json"][..],
        ),
        (
            "added_tokens.json",
            r#"{"<x>": 260}"#.to_string(),
            &["added_tokens.json: token `<x>` has the id 260 there, but 259 with tokenizer.json"],
        ),
        (
            "tokenizer_config.json",
            class("T5TokenizerFast", ""),
            &[
                "tokenizer_config.json: `tokenizer_class` = \"T5Tokenizer\"",
                "write \"PreTrainedTokenizerFast\"",
            ],
        ),
        (
            "tokenizer_config.json",
            class("GPT2Tokenizer", r#", "add_prefix_space": "yes""#),
            &["tokenizer_config.json: `add_prefix_space` is neither true nor false: \"yes\""],
        ),
        (
            "tokenizer_config.json",
            class("PreTrainedTokenizerFast", r#", "split_special_tokens": "yes""#),
            &["tokenizer_config.json: `split_special_tokens` is neither true nor false: \"yes\""],
        ),
        (
            "tokenizer_config.json",
            class("PreTrainedTokenizerFast", r#", "added_tokens_decoder": {"259": "<x>"}"#),
            &["tokenizer_config.json: `added_tokens_decoder`: `259` is not an object"],
        ),
        (
            "added_tokens.json",
            r#"{"<x>": "one"}"#.to_string(),
            &["added_tokens.json: `<x>` has no token id"],
        ),
        (
            "special_tokens_map.json",
            "[]".to_string(),
            &["special_tokens_map.json: not a JSON object"],
        ),
    ] {
        let folder = tiny_with(&serde_json::json!({ file: text }));
        let error = Tokenizer::load(folder.path()).err().expect("contradicting").to_string();
        for part in expect {
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
