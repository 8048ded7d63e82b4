//! The tokens with which a model ends what it writes.

use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Located, Result};
use crate::files::input;
use serde::Deserialize;
use std::path::Path;

/// One token or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

/// The part of a configuration that counts here.
#[derive(Deserialize)]
struct Ending {
    eos_token_id: Option<Ids>,
}

/// The tokens that end what a model in this directory writes, as transformers' `generate` takes them: from `generation_config.json`,
/// else from `config.json`, and if neither says any, the tokenizer's `eos_token`.
///
/// # Errors
/// A file is malformed, or nothing names such a token.
pub fn end_tokens(folder: &Path) -> Result<Vec<u32>> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let Some(text) = input::read_text_if_there(&path, input::SMALL)? else {
            continue;
        };
        let ending: Ending = serde_json::from_str(&text)
            .map_err(|_| {
                Error::input("`eos_token_id` is neither a token's id nor a list of ids, or the file is no JSON object")
            })
            .at(path.display())?;
        match ending.eos_token_id {
            Some(Ids::One(id)) => return Ok(vec![id]),
            Some(Ids::Several(ids)) if !ids.is_empty() => return Ok(ids),
            _ => {}
        }
    }
    let end = Tokenizer::load(folder)?.special("eos_token");
    end.map(|end| vec![end.id]).ok_or_else(|| {
        let message = "no file says which token ends what the model writes: `eos_token_id` in generation_config.json or config.json, or \
                       `eos_token` in tokenizer_config.json";
        Error::input(message).at(folder.display())
    })
}
