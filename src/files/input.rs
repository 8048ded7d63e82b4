//! Input files: only regular files are opened, and what is read whole has a limit.
//!
//! A named pipe would make a run wait for ever, a device never end, and both give other bytes the second time (an
//! input is hashed and read). So the kind of a file is looked at before it is opened.

use crate::error::{Error, Result};
use bytesize::ByteSize;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

/// Size limit for configurations, experiments, indices and references, in bytes: the largest known is about a
/// megabyte.
pub const SMALL: u64 = 64 << 20;

/// Size limit for tokenizers, in bytes: the largest known have about 35 MB.
pub const TOKENIZER: u64 = 512 << 20;

/// Opens a regular file.
///
/// # Errors
/// It is missing, cannot be read, or is a folder, a named pipe, a socket or a device.
pub fn open(path: &Path) -> Result<File> {
    let reading = |source| Error::reading(path, source);
    regular(path, &std::fs::metadata(path).map_err(reading)?)?;
    let file = File::open(path).map_err(reading)?;
    // Another file may have been put in its place meanwhile.
    regular(path, &file.metadata().map_err(reading)?)?;
    Ok(file)
}

/// Reads all of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and the file is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata().map_err(|source| Error::reading(path, source))?.len();
    if size > limit {
        return Err(too_large(path, size, limit));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows, and one of the system's that says it is empty, are read no further either.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::reading(path, source))?;
    match bytes.len() as u64 > limit {
        true => Err(too_large(path, bytes.len() as u64, limit)),
        false => Ok(bytes),
    }
}

/// Reads all of a regular file of UTF-8 text. A byte order mark is left out.
///
/// # Errors
/// As [`read`], and the file is not UTF-8; with its line.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    text(read(path, limit)?).map_err(|error| error.at(path.display()))
}

/// As [`read_text`]; `None` if there is no such file.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_if_there(path: &Path, limit: u64) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read_text(path, limit).map(Some),
    }
}

/// Converts bytes to text without a byte order mark.
///
/// # Errors
/// They are not UTF-8; with the line.
pub fn text(bytes: Vec<u8>) -> Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let before = &bytes[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::input(not_utf8(bytes)).at(format_args!("line {line}"))
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

/// The character that some editors write before UTF-8 text.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The message for bytes at the start of a file that are not UTF-8; it names the encoding that they seem to have.
pub fn not_utf8(start: &[u8]) -> String {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => encoded("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => encoded("UTF-16"),
        _ => "not valid UTF-8; save it in this encoding, or convert it: `iconv -f ISO-8859-1 -t UTF-8`".to_string(),
    }
}

/// Whether bytes at the start of a file seem to be Latin letters in UTF-16 without a byte order mark: every other
/// byte is zero.
pub fn seems_utf16(start: &[u8]) -> bool {
    let pairs = start.as_chunks::<2>().0;
    let some = &pairs[..pairs.len().min(32)];
    let zeros = |at: usize| {
        some.iter()
            .all(|pair| (pair[at] == 0) != (pair[1 - at] == 0) && pair[at] == 0)
    };
    some.len() >= 2 && (zeros(0) || zeros(1))
}

fn encoded(name: &str) -> String {
    format!("text in {name}, not in UTF-8; convert it: `iconv -f {name} -t UTF-8`")
}

fn too_large(path: &Path, size: u64, limit: u64) -> Error {
    let (size, limit) = (ByteSize(size), ByteSize(limit));
    Error::input(format!("has {size} or more; files of its kind are read up to {limit}")).at(path.display())
}

fn regular(path: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(Error::input(format!("is a folder; a file is needed here{}", inside(path))).at(path.display()));
    }
    let what = special(kind);
    Err(Error::input(format!(
        "is {what}; inputs are read more than once, so only a file can be used: write its content to a file first"
    ))
    .at(path.display()))
}

/// Names of the first files of a folder, for the message about it.
fn inside(folder: &Path) -> String {
    const SHOWN: usize = 4;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut names: Vec<String> = files
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    names.truncate(SHOWN);
    match &names[..] {
        [] => String::new(),
        names => format!(", such as one of those in it: {}{more}", names.join(", ")),
    }
}

#[cfg(unix)]
fn special(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: std::fs::FileType) -> &'static str {
    "no regular file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x");
        std::fs::write(&path, "four").expect("writable");
        assert_eq!(read(&path, 4).expect("of that size"), b"four");
        let error = read(&path, 3).expect_err("too large").to_string();
        assert!(
            error.contains("x: has 4 B or more; files of its kind are read up to 3 B"),
            "{error}"
        );
        let error = open(folder.path()).expect_err("a folder").to_string();
        assert!(error.contains("is a folder"), "{error}");
        assert!(
            read_text_if_there(&folder.path().join("y"), 1)
                .expect("nothing there")
                .is_none()
        );
        #[cfg(unix)]
        for (path, what) in [("/dev/zero", "is a device"), ("/dev/null", "is a device")] {
            let error = open(Path::new(path)).expect_err("a device").to_string();
            assert!(error.starts_with(path) && error.contains(what), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo is there").success());
        let error = read(&path, 10).expect_err("a pipe").to_string();
        assert!(
            error.contains("pipe: is a pipe; inputs are read more than once"),
            "{error}"
        );
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let error = open(&socket).expect_err("a socket").to_string();
        assert!(error.contains("is a socket"), "{error}");
    }

    #[test]
    fn texts_lose_their_mark_and_other_encodings_are_named() {
        assert_eq!(text(b"\xef\xbb\xbfa".to_vec()).expect("UTF-8"), "a");
        let error = text(b"\xff\xfea\0".to_vec()).expect_err("UTF-16").to_string();
        assert!(error.contains("UTF-16"), "{error}");
        let error = text(b"a\nb\xe9".to_vec()).expect_err("Latin-1").to_string();
        assert!(error.starts_with("line 2: not valid UTF-8; save it"), "{error}");
    }
}
