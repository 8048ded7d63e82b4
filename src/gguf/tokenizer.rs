//! The tokenizer in a GGUF's metadata as Hugging Face files.
//!
//! Owns `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`. Two kinds are known:
//! `gpt2` (byte-level BPE with its merges) and `llama` (SentencePiece BPE, whose
//! merges are found again from the scores, as transformers does when it converts such a model).
//!
//! Every token keeps its id. Control tokens become special added tokens, user-defined ones plain added
//! tokens. The metadata name the pre-tokenizer of a `gpt2` tokenizer without describing it; names whose
//! original is not known here for certain are refused, since a guess would silently change the tokens.

use super::{Gguf, required};
use crate::data::tokenizer::words::{GPT2_WORDS, LLAMA3_WORDS, QWEN2_WORDS, TEKKEN_WORDS};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::HashMap;

/// The character that SentencePiece writes in place of a space.
pub(super) const SPACE: &str = "\u{2581}";

/// The longest token taken apart in search of merges, in characters. SentencePiece trains pieces of 16;
/// the search is quadratic in the length.
const LONGEST_PIECE: usize = 1024;

/// What llama.cpp does where `tokenizer.ggml.pre` is `default`, one split after the other.
const DEFAULT_SPLITS: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"];

/// A pre-tokenizer that `tokenizer.ggml.pre` can name.
pub(super) struct PreTokenizer {
    /// The names that llama.cpp gives it.
    pub(super) names: &'static [&'static str],
    /// How text is cut before bytes become letters.
    cut: Cut,
    /// Whether the original normalises text (Unicode NFC) first.
    composed: bool,
    /// Whether a word that is a token stays whole, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// llama.cpp's `add_bos_token` where the metadata are silent.
    begins: bool,
}

/// How text is cut into the parts that merges stay within.
enum Cut {
    /// Into the words of GPT-2's pattern.
    Words,
    /// Single digits are cut off first, the rest as for [`Cut::Words`].
    Digits,
    /// By these patterns, one after the other.
    Splits(&'static [&'static str]),
}

pub(super) const PRE_TOKENIZERS: &[PreTokenizer] = &[
    // llama.cpp, and by all signs SmolLM's own tokenizer.json, cut single digits off first, as for `starcoder`;
    // that changes spaces before numbers (8 of 304,986 tokens of WikiText-2's test set). This project's
    // reference values for SmolLM2 were made with GPT-2's words alone, and imports are held to those.
    PreTokenizer {
        names: &["gpt-2", "smollm"],
        cut: Cut::Words,
        composed: false,
        ignore_merges: false,
        begins: false,
    },
    PreTokenizer {
        names: &["starcoder", "refact"],
        cut: Cut::Digits,
        composed: false,
        ignore_merges: false,
        begins: false,
    },
    PreTokenizer {
        names: &["command-r"],
        cut: Cut::Digits,
        composed: true,
        ignore_merges: false,
        begins: false,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        cut: Cut::Splits(&[LLAMA3_WORDS]),
        composed: false,
        ignore_merges: true,
        begins: true,
    },
    PreTokenizer {
        names: &["qwen2"],
        cut: Cut::Splits(&[QWEN2_WORDS]),
        composed: true,
        ignore_merges: false,
        begins: false,
    },
    PreTokenizer {
        names: &["tekken"],
        cut: Cut::Splits(&[TEKKEN_WORDS]),
        composed: false,
        ignore_merges: true,
        begins: true,
    },
    PreTokenizer {
        names: &["default"],
        cut: Cut::Splits(&DEFAULT_SPLITS),
        composed: false,
        ignore_merges: false,
        begins: false,
    },
];

impl PreTokenizer {
    /// The normalizer of such a `tokenizer.json`.
    pub(super) fn normalizer(&self) -> Value {
        match self.composed {
            true => json!({"type": "NFC"}),
            false => Value::Null,
        }
    }

    /// The pre-tokenizer of such a `tokenizer.json`.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
        match self.cut {
            Cut::Words => letters(true),
            Cut::Digits => sequence(vec![
                json!({"type": "Digits", "individual_digits": true}),
                letters(true),
            ]),
            Cut::Splits(patterns) => {
                let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
                sequence(patterns.iter().map(split).chain([letters(false)]).collect())
            }
        }
    }
}

/// What makes letters of bytes, and cuts text into GPT-2's words first if it is told so.
fn letters(words: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words})
}

