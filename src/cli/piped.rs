//! Standard input in place of a text file.
//!
//! A text is hashed before it is read, so what comes through standard input is copied to a file first.

use super::streams::note;
use crate::error::{Error, Located, Result};
use crate::experiment::source::STANDARD_INPUT;
use crate::files::input::BYTE_ORDER_MARK;
use crate::files::{Access, Staging};
use bytesize::ByteSize;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// The longest first line that is looked at to tell formats apart, in bytes.
const FIRST_LINE: u64 = 64 << 20;

/// The file of a text that a command reads.
pub(super) struct PipedText {
    /// Path of the file; `None` if no text was named.
    pub(super) path: Option<PathBuf>,
    /// The folder of a copy, which is removed with this value.
    _copy: Option<Staging>,
}

/// The text that an argument names: a file, or what comes through standard input if it is `-`.
///
/// # Errors
/// Standard input cannot be read, or copied to the folder for temporary files.
pub(super) fn text(argument: Option<&Path>) -> Result<PipedText> {
    if argument != Some(Path::new(STANDARD_INPUT)) {
        return Ok(PipedText {
            path: argument.map(Path::to_path_buf),
            _copy: None,
        });
    }
    if io::stdin().is_terminal() {
        note("the text is read from standard input");
    }
    let copy = Staging::new(&std::env::temp_dir().join("zprune-standard-input"))?;
    copy.restrict(Access::OWN)?;
    let path = copied(io::stdin().lock(), &copy).at("standard input")?;
    Ok(PipedText {
        path: Some(path),
        _copy: Some(copy),
    })
}

/// Refuses standard input for what is no text; `what` is what the argument names.
///
/// # Errors
/// The path is `-`.
pub(super) fn refuse(what: &str, path: Option<&Path>) -> Result<()> {
    match path == Some(Path::new(STANDARD_INPUT)) {
        true => Err(Error::config(format!(
            "`-` means that a text comes from standard input, but {what} must be a file"
        ))),
        false => Ok(()),
    }
}

/// Copies a text to a file whose name says what its format is: JSON lines if its first line is a JSON object, else plain text.
fn copied(mut input: impl BufRead, copy: &Staging) -> Result<PathBuf> {
    let reading = |source| Error::input(format!("cannot read: {source}")).caused_by(source);
    let mut first = Vec::new();
    Read::by_ref(&mut input)
        .take(FIRST_LINE)
        .read_until(b'\n', &mut first)
        .map_err(reading)?;
    let line = String::from_utf8_lossy(&first);
    let line = line.trim_start_matches(BYTE_ORDER_MARK);
    let (name, what) = match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line) {
        Ok(_) => ("standard-input.jsonl", "JSON lines"),
        Err(_) => ("standard-input.txt", "plain text"),
    };
    let mut file = copy.create(name, Access::OWN.of_data())?;
    let writing = |source| Error::writing(&copy.path(name), source);
    file.write_all(&first).map_err(writing)?;
    let mut bytes = first.len() as u64;
    loop {
        let piece = input.fill_buf().map_err(reading)?;
        if piece.is_empty() {
            break;
        }
        file.write_all(piece).map_err(writing)?;
        let read = piece.len();
        input.consume(read);
        bytes += read as u64;
    }
    note(&format!("standard input: {} of {what}", ByteSize(bytes)));
    Ok(copy.path(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_the_format_and_every_byte_is_copied() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (text, name) in [
            ("A novel.\nIt goes on.\n", "standard-input.txt"),
            ("{\"text\": \"one\"}\n{\"text\": \"two\"}\n", "standard-input.jsonl"),
            ("\u{feff}{\"text\": \"one\"}\r\n", "standard-input.jsonl"),
            ("{ is no JSON\n", "standard-input.txt"),
            ("", "standard-input.txt"),
        ] {
            let copy = Staging::new(&folder.path().join("copy")).expect("writable");
            let path = copied(io::Cursor::new(text), &copy).expect("writable");
            assert!(path.ends_with(name), "{text:?}: {}", path.display());
            assert_eq!(std::fs::read_to_string(&path).expect("readable"), text);
            drop(copy);
            assert!(!path.exists(), "the copy is removed");
        }
    }
}
