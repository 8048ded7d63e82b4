//! What the files beside `tokenizer.json` say of tokens, as transformers' `AutoTokenizer` (5.24) takes it.
//!
//! `tokenizer_config.json` with `added_tokens_decoder` speaks alone. Without that key `special_tokens_map.json` goes
//! before it, and `added_tokens.json` has further tokens. Tokens that only these files know are added to those of
//! `tokenizer.json`. `add_bos_token` and `add_eos_token` are ignored, as there: the post-processor decides.

use super::file::{TokenizerFile, kind};
use crate::error::{Error, Located, Result};
use crate::files::{input, json};
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::AddedToken;

/// Keys of the tokens that every tokenizer may name.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// A class of transformers that makes a tokenizer anew from vocabulary and merges, with its own pre-tokenizer.
struct Class {
    name: &'static str,
    /// Models whose tokenizers are of this class where no file says otherwise.
    models: &'static [&'static str],
    /// Whether a text starts with a space that it does not have, unless `add_prefix_space` says otherwise.
    space: Option<bool>,
    bos: Option<&'static str>,
    eos: Option<&'static str>,
}

const CLASSES: [Class; 5] = [
    Class {
        name: "LlamaTokenizer",
        models: &[],
        space: Some(true),
        bos: Some("<s>"),
        eos: Some("</s>"),
    },
    Class {
        name: "GPT2Tokenizer",
        models: &["gpt2", "opt"],
        space: Some(false),
        bos: Some("<|endoftext|>"),
        eos: Some("<|endoftext|>"),
    },
    Class {
        name: "GPTNeoXTokenizer",
        models: &["gpt_neox"],
        space: Some(false),
        bos: Some("<|endoftext|>"),
        eos: Some("<|endoftext|>"),
    },
    Class {
        name: "Qwen2Tokenizer",
        models: &["qwen2", "qwen3"],
        space: Some(false),
        bos: None,
        eos: Some("<|endoftext|>"),
    },
    Class {
        name: "GemmaTokenizer",
        models: &["gemma2", "gemma3_text"],
        space: None,
        bos: Some("<bos>"),
        eos: Some("<eos>"),
    },
];

