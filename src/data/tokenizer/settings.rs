//! What the files beside `tokenizer.json` say of tokens, as transformers' `AutoTokenizer` (5.24) takes it.
//!
//! `tokenizer_config.json` with `added_tokens_decoder` speaks alone. Without that key `special_tokens_map.json` goes
//! before it, and `added_tokens.json` has further tokens. Tokens that only these files know are added to those of
//! `tokenizer.json`, unless the tokenizer's class makes it anew ([`super::class`]). `add_bos_token` and `add_eos_token` of
//! `tokenizer_config.json` are ignored, as there, and those of `special_tokens_map.json` are not.

use super::class::class;
use super::file::{OwnModel, OwnToken, TokenizerFile, kind};
use crate::error::{Error, Located, Result};
use crate::files::{input, json};
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::AddedToken;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

/// Keys that name special tokens in every tokenizer's files.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Keys that say whether texts begin with BOS and end with EOS.
const AROUND: [&str; 2] = ["add_bos_token", "add_eos_token"];

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// A token that is added to the tokenizer.
pub(super) struct Addition {
    pub(super) token: AddedToken,
    /// The id that the file gives it.
    pub(super) declared: Option<u32>,
    /// The file that names the token; for a token of a class, the file that names the class.
    pub(super) file: &'static str,
}

/// What the files beside `tokenizer.json` change.
pub(super) struct Settings {
    /// Tokens that are added, in order: to those of `tokenizer.json`, or to none if a class builds the tokenizer
    /// again.
    pub(super) additions: Vec<Addition>,
    /// Whether special tokens that occur in a text are treated as ordinary text.
    pub(super) split_special_tokens: bool,
    /// If a class builds the tokenizer again: the file that replaces `tokenizer.json`, except for vocabulary and
    /// merges.
    pub(super) remade: Option<TokenizerFile>,
    /// The tokens before and after a text; `None` if the post-processor of `tokenizer.json` decides.
    pub(super) around: Option<[Option<String>; 2]>,
    named: Map<String, Value>,
    /// A description of all these changes for the digest; see [`Settings::changes`].
    changes: String,
}

