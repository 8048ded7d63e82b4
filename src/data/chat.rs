//! Chat templates: how a model wants a conversation to be written down, in Jinja, as its makers say it beside its tokenizer.
//!
//! The text is that of transformers' `apply_chat_template` with `add_generation_prompt`, with one difference: a template that asks for
//! the date is always told [`TODAY`], so that a result does not depend on the day on which it is computed.

use super::digest;
use super::guard::guarded;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::files::{input, json};
use crate::threads::{with_limit, with_stack};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The file that has a template alone, and the one that has it among others.
const OWN_FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";

/// The date that a template is told, year, month and day: the one that Llama 3's own templates write where they are told none.
pub const TODAY: [i16; 3] = [2024, 7, 26];

/// Steps and pieces of 64 bytes that a template may take for one conversation: a hundred times as many as long prompts need.
const FUEL: u64 = 1_000_000;

/// How long a template may take for one conversation; long prompts take some milliseconds. minijinja counts most of what a template does, but
/// not how many values a list has that is made of two others.
const LIMIT: Duration = Duration::from_secs(10);

/// The most bytes of a template. Those of released models have up to some tens of thousands.
const MOST_BYTES: usize = 128 << 10;

/// Stack for reading and filling a template. minijinja reads expressions within expressions by recursion, without a limit for some, and a
/// letter is enough for a level: that is 4 KiB for each letter of the longest template, where about 1 KiB was seen to be used. Lists within
/// lists, which it writes and frees by recursion, have fewer levels than the steps that [`FUEL`] pays for, of which each level takes several.
const STACK: usize = MOST_BYTES << 12;

/// The template's name among those of its environment, of which it is the only one.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Turn<'a> {
    /// Who speaks, such as `user` or `assistant`.
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

/// A model's chat template, ready to write conversations.
pub struct Chat {
    environment: Arc<Environment<'static>>,
    /// The file that has the template, and the key, for messages.
    place: String,
    /// The texts of the tokenizer's named tokens, such as `bos_token`.
    named: Value,
    digest: String,
}

impl Chat {
    /// Reads the template of a model directory: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, which is a
    /// text or a list of named ones, of which `default` is meant.
    ///
    /// # Errors
    /// There is no template, a file is malformed, or the template is no Jinja, with its line.
    pub fn read(folder: &Path, tokenizer: &Tokenizer) -> Result<Chat> {
        let (place, text) = match input::read_text_if_there(&folder.join(OWN_FILE), input::SMALL)? {
            Some(text) => (folder.join(OWN_FILE).display().to_string(), text),
            None => {
                let path = folder.join(CONFIG);
                let place = format!("{}: `chat_template`", path.display());
                let text = input::read_text_if_there(&path, input::SMALL)?;
                let text = text.map(|text| of_config(&text).map_err(|error| error.at(&place)));
                let missing = || {
                    let message = format!(
                        "has no chat template: no file {OWN_FILE}, and no `chat_template` in {CONFIG}; leave `chat` out for a model that was \
                         not trained on conversations"
                    );
                    Error::input(message).at(folder.display())
                };
                (place, text.transpose()?.flatten().ok_or_else(missing)?)
            }
        };
        let named = tokenizer.named();
        let known = serde_json::to_string(named).map_err(|error| Error::input(error).at(folder.display()))?;
        if text.len() > MOST_BYTES {
            let message = format!(
                "the template has {} bytes, and at most {MOST_BYTES} are read",
                text.len()
            );
            return Err(Error::input(message).at(&place));
        }
        let mut environment = environment().map_err(|error| Error::input(error).at(&place))?;
        let added = with_stack("a chat template", STACK, || {
            environment.add_template_owned(NAME, without_marks(&lines(&text)))
        });
        if let Err(error) = added? {
            return Err(wrong(&place, error));
        }
        Ok(Chat {
            environment: Arc::new(environment),
            place,
            named: Value::from(Serde(named)),
            digest: digest::of_bytes(format!("{text}\n{known}").as_bytes()),
        })
    }

