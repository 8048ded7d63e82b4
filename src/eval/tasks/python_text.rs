//! Python's string methods where they differ from Rust's, so that rendered texts are the harness's.

/// Whether `str.strip` removes the character: Unicode's white space and four control characters that Rust does not
/// count.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Removes white space at both ends as Python's `str.strip()` does.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Does what Python's `str.capitalize()` does: the first character in title case, all others in lower case.
pub fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    let lower = text.to_lowercase();
    let skipped: usize = first.to_lowercase().map(char::len_utf8).sum();
    title(first) + &lower[skipped..]
}

/// A character in title case: in upper case, but of a character that stands for two letters only the first one.
fn title(c: char) -> String {
    match c {
        // The only characters whose title case is a character of its own: DZ, Dz, dz and the like.
        '\u{1c4}'..='\u{1c6}' => "\u{1c5}".to_string(),
        '\u{1c7}'..='\u{1c9}' => "\u{1c8}".to_string(),
        '\u{1ca}'..='\u{1cc}' => "\u{1cb}".to_string(),
        '\u{1f1}'..='\u{1f3}' => "\u{1f2}".to_string(),
        _ => {
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            std::iter::once(first)
                .chain(upper.flat_map(char::to_lowercase))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_change_as_in_cpython() {
        for (text, capitalised) in [
            ("", ""),
            ("he TURNS Round", "He turns round"),
            ("\u{df}x", "Ssx"),
            ("\u{fb01}N", "Fin"),
            ("\u{1c6}A", "\u{1c5}a"),
            ("A\u{3a3}", "A\u{3c2}"),
            ("[header] How", "[header] how"),
        ] {
            assert_eq!(capitalize(text), capitalised, "{text:?}");
        }
        assert_eq!(strip("\u{1f}\u{a0} a b\u{2003}\n"), "a b");
    }
}
