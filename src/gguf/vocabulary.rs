//! The tokenizer of a Hugging Face directory as a GGUF's metadata: the way back of `tokenizer.rs`.
//!
//! Byte-level BPE becomes `gpt2`, with the name that llama.cpp has for its way of cutting text. BPE of SentencePiece becomes `llama`,
//! with scores in place of merges: the scores follow the merges' order, and are refused where they would ask for other merges.

use super::tokenizer::{PRE_TOKENIZERS, Purpose, SPACE, Vocabulary, merges_from_scores};
use super::write::Metadata;
use crate::data::tokenizer::{Tokenizer, steps};
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The roles of tokens, by transformers' names, with their keys.
const ROLES: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];

/// Writes the metadata of a tokenizer whose model has `rows` tokens. Returns what llama.cpp calls it.
///
/// # Errors
/// Names the part of the tokenizer that the metadata cannot say.
pub(super) fn describe(tokenizer: &Tokenizer, rows: usize, metadata: &mut Metadata) -> Result<String> {
    let file = tokenizer.whole()?;
    let model = &file["model"];
    let kind = model["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(unsaid(&format!("`model.type` = \"{kind}\"; only BPE can be written")));
    }
    for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[part].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(unsaid(&format!("`model.{part}` = {}", model[part])));
        }
    }
    let byte_level = steps(&file["pre_tokenizer"])
        .into_iter()
        .any(|step| step["type"] == "ByteLevel");
    let vocabulary = vocabulary(&file, rows, !byte_level)?;
    let merges = merges(model)?;
    let name = match byte_level {
        true => {
            let pre = pre_tokenizer(&file)?;
            metadata.text("tokenizer.ggml.model", "gpt2");
            metadata.text("tokenizer.ggml.pre", pre);
            let pairs = merges.iter().map(|pair| pair.join(" ")).collect::<Vec<_>>();
            if let Some(merge) = pairs.iter().find(|pair| pair.matches(' ').count() != 1) {
                return Err(unsaid(&format!("the merge `{merge}` has a space in a part")));
            }
            metadata.texts("tokenizer.ggml.merges", pairs.iter().map(String::as_str));
            format!("gpt2, text cut as {pre}")
        }
        false => {
            let prefix = prefix(&file)?;
            metadata.text("tokenizer.ggml.model", "llama");
            metadata.text("tokenizer.ggml.pre", "default");
            metadata.numbers("tokenizer.ggml.scores", &scores(&vocabulary, &merges)?);
            metadata.flag("tokenizer.ggml.add_space_prefix", prefix);
            "llama".to_string()
        }
    };
    metadata.texts("tokenizer.ggml.tokens", vocabulary.tokens.iter().map(String::as_str));
    metadata.integers(
        "tokenizer.ggml.token_type",
        vocabulary.purposes.iter().map(|purpose| purpose.id()),
    );
    around(tokenizer, metadata)?;
    Ok(name)
}

/// The error for what no metadata say.
fn unsaid(what: &str) -> Error {
    Error::input(format!(
        "a GGUF file cannot say what this tokenizer does: {what}; convert the model with llama.cpp's own convert_hf_to_gguf.py if that \
         knows it"
    ))
}