/// What a token is for (ggml's `tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Purpose {
    fn from_id(id: i128) -> Option<Purpose> {
        Some(match id {
            1 => Purpose::Normal,
            2 => Purpose::Unknown,
            3 => Purpose::Control,
            4 => Purpose::UserDefined,
            // Undefined tokens are as little part of any text as unused ones.
            0 | 5 => Purpose::Unused,
            6 => Purpose::Byte,
            _ => return None,
        })
    }

    /// ggml's number.
    pub(super) fn id(self) -> i32 {
        match self {
            Purpose::Normal => 1,
            Purpose::Unknown => 2,
            Purpose::Control => 3,
            Purpose::UserDefined => 4,
            Purpose::Unused => 5,
            Purpose::Byte => 6,
        }
    }
}

/// The tokenizer of a GGUF, as the files of a Hugging Face directory have it.
#[derive(Debug, Clone)]
pub struct Converted {
    /// What `tokenizer.json` is to contain.
    pub tokenizer: Value,
    /// What `tokenizer_config.json` is to contain.
    pub config: Value,
    /// What `special_tokens_map.json` is to contain.
    pub special: Value,
    /// Ids of the tokens that have a role in the model's configuration (`bos_token_id` and so on).
    pub ids: Map<String, Value>,
    /// Number of tokens in the vocabulary.
    pub tokens: usize,
}

/// The tokens and their purposes.
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    pub(super) purposes: Vec<Purpose>,
    pub(super) ids: HashMap<String, usize>,
}

/// Converts the tokenizer of a GGUF whose model reads texts of at most `longest` tokens.
///
/// # Errors
/// Names the key that is missing, contradicts another one, or asks for something unknown.
pub fn convert(gguf: &Gguf, longest: usize) -> Result<Converted> {
    const MODEL: &str = "tokenizer.ggml.model";
    let vocabulary = Vocabulary::read(gguf)?;
    let parts = match required(MODEL, gguf.text(MODEL)?)? {
        "gpt2" => byte_level(gguf, &vocabulary)?,
        "llama" => sentence_piece(gguf, &vocabulary)?,
        other => {
            return Err(Error::input(format!(
                "key `{MODEL}` = \"{other}\" is not supported (supported: gpt2, llama)"
            )));
        }
    };
    let roles = vocabulary.roles(gguf)?;
    let add = |key: &str, default: bool, role: &str| -> Result<Option<usize>> {
        if !gguf.flag(key)?.unwrap_or(default) {
            return Ok(None);
        }
        let id = roles.iter().find(|(name, _)| *name == role).map(|(_, id)| *id);
        id.map(Some)
            .ok_or_else(|| Error::input(format!("the tokenizer adds a {role} token to every text, but has none")))
    };
    let begin = add("tokenizer.ggml.add_bos_token", parts.begins, "bos")?;
    let end = add("tokenizer.ggml.add_eos_token", false, "eos")?;

    let processor = [
        parts.processor,
        (begin.is_some() || end.is_some()).then(|| vocabulary.template(begin, end)),
    ];
    let mut processors: Vec<Value> = processor.into_iter().flatten().collect();
    let processor = match processors.len() {
        0 | 1 => processors.pop().unwrap_or(Value::Null),
        _ => json!({"type": "Sequence", "processors": processors}),
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": processor,
        "decoder": parts.decoder,
        "model": parts.model,
    });

    let special: Map<String, Value> = roles
        .iter()
        .map(|(role, id)| (format!("{role}_token"), json!(vocabulary.tokens[*id])))
        .collect();
    let mut config = Map::new();
    config.insert("add_bos_token".into(), json!(begin.is_some()));
    config.insert("add_eos_token".into(), json!(end.is_some()));
    config.insert("added_tokens_decoder".into(), vocabulary.added_by_id());
    config.extend(special.clone());
    if let Some(template) = gguf.text("tokenizer.chat_template")? {
        config.insert("chat_template".into(), json!(template));
    }
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("model_max_length".into(), json!(longest));
    // The class that takes tokenizer.json as it is; others build parts of it anew.
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    Ok(Converted {
        tokenizer,
        config: Value::Object(config),
        special: Value::Object(special),
        ids: roles
            .iter()
            .filter(|(role, _)| *role != "unk")
            .map(|(role, id)| (format!("{role}_token_id"), json!(id)))
            .collect(),
        tokens: vocabulary.tokens.len(),
    })
}

