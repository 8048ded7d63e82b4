//! The crate's one error type.
//!
//! An [`Error`] says what is wrong, where (file, tensor, line, cell), and, when it is known, how to
//! mend it. Its [`ErrorKind`] decides the exit code of the program and nothing else. Panics are kept
//! for bugs; everything a user or a file can cause arrives here.

use serde::{Deserialize, Serialize};
use std::error::Error as Cause;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A result whose error is this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of thing went wrong; see [`ErrorKind::exit_code`].
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The experiment file or the command line asks for something that does not exist or contradicts itself.
    Config,
    /// An input file (checkpoint, tokenizer, corpus, record) is missing, truncated or malformed.
    Input,
    /// Arithmetic broke down: a factorisation failed or a value is not finite.
    Numeric,
    /// The GPU failed: out of memory, or without something that a kernel needs.
    Device,
    /// The GPU is gone, and nothing can be computed on it any more.
    DeviceLost,
    /// Results could not be written (full disk, missing permission, no file locks).
    Output,
    /// The run ended, but some of its cells failed; each one's record says why.
    CellsFailed,
    /// A result is not what it was said to be: a dense perplexity, a directory under verification.
    Mismatch,
    /// The user, or the system, asked the run to stop, and it did: what was recorded stays, the rest is to do.
    Interrupted,
}

impl ErrorKind {
    /// The process exit code: 1 when work failed or a result is not as expected, 2 when the input cannot be used, 3 when the results cannot be written, 130 (the shells' code for Ctrl-C) when it was stopped.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Numeric
            | ErrorKind::Device
            | ErrorKind::DeviceLost
            | ErrorKind::CellsFailed
            | ErrorKind::Mismatch => 1,
            ErrorKind::Config | ErrorKind::Input => 2,
            ErrorKind::Output => 3,
            ErrorKind::Interrupted => 130,
        }
    }
}

