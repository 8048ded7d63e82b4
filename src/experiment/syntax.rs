//! Texts that are no TOML: each mistake in plain words, with its place.

use super::problems::{Problems, WHOLE};
use crate::error::Error;

/// What the reader says of a text that does not end on its line.
const UNENDED: [&str; 2] = [
    "invalid basic string, expected `\"`",
    "invalid literal string, expected `'`",
];

/// Quotes that word processors write.
const TYPOGRAPHIC: &[char] = &['“', '”', '„', '‘', '’', '«', '»'];

/// Takes as mistakes what the reader of TOML says of a text.
pub fn take(text: &str, mut errors: Vec<toml::de::Error>, problems: &mut Problems) {
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let line = |offset: usize| text.get(..offset).unwrap_or(text).matches('\n').count();
    errors.sort_by_key(|error| start(error));
    // What the reader says after the first mistake of a line mostly follows from it.
    errors.dedup_by_key(|error| line(start(error)));
    // What stands after a list that does not end is read as part of it. A text that does not end hides the end of its list.
    let unclosed = unclosed_list(text);
    let unended = unclosed.and_then(|bracket| {
        let cut = |error: &toml::de::Error| {
            let start = start(error);
            start >= bracket && UNENDED.contains(&error.message()) && line(start) == line(bracket)
        };
        errors.iter().position(cut)
    });
    if let Some(unended) = unended {
        errors.truncate(unended + 1);
    } else if let Some(bracket) = unclosed {
        errors.retain(|error| error.span().is_some_and(|span| span.start < bracket));
        let message = "this list does not end: a list ends with `]`";
        problems.add(bracket..bracket + 1, Error::config(message));
    }
    for error in errors {
        let span = match error.span() {
            // The first sign of a file has a place, too.
            Some(span) if span == WHOLE => 0..text.chars().next().map_or(0, char::len_utf8),
            span => span.unwrap_or(WHOLE),
        };
        problems.add(span.clone(), Error::config(said(text, span.start, error.message())));
    }
}

/// What the reader of TOML says of the place that begins at an offset, in plain words where its own are not.
fn said(text: &str, start: usize, message: &str) -> String {
    let rest = text.get(start..).unwrap_or_default();
    let before = text.get(..start).and_then(|before| before.rsplit('\n').next());
    let before = before.unwrap_or_default().trim();
    let first = rest.chars().next();
    let word: String = rest.chars().take_while(|sign| sign.is_alphanumeric()).collect();
    // A key whose value is still to come.
    let key = !before.is_empty() && !before.contains(['=', '#', '[', '"']);
    let numbers = [
        "mantissa", "fraction", "float", "integer", "exponent", "digit", "number",
    ];
    let number = message.starts_with("invalid ") && numbers.iter().any(|word| message.contains(word));
    let plain = match first {
        Some(quote) if TYPOGRAPHIC.contains(&quote) => {
            return format!("{quote} is not a quote in TOML: write \" at both ends of a text");
        }
        Some(hidden) if hidden.is_control() && !hidden.is_whitespace() => {
            return format!(
                "here is a character that cannot be seen (U+{:04X}); remove it",
                u32::from(hidden)
            );
        }
        Some(':') if key => "write `=` between a key and its value, not `:`",
        _ if before.ends_with(':') && key => "write `=` between a key and its value, not `:`",
        Some('.') if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
            return format!(
                "a number begins with a digit: write 0.{}",
                rest[1..].chars().take_while(char::is_ascii_digit).collect::<String>()
            );
        }
        Some(',') if message.starts_with("unexpected key or value") => {
            "only values in a list have a comma after them; remove the comma"
        }
        _ if message == "duplicate key" && before.starts_with('[') => {
            return format!(
                "there is a section {before}{word}{} already; write its keys there, once",
                "]".repeat(before.len())
            );
        }
        _ if matches!(word.to_lowercase().as_str(), "true" | "false") => {
            return format!("write it in small letters: `{}`", word.to_lowercase());
        }
        _ if before.is_empty() && (number || message.starts_with("invalid key-value pair")) => {
            "a line cannot begin like this: it must be `key = value`, the name of a section in brackets, or a comment, which begins with #"
        }
        _ if message.starts_with("invalid boolean") => {
            "a text must be in quotes; without quotes, only `true`, `false` and numbers are possible"
        }
        _ if number => "this is not a number; a text, such as \"2:4\", must be in quotes",
        _ if message.starts_with("unexpected key or value") => {
            "this does not belong to a key; write each key with its value on its own line"
        }
        _ if message.starts_with("missing escaped value") => {
            "between \" and \", `\\` begins a special character; write a path with / between its parts, or in single quotes, as in \
             'C:\\data'"
        }
        _ => match message {
            "string values must be quoted, expected literal string" => {
                "a text must be in quotes, as in name = \"tiny\""
            }
            "invalid basic string, expected `\"`" => {
                "this text does not end: a string ends with `\"` on the line on which it begins"
            }
            "invalid literal string, expected `'`" => {
                "this text does not end: a string ends with `'` on the line on which it begins"
            }
            "duplicate key" => "this key is there already; a key may be written only once in its section",
            "key with no value, expected `=`" => {
                "this key has no value: write `key = value`; a list is `key = [1, 2]`, on one line or several"
            }
            message => message,
        },
    };
    plain.to_string()
}

