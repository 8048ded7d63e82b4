//! Tokenisation through a model directory's own `tokenizer.json` (crate `tokenizers`).
//!
//! A text gets the ids that encoding it once, as a whole, with the tokenizer's own special tokens gives; the papers'
//! perplexity protocol depends on that (one BOS at the very front, where the tokenizer adds one).

mod built;
mod class;
mod file;
mod pieces;
mod settings;
pub mod words;

use crate::data::digest;
use crate::error::{Error, Located, Result};
use crate::files::input;
use crate::memory;
use built::{built, sound};
use bytesize::ByteSize;
use file::TokenizerFile;
use pieces::Place;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use settings::Settings;
use std::fmt;
use std::path::{Path, PathBuf};
use tokenizers::{Encoding, Token};

/// Whether a text starts with the tokenizer's special tokens (a BOS, where it adds one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bos {
    /// The tokenizer's default, which the papers use.
    #[default]
    Tokenizer,
    /// No text starts with special tokens.
    Never,
}

impl Bos {
    /// Whether this is the default. Records leave the default out, as they did before there was a choice.
    pub fn is_default(&self) -> bool {
        *self == Bos::default()
    }
}

/// Most bytes of memory that encoding takes per byte of text. 130 to 165 were measured, the most where every byte is
/// a token; a normalizer takes a copy.
const BYTES_PER_BYTE: u64 = 200;

/// A special token, such as BOS or EOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Special {
    /// Its id in the vocabulary.
    pub id: u32,
    /// The text of the token, such as `<s>`.
    pub text: String,
}

