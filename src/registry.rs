//! Named components: one slice of [`Entry`] per kind of thing, look-up that suggests near names, and
//! parameter tables that refuse unknown keys.
//!
//! Adding a family or a task is one file and one line in its registry; listings (`zprune list`) and error messages are made
//! from the same slices, so they cannot go stale. What programs may add to is in `prune::component`.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;

/// One named component of a registry.
pub struct Entry<T> {
    /// The name that users type in files and arguments.
    pub name: &'static str,
    /// A description of one line, which `zprune list` shows.
    pub summary: &'static str,
    /// What is needed to build or use the component.
    pub item: T,
}

/// A registry: what its entries are called in messages, and the entries.
pub struct Registry<T: 'static> {
    /// Singular noun for messages, for example `criterion`.
    pub kind: &'static str,
    /// All components, in listing order.
    pub entries: &'static [Entry<T>],
}

impl<T> Registry<T> {
    /// Finds an entry by its exact name.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one and the whole list.
    pub fn find(&self, name: &str) -> Result<&'static Entry<T>> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name).collect();
            unknown(self.kind, name, &names)
        })
    }
}

/// The error of a name that is none of the known ones.
pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Error {
    match known {
        [] => Error::config(format!("unknown {kind} `{name}`: there are none yet; leave it out")),
        known => Error::config(format!("unknown {kind} `{name}`{}", suggestion(name, known))),
    }
}

/// The tail of an "unknown name" message: the nearest known name, if one is near, and all of them.
pub fn suggestion(unknown: &str, known: &[&str]) -> String {
    let list = known
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest(unknown, known) {
        Some(near) => format!("; did you mean `{near}`? (known: {list})"),
        None => format!(" (known: {list})"),
    }
}

/// The known name most similar to `unknown`, when any is similar enough to be a likely slip.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase()),
                *name,
            )
        })
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A number of things: `1 comparison`, `3 comparisons`.
pub fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Reads a component's own parameters from the table the user wrote.
///
/// # Errors
/// Unknown keys (the type must `deny_unknown_fields`) and wrong types are refused by name.
pub fn parameters<P: DeserializeOwned>(table: &toml::Table) -> Result<P> {
    table.clone().try_into().map_err(|error: toml::de::Error| {
        let message = plain(error.message());
        // The key of a wrong value stands only in the whole text, behind the message.
        let whole = error.to_string();
        let key = whole
            .trim_end()
            .rsplit_once("\nin `")
            .map(|(_, key)| key.trim_end_matches('`'));
        match key.filter(|_| !message.starts_with("unknown key")) {
            Some(key) => Error::config(of_parameter(key, &message)),
            None => Error::config(message),
        }
    })
}

/// How [`plain`] begins if a value is not what belongs to its place.
pub const HERE: &str = "here must be ";

/// What [`plain`] says of the value of a parameter, with the name of the parameter.
pub fn of_parameter(name: &str, said: &str) -> String {
    match said.strip_prefix(HERE) {
        Some(wanted) => format!("parameter `{name}` must be {wanted}"),
        None => format!("parameter `{name}`: {said}"),
    }
}

/// What serde says is wrong with a text, in the words of a person who wrote it: a key, a value, a number, a list.
pub fn plain(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (name, known) = match names.split_first() {
        Some((name, known)) => (*name, known),
        None => ("", &[][..]),
    };
    let begins = |start: &str| message.starts_with(start) && !name.is_empty();
    if begins("unknown field") {
        return match known {
            [] => format!("unknown key `{name}`: there are no keys here"),
            known => format!("unknown key `{name}`{}", suggestion(name, known)),
        };
    }
    if begins("unknown variant") {
        return format!("unknown value `{name}`{}", suggestion(name, known));
    }
    if begins("missing field") {
        return format!("`{name}` is missing");
    }
    if begins("duplicate field") {
        return format!("`{name}` is given twice");
    }
    if message.starts_with("wanted string or table") {
        return "a name in quotes is needed here".to_string();
    }
    let unfit = ["invalid type: ", "invalid value: ", "invalid length "];
    let unfit = unfit.iter().find_map(|start| message.strip_prefix(start));
    match unfit.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, "a sequence")) => format!(
            "{HERE}a list in brackets, not {}{}",
            found_in_words(found),
            in_brackets(found)
        ),
        Some((found, expected)) => {
            let expected = in_words(expected);
            let meant = other_quotes(found, expected);
            format!("{HERE}{expected}, not {}{meant}", found_in_words(found))
        }
        None => message.to_string(),
    }
}