/// A token to be added, with the id it is said to have and the file that says so.
pub(super) struct Addition {
    pub(super) token: AddedToken,
    pub(super) declared: Option<(u32, &'static str)>,
}

/// What the files say.
pub(super) struct Settings {
    /// Tokens to be added to those of `tokenizer.json`, in order.
    pub(super) additions: Vec<Addition>,
    /// Whether special tokens that are written in a text are text.
    pub(super) split_special_tokens: bool,
    named: Map<String, Value>,
    class: Option<&'static Class>,
}

impl Settings {
    /// Reads the files beside the `tokenizer.json` in `folder`, which is `own`.
    ///
    /// # Errors
    /// A file is malformed, or contradicts `tokenizer.json` where transformers would follow it.
    pub(super) fn read(folder: &Path, own: &TokenizerFile) -> Result<Self> {
        let mut config = object(folder, CONFIG)?;
        let model = object(folder, "config.json")?;
        let place = |name: &str| folder.join(name).display().to_string();

        // As transformers 5 does: the older name of a list, if the newer is not there.
        if !filled(config.get("extra_special_tokens"))
            && let Some(list) = config.remove("additional_special_tokens")
        {
            config.insert("extra_special_tokens".into(), list);
        }
        let mut known: Vec<(u32, AddedToken, &'static str)> = Vec::new();
        let decoder = config.remove("added_tokens_decoder").filter(|value| !value.is_null());
        if let Some(decoder) = decoder {
            known = declared(&decoder).at("`added_tokens_decoder`").at(place(CONFIG))?;
        } else {
            for (key, value) in object(folder, SPECIAL)? {
                let value = match (key.as_str(), value) {
                    ("extra_special_tokens", Value::Array(list)) => joined(config.get(&key), list),
                    ("additional_special_tokens", list) => {
                        if !filled(config.get("extra_special_tokens")) {
                            config.insert("extra_special_tokens".into(), list);
                        }
                        continue;
                    }
                    (_, Value::Object(mut token)) if token.contains_key("content") => {
                        token.insert("special".into(), true.into());
                        Value::Object(token)
                    }
                    (_, value) => value,
                };
                config.insert(key, value);
            }
            let special: Vec<String> = NAMED
                .iter()
                .filter_map(|key| content(config.get(*key)?))
                .chain(extra(&config).iter().filter_map(content))
                .map(String::from)
                .collect();
            for (text, id) in object(folder, ADDED)? {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| Error::input(format!("`{text}` has no token id")).at(place(ADDED)))?;
                let token = AddedToken::from(text.clone(), special.contains(&text));
                known.push((id, token, ADDED));
            }
            for own in &own.added_tokens {
                known.retain(|(id, ..)| *id != own.id);
                known.push((own.id, own.token.clone(), "tokenizer.json"));
            }
        }
        known.sort_by_key(|(id, ..)| *id);

        // Named ones first, in the order in which every class has them, then those of this model alone.
        let named: Map<String, Value> = NAMED
            .iter()
            .filter_map(|key| Some((key.to_string(), content(config.get(*key)?).into())))
            .collect();
        let of_model = config.iter().filter(|(key, value)| {
            key.ends_with("_token") && !NAMED.contains(&key.as_str()) && content(value).is_some()
        });
        let special: Vec<Value> = NAMED
            .iter()
            .filter_map(|key| config.get(*key).filter(|value| content(value).is_some()))
            .chain(of_model.map(|(_, value)| value))
            .cloned()
            .chain(extra(&config))
            .collect();

        let mut additions: Vec<Addition> = known
            .iter()
            .filter(|(_, token, _)| !own.added_tokens.iter().any(|own| own.token == *token))
            .map(|(id, token, file)| Addition {
                token: token.clone(),
                declared: Some((*id, *file)),
            })
            .collect();
        for value in special {
            let token = special_token(&value).at(place(CONFIG))?;
            let there = own.added_tokens.iter().any(|own| own.token.content == token.content)
                || additions.iter().any(|addition| addition.token.content == token.content);
            if !there && !token.content.is_empty() {
                additions.push(Addition { token, declared: None });
            }
        }
        for addition in &mut additions {
            let text = &addition.token.content;
            addition.token.special |= named.values().any(|value| value.as_str() == Some(text));
        }

        let class = class(&config, &model, own);
        let settings = Settings {
            additions,
            split_special_tokens: flag(&config, "split_special_tokens")
                .at(place(CONFIG))?
                .unwrap_or(false),
            named,
            class,
        };
        let space = flag(&config, "add_prefix_space").at(place(CONFIG))?;
        if let Some(class) = class
            && let Some(default) = class.space
            && space.unwrap_or(default) != adds_space(own)
        {
            let said = match space {
                Some(value) => format!("`add_prefix_space` = {value}"),
                None => format!("no `add_prefix_space`, which is {default} for a {}", class.name),
            };
            let message = format!(
                "{said}, but tokenizer.json has a pre-tokenizer that does the opposite, and transformers' {} would follow the \
                 former; make them agree",
                class.name
            );
            return Err(Error::input(message).at(place(CONFIG)));
        }
        Ok(settings)
    }

    /// How the token of this role is written: as the files name it, or else as its class does.
    pub(super) fn named(&self, role: &str) -> Option<&str> {
        match (self.named.get(role), role) {
            (Some(named), _) => named.as_str(),
            (None, "bos_token") => self.class.and_then(|class| class.bos),
            (None, "eos_token") => self.class.and_then(|class| class.eos),
            (None, _) => None,
        }
    }

