//! JSON as Python's `json` module writes it: with `NaN`, `Infinity` and `-Infinity`, which JSON does not have.

use std::borrow::Cow;

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