/// An error with its kind, its message and the places it passed through, innermost first.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    places: Vec<String>,
    source: Option<Arc<dyn Cause + Send + Sync>>,
}

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.to_string(),
            places: Vec::new(),
            source: None,
        }))
    }

    /// A mistake in the experiment file or on the command line.
    pub fn config(message: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// An input that cannot be used.
    pub fn input(message: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Input, message)
    }

    /// A breakdown of the arithmetic.
    pub fn numeric(message: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Numeric, message)
    }

    /// A result that cannot be written. Where something that is no folder has the place of one above `path`, that is the reason,
    /// whatever the system called it.
    pub fn output(path: &Path, message: impl fmt::Display) -> Self {
        let message = match in_the_way(path) {
            Some(what) => format!("cannot write: {what}; choose another place"),
            None => format!("cannot write: {message}"),
        };
        Error::new(ErrorKind::Output, message).at(path.display())
    }

    /// Writing `path` failed, in the operating system or in what makes the text.
    pub fn writing(path: &Path, source: impl Cause + Send + Sync + 'static) -> Self {
        Error::output(path, &source).caused_by(source)
    }

    /// Reading `path` failed in the operating system.
    pub fn reading(path: &Path, source: std::io::Error) -> Self {
        let message = match source.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_string(),
            std::io::ErrorKind::NotADirectory => {
                let what = in_the_way(path).unwrap_or_else(|| "a part of the path is not a folder".to_string());
                format!("{what}; give a folder")
            }
            _ => format!("cannot read: {source}"),
        };
        Error::input(message).at(path.display()).caused_by(source)
    }

    /// Keeps the error that this one comes from, for [`source`](Cause::source). The message does not change: it says what is
    /// worth knowing of the cause already.
    #[must_use]
    pub fn caused_by(mut self, source: impl Cause + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Adds an outer place: the file, the tensor, the cell this happened in.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

/// What stands where `path` needs a folder, in words.
fn in_the_way(path: &Path) -> Option<String> {
    let above = path.ancestors().skip(1);
    let lowest = above
        .into_iter()
        .find_map(|above| Some((above, above.symlink_metadata().ok()?)));
    let (above, there) = lowest.filter(|(above, _)| !above.is_dir())?;
    let what = match (there.is_file(), there.is_symlink() && !above.exists()) {
        (true, _) => "a file",
        (_, true) => "a link that leads nowhere",
        (false, false) => "not a folder",
    };
    Some(format!("{} is {what}, but it must be a folder", above.display()))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0.places.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl Cause for Error {
    fn source(&self) -> Option<&(dyn Cause + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Cause + 'static))
    }
}

/// The message of a JSON error in a file with one value per line: without its own line, which is always
/// the first, so that it does not contradict the file's.
pub fn json_in_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Adds a place to the error of a result.
pub trait Located<T> {
    /// Says where the error happened; see [`Error::at`].
    fn at(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> Located<T> for Result<T> {
    fn at(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.at(place))
    }
}

/// How many characters of a long line a message shows on each side of a place.
const CONTEXT: usize = 60;

/// What stands in a message for characters that are not shown.
const LEFT_OUT: &str = "...";

/// A line as a message shows it, and where its bytes `marked` are there: of a long one only what is around where they begin.
pub fn around(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let parts = (
        line.get(..marked.start),
        line.get(marked.clone()),
        line.get(marked.end..),
    );
    let (Some(before), Some(middle), Some(behind)) = parts else {
        return (first_of(line), 0..0);
    };
    let count = before.chars().count();
    let mut shown = match count > CONTEXT + LEFT_OUT.len() {
        true => before
            .chars()
            .skip(count - CONTEXT)
            .fold(LEFT_OUT.to_string(), |mut shown, c| {
                shown.push(c);
                shown
            }),
        false => before.to_string(),
    };
    let start = shown.len();
    let part = first_of(middle);
    shown.push_str(&part);
    let end = match part.len() < middle.len() {
        true => shown.len() - LEFT_OUT.len(),
        false => {
            let end = shown.len();
            shown.push_str(&first_of(behind));
            end
        }
    };
    (shown, start..end)
}

/// A text without its end, if it is long.
fn first_of(text: &str) -> String {
    match text.char_indices().nth(CONTEXT) {
        // Three dots in place of no more would save nothing.
        Some((end, _)) if text[end..].chars().nth(LEFT_OUT.len()).is_some() => format!("{}{LEFT_OUT}", &text[..end]),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_place_of_a_folder_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "a file").expect("writable");
        for path in [file.join("x"), file.join("deep/er")] {
            let system = std::fs::create_dir_all(&path).expect_err("a file is in the way");
            let error = Error::output(&path, &system).to_string();
            let named = format!("cannot write: {} is a file, but it must be a folder", file.display());
            assert!(error.contains(&named), "{error}");
            let system = std::fs::read(&path).expect_err("a file is in the way");
            let error = Error::reading(&path, system).to_string();
            assert!(error.contains(&format!("{} is a file", file.display())), "{error}");
        }
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("nowhere", &link).expect("writable");
            let error = Error::output(&link.join("x"), "File exists").to_string();
            assert!(error.contains("is a link that leads nowhere"), "{error}");
        }
        // Nothing is in the way here.
        for path in [
            folder.path().join("new/er"),
            folder.path().join("new"),
            file,
            "new".into(),
        ] {
            let error = Error::output(&path, "no space").to_string();
            assert!(error.ends_with("cannot write: no space"), "{error}");
        }
    }

    #[test]
    fn places_are_printed_from_the_outside_in() {
        let error = Error::input("NaN at element 3")
            .at("q_proj.weight")
            .at("model.safetensors");
        assert_eq!(error.to_string(), "model.safetensors: q_proj.weight: NaN at element 3");
        assert_eq!(error.kind().exit_code(), 2);
    }

    #[test]
    fn an_error_keeps_what_caused_it() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        for error in [
            Error::reading(Path::new("a"), full()).at("cell 1"),
            Error::writing(Path::new("a"), full()).clone(),
        ] {
            let source = error
                .source()
                .and_then(|source| source.downcast_ref::<std::io::Error>());
            let kind = source.expect("an error of the system").kind();
            assert_eq!(kind, std::io::ErrorKind::StorageFull, "{error}");
        }
        assert!(Error::config("a mistake").source().is_none());
    }

    #[test]
    fn of_a_long_line_only_what_is_around_a_place_is_shown() {
        assert_eq!(around("abs(w) * !", 9..10), ("abs(w) * !".to_string(), 9..10));
        for (before, marked, behind) in [
            (0, 0, 500),
            (63, 1, 63),
            (64, 1, 64),
            (500, 60, 0),
            (500, 500, 500),
            (0, 1, 0),
        ] {
            let text = format!("{}{}{}", "ä".repeat(before), "m".repeat(marked), "b".repeat(behind));
            let start = "ä".len() * before;
            let (shown, place) = around(&text, start..start + marked);
            assert_eq!(
                shown.starts_with(LEFT_OUT),
                before > CONTEXT + LEFT_OUT.len(),
                "{shown}"
            );
            assert_eq!(
                &shown[place],
                "m".repeat(if marked == 500 { CONTEXT } else { marked }),
                "{shown}"
            );
            let cut = marked == 500 || behind > CONTEXT + LEFT_OUT.len();
            assert_eq!(shown.ends_with(LEFT_OUT), cut, "{shown}");
            assert!(shown.chars().count() <= 3 * (CONTEXT + LEFT_OUT.len()), "{shown}");
        }
    }
}
