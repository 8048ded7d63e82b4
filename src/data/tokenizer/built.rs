//! The tokenizer of the crate `tokenizers` that the files of a model directory stand for.

use super::file::TokenizerFile;
use super::settings::Settings;
use crate::data::guard::guarded;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, Tokenizer};

/// Builds the tokenizer from the `text` of the file at `path`, and from what the files beside it say.
///
/// # Errors
/// The file is not a tokenizer, or the files beside it contradict it.
pub fn built(path: &Path, text: &str, settings: &Settings) -> Result<Tokenizer> {
    let fail = |message: String| Error::input(format!("not a tokenizer: {message}")).at(path.display());
    let load = || {
        let mut inner = Tokenizer::from_bytes(text.as_bytes())?;
        // A file may ask for texts to be cut or padded to a training length; transformers ignores that
        // unless its caller asks for it too, and here a text is always encoded whole.
        inner.with_truncation(None)?.with_padding(None);
        match &settings.remade {
            Some(parts) => remade(&inner, parts),
            None => Ok(inner),
        }
    };
    let mut inner = sound(load).map_err(fail)?;
    let tokens: Vec<AddedToken> = settings.additions.iter().map(|it| it.token.clone()).collect();
    sound(|| inner.add_tokens(tokens)).map_err(fail)?;
    for addition in &settings.additions {
        let text = &addition.token.content;
        let id = inner.token_to_id(text);
        if let Some(declared) = addition.declared
            && id != Some(declared)
        {
            let found = id.map_or("none".to_string(), |id| id.to_string());
            let message = format!("token `{text}` has the id {declared} there, but {found} with tokenizer.json");
            return Err(Error::input(message).at(path.with_file_name(addition.file).display()));
        }
    }
    if let Some(around) = &settings.around {
        sound(|| {
            let template = template(&inner, around)?;
            inner.with_post_processor(Some(template));
            Ok(())
        })
        .map_err(fail)?;
    }
    inner.set_encode_special_tokens(settings.split_special_tokens);
    Ok(inner)
}

/// Builds a tokenizer from the vocabulary and merges of `own`, which is of BPE, and from the other parts in `parts`.
fn remade(own: &Tokenizer, parts: &TokenizerFile) -> tokenizers::Result<Tokenizer> {
    let ModelWrapper::BPE(bpe) = own.get_model() else {
        return Err("the model is not of BPE".into());
    };
    let mut bpe = bpe.clone();
    let unknown = parts.model.unknown();
    bpe.unk_token = unknown.map(|(token, _)| token.to_string());
    bpe.fuse_unk = unknown.is_some_and(|(_, fused)| fused);
    bpe.byte_fallback = parts.model.falls_back_to_bytes();
    bpe.ignore_merges = parts.model.ignores_merges();
    bpe.continuing_subword_prefix = None;
    bpe.end_of_word_suffix = None;
    let mut tokenizer = Tokenizer::new(bpe);
    let normalizer: Option<NormalizerWrapper> = serde_json::from_value(parts.normalizer.clone())?;
    let pre_tokenizer: Option<PreTokenizerWrapper> = serde_json::from_value(parts.pre_tokenizer.clone())?;
    tokenizer.with_normalizer(normalizer)?;
    tokenizer.with_pre_tokenizer(pre_tokenizer);
    tokenizer.with_post_processor(own.get_post_processor().cloned());
    Ok(tokenizer)
}

/// The post-processor that puts these tokens before and after a text.
fn template(tokenizer: &Tokenizer, [before, behind]: &[Option<String>; 2]) -> tokenizers::Result<PostProcessorWrapper> {
    let part = |token: &String| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let around = |name: &str| -> Vec<Value> {
        let before = before.iter().map(part);
        before.chain([text(name)]).chain(behind.iter().map(part)).collect()
    };
    let mut special = Map::new();
    for token in before.iter().chain(behind) {
        let id = tokenizer.token_to_id(token);
        let id = id.ok_or_else(|| format!("the token `{token}` stands around every text, but has no id"))?;
        special.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
    }
    let pair = [around("A"), around("B")].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": pair,
        "special_tokens": special,
    });
    Ok(serde_json::from_value(template)?)
}

/// Calls the crate `tokenizers` and turns a panic into an ordinary error. It panics on some malformed files: a
/// template that names an unknown token, a merge of unknown parts, broken JSON in a decoder.
pub fn sound<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    let called = guarded(call).map_err(|panic| {
        format!("a part of the file does not fit the others ({panic}); download tokenizer.json again")
    });
    called?.map_err(|error| error.to_string())
}