/// A loaded tokenizer, and the hash of the files that it was made from.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    settings: Settings,
    /// Where long texts may be cut without changing any token, if such a place is known.
    place: Option<Place>,
    digest: String,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from the model directory `dir`, with the tokens that only the files beside it know.
    ///
    /// # Errors
    /// The file is missing or is not a tokenizer, or the files beside it are malformed or contradict it.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let text = input::read_text(&path, input::TOKENIZER)?;
        let file = TokenizerFile::parse(&text).at(path.display())?;
        let settings = Settings::read(dir, &text, &file)?;
        let inner = built(&path, &text, &settings)?;
        let digest = digest_of(&text, &settings);
        let place = Place::of(settings.remade.as_ref().unwrap_or(&file), &inner);
        Ok(Tokenizer {
            path,
            inner,
            settings,
            place,
            digest,
        })
    }

    /// SHA-256 of `tokenizer.json`. If the files beside it change what it does, SHA-256 of `tokenizer.json` and these
    /// changes.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Encodes a text, with or without the tokenizer's own special tokens. A long text is encoded in pieces if that
    /// is known to give the same tokens.
    ///
    /// # Errors
    /// The tokenizer fails, there is no memory for the text, or an id is outside a vocabulary of `vocabulary` tokens.
    pub fn encode(&self, text: &str, bos: Bos, vocabulary: usize) -> Result<Vec<u32>> {
        self.encode_by(text, bos, vocabulary, pieces::PIECE)
    }

    /// The text of some tokens, without special ones.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let decoded = self.inner.decode(ids, true);
        decoded.map_err(|error| Error::input(format!("cannot decode tokens: {error}")).at(self.path.display()))
    }

    fn encode_by(&self, text: &str, bos: Bos, vocabulary: usize, least: usize) -> Result<Vec<u32>> {
        let pieces = match self.place {
            Some(place) => place.pieces(text, least),
            None => vec![text],
        };
        self.check_room(&pieces)?;
        let ids = match &pieces[..] {
            [whole] => self.ids(whole, bos)?,
            _ => {
                let (before, behind) = match bos {
                    Bos::Tokenizer => self.around()?,
                    Bos::Never => (Vec::new(), Vec::new()),
                };
                let parts: Vec<Vec<u32>> = pieces
                    .par_iter()
                    .enumerate()
                    .map(|(index, piece)| {
                        let mut ids = self.ids(piece, Bos::Never)?;
                        if let (1.., Some(Place::Line { prefix: Some(prefix) })) = (index, self.place) {
                            debug_assert_eq!(ids.first(), Some(&prefix));
                            ids.remove(0);
                        }
                        Ok(ids)
                    })
                    .collect::<Result<_>>()?;
                [before, parts.concat(), behind].concat()
            }
        };
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(self.beyond(*id, vocabulary)),
            None => Ok(ids),
        }
    }

    /// The error for a token that the model's vocabulary lacks; it names the file that declares the token.
    fn beyond(&self, id: u32, vocabulary: usize) -> Error {
        let outside = format!("is outside the model's vocabulary of {vocabulary}");
        let text = self.inner.id_to_token(id).unwrap_or_default();
        let mut additions = self.settings.additions.iter();
        match additions.find(|addition| addition.token.content == text && addition.file != "tokenizer.json") {
            Some(addition) => Error::input(format!(
                "token `{text}`, which this file adds with id {id}, {outside}; remove it, or take the model that was trained with it"
            ))
            .at(self.path.with_file_name(addition.file).display()),
            None => self.fail(format!(
                "token id {id} {outside}; tokenizer and config.json do not belong together"
            )),
        }
    }

    fn fail(&self, message: impl fmt::Display) -> Error {
        Error::input(message).at(self.path.display())
    }

    /// Checks that there is enough memory for the pieces that are encoded at the same time, assuming the longest
    /// ones.
    fn check_room(&self, pieces: &[&str]) -> Result<()> {
        match memory::available() {
            Some(free) => self.check_within(pieces, rayon::current_num_threads(), free),
            None => Ok(()),
        }
    }

    fn check_within(&self, pieces: &[&str], at_a_time: usize, free: u64) -> Result<()> {
        let mut lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let longest = lengths.first().copied().unwrap_or(0);
        let together: usize = lengths.iter().take(at_a_time).sum();
        let wanted = (together as u64).saturating_mul(BYTES_PER_BYTE);
        if longest <= 2 * pieces::PIECE || wanted <= free {
            return Ok(());
        }
        Err(self.fail(format!(
            "cannot encode the text: this tokenizer must read {} of it in one piece, which takes up to {}, but only {} of memory are \
             free; use a part of the text, or break it into lines",
            ByteSize(longest as u64),
            ByteSize(wanted),
            ByteSize(free)
        )))
    }

    /// Encodes a text in one piece.
    fn ids(&self, text: &str, bos: Bos) -> Result<Vec<u32>> {
        let encoding = sound(|| self.inner.encode_fast(text, bos == Bos::Tokenizer))
            .map_err(|message| self.fail(format!("cannot encode the text: {message}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The special tokens that the tokenizer puts before and after a text.
    ///
    /// # Errors
    /// It does more than that.
    pub fn around(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let text = Encoding::from_tokens(vec![Token::new(u32::MAX, "a".to_string(), (0, 1))], 0);
        let whole = sound(|| self.inner.post_process(text, None, true))
            .map_err(|message| self.fail(format!("cannot encode the text: {message}")))?;
        let ids = whole.get_ids();
        let place = ids.iter().position(|id| *id == u32::MAX);
        let place = place.ok_or_else(|| self.fail("cannot encode the text: its post-processor leaves the text out"))?;
        Ok((ids[..place].to_vec(), ids[place + 1..].to_vec()))
    }

    /// The tokenizer as one `tokenizer.json` that says by itself what the files beside it change.
    ///
    /// # Errors
    /// The tokenizer has no text.
    pub fn whole(&self) -> Result<Value> {
        let text = sound(|| self.inner.to_string(false)).map_err(|message| self.fail(message))?;
        serde_json::from_str(&text).map_err(|error| self.fail(error))
    }

    /// The texts of all tokens that the files beside `tokenizer.json` name, or that tokenizers of their class have, by their role, such as
    /// `bos_token`.
    pub fn named(&self) -> &Map<String, Value> {
        self.settings.all_named()
    }

    /// The token for `role` (`bos_token` or `eos_token`) that the files beside `tokenizer.json` name, or that
    /// tokenizers of their class have. `config.json` does not count: it describes the model, not the tokenizer.
    pub fn special(&self, role: &str) -> Option<Special> {
        let text = self.settings.named(role)?;
        let id = self.inner.token_to_id(text)?;
        Some(Special {
            id,
            text: text.to_string(),
        })
    }
}

/// The steps of the normalizer or the pre-tokenizer of a `tokenizer.json`, in order, including those inside sequences.
pub fn steps(part: &Value) -> Vec<&Value> {
    TokenizerFile::steps(part)
}

/// The digest of the tokenizer in a model directory, without loading it; see [`Tokenizer::digest`]. Empty if there is
/// no tokenizer: a model whose tokens come from files needs none.
///
/// # Errors
/// As [`Tokenizer::load`], as far as the files are read.
pub fn digest(dir: &Path) -> Result<String> {
    let path = dir.join("tokenizer.json");
    let Some(text) = input::read_text_if_there(&path, input::TOKENIZER)? else {
        return Ok(String::new());
    };
    let settings = Settings::read(dir, &text, &TokenizerFile::parse(&text).at(path.display())?)?;
    Ok(digest_of(&text, &settings))
}

fn digest_of(text: &str, settings: &Settings) -> String {
    let own = digest::of_bytes(text.as_bytes());
    match settings.changes() {
        "" => own,
        changes => digest::of_bytes(format!("{own}\n{changes}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_cut_or_padded() {
        let text = include_str!("../../tests/fixtures/tiny/tokenizer.json");
        let cut = r#""truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}"#;
        let pad = r#""padding": {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}"#;
        let text = text
            .replace("\"truncation\": null", cut)
            .replace("\"padding\": null", pad);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tokenizer.json"), text).expect("a small file");
        let tokenizer = Tokenizer::load(folder.path()).expect("the fixture is a tokenizer");
        let ids = tokenizer
            .encode("eleven byte", Bos::Tokenizer, 259)
            .expect("all bytes are tokens");
        assert_eq!(ids.len(), 12, "eleven bytes after one <s>");
        let ids = tokenizer
            .encode("eleven byte", Bos::Never, 259)
            .expect("all bytes are tokens");
        assert_eq!(ids.len(), 11);
    }

    #[test]
    fn a_text_for_which_there_is_no_memory_is_refused_with_the_numbers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tokenizer = Tokenizer::load(&root.join("models/tiny-llama")).expect("embedded");
        let long = "a".repeat(3 << 20);
        let pieces = [&long[..], "b", &long[..1 << 20]];
        let needed = |length: u64| length * BYTES_PER_BYTE;
        tokenizer
            .check_within(&pieces, 1, needed(3 << 20))
            .expect("one at a time");
        tokenizer
            .check_within(&pieces, 2, needed(4 << 20))
            .expect("two at a time");
        let error = tokenizer.check_within(&pieces, 2, needed(4 << 20) - 1);
        let error = error.expect_err("too little").to_string();
        assert!(error.contains("must read 3.0 MiB of it in one piece"), "{error}");
        assert!(error.contains("800.0 MiB"), "{error}");
        tokenizer.check_within(&["b"; 9], 9, 1).expect("short ones");
    }

    #[test]
    fn long_texts_without_spaces_are_cut() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tokenizer = Tokenizer::load(&root.join("models/tiny-llama")).expect("embedded");
        let place = tokenizer.place.expect("a known pattern");
        for text in [
            "\u{5929}\u{5730}\u{7384}\u{9ec3}\u{3002}",
            "deadbeef0123",
            "\u{306f}\u{3001}",
        ] {
            let pieces = place.pieces(&text.repeat(1000), 100).len();
            assert!(pieces > 20, "{text}: {pieces} pieces");
        }
    }

    #[test]
    fn pieces_give_the_tokens_of_the_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let novel = std::fs::read_to_string(root.join("corpora/persuasion.txt")).expect("an embedded corpus");
        let start = novel.char_indices().nth(6_000).map_or(novel.len(), |(at, _)| at);
        let odd = "ab12cd 34ef5 <s>9a \u{5b57}\u{5178}\u{3002}\u{305f}\u{304c}\u{3001}\u{ff11}\u{ff0c}\u{30ac}\u{ff1f}x7</s>\n\
                   it's9 \u{9580}\n\u{3002}\n\u{661f}\n8b's\u{3002}\u{4e00}2 ab cd<s>ef gh</s> ij kl\n\n\u{e9}\u{301}t\u{e9} 12 345\n  x y\t z\n a b' c's d<s>\n";
        let text = novel[..start].to_string() + &odd.repeat(20);
        for (model, kind) in [("tiny-llama", "Llama"), ("tiny-opt", "Gpt2")] {
            let own = std::fs::read_to_string(root.join("models").join(model).join("tokenizer.json"));
            let own: serde_json::Value = serde_json::from_str(&own.expect("embedded")).expect("JSON");
            for (name, changed, place) in variants(&own) {
                let folder = tempfile::tempdir().expect("a temporary folder");
                std::fs::write(folder.path().join("tokenizer.json"), changed.to_string()).expect("writable");
                let tokenizer = Tokenizer::load(folder.path()).expect("a tokenizer");
                assert_eq!(tokenizer.place.is_some(), place, "{kind} {name}: {:?}", tokenizer.place);
                for bos in [Bos::Tokenizer, Bos::Never] {
                    let whole = tokenizer.ids(&text, bos).expect("encodable");
                    for least in [1, 50, 1000] {
                        let pieces = tokenizer.encode_by(&text, bos, usize::MAX, least).expect("encodable");
                        assert!(whole == pieces, "{model} {name}, pieces of {least}");
                    }
                }
            }
        }
    }

    /// Tokenizers of all kinds made from one file: kinds whose texts are cut, and some whose texts are not.
    fn variants(own: &serde_json::Value) -> Vec<(&'static str, serde_json::Value, bool)> {
        use serde_json::json;
        let with = |name, normalizer: serde_json::Value, pre: serde_json::Value, place| {
            let mut changed = own.clone();
            changed["normalizer"] = normalizer;
            changed["pre_tokenizer"] = pre;
            (name, changed, place)
        };
        let bytes = |regex: bool, space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence = |steps: Vec<serde_json::Value>| json!({"type": "Sequence", "pretokenizers": steps});
        let none = serde_json::Value::Null;
        let mut all = vec![
            ("as it is", own.clone(), true),
            with("GPT-2 with a space", none.clone(), bytes(true, true), true),
            with("NFC", json!({"type": "NFC"}), bytes(true, false), true),
            with(
                "NFKD and small",
                json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Lowercase"}]}),
                bytes(true, false),
                true,
            ),
            with(
                "digits",
                none.clone(),
                sequence(vec![
                    json!({"type": "Digits", "individual_digits": true}),
                    bytes(true, false),
                ]),
                true,
            ),
            with(
                "an unknown pattern",
                none.clone(),
                sequence(vec![split("."), bytes(false, false)]),
                false,
            ),
            with(
                "a normalizer that sees far",
                json!({"type": "Strip", "strip_left": true, "strip_right": true}),
                bytes(true, false),
                false,
            ),
            with("no words", none.clone(), bytes(false, false), false),
        ];
        for words in [
            words::GPT2_WORDS,
            words::LLAMA3_WORDS,
            words::QWEN2_WORDS,
            words::TEKKEN_WORDS,
        ] {
            all.push(with(
                words,
                none.clone(),
                sequence(vec![split(words), bytes(false, false)]),
                true,
            ));
        }
        // SentencePiece's kind: a few merges, bytes for the rest, and one word from beginning to end or between spaces.
        let mut vocabulary: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        vocabulary.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        vocabulary.extend(('a'..='z').map(String::from));
        vocabulary.extend(
            [
                "\u{2581}",
                "\n",
                "\n\n",
                "\u{2581}\u{2581}",
                "th",
                "he",
                "the",
                "\u{2581}the",
                "in",
                "er",
                "\u{2581}a",
            ]
            .map(String::from),
        );
        let merges = [
            ["\n", "\n"],
            ["\u{2581}", "\u{2581}"],
            ["t", "h"],
            ["th", "e"],
            ["h", "e"],
            ["\u{2581}", "the"],
            ["i", "n"],
            ["e", "r"],
            ["\u{2581}", "a"],
        ];
        let ids: serde_json::Map<String, serde_json::Value> = vocabulary
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), id.into()))
            .collect();
        let model = json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": ids, "merges": merges});
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let prepend =
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, replace.clone()]});
        let meta = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": split});
        let gemma =
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
        for (name, normalizer, pre) in [
            ("Llama 2", prepend, none.clone()),
            ("Gemma", replace, gemma),
            ("Metaspace, first", none.clone(), meta("first", false)),
            ("Metaspace, always", none.clone(), meta("always", false)),
            ("Metaspace, never", none.clone(), meta("never", false)),
            ("Metaspace, words", none.clone(), meta("always", true)),
        ] {
            let (name, mut changed, place) = with(name, normalizer, pre, true);
            changed["model"] = model.clone();
            let token = |id: u32, text: &str| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
            changed["added_tokens"] = json!([token(0, "<unk>"), token(1, "<s>"), token(2, "</s>")]);
            all.push((name, changed, place));
        }
        all
    }
}
