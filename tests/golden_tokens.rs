//! Claim: token ids equal those of transformers' tokenizers, text by text and over whole corpora.
//!
//! `tests/golden/tokens` was made by `tools/make_golden_tokens.py`, which names its versions in each file.

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