/// What serde expects, in words; what a type of ours says of itself stays as it is.
fn in_words(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number, such as 0.5",
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or larger",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "a string" | "string" | "path string" | "a borrowed string" | "any valid TOML key" => "a text in quotes",
        "a boolean" => "`true` or `false`",
        "a map" | "map" => "a table, { key = value }",
        "string only" | "string or table" => "a name in quotes",
        expected if expected.starts_with("struct ") => "a table, { key = value }",
        expected if expected.starts_with("enum ") => "a name in quotes",
        expected => expected,
    }
}

/// The value that somebody meant who wrote a number in quotes or a text without them, as a hint.
fn other_quotes(found: &str, expected: &str) -> String {
    let number = found.strip_prefix("string ").map(|text| text.trim_matches('"'));
    let number = number.filter(|text| expected.contains("number") && text.parse::<f64>().is_ok());
    let text = ["integer ", "floating point "]
        .iter()
        .find_map(|kind| found.strip_prefix(kind));
    let text = text
        .filter(|_| expected == "a text in quotes")
        .map(|text| text.trim_matches('`'));
    match (number, text) {
        (Some(number), _) => format!(": write {number}, without quotes"),
        (_, Some(text)) => format!(": write \"{text}\""),
        _ => String::new(),
    }
}

/// The list that somebody meant who wrote a single value, as a hint.
fn in_brackets(found: &str) -> String {
    let value = ["integer ", "floating point ", "string "]
        .iter()
        .find_map(|kind| found.strip_prefix(kind));
    value.map_or(String::new(), |value| format!(": write [{}]", value.trim_matches('`')))
}

/// What serde found, in words.
fn found_in_words(found: &str) -> String {
    // What serde says of the type that a large number would need is none of a user's business.
    let quoted = |start: &str| found.strip_prefix(start).and_then(|rest| rest.split('`').nth(1));
    if let Some(number) = quoted("integer ").or(quoted("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the text {text}");
    }
    if let Some(truth) = quoted("boolean ") {
        return format!("`{truth}`");
    }
    match found {
        "sequence" => "a list".to_string(),
        "map" => "a table".to_string(),
        found => found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURS: Registry<u32> = Registry {
        kind: "colour",
        entries: &[
            Entry {
                name: "red",
                summary: "",
                item: 1,
            },
            Entry {
                name: "green",
                summary: "",
                item: 2,
            },
        ],
    };

    #[test]
    fn an_unknown_name_is_answered_with_a_near_one_and_the_list() {
        let error = COLOURS.find("gren").err().expect("gren is not a colour");
        assert_eq!(
            error.to_string(),
            "unknown colour `gren`; did you mean `green`? (known: `red`, `green`)"
        );
        let error = COLOURS.find("xylophone").err().expect("not a colour");
        assert_eq!(error.to_string(), "unknown colour `xylophone` (known: `red`, `green`)");
    }

    #[test]
    fn what_serde_says_is_said_in_plain_words() {
        for (message, said) in [
            (
                "unknown field `sparsty`, expected one of `keep`, `of`, `sparsity`",
                "unknown key `sparsty`; did you mean `sparsity`? (known: `keep`, `of`, `sparsity`)",
            ),
            (
                "unknown field `power`, there are no fields",
                "unknown key `power`: there are no keys here",
            ),
            (
                "unknown variant `rows`, expected `row` or `matrix`",
                "unknown value `rows`; did you mean `row`? (known: `row`, `matrix`)",
            ),
            ("missing field `name`", "`name` is missing"),
            (
                "invalid type: string \"a\", expected f64",
                "here must be a number, such as 0.5, not the text \"a\"",
            ),
            (
                "invalid value: integer `-1`, expected usize",
                "here must be a whole number, 0 or larger, not the number -1",
            ),
            (
                "invalid type: integer `18446744073709551616` as i128, expected u64",
                "here must be a whole number, 0 or larger, not the number 18446744073709551616",
            ),
            (
                "invalid type: map, expected a sequence",
                "here must be a list in brackets, not a table",
            ),
            (
                "invalid type: floating point `0.5`, expected struct Pattern",
                "here must be a table, { key = value }, not the number 0.5",
            ),
            (
                "invalid type: string \"128\", expected usize",
                "here must be a whole number, 0 or larger, not the text \"128\": write 128, without quotes",
            ),
            (
                "invalid type: integer `3`, expected a string",
                "here must be a text in quotes, not the number 3: write \"3\"",
            ),
            ("a sentence of our own", "a sentence of our own"),
        ] {
            assert_eq!(plain(message), said);
        }
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Powered {
            #[serde(rename = "power")]
            _power: f64,
        }
        let said = |table: toml::Table| parameters::<Powered>(&table).expect_err("wrong").to_string();
        assert_eq!(
            said(toml::toml! { power = "half" }),
            "parameter `power` must be a number, such as 0.5, not the text \"half\""
        );
        assert_eq!(
            said(toml::toml! { powr = 1.0 }),
            "unknown key `powr`; did you mean `power`? (known: `power`)"
        );
    }
}
