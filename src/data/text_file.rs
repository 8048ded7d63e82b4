//! Files of text as lines: gzip is unpacked, line ends are those of Python's text mode, sizes have limits.
//!
//! The papers' loaders read texts through `open(path)`, which makes `\r\n` and a lone `\r` into `\n`, so rows and
//! tokens are the same whichever system a file was written on.

use crate::error::{Error, Result};
use crate::files::input::{self, BYTE_ORDER_MARK};
use crate::memory;
use bytesize::ByteSize;
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Most bytes of text that a run holds if the system does not say how much memory is free.
const LIMIT: u64 = 8 << 30;

/// The free memory is divided by this: the text, its rows and its tokens take about as much each, and some must be
/// left.
const PARTS: u64 = 4;

/// Packed files (gzip, parquet) of more bytes than this are refused if they expand more than [`EXPANSION`] times.
/// Texts expand 2 to 20 times.
const UNSUSPICIOUS: u64 = 64 << 20;
const EXPANSION: u64 = 200;

/// Number of bytes of text that fit into the memory that is free now.
pub(super) fn limit() -> u64 {
    memory::available().map_or(LIMIT, |free| free / PARTS)
}

/// The error for a text that does not fit into memory.
pub(super) fn too_long(limit: u64) -> Error {
    Error::input(format!(
        "has more than {} of text, which is all that fits in the free memory; use a part of it",
        ByteSize(limit)
    ))
}

/// Most bytes that a packed file of `size` bytes may unpack to, if a text may have `limit` bytes.
pub(super) fn most_unpacked(size: u64, limit: u64) -> u64 {
    limit.min(UNSUSPICIOUS.max(size.saturating_mul(EXPANSION)))
}

/// The message for a packed file of `size` bytes that unpacks to more than `most` bytes.
pub(super) fn unpacks_too_far(size: u64, most: u64) -> String {
    format!("its {} unpack to more than {}", ByteSize(size), ByteSize(most))
}

/// An open text file, and its name in lower case without `.gz`.
pub(super) struct TextFile {
    reader: BufReader<Box<dyn Read>>,
    pub(super) stem: String,
}

impl TextFile {
    /// Opens a file; one whose name ends in `.gz` is unpacked while it is read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        TextFile::open_within(path, limit())
    }

    fn open_within(path: &Path, limit: u64) -> Result<Self> {
        let file = input::open(path)?;
        let size = file.metadata().map_err(|source| Error::reading(path, source))?.len();
        let name = path.to_string_lossy().to_lowercase();
        let (reader, stem): (Box<dyn Read>, &str) = match name.strip_suffix(".gz") {
            Some(stem) => (Box::new(Unpacked::new(file, size, limit)), stem),
            None if size > limit => return Err(too_long(limit).at(path.display())),
            None => (Box::new(file.take(size)), &name),
        };
        Ok(TextFile {
            reader: BufReader::with_capacity(1 << 16, reader),
            stem: stem.to_string(),
        })
    }

    /// The lines of the file, each with `\n` as its line end; the last may have none.
    pub(super) fn lines(self) -> Lines<impl BufRead> {
        Lines {
            reader: self.reader,
            rest: String::new(),
            used: 0,
            number: 0,
        }
    }
}

/// A gzip file of one or several parts, unpacked up to a limit. Zero bytes at the end, with which tapes and some
/// programs fill a block, are ignored, as gzip does.
struct Unpacked {
    /// `None` once everything has been read.
    part: Option<GzDecoder<BufReader<File>>>,
    size: u64,
    limit: u64,
    unpacked: u64,
}

impl Unpacked {
    fn new(file: File, size: u64, limit: u64) -> Self {
        Unpacked {
            part: Some(GzDecoder::new(BufReader::new(file))),
            size,
            limit,
            unpacked: 0,
        }
    }
}

/// Whether another part follows in the gzip file.
fn another(packed: &mut impl BufRead) -> io::Result<bool> {
    let mut zeros = false;
    loop {
        let bytes = packed.fill_buf()?;
        let Some(first) = bytes.first() else {
            return Ok(false);
        };
        if *first != 0 && zeros {
            return Err(io::Error::other(
                "after the packed text there are zeros and then something else; pack the text again",
            ));
        }
        if *first != 0 {
            return Ok(true);
        }
        zeros = true;
        let count = bytes.iter().take_while(|byte| **byte == 0).count();
        packed.consume(count);
    }
}

impl Unpacked {
    /// Unpacks bytes of the current part, or of the next one.
    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = &mut self.part {
            let count = part.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let ended = self.part.take().map(GzDecoder::into_inner);
            if let Some(mut packed) = ended
                && another(&mut packed)?
            {
                self.part = Some(GzDecoder::new(packed));
            }
        }
        Ok(0)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.unpack(buffer)?;
        self.unpacked += count as u64;
        let most = most_unpacked(self.size, self.limit);
        if self.unpacked > most {
            return Err(io::Error::other(format!(
                "{}; unpack the file to see whether that is a text",
                unpacks_too_far(self.size, most)
            )));
        }
        Ok(count)
    }
}

/// The lines of a text, as Python's text mode gives them.
pub(super) struct Lines<R> {
    reader: R,
    /// Text that was read up to a line feed; it holds several lines if carriage returns end some of them.
    rest: String,
    /// Number of bytes of `rest` that were returned already.
    used: usize,
    number: usize,
}

/// A line and its number, from 1.
pub(super) type Line = (usize, String);

