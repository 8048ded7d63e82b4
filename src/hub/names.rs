//! Names that the hub gives: files, commits and hashes. They become parts of paths, so each is checked once,
//! and only checked ones can be passed on.

use crate::data::digest;
use crate::error::Result as CrateResult;
use crate::files::names::{LONGEST, is_device, is_hidden};
use std::fmt;
use std::path::Path;

/// The longest name of a file with its folders, in bytes.
const LONGEST_NAME: usize = 1024;

/// The name of a file in a repository: parts with `/` between them. Each part is a valid file name on every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Checks that a name can be that of a file below a folder.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(name: &str) -> Result<FileName, &'static str> {
        stays_inside(name)?;
        if name.contains(['<', '>', ':', '"', '|', '?', '*']) {
            return Err("a part has a character that Windows does not allow");
        }
        if name.split('/').any(|part| part.ends_with(['.', ' '])) {
            return Err("a part ends with a dot or a space");
        }
        if name.split('/').any(is_device) {
            return Err("a part is the name of a device on Windows");
        }
        Ok(FileName(name.to_string()))
    }

    /// The name as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that a path of a repository leads to a place inside it, on Unix and on Windows. Every repository made by
/// git passes.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn stays_inside(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.starts_with('/') {
        return Err("it is an absolute path");
    }
    if name.chars().any(is_hidden) {
        return Err("it has a control character");
    }
    if name.contains('\\') {
        return Err("it has a backslash");
    }
    if name.len() > LONGEST_NAME {
        return Err("it is too long");
    }
    for part in name.split('/') {
        match part {
            "" => return Err("a part is empty"),
            "." | ".." => return Err("a part is `.` or `..`"),
            _ if part.len() > LONGEST => return Err("a part is too long"),
            _ => {}
        }
        if let [letter, b':', ..] = part.as_bytes()
            && letter.is_ascii_alphabetic()
        {
            return Err("a part names a drive");
        }
    }
    Ok(())
}

/// A commit: 40 hexadecimal digits, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit(String);

impl Commit {
    /// Reads a commit as the hub, a reference in the cache or the user writes it; `None` if it is none.
    pub fn parse(text: &str) -> Option<Commit> {
        (text.len() == 40 && is_hexadecimal(text)).then(|| Commit(text.to_ascii_lowercase()))
    }

    /// The hexadecimal digits of the commit.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash that names a file's content: 40 hexadecimal digits are git's hash of it, 64 its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// Reads the value of an `ETag` header, or the name of a blob in the cache; `None` if it is no plain hash.
    pub fn parse(header: &str) -> Option<Etag> {
        let value = header.trim();
        let value = value.strip_prefix("W/").unwrap_or(value);
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        ([40, 64].contains(&value.len()) && is_hexadecimal(value)).then(|| Etag(value.to_ascii_lowercase()))
    }

    /// The hexadecimal digits of the hash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the kind of hash, for messages.
    pub fn kind(&self) -> &'static str {
        match self.0.len() {
            40 => "git hash",
            _ => "SHA-256",
        }
    }

    /// Computes the same kind of hash of a file's content.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(&self, path: &Path) -> CrateResult<Etag> {
        match self.0.len() {
            40 => digest::of_file_in_git(path),
            _ => digest::of_file(path),
        }
        .map(Etag)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_lead_nowhere_else() {
        for name in [
            "config.json",
            "a/b/c.parquet",
            "..a",
            "a..b/c",
            ".gitattributes",
            "console.txt",
            "com.json",
            "COM10",
            "ä/模型.json",
        ] {
            assert!(FileName::parse(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            ".",
            "a/..",
            "../a",
            "a/../../../evil.json",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "..\\a",
            "C:",
            "C:\\a",
            "c:/a",
            "a/C:b",
            "a\0b",
            "a\nb",
            "\u{7f}",
            "a\u{85}",
        ] {
            assert!(stays_inside(name).is_err(), "{name:?}");
            assert!(FileName::parse(name).is_err(), "{name:?}");
        }
        for name in [
            "a:b",
            "a?",
            "a.",
            "a ",
            "b./a",
            "NUL",
            "nul.json",
            "a/Aux.txt",
            "com1",
            "LPT9.x",
            "con .a",
            "COM²",
        ] {
            assert!(FileName::parse(name).is_err(), "{name:?}");
        }
        assert!(stays_inside(&"a".repeat(LONGEST)).is_ok());
        assert!(stays_inside(&"a".repeat(LONGEST + 1)).is_err());
        assert!(stays_inside(&"a/".repeat(LONGEST_NAME).replace("/a/a", "/a")).is_err());
    }

    #[test]
    fn hashes_are_plain_hexadecimal() {
        let (git, sha) = ("0123456789abcdef".repeat(3), "0123456789abcdef".repeat(4));
        let git = &git[..40];
        for value in [
            format!("\"{git}\""),
            git.to_string(),
            format!("W/\"{git}\""),
            format!(" \"{}\" ", git.to_uppercase()),
        ] {
            assert_eq!(Etag::parse(&value).expect("a hash").as_str(), git, "{value}");
        }
        assert_eq!(Etag::parse(&sha).expect("a hash").kind(), "SHA-256");
        for value in [
            "".to_string(),
            "\"".to_string(),
            "\"\"".to_string(),
            "../../../x".to_string(),
            "/etc/passwd".to_string(),
            format!("{git}0"),
            format!("\"{git}"),
            format!("{git}\""),
            format!("\"\"{git}\"\""),
            format!("{}/x", &git[..38]),
            format!("{git}-2"),
            "é".repeat(20),
        ] {
            assert!(Etag::parse(&value).is_none(), "{value}");
        }
        assert!(Commit::parse(git).is_some());
        for value in ["main", &sha, &git[1..], "../../../../../../../../../../../../../x"] {
            assert!(Commit::parse(value).is_none(), "{value}");
        }
    }
}