    /// What the files change, for a digest; empty if nothing.
    pub(super) fn changes(&self) -> String {
        let mut text = String::new();
        for Addition { token, .. } in &self.additions {
            text += &format!("{token:?}\n");
        }
        if self.split_special_tokens {
            text += "split_special_tokens\n";
        }
        text
    }
}

/// Whether a text gets a space in front.
fn adds_space(own: &TokenizerFile) -> bool {
    let normalizer = TokenizerFile::steps(&own.normalizer);
    let steps = normalizer.into_iter().chain(TokenizerFile::steps(&own.pre_tokenizer));
    steps.into_iter().any(|step| {
        let prefix = step.get("add_prefix_space").and_then(Value::as_bool);
        match kind(step) {
            "Prepend" => true,
            "ByteLevel" => prefix.unwrap_or(true),
            // Older files have `add_prefix_space`, newer ones `prepend_scheme`.
            "Metaspace" => match step.get("prepend_scheme").and_then(Value::as_str) {
                Some(scheme) => scheme != "never",
                None => prefix.unwrap_or(true),
            },
            _ => false,
        }
    })
}

fn is_byte_level(own: &TokenizerFile) -> bool {
    let steps = TokenizerFile::steps(&own.pre_tokenizer);
    steps.into_iter().any(|step| kind(step) == "ByteLevel")
}

/// The class that makes the tokenizer anew, if one does.
fn class(config: &Map<String, Value>, model: &Map<String, Value>, own: &TokenizerFile) -> Option<&'static Class> {
    let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(String::from);
    let model_type = text(model, "model_type").unwrap_or_default();
    let registered = CLASSES.iter().find(|class| class.models.contains(&model_type.as_str()));
    let said = text(config, "tokenizer_class").or_else(|| text(model, "tokenizer_class"));
    let Some(said) = said else {
        return registered;
    };
    let said = said.trim_end_matches("Fast");
    // Known there as naming the wrong class.
    if model_type == "qwen2" {
        return registered;
    }
    let class = CLASSES.iter().find(|class| class.name == said)?;
    (class.name != "LlamaTokenizer" || !is_byte_level(own)).then_some(class)
}

/// A JSON object beside the tokenizer's; empty where there is none.
fn object(folder: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = folder.join(name);
    let Some(text) = input::read_text_if_there(&path, input::SMALL)? else {
        return Ok(Map::new());
    };
    serde_json::from_str(&json::standard(&text))
        .map_err(|error| Error::input(format!("not a JSON object: {error}")).at(path.display()))
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Error::input(format!("`{key}` is neither true nor false: {other}"))),
    }
}

/// Whether a list or an object has something in it.
fn filled(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        _ => false,
    }
}

/// The further special tokens: a list, or an object of named ones.
fn extra(config: &Map<String, Value>) -> Vec<Value> {
    match config.get("extra_special_tokens") {
        Some(Value::Array(list)) => list.clone(),
        Some(Value::Object(map)) => map.values().cloned().collect(),
        _ => Vec::new(),
    }
}

fn joined(first: Option<&Value>, second: Vec<Value>) -> Value {
    let mut list = first.and_then(Value::as_array).cloned().unwrap_or_default();
    for token in second {
        if !list.contains(&token) {
            list.push(token);
        }
    }
    Value::Array(list)
}

/// How a token is written: a string, or an object with its properties.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The tokens of `added_tokens_decoder`.
fn declared(decoder: &Value) -> Result<Vec<(u32, AddedToken, &'static str)>> {
    let map = decoder
        .as_object()
        .ok_or_else(|| Error::input("not an object of tokens by id"))?;
    map.iter()
        .map(|(id, value)| {
            let number = id.trim().parse();
            let number = number.map_err(|_| Error::input(format!("`{id}` is no token id")))?;
            match value {
                Value::Object(_) => Ok((number, token(value).at(format_args!("`{id}`"))?, CONFIG)),
                other => Err(Error::input(format!(
                    "`{id}` is not an object with a token's properties: {other}"
                ))),
            }
        })
        .collect()
}

/// A token with its properties; what is not said is as in the crate's constructor.
fn token(value: &Value) -> Result<AddedToken> {
    let text = content(value).ok_or_else(|| Error::input(format!("no string `content` in {value}")))?;
    let property = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Error::input(format!("`{key}` is neither true nor false: {other}"))),
    };
    let special = property("special")?.unwrap_or(false);
    Ok(AddedToken::from(text, special)
        .single_word(property("single_word")?.unwrap_or(false))
        .lstrip(property("lstrip")?.unwrap_or(false))
        .rstrip(property("rstrip")?.unwrap_or(false))
        .normalized(property("normalized")?.unwrap_or(!special)))
}

/// A token that is named: special, if it is only a string.
fn special_token(value: &Value) -> Result<AddedToken> {
    match value {
        Value::String(text) => Ok(AddedToken::from(text.clone(), true)),
        other => token(other),
    }
}