impl Vocabulary {
    fn read(gguf: &Gguf) -> Result<Self> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        const TYPES: &str = "tokenizer.ggml.token_type";
        let texts = required(TOKENS, gguf.texts(TOKENS)?)?;
        let types = required(TYPES, gguf.integers(TYPES)?)?;
        same_length(TYPES, types.len(), texts.len())?;
        let mut vocabulary = Vocabulary {
            tokens: Vec::with_capacity(texts.len()),
            purposes: Vec::with_capacity(texts.len()),
            ids: HashMap::with_capacity(texts.len()),
        };
        for (id, (text, kind)) in texts.into_iter().zip(types).enumerate() {
            let purpose = Purpose::from_id(kind)
                .ok_or_else(|| Error::input(format!("key `{TYPES}`: type {kind} of token {id} does not exist")))?;
            let text = match purpose {
                // llama.cpp's name for the padding of some vocabularies.
                _ if text.is_empty() => format!("[EMPTY_{id}]"),
                // User-defined tokens are looked for in the text as it stands.
                Purpose::UserDefined => text.replace(SPACE, " "),
                _ => text.to_string(),
            };
            if let Some(first) = vocabulary.ids.insert(text.clone(), id) {
                return Err(Error::input(format!(
                    "key `{TOKENS}`: tokens {first} and {id} are both `{text}`"
                )));
            }
            vocabulary.tokens.push(text);
            vocabulary.purposes.push(purpose);
        }
        Ok(vocabulary)
    }

    /// The roles that tokens have, by transformers' names, with their ids.
    fn roles(&self, gguf: &Gguf) -> Result<Vec<(&'static str, usize)>> {
        let keys = [
            ("bos", "tokenizer.ggml.bos_token_id"),
            ("eos", "tokenizer.ggml.eos_token_id"),
            ("unk", "tokenizer.ggml.unknown_token_id"),
            ("pad", "tokenizer.ggml.padding_token_id"),
        ];
        let mut roles = Vec::new();
        for (role, key) in keys {
            match gguf.count(key)? {
                None => {}
                Some(id) if id < self.tokens.len() => roles.push((role, id)),
                Some(id) => {
                    let tokens = self.tokens.len();
                    return Err(Error::input(format!(
                        "key `{key}` = {id}, but there are {tokens} tokens"
                    )));
                }
            }
        }
        Ok(roles)
    }

    fn added_tokens(&self) -> impl Iterator<Item = (usize, Value)> + '_ {
        self.purposes.iter().enumerate().filter_map(|(id, purpose)| {
            let special = match purpose {
                Purpose::Control | Purpose::Unknown => true,
                Purpose::UserDefined => false,
                Purpose::Normal | Purpose::Unused | Purpose::Byte => return None,
            };
            let token = json!({
                "content": self.tokens[id],
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": special,
            });
            Some((id, token))
        })
    }

    /// The list `added_tokens` of `tokenizer.json`.
    fn added(&self) -> Value {
        self.added_tokens()
            .map(|(id, mut token)| {
                token["id"] = json!(id);
                token
            })
            .collect()
    }

    /// The map `added_tokens_decoder` of `tokenizer_config.json`.
    fn added_by_id(&self) -> Value {
        let tokens = self.added_tokens().map(|(id, token)| (id.to_string(), token));
        Value::Object(tokens.collect())
    }

    /// The vocabulary of the model in `tokenizer.json`: the id of each token.
    fn by_text(&self) -> Value {
        let tokens = self.tokens.iter().enumerate();
        Value::Object(tokens.map(|(id, text)| (text.clone(), json!(id))).collect())
    }

    /// A post-processor that puts `begin` before every text and `end` after it.
    fn template(&self, begin: Option<usize>, end: Option<usize>) -> Value {
        let special = |id: Option<usize>, kind: u8| {
            id.map(|id| json!({"SpecialToken": {"id": self.tokens[id], "type_id": kind}}))
        };
        let text = |name: &str, kind: u8| {
            let sequence = json!({"Sequence": {"id": name, "type_id": kind}});
            [special(begin, kind), Some(sequence), special(end, kind)]
                .into_iter()
                .flatten()
        };
        let used: Map<String, Value> = [begin, end]
            .into_iter()
            .flatten()
            .map(|id| {
                let token = &self.tokens[id];
                (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}))
            })
            .collect();
        json!({
            "type": "TemplateProcessing",
            "single": text("A", 0).collect::<Vec<_>>(),
            "pair": text("A", 0).chain(text("B", 1)).collect::<Vec<_>>(),
            "special_tokens": used,
        })
    }
}

/// The parts of tokenizer.json in which the two kinds differ.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    processor: Option<Value>,
    decoder: Value,
    model: Value,
    /// Whether texts begin with a BOS token where the metadata are silent.
    begins: bool,
}

fn same_length(key: &str, length: usize, tokens: usize) -> Result<()> {
    if length == tokens {
        return Ok(());
    }
    Err(Error::input(format!(
        "key `{key}` has {length} entries for {tokens} tokens"
    )))
}

fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    const PRE: &str = "tokenizer.ggml.pre";
    const MERGES: &str = "tokenizer.ggml.merges";
    let name = required(PRE, gguf.text(PRE)?)?;
    let pre = PRE_TOKENIZERS
        .iter()
        .find(|pre| pre.names.contains(&name))
        .ok_or_else(|| {
            let known: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
            Error::input(format!(
                "key `{PRE}`: pre-tokenizer \"{name}\" is not supported (supported: {})",
                known.join(", ")
            ))
        })?;
    if gguf.flag("tokenizer.ggml.add_space_prefix")? == Some(true) {
        return Err(Error::input(
            "key `tokenizer.ggml.add_space_prefix` = true is not supported for byte-level tokenizers",
        ));
    }
    let mut merges = Vec::new();
    for (index, merge) in required(MERGES, gguf.texts(MERGES)?)?.into_iter().enumerate() {
        let parts = merge.split_once(' ').filter(|(left, right)| {
            let known = |text: &str| vocabulary.ids.contains_key(text);
            known(left) && known(right) && known(&format!("{left}{right}"))
        });
        let (left, right) = parts.ok_or_else(|| {
            Error::input(format!(
                "key `{MERGES}`: merge {index} (`{merge}`) is not two tokens that make a third"
            ))
        })?;
        merges.push(json!([left, right]));
    }

    Ok(Parts {
        normalizer: pre.normalizer(),
        pre_tokenizer: pre.pre_tokenizer(),
        processor: Some(
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}),
        ),
        decoder: letters(true),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.ignore_merges,
            "vocab": vocabulary.by_text(),
            "merges": merges,
        }),
        begins: pre.begins,
    })
}

fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = required(SCORES, gguf.singles(SCORES)?)?;
    same_length(SCORES, scores.len(), vocabulary.tokens.len())?;
    for key in [
        "tokenizer.ggml.remove_extra_whitespaces",
        "tokenizer.ggml.precompiled_charsmap",
    ] {
        let off = super::Value::Flag(false);
        if gguf.metadata().get(key).is_some_and(|value| *value != off) {
            return Err(Error::input(format!(
                "key `{key}`: a SentencePiece tokenizer that normalises text is not supported"
            )));
        }
    }
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = vocabulary
        .purposes
        .iter()
        .position(|purpose| *purpose == Purpose::Unknown);
    let unknown = match unknown {
        None => vocabulary
            .roles(gguf)?
            .into_iter()
            .find(|(role, _)| *role == "unk")
            .map(|(_, id)| id),
        unknown => unknown,
    };
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        processor: None,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.map(|id| &vocabulary.tokens[id]),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": vocabulary.purposes.contains(&Purpose::Byte),
            "ignore_merges": false,
            "vocab": vocabulary.by_text(),
            "merges": merges_from_scores(vocabulary, &scores)?,
        }),
        begins: true,
    })
}

/// Every way to make a token of two others, best token first; among equal scores longer parts first, then
/// the token of the lower id, then the way whose parts have the lower ids (`generate_merges` in
/// transformers' `convert_slow_tokenizer.py`). Only pieces that text is made of take part.
///
/// # Errors
/// A piece is too long.
pub(super) fn merges_from_scores(vocabulary: &Vocabulary, scores: &[f32]) -> Result<Vec<[String; 2]>> {
    struct Merge<'a> {
        score: f32,
        lengths: (usize, usize),
        parts: [&'a str; 2],
    }
    let piece = |text: &str| {
        let id = *vocabulary.ids.get(text)?;
        matches!(vocabulary.purposes[id], Purpose::Normal | Purpose::Unused).then_some(id)
    };
    let mut merges = Vec::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if piece(text).is_none() {
            continue;
        }
        let length = text.chars().count();
        if length > LONGEST_PIECE {
            return Err(Error::input(format!(
                "token {id} has {length} characters; pieces of more than {LONGEST_PIECE} are not supported"
            )));
        }
        let mut ways: Vec<_> = text
            .char_indices()
            .enumerate()
            .skip(1)
            .filter_map(|(count, (cut, _))| {
                let (left, right) = text.split_at(cut);
                let merge = Merge {
                    score: scores[id],
                    lengths: (count, length - count),
                    parts: [left, right],
                };
                Some(((piece(left)?, piece(right)?), merge))
            })
            .collect();
        ways.sort_by_key(|(ids, _)| *ids);
        merges.extend(ways.into_iter().map(|(_, merge)| merge));
    }
    // The scores hold no NaN (`Gguf::singles`). The sort is stable: equals stay in the order of their ids.
    merges.sort_by(|a, b| {
        let order = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
        order.then_with(|| b.lengths.cmp(&a.lengths))
    });
    Ok(merges
        .into_iter()
        .map(|merge| merge.parts.map(str::to_string))
        .collect())
}