/// The tokens by their ids, with names for rows of the embedding that no token has. A tokenizer of SentencePiece's kind knows
/// bytes and an unknown token.
fn vocabulary(file: &Value, rows: usize, pieces: bool) -> Result<Vocabulary> {
    let mut tokens: Vec<Option<(String, Purpose)>> = vec![None; rows];
    let mut set = |text: &str, id: &Value, purpose: Purpose| {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok());
        match place.and_then(|place| tokens.get_mut(place)) {
            Some(token) => {
                *token = Some((text.to_string(), purpose));
                Ok(())
            }
            None => Err(Error::input(format!(
                "token `{text}` has the id {id}, but the model has {rows} tokens; tokenizer and config.json do not belong together"
            ))),
        }
    };
    let unknown = file["model"]["unk_token"].as_str().filter(|_| pieces);
    for (text, id) in file["model"]["vocab"].as_object().into_iter().flatten() {
        let purpose = match pieces && is_byte(text) {
            true => Purpose::Byte,
            false => Purpose::Normal,
        };
        set(text, id, purpose)?;
    }
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        for key in ["single_word", "lstrip", "rstrip"] {
            if token[key] == true {
                return Err(unsaid(&format!(
                    "the added token `{text}` has `{key}`, which matters in texts that contain it (set it to false if yours do not)"
                )));
            }
        }
        let purpose = match token["special"] == true {
            true => Purpose::Control,
            false => Purpose::UserDefined,
        };
        set(text, &token["id"], purpose)?;
    }
    let mut vocabulary = Vocabulary {
        tokens: Vec::with_capacity(rows),
        purposes: Vec::with_capacity(rows),
        ids: HashMap::with_capacity(rows),
    };
    for (id, token) in tokens.into_iter().enumerate() {
        let (text, purpose) = token.unwrap_or_else(|| (format!("[PAD{id}]"), Purpose::Unused));
        let purpose = match unknown == Some(text.as_str()) {
            true => Purpose::Unknown,
            false => purpose,
        };
        if let Some(first) = vocabulary.ids.insert(text.clone(), id) {
            return Err(Error::input(format!("tokens {first} and {id} are both `{text}`")));
        }
        vocabulary.tokens.push(text);
        vocabulary.purposes.push(purpose);
    }
    Ok(vocabulary)
}

/// Whether a token stands for a byte, such as `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The pairs of tokens that are merged, in order.
fn merges(model: &Value) -> Result<Vec<[String; 2]>> {
    let pair = |merge: &Value| {
        let parts: Option<Vec<&str>> = match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| vec![left, right]),
            other => other.as_array()?.iter().map(Value::as_str).collect(),
        };
        <[&str; 2]>::try_from(parts?).ok().map(|pair| pair.map(str::to_string))
    };
    let merges = model["merges"].as_array().into_iter().flatten();
    merges
        .map(|merge| pair(merge).ok_or_else(|| Error::input(format!("the merge {merge} is not of two tokens"))))
        .collect()
}

/// llama.cpp's name of the way in which a byte-level tokenizer cuts text.
fn pre_tokenizer(file: &Value) -> Result<&'static str> {
    // Where a token begins in the text is nothing to its id.
    let plain = |part: &Value| -> Vec<Value> {
        let cut = steps(part).into_iter().cloned();
        cut.map(|mut step| {
            step.as_object_mut().map(|step| step.shift_remove("trim_offsets"));
            step
        })
        .collect()
    };
    let said = (plain(&file["normalizer"]), plain(&file["pre_tokenizer"]));
    let ignores = file["model"]["ignore_merges"] == true;
    let known = PRE_TOKENIZERS.iter().find(|known| {
        said == (plain(&known.normalizer()), plain(&known.pre_tokenizer())) && known.ignore_merges == ignores
    });
    let name = known.and_then(|known| known.names.first());
    name.copied().ok_or_else(|| {
        let (normalizer, cut) = (&file["normalizer"], &file["pre_tokenizer"]);
        unsaid(&format!(
            "zprune knows no name of llama.cpp's for `normalizer` = {normalizer}, `pre_tokenizer` = {cut}, `model.ignore_merges` = \
             {ignores}"
        ))
    })
}

