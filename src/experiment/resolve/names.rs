//! Labels and lists: what is empty, used twice or unknown.

use crate::error::{Error, Result};
use crate::files::names;
use crate::registry::suggestion;

/// Refuses a label that is none of the known ones.
pub fn known(what: &str, name: &str, known: &[&str]) -> Result<()> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(Error::config(format!(
        "there is no {what} `{name}`{}",
        suggestion(name, known)
    )))
}

/// Refuses a label that is empty, used twice, or has characters that are not seen.
pub fn distinct<'a>(name: &'a String, others: impl Iterator<Item = &'a String>, what: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::config(format!(
            "a {what} is empty; give it one: `name = \"...\"`"
        )));
    }
    if let Some(hidden) = name.chars().find(|c| names::is_hidden(*c)) {
        return Err(Error::config(format!(
            "{what} {name:?} has a line break or another control character or one that is not seen (U+{:04X}); choose \
             another `name`",
            u32::from(hidden)
        )));
    }
    let others: Vec<&String> = others.collect();
    if !others.contains(&name) {
        return Ok(());
    }
    let free = |number: &usize| !others.contains(&&format!("{name} {number}"));
    let how = match (what, (2..).find(free)) {
        ("task", _) => "leave one of them out, or give prompts another `name`".to_string(),
        ("family", _) => "give one of them another `family`".to_string(),
        (_, number) => format!(
            "write another `name` below one of them, such as name = \"{name} {}\"",
            number.unwrap_or_default()
        ),
    };
    Err(Error::config(format!("{what} `{name}` is used twice; {how}")))
}
