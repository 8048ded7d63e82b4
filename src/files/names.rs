//! Labels as names of files.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The longest file name that common file systems accept, in bytes.
pub const LONGEST: usize = 255;

/// Names that mean devices on Windows, whatever ending they have.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// A label as a file name or as a part of one: letters, digits, `-`, `_` and `.` are kept, all other characters
/// become `_`.
pub fn plain(label: &str) -> String {
    let plain = |c: char| match c.is_alphanumeric() || "-_.".contains(c) {
        true => c,
        false => '_',
    };
    let name: String = label.chars().map(plain).collect();
    // `.` and `..` are folders, what begins with a dot is hidden, and some names are devices.
    match name.starts_with('.') || is_device(&name) {
        true => format!("_{name}"),
        false => name,
    }
}

/// Whether a character is not seen, or changes how a line or the text around it is read: control characters, the ends of
/// lines and paragraphs, what turns the direction of writing, and what has no width. What joins and parts letters
/// (U+200C and U+200D) is part of some scripts.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether Windows treats a name as a device.
pub fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let port = ["com", "lpt"].iter().find_map(|port| stem.strip_prefix(port));
    DEVICES.contains(&stem.as_str())
        || port.is_some_and(|number| number.chars().count() == 1 && number.contains(|c| "123456789¹²³".contains(c)))
}

/// Checks that files that are to be written can all be there at once: names that are not too long, and no two that differ in
/// nothing but case, which many file systems do not tell apart. Each file comes as its path, with `/`, and the labels it has its
/// name from.
///
/// # Errors
/// Names the labels.
pub fn check<'a>(files: impl IntoIterator<Item = &'a (String, String)>) -> Result<()> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (path, labels) in files {
        if let Some(part) = path.split('/').find(|part| part.len() > LONGEST) {
            let message = format!(
                "{labels}: the name of the file {path} would have {} bytes, but {LONGEST} are possible; choose a shorter name",
                part.len()
            );
            return Err(Error::config(message));
        }
        match seen.insert(path.to_lowercase(), labels) {
            None => {}
            Some(other) if other == labels => {}
            Some(other) => {
                let message = format!("{other} and {labels} would share the file {path}; rename one of them");
                return Err(Error::config(message));
            }
        }
    }
    Ok(())
}

/// A path quoted for a shell, for messages that contain a command.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    shlex::try_quote(&text).map_or_else(|_| text.clone(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(files: &[(&str, &str)]) -> Result<()> {
        let files: Vec<(String, String)> = files
            .iter()
            .map(|(path, labels)| (path.to_string(), labels.to_string()))
            .collect();
        check(&files)
    }

    #[test]
    fn labels_become_names_that_stay_in_their_folder() {
        for (label, name) in [
            ("llama-2_7b.v1", "llama-2_7b.v1"),
            ("Größe 7B", "Größe_7B"),
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("..", "_.."),
            ("C:\\x", "C__x"),
            ("a\nb", "a_b"),
            ("NUL", "_NUL"),
            ("com1.txt", "_com1.txt"),
            ("com10", "com10"),
        ] {
            assert_eq!(plain(label), name);
        }
    }

    #[test]
    fn what_one_does_not_see_is_known() {
        for hidden in
            "\n\t\u{7f}\u{85}\u{202e}\u{2066}\u{2069}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{feff}\u{e0041}".chars()
        {
            assert!(is_hidden(hidden), "{hidden:?}");
        }
        for seen in "a ä-_.=\u{a0}\u{200d}字ع".chars() {
            assert!(!is_hidden(seen), "{seen:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_together_are_refused_with_their_labels() {
        checked(&[("a/b.md", "x"), ("a/c.md", "y")]).expect("two files");
        let error = checked(&[("a/B.md", "model `B`"), ("a/b.md", "model `b`")]).expect_err("case");
        assert!(
            error
                .to_string()
                .contains("model `B` and model `b` would share the file a/b.md"),
            "{error}"
        );
        let long = "ä".repeat(126) + ".svg";
        let error = checked(&[(&format!("plots/{long}"), "model `ä`")]).expect_err("256 bytes");
        assert!(error.to_string().contains("256 bytes, but 255 are possible"), "{error}");
        checked(&[(&format!("plots/{}", "ä".repeat(125) + ".svg"), "model `ä`")]).expect("254 bytes");
    }
}