impl Settings {
    /// Reads the files beside the `tokenizer.json` in `folder`; `text` is its text, and `own` the same text parsed.
    ///
    /// # Errors
    /// A file is malformed, or a class that transformers would follow is not supported.
    pub(super) fn read(folder: &Path, text: &str, own: &TokenizerFile) -> Result<Self> {
        let mut config = object(folder, CONFIG)?;
        let model = object(folder, "config.json")?;
        let place = |name: &str| folder.join(name).display().to_string();
        let class = class(&config, &model, text.contains("\"ByteLevel\"")).at(place(CONFIG))?;

        // As transformers 5 does: the older name of a list, if the newer is not there.
        if !filled(config.get("extra_special_tokens"))
            && let Some(list) = config.remove("additional_special_tokens")
        {
            config.insert("extra_special_tokens".into(), list);
        }
        for key in AROUND {
            config.remove(key);
        }
        let mut known: Vec<(u32, AddedToken, &'static str)> = Vec::new();
        // What the map of special tokens names.
        let mut mapped: Vec<Value> = Vec::new();
        let decoder = config.remove("added_tokens_decoder").filter(|value| !value.is_null());
        if let Some(decoder) = decoder {
            known = declared(&decoder).at("`added_tokens_decoder`").at(place(CONFIG))?;
        } else {
            for (key, value) in object(folder, SPECIAL)? {
                let value = match (key.as_str(), value) {
                    ("extra_special_tokens", Value::Array(list)) => joined(config.get(&key), list),
                    ("additional_special_tokens", list) => {
                        mapped.extend(list.as_array().into_iter().flatten().cloned());
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
                match &value {
                    Value::Array(list) => mapped.extend(list.iter().cloned()),
                    other => mapped.push(other.clone()),
                }
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

        // Named ones first, in the order in which every class has them, then those of the class and of this model alone.
        let default = |role: &str| {
            let tokens = class.map_or(&[][..], |class| class.tokens);
            tokens
                .iter()
                .find(|(of, _)| *of == role)
                .map(|(_, token)| Value::from(*token))
        };
        let mut roles: Vec<&str> = NAMED.to_vec();
        roles.extend(class.iter().flat_map(|class| class.tokens).map(|(role, _)| *role));
        roles.extend(config.keys().map(String::as_str).filter(|key| key.ends_with("_token")));
        let mut named = Map::new();
        for role in roles {
            // A null says that there is none.
            let value = config.get(role).cloned().or_else(|| default(role));
            if let Some(value) = value.filter(|value| content(value).is_some())
                && !named.contains_key(role)
            {
                named.insert(role.to_string(), value);
            }
        }
        let special: Vec<Value> = named.values().cloned().chain(extra(&config)).collect();
        let named: Map<String, Value> = named
            .into_iter()
            .filter_map(|(role, value)| Some((role, content(&value)?.into())))
            .collect();

        // A class that makes the tokenizer anew begins without added tokens.
        let there: &[OwnToken] = if class.is_some() { &[] } else { &own.added_tokens };
        let mut additions: Vec<Addition> = known
            .iter()
            .filter(|(_, token, _)| !there.iter().any(|own| own.token == *token))
            .map(|(id, token, file)| Addition {
                token: token.clone(),
                declared: Some(*id),
                file,
            })
            .collect();
        let mapped = |text: &str| mapped.iter().any(|value| content(value) == Some(text));
        for value in &special {
            let token = special_token(value).at(place(CONFIG))?;
            let there = there.iter().any(|own| own.token.content == token.content)
                || additions.iter().any(|addition| addition.token.content == token.content);
            if !there && !token.content.is_empty() {
                let file = if mapped(&token.content) { SPECIAL } else { CONFIG };
                additions.push(Addition {
                    token,
                    declared: None,
                    file,
                });
            }
        }
        for addition in &mut additions {
            let text = &addition.token.content;
            addition.token.special |= named.values().any(|value| value.as_str() == Some(text));
        }
        if class.is_some_and(|class| class.plain) {
            let plain = special.iter().filter_map(content);
            let plain: Vec<Addition> = plain
                .filter(|text| !text.is_empty())
                .map(|text| Addition {
                    token: AddedToken::from(text, true),
                    declared: None,
                    file: CONFIG,
                })
                .collect();
            additions.extend(plain);
        }

        let flag = |key: &str| flag(&config, key).at(place(CONFIG));
        let text_of = |role: &str| named.get(role).and_then(Value::as_str);
        let mut remade = None;
        if let Some(class) = class {
            let space = flag("add_prefix_space")?.or(class.space).unwrap_or(false);
            let legacy = flag("legacy")?.unwrap_or(false);
            let unknown = text_of("unk_token").unwrap_or("None");
            remade = Some(class.remade(own, space, legacy, unknown).at(place("tokenizer.json"))?);
        }
        let [begins, ends] = [flag(AROUND[0])?, flag(AROUND[1])?];
        let decided = match class.and_then(|class| class.around) {
            Some((begin, end)) => Some((begins.unwrap_or(begin), ends.unwrap_or(end))),
            None if begins.is_some() || ends.is_some() => Some((begins.unwrap_or(false), ends.unwrap_or(false))),
            None => None,
        };
        let around = decided.map(|(begins, ends)| {
            [("bos_token", begins), ("eos_token", ends)]
                .map(|(role, wanted)| text_of(role).filter(|_| wanted).map(String::from))
        });
        let split_special_tokens = flag("split_special_tokens")?.unwrap_or(false);
        let mut settings = Settings {
            additions,
            split_special_tokens,
            remade,
            around,
            named,
            changes: String::new(),
        };
        settings.changes = settings.differences(own);
        Ok(settings)
    }

    /// The text of the token with this role: as the files name it, otherwise as its class does.
    pub(super) fn named(&self, role: &str) -> Option<&str> {
        self.named.get(role)?.as_str()
    }

    /// The texts of all tokens with a role.
    pub(super) fn all_named(&self) -> &Map<String, Value> {
        &self.named
    }

    /// A description of what the files change, for a digest; empty if they change nothing.
    pub(super) fn changes(&self) -> &str {
        &self.changes
    }

    fn differences(&self, own: &TokenizerFile) -> String {
        let mut text = String::new();
        let mut tokens: Vec<&AddedToken> = self.additions.iter().map(|addition| &addition.token).collect();
        if let Some(remade) = &self.remade {
            // The last of several with one text counts, and those that are as in the file change nothing.
            let last = |at: usize| !tokens[at + 1..].iter().any(|later| later.content == tokens[at].content);
            let kept = |token: &AddedToken| own.added_tokens.iter().any(|own| own.token == *token);
            let lost = |token: &AddedToken| !tokens.iter().any(|addition| addition.content == token.content);
            for own in own.added_tokens.iter().filter(|own| lost(&own.token)) {
                text += &format!("without {:?}\n", own.token);
            }
            let changed = (0..tokens.len()).filter(|at| last(*at) && !kept(tokens[*at]));
            tokens = changed.map(|at| tokens[at]).collect();
            text += &parts(own, remade);
        }
        for token in tokens {
            text += &format!("{token:?}\n");
        }
        if let Some(around) = &self.around
            && added_around(&own.post_processor).as_ref() != Some(around)
        {
            text += &format!("around {around:?}\n");
        }
        if self.split_special_tokens {
            text += "split_special_tokens\n";
        }
        text
    }
}

/// The parts of a rebuilt tokenizer that differ from those of the file, one per line.
fn parts(own: &TokenizerFile, remade: &TokenizerFile) -> String {
    let mut text = String::new();
    let mut compare = |name: &str, own: String, new: String| {
        if own != new {
            text += &format!("{name} {new}\n");
        }
    };
    compare(
        "normalizer",
        normalizer(&own.normalizer),
        normalizer(&remade.normalizer),
    );
    compare(
        "pre_tokenizer",
        pre_tokenizer(&own.pre_tokenizer),
        pre_tokenizer(&remade.pre_tokenizer),
    );
    let model = |model: &OwnModel| {
        let unknown = model.unknown();
        format!("{unknown:?} {} {}", model.falls_back_to_bytes(), model.ignores_merges())
    };
    compare("model", model(&own.model), model(&remade.model));
    text
}

/// A normalizer in the crate's own spelling, so that equal normalizers are equal texts.
fn normalizer(part: &Value) -> String {
    let parsed: Option<NormalizerWrapper> = serde_json::from_value(part.clone()).ok();
    written(parsed.and_then(|it| serde_json::to_value(it).ok()), part)
}

/// A pre-tokenizer in the crate's own spelling, without settings that only concern positions in the text.
fn pre_tokenizer(part: &Value) -> String {
    let parsed: Option<PreTokenizerWrapper> = serde_json::from_value(part.clone()).ok();
    let mut value = parsed.and_then(|it| serde_json::to_value(it).ok());
    if let Some(value) = &mut value {
        without_offsets(value);
    }
    written(value, part)
}

fn written(parsed: Option<Value>, part: &Value) -> String {
    parsed.as_ref().unwrap_or(part).to_string()
}

fn without_offsets(part: &mut Value) {
    if let Some(map) = part.as_object_mut() {
        map.remove("trim_offsets");
        let inner = map.get_mut("pretokenizers").and_then(Value::as_array_mut);
        inner.into_iter().flatten().for_each(without_offsets);
    }
}

/// The tokens that a post-processor puts before and after a text, if it is at most one each and easy to tell.
fn added_around(processor: &Value) -> Option<[Option<String>; 2]> {
    if processor.is_null() || kind(processor) == "ByteLevel" {
        return Some([None, None]);
    }
    if kind(processor) != "TemplateProcessing" {
        return None;
    }
    let parts = processor.get("single")?.as_array()?;
    let token = |part: &Value| part.get("SpecialToken")?.get("id")?.as_str().map(String::from);
    let at = parts.iter().position(|part| part.get("Sequence").is_some())?;
    let (before, behind) = (&parts[..at], &parts[at + 1..]);
    if before.len() > 1 || behind.len() > 1 {
        return None;
    }
    let of = |parts: &[Value]| match parts {
        [] => Some(None),
        [part, ..] => token(part).map(Some),
    };
    Some([of(before)?, of(behind)?])
}

/// The JSON object in a file beside the tokenizer's; empty if there is no file.
fn object(folder: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = folder.join(name);
    let Some(text) = input::read_text_if_there(&path, input::SMALL)? else {
        return Ok(Map::new());
    };
    serde_json::from_str(&json::standard(&text)).map_err(|error| {
        Error::input(format!("not a JSON object: {error}"))
            .caused_by(error)
            .at(path.display())
    })
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Error::input(format!("`{key}` is neither true nor false: {other}"))),
    }
}

/// Whether a list or an object has any entry.
fn filled(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        _ => false,
    }
}

/// The additional special tokens: from a list, or from an object with named ones.
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

/// The text of a token, which is given as a string or as an object with properties.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The tokens that `added_tokens_decoder` declares, with their ids.
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

/// A token with its properties; a property that is missing is as in the crate's constructor.
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

/// A token that a key names; it is special if it is given only as a string.
fn special_token(value: &Value) -> Result<AddedToken> {
    match value {
        Value::String(text) => Ok(AddedToken::from(text.clone(), true)),
        other => token(other),
    }
}
