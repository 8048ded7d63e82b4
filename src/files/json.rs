//! JSON as other programs write it: with `NaN`, `Infinity` and `-Infinity`, which JSON does not have (Python's `json`
//! module), and with a key that stands twice, of which one program takes the first value and another the last.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// The end of the message about a repeated key.
pub const TWICE: &str = " stands twice";

/// The entries of an object in their order. An object that has a key twice is refused.
pub struct Unique<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unique<V>, A::Error> {
                let (mut seen, mut entries) = (HashSet::new(), Vec::new());
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("key `{key}`{TWICE}")));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// The text with the word of every such number in quotes. Where a key must be a number, its reader refuses it by that word.
pub fn standard(text: &str) -> Cow<'_, str> {
    const NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !NUMBERS.iter().any(|number| text.contains(number)) {
        return Cow::Borrowed(text);
    }
    let mut standard = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(first) = rest.chars().next() {
        if let Some(number) = NUMBERS.iter().find(|number| !quoted && rest.starts_with(**number)) {
            standard.push_str(&format!("\"{number}\""));
            rest = &rest[number.len()..];
            continue;
        }
        let mut length = first.len_utf8();
        match first {
            '"' => quoted = !quoted,
            // What follows a backslash ends no string.
            '\\' => length += rest[length..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        standard.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(standard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_numbers_become_words_outside_strings() {
        for (text, want) in [
            (
                r#"{"a": Infinity, "b": [-Infinity, NaN]}"#,
                r#"{"a": "Infinity", "b": ["-Infinity", "NaN"]}"#,
            ),
            (
                r#"{"NaN": "Infinity \" NaN \\", "b": NaN}"#,
                r#"{"NaN": "Infinity \" NaN \\", "b": "NaN"}"#,
            ),
            ("{\"\u{e9}\\\u{e9}\": Infinity", "{\"\u{e9}\\\u{e9}\": \"Infinity\""),
            ("\"\\", "\"\\"),
            ("{}", "{}"),
        ] {
            assert_eq!(standard(text), want);
        }
    }
}