/// Where a list begins that has not ended when the next key or section begins: the offset of its bracket.
fn unclosed_list(text: &str) -> Option<usize> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some((bracket, '[')) = open.last().filter(|_| begins_key_or_section(line)) {
            return Some(*bracket);
        }
        // Brackets at the start of a line outside a value are those of a section.
        let value = match (open.is_empty(), line.find('=')) {
            (true, None) => line.len(),
            (true, Some(sign)) => sign + 1,
            (false, _) => 0,
        };
        let mut quote = None;
        for (at, sign) in line[value..].char_indices() {
            match (quote, sign) {
                (Some(ending), sign) if sign == ending => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(sign),
                (None, '#') => break,
                (None, '[' | '{') => open.push((offset + value + at, sign)),
                (None, ']' | '}') => drop(open.pop()),
                _ => {}
            }
        }
        offset += line.len();
    }
    open.iter().find(|(_, sign)| *sign == '[').map(|(bracket, _)| *bracket)
}

/// Whether a line begins as that of a key does, `name = ...`, or is the name of a section, `[name]` or `[[name]]`.
fn begins_key_or_section(line: &str) -> bool {
    let word = |text: &str| {
        let name = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        !text.is_empty() && text.chars().all(name) && text.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    let line = line.split('#').next().unwrap_or(line).trim();
    let section = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let twice = section.and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
    let key = line.split_once('=').map(|(name, _)| name.trim());
    [key, section, twice]
        .into_iter()
        .flatten()
        .any(|name| word(name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn mistakes(text: &str) -> String {
        let mut problems = Problems::default();
        let (_, errors) = DeTable::parse_recoverable(text);
        take(text, errors, &mut problems);
        let said = problems.in_file("x.toml".as_ref(), text);
        said.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_list_that_does_not_end_is_one_mistake_where_it_begins() {
        for (text, line, column) in [
            (
                "[sweep]\nseeds = [0, 1\npatterns = [0.5]\n[[method]]\ncriterion = \"wanda\"\n",
                2,
                9,
            ),
            (
                "methods = [\n  { criterion = \"a]\", group = \"row\" }, # [\n\n[sweep]\nseeds = [0]\n",
                1,
                11,
            ),
            ("[report]\ntables = [[\"a\", \"b\"]\n", 2, 10),
        ] {
            let said = mistakes(text);
            assert!(
                said.contains(&format!("x.toml:{line}:{column}: this list does not end")),
                "{said}"
            );
            assert!(!said.contains("mistakes"), "{said}");
        }
        // Lists that end, in values, strings and names of sections, are none of this.
        for text in ["a = [\n 1,\n [2, 3]\n]\n[b]\nc = \"[\"\n[[d]]\n", "a = 1 # [\nb = 2\n"] {
            assert_eq!(unclosed_list(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_as_elsewhere_is_told_how_it_is_written_here() {
        for (text, place, said) in [
            ("name: tiny\n", "1:5", "write `=` between a key and its value, not `:`"),
            (
                "a = 1\nmethods:\n",
                "2:8",
                "write `=` between a key and its value, not `:`",
            ),
            (
                "{\"name\": \"tiny\"}",
                "1:1",
                "a line cannot begin like this: it must be `key = value`",
            ),
            ("// a comment\n", "1:1", "a comment, which begins with #"),
            ("<<<<<<< HEAD\n", "1:1", "a line cannot begin like this"),
            ("methods\n", "1:8", "this key has no value: write `key = value`"),
            ("patterns = [.5]\n", "1:13", "a number begins with a digit: write 0.5"),
            (
                "patterns = [2:4]\n",
                "1:13",
                "a text, such as \"2:4\", must be in quotes",
            ),
            ("a = True\n", "1:5", "write it in small letters: `true`"),
            (
                "name = \"t\",\n",
                "1:11",
                "only values in a list have a comma after them",
            ),
            (
                "path = \"C:\\data\"\n",
                "1:12",
                "write a path with / between its parts, or in single quotes",
            ),
            (
                "name = \"t\u{0}\"\n",
                "1:10",
                "a character that cannot be seen (U+0000)",
            ),
            ("[a]\nb = 1\n[a]\n", "3:2", "there is a section [a] already"),
            ("a = 1\na = 2\n", "2:1", "this key is there already"),
        ] {
            let told = mistakes(text);
            assert!(
                told.contains(&format!("x.toml:{place}: ")) && told.contains(said),
                "{text}: {told}"
            );
        }
    }
}