/// Whether a tokenizer of SentencePiece's kind puts a space before a text.
fn prefix(file: &Value) -> Result<bool> {
    if file["model"]["byte_fallback"] != true {
        return Err(unsaid(
            "`model.byte_fallback` is not true, and llama.cpp needs a token for every byte",
        ));
    }
    if file["model"]["ignore_merges"] == true {
        return Err(unsaid("`model.ignore_merges` = true"));
    }
    let (normalizers, cuts) = (steps(&file["normalizer"]), steps(&file["pre_tokenizer"]));
    let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == SPACE;
    let replaces =
        |step: &Value| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
    let marks = |step: &Value| step["type"] == "Metaspace" && step["replacement"] == SPACE && step["split"] == false;
    let prefix = match (&normalizers[..], &cuts[..]) {
        ([first, second], []) if prepends(first) && replaces(second) => Some(true),
        ([only], []) if replaces(only) => Some(false),
        ([], [only]) if marks(only) => Some(only["prepend_scheme"] != "never"),
        _ => None,
    };
    prefix.ok_or_else(|| {
        unsaid(&format!(
            "`normalizer` = {}, `pre_tokenizer` = {}",
            file["normalizer"], file["pre_tokenizer"]
        ))
    })
}

/// Scores that ask for these merges: minus the place of the first merge that makes a token, among those of other tokens. Tokens that no
/// merge makes have lower ones.
fn scores(vocabulary: &Vocabulary, merges: &[[String; 2]]) -> Result<Vec<f32>> {
    let missing = (0..=u8::MAX).find(|byte| !vocabulary.ids.contains_key(&format!("<0x{byte:02X}>")));
    if let Some(byte) = missing {
        return Err(unsaid(&format!("there is no token `<0x{byte:02X}>`")));
    }
    let is_piece = |id: &usize| vocabulary.purposes[*id] == Purpose::Normal;
    let mut ranks: HashMap<usize, usize> = HashMap::new();
    let mut given: HashSet<&[String; 2]> = HashSet::new();
    let mut latest = None;
    let mut mixed = None;
    for pair in merges {
        let Some(id) = vocabulary.ids.get(&pair.concat()).copied().filter(is_piece) else {
            continue;
        };
        let next = ranks.len();
        let rank = *ranks.entry(id).or_insert(next);
        if rank != next && latest != Some(rank) {
            mixed = mixed.or(Some(pair));
        }
        latest = Some(rank);
        given.insert(pair);
    }
    let lowest = -(ranks.len() as f32);
    let score = |(id, purpose): (usize, &Purpose)| match (ranks.get(&id), purpose) {
        (Some(rank), _) => -(*rank as f32),
        (None, Purpose::Normal) => lowest,
        (None, _) => 0.0,
    };
    let scores: Vec<f32> = vocabulary.purposes.iter().enumerate().map(score).collect();
    let wanted = merges_from_scores(vocabulary, &scores)?;
    let wanted: HashSet<&[String; 2]> = wanted.iter().collect();
    match mixed.or_else(|| given.symmetric_difference(&wanted).min().copied()) {
        None => Ok(scores),
        Some([left, right]) => Err(unsaid(&format!(
            "its merges are not what scores of tokens ask for, such as that of `{left}` and `{right}`"
        ))),
    }
}

/// Writes which tokens have a role, and which stand before and after every text.
fn around(tokenizer: &Tokenizer, metadata: &mut Metadata) -> Result<()> {
    let (before, after) = tokenizer.around()?;
    let mut ids: Vec<Option<u32>> = ROLES
        .iter()
        .map(|(role, _)| tokenizer.special(role).map(|special| special.id))
        .collect();
    for (place, tokens, what) in [(0, &before, "before"), (1, &after, "after")] {
        match tokens[..] {
            [] => {}
            // The token that stands there is what llama.cpp puts there, whatever role the files give it.
            [id] => ids[place] = Some(id),
            _ => {
                return Err(unsaid(&format!(
                    "`post_processor` puts {} tokens {what} a text",
                    tokens.len()
                )));
            }
        }
    }
    for ((_, key), id) in ROLES.iter().zip(ids) {
        if let Some(id) = id {
            metadata.count(key, id as usize)?;
        }
    }
    metadata.flag("tokenizer.ggml.add_bos_token", !before.is_empty());
    metadata.flag("tokenizer.ggml.add_eos_token", !after.is_empty());
    Ok(())
}