    /// SHA-256 of all that decides what is written: the template and the tokens that it may name.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The text of a conversation, up to where the model's next turn begins. It has all special tokens that the model is to see.
    ///
    /// # Errors
    /// The template refuses the conversation or fails, with its line.
    pub fn write(&self, turns: &[Turn]) -> Result<String> {
        let conversation = context! {
            messages => Serde(turns),
            tools => (),
            documents => (),
            add_generation_prompt => true,
            ..self.named.clone()
        };
        let environment = Arc::clone(&self.environment);
        // minijinja panics where `continue` leaves a `with` in a loop.
        let write = move || guarded(|| environment.get_template(NAME)?.render(conversation));
        let written = with_limit("a chat template", STACK, LIMIT, write)?;
        let endless = || format!("the template does not end within {} seconds", LIMIT.as_secs());
        let written = written.ok_or_else(|| Error::input(endless()).at(&self.place))?;
        let written = written.map_err(|panic| Error::input(format!("the template fails: {panic}")).at(&self.place))?;
        written.map_err(|error| wrong(&self.place, error))
    }
}

/// The error of a template, with its line.
fn wrong(place: &str, error: minijinja::Error) -> Error {
    let kind = error.kind().to_string();
    let what = error.detail().map_or(kind.clone(), str::to_string);
    let line = error.line();
    let message = match error.kind() {
        ErrorKind::InvalidOperation => format!("the template fails: {what}"),
        ErrorKind::OutOfFuel => "the template does not end within a million steps".to_string(),
        _ => format!("the template fails: {kind}: {what}"),
    };
    let message = Error::input(message).caused_by(error);
    match line {
        Some(line) => message.at(format_args!("line {line}")),
        None => message,
    }
    .at(place)
}

/// The template in a `tokenizer_config.json`, if there is one.
fn of_config(text: &str) -> Result<Option<String>> {
    let config: serde_json::Value = serde_json::from_str(&json::standard(text))
        .map_err(|error| Error::input(format!("not a JSON object: {error}")).caused_by(error))?;
    let wrong = || Error::input("is neither a template nor a list of templates with `name` and `template`");
    let named = match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => return Ok(None),
        Some(serde_json::Value::String(template)) => return Ok(Some(template.clone())),
        Some(serde_json::Value::Array(list)) => list
            .iter()
            .map(|one| Some((one.get("name")?.as_str()?, one.get("template")?.as_str()?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    match named.iter().find(|(name, _)| *name == "default") {
        Some((_, template)) => Ok(Some(template.to_string())),
        None => {
            let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
            Err(Error::input(format!(
                "none of its templates ({}) is named `default`, so it is not clear which one to use",
                names.join(", ")
            )))
        }
    }
}

/// What transformers gives to templates.
fn environment() -> Rendered<Environment<'static>> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    // As Python has it: nothing can be gone through, and texts and maps are sequences, too.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        let kinds = [ValueKind::Undefined, ValueKind::String, ValueKind::Seq, ValueKind::Map];
        kinds.contains(&value.kind())
    });
    environment.add_function("raise_exception", |message: String| -> Rendered<()> {
        Err(failed(message))
    });
    environment.add_function("strftime_now", |format: String| {
        let [year, month, day] = TODAY;
        let date = jiff::civil::Date::new(year, month as i8, day as i8).map_err(failed)?;
        jiff::fmt::strtime::format(format, date.at(0, 0, 0, 0)).map_err(failed)
    });
    Ok(environment)
}

/// What a function of a template gives.
type Rendered<T> = std::result::Result<T, minijinja::Error>;

fn failed(message: impl std::fmt::Display) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message.to_string())
}

/// The template with line feeds alone at the ends of lines, as Jinja reads it.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The template with the marks around what the model itself writes, which only training needs, as blocks that do nothing.
fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").unwrap_or(tag.len());
        let name = tag[2..end.max(2)].trim_matches(|letter: char| letter.is_whitespace() || "-+".contains(letter));
        match name {
            "generation" | "endgeneration" => out.push_str(&tag[..end].replace("generation", "with")),
            _ => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps`, as transformers has it in templates: nothing is escaped for HTML, and letters stay as they are.
fn to_json(value: Value, options: Kwargs) -> Rendered<String> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut text = Vec::new();
    let written = match indent {
        Some(width) if width <= 64 => {
            let spaces = " ".repeat(width);
            let pretty = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, pretty))
        }
        Some(_) => return Err(failed("tojson: `indent` is above 64")),
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced)),
    };
    written.map_err(failed)?;
    String::from_utf8(text).map_err(failed)
}

/// JSON in one line with Python's spaces.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