impl<R: BufRead> Lines<R> {
    fn read(&mut self) -> Result<bool> {
        let mut bytes = Vec::new();
        let count = self
            .reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::input(format!("cannot read: {source}")).caused_by(source))?;
        let first = self.number == 0;
        if first && input::seems_utf16(&bytes) {
            return Err(Error::input(input::not_utf8(&[0xff, 0xfe])));
        }
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let bytes = error.as_bytes();
            let before = &bytes[..error.utf8_error().valid_up_to()];
            self.number += before.iter().filter(|byte| **byte == b'\r').count();
            Error::input(input::not_utf8(if first { bytes } else { &[] }))
        })?;
        if first && text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        if text.contains('\r') {
            text = text.replace("\r\n", "\n").replace('\r', "\n");
        }
        (self.rest, self.used) = (text, 0);
        Ok(count > 0)
    }

    fn next_line(&mut self) -> Result<Option<Line>> {
        if self.used == self.rest.len() && !self.read()? {
            return Ok(None);
        }
        self.number += 1;
        let rest = &self.rest[self.used..];
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        if length == self.rest.len() {
            self.used = 0;
            return Ok(Some((self.number, std::mem::take(&mut self.rest))));
        }
        self.used += length;
        Ok(Some((self.number, rest[..length].to_string())))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        self.next_line()
            .map_err(|error| error.at(format_args!("line {}", self.number + 1)))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(bytes: &[u8]) -> Result<Vec<String>> {
        let lines = Lines {
            reader: bytes,
            rest: String::new(),
            used: 0,
            number: 0,
        };
        lines.map(|line| line.map(|(_, text)| text)).collect()
    }

    #[test]
    fn line_ends_are_those_of_pythons_text_mode() {
        let golden = include_str!("../../tests/golden/universal_newlines.json");
        let golden: Vec<(String, Vec<String>)> = serde_json::from_str(golden).expect("golden file is JSON");
        assert!(golden.len() > 300, "{} cases", golden.len());
        for (text, want) in golden {
            assert_eq!(lines(text.as_bytes()).expect("UTF-8"), want, "{text:?}");
        }
    }

    #[test]
    fn lines_are_numbered_whatever_ends_them() {
        let error = lines(b"one\rtwo\r\nthree\nfour\rfive \xe9")
            .expect_err("not UTF-8")
            .to_string();
        assert!(error.starts_with("line 5: not valid UTF-8; save it"), "{error}");
    }

    #[test]
    fn what_other_systems_write_is_named() {
        assert_eq!(lines(b"\xef\xbb\xbfa\nb").expect("UTF-8"), ["a\n", "b"]);
        for wide in [
            &b"\xff\xfea\0b\0\n\0"[..],
            b"\xfe\xff\0a\0b\0\n",
            b"a\0b\0c\0d\0\n\0",
            b"\0a\0b\0c\0d\0\n",
        ] {
            let error = lines(wide).expect_err("UTF-16").to_string();
            assert!(error.starts_with("line 1: text in UTF-16, not in UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_text_that_does_not_fit_in_memory_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.txt");
        std::fs::write(&path, "eleven byte").expect("writable");
        TextFile::open_within(&path, 11).expect("it fits");
        let error = TextFile::open_within(&path, 10).err().expect("too long").to_string();
        assert!(error.contains("x.txt: has more than 10 B of text"), "{error}");
        let packed = folder.path().join("x.txt.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"eleven byte").expect("in memory");
        std::fs::write(&packed, encoder.finish().expect("in memory")).expect("writable");
        let read = |limit| {
            TextFile::open_within(&packed, limit)
                .expect("a file")
                .lines()
                .collect::<Result<Vec<_>>>()
        };
        read(11).expect("it fits");
        let error = read(10).expect_err("too long").to_string();
        assert!(error.contains("unpack to more than 10 B"), "{error}");
    }

    #[test]
    fn gzip_in_parts_and_with_zeros_behind_is_unpacked() {
        let pack = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).expect("in memory");
            encoder.finish().expect("in memory")
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.txt.gz");
        let read = |bytes: Vec<u8>| -> Result<String> {
            std::fs::write(&path, bytes).expect("writable");
            let lines = TextFile::open(&path).expect("a file").lines();
            lines.map(|line| line.map(|(_, text)| text)).collect()
        };
        let two = [pack("one\ntw"), pack(""), pack("o\n")].concat();
        assert_eq!(read(two.clone()).expect("two parts"), "one\ntwo\n");
        for zeros in [1, 511, 1 << 17] {
            assert_eq!(read([&two[..], &vec![0; zeros]].concat()).expect("zeros"), "one\ntwo\n");
        }
        for (bytes, expect) in [
            ([&two[..], b"garbage behind it"].concat(), "invalid gzip header"),
            (
                [&two[..], &[0; 9], &pack("x")].concat(),
                "zeros and then something else",
            ),
            (two[..two.len() - 1].to_vec(), "cannot read: "),
            (Vec::new(), "cannot read: "),
        ] {
            let error = read(bytes).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn gzip_that_expands_beyond_all_texts_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.txt.gz");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let line = [b'a'; 1 << 16];
        for _ in 0..1200 {
            packed.write_all(&line).expect("in memory");
        }
        std::fs::write(&path, packed.finish().expect("in memory")).expect("writable");
        let file = TextFile::open(&path).expect("a file");
        let error = file
            .lines()
            .collect::<Result<Vec<_>>>()
            .expect_err("a bomb")
            .to_string();
        assert!(error.contains("unpack to more than 64.0 MiB"), "{error}");
    }
}
