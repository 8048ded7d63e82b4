//! A file of lines that several processes append to, each line whole.
//!
//! Appending holds an exclusive lock for as long as one line takes, reading a shared one; the operating
//! system releases either when a process dies. A process killed while it writes leaves at most an unfinished
//! last line, which whoever appends next removes. Lines are synchronised to disk before the lock is released.
//!
//! An editor, `sed -i`, or `cp` and `mv` put another file in the place of the one that is open, or write it anew: what is
//! appended to the old one is lost. So before every line the open file is held against its path, and its last known bytes
//! against what is there. The new file is read from its beginning, and whoever owns the journal appends what it lacks; a file
//! that is gone is put back.

use crate::data::stamp::Stamp;
use crate::error::{Error, Result};
use crate::files::{create_whole, input, only_plain, sync_parent};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of bytes at the end of what was read that are compared with the file, to see whether it is still the same.
const TAIL: usize = 4096;

/// How often a file is read again because another program is still replacing it.
const ATTEMPTS: usize = 100;

/// How long a replaced file must stay unchanged before it is read: the other program does not use our locks.
const PAUSE: Duration = Duration::from_millis(200);

/// An open file of lines to which several processes append, and how far it has been read.
pub(crate) struct Journal {
    path: PathBuf,
    /// The text that every line begins with.
    beginning: &'static str,
    file: File,
    /// Number of bytes read so far; always at the end of a line.
    read: u64,
    /// The last bytes that were read, up to [`TAIL`] of them.
    tail: Vec<u8>,
    /// Whether the file must be read again from its beginning.
    anew: bool,
}

/// A locked journal: no other process can append to it.
pub(crate) struct Locked<'a> {
    journal: &'a mut Journal,
    /// The whole lines that were added since the journal was last read; if `anew` is set, all lines.
    pub(crate) news: Vec<u8>,
    /// Whether `news` replaces everything read before: the file is another one, was rewritten, or was
    /// [rewound](Journal::rewind).
    pub(crate) anew: bool,
}

impl Journal {
    /// Opens the file, or creates it. Nothing is read yet. Every line begins with `beginning`, so that an unfinished one can be
    /// told from somebody's text.
    ///
    /// # Errors
    /// The file cannot be written, or is a link or not a plain file.
    pub(crate) fn open(path: PathBuf, beginning: &'static str) -> Result<Self> {
        Ok(Journal {
            file: opened(&path)?,
            path,
            beginning,
            read: 0,
            tail: Vec::new(),
            anew: false,
        })
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is in its place and as long as when it was last read. Then it need not be locked; a lock may
    /// be a message to a file server.
    pub(crate) fn is_current(&self) -> bool {
        let at_path = Stamp::in_place(&self.path);
        let open = Stamp::of(&self.file);
        let same = |at_path: Stamp, open: Stamp| at_path.same_file(&open) && open.length() == self.read;
        !self.anew && at_path.is_ok_and(|at_path| open.is_ok_and(|open| same(at_path, open)))
    }

    /// Forgets what was read, so that the next lock returns all lines as news.
    pub(crate) fn rewind(&mut self) {
        self.read = 0;
        self.tail.clear();
        self.anew = true;
    }

    /// Waits until no other process appends, and prevents it until the guard is dropped. An unfinished last line is
    /// removed.
    ///
    /// # Errors
    /// The file cannot be locked, read or cut, cannot be put back where it was removed, or ends in something that is
    /// not ours.
    pub(crate) fn lock(&mut self) -> Result<Locked<'_>> {
        let mut replaced = false;
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            self.file.lock().map_err(|error| unlockable(&self.path, error))?;
            if !self.is_in_place()? {
                replaced = true;
                self.reopen()?;
                continue;
            }
            if !self.continues()? {
                replaced = true;
                self.rewind();
            }
            if replaced {
                let stamp = Stamp::of(&self.file).map_err(|error| Error::reading(&self.path, error))?;
                if seen.as_ref() != Some(&stamp) {
                    seen = Some(stamp);
                    self.file.unlock().map_err(|error| Error::writing(&self.path, error))?;
                    std::thread::sleep(PAUSE);
                    continue;
                }
            }
            let mut locked = Locked {
                anew: std::mem::take(&mut self.anew),
                journal: self,
                news: Vec::new(),
            };
            locked.catch_up()?;
            return Ok(locked);
        }
        let message = "another program replaces the file again and again; stop it, and run again";
        Err(Error::output(&self.path, message))
    }

    /// Whether the bytes that were read last are still at their place: not so if the file was cut or rewritten.
    fn continues(&self) -> Result<bool> {
        let known = self.tail.len() as u64;
        let mut found = Vec::new();
        let fail = |error| Error::reading(&self.path, error);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.read - known)).map_err(fail)?;
        file.take(known).read_to_end(&mut found).map_err(fail)?;
        Ok(found == self.tail)
    }

    /// Whether the open file is the one at its path. A link to it is not.
    fn is_in_place(&self) -> Result<bool> {
        let fail = |error| Error::reading(&self.path, error);
        let open = Stamp::of(&self.file).map_err(fail)?;
        match Stamp::in_place(&self.path) {
            Ok(at_path) => Ok(at_path.same_file(&open)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    /// Opens the file that is at the path now. If there is none, the file that was removed is put back first.
    fn reopen(&mut self) -> Result<()> {
        if !self.path.exists() {
            let mut bytes = self.from(0)?;
            bytes.truncate(whole_lines(&bytes));
            // If it is there by now, another process, or the one that removed it, was faster.
            if create_whole(&self.path, &bytes)? {
                tracing::warn!(
                    "{}: was removed while it was in use, and is put back",
                    self.path.display()
                );
            }
        }
        // The lock of the old file goes with it.
        self.file = opened(&self.path)?;
        self.rewind();
        Ok(())
    }

    /// The bytes of the open file from position `place` on.
    fn from(&self, place: u64) -> Result<Vec<u8>> {
        let fail = |error| Error::reading(&self.path, error);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place)).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// Records that these whole lines, which were read or written, are known now.
    fn know(&mut self, lines: &[u8]) {
        self.read += lines.len() as u64;
        self.tail.extend_from_slice(&lines[lines.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

/// Opens the file at a path for reading and appending.
fn opened(path: &Path) -> Result<File> {
    only_plain(path)?;
    let fail = |error| Error::writing(path, error);
    let new = !path.exists();
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(fail)?;
    if new {
        sync_parent(path)?;
    }
    Ok(file)
}

impl Locked<'_> {
    fn catch_up(&mut self) -> Result<()> {
        let journal = &mut *self.journal;
        let mut bytes = journal.from(journal.read)?;
        let mut rest = bytes.split_off(whole_lines(&bytes));
        // Only ours: nothing is written into a file of others.
        if rest.starts_with(journal.beginning.as_bytes()) && is_whole(&rest) {
            let mut file = &journal.file;
            let ended = file.write_all(b"\n").and_then(|()| file.sync_data());
            ended.map_err(|error| Error::writing(&journal.path, error))?;
            bytes.append(&mut rest);
            bytes.push(b'\n');
        }
        if !rest.is_empty() {
            if !is_begun(&rest, journal.beginning) {
                let message = "the last line does not end with a line break, and zprune did not begin it; add the line break, or remove \
                               the line";
                return Err(Error::input(message).at(journal.path.display()));
            }
            tracing::warn!("{}: removed an unfinished last line", journal.path.display());
            let cut = journal.file.set_len(journal.read + bytes.len() as u64);
            cut.map_err(|error| Error::writing(&journal.path, error))?;
        }
        journal.know(&bytes);
        self.news = bytes;
        Ok(())
    }

    /// Appends a line and waits until it is on disk.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the file is cut back to whole lines.
    pub(crate) fn append(&mut self, line: &str) -> Result<()> {
        let journal = &mut *self.journal;
        let mut file = &journal.file;
        let line = format!("{line}\n");
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_data()) {
            // Best effort: a partial line that cannot be removed now is removed by whoever appends next.
            let _ = file.set_len(journal.read);
            return Err(Error::writing(&journal.path, error));
        }
        journal.know(line.as_bytes());
        Ok(())
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file releases the lock as well, so failing here only makes others wait longer.
        let _ = self.journal.file.unlock();
    }
}

/// The whole lines of a file to which others may be appending; the last one may lack its line end. Changes nothing
/// and needs no permission to write.
///
/// # Errors
/// The file is missing or cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = |error| Error::reading(path, error);
    let mut file = input::open(path)?;
    // Best effort: where files cannot be locked, only a line that is being replaced could be read wrongly.
    let _ = file.lock_shared();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fail)?;
    let whole = whole_lines(&bytes);
    if !is_whole(&bytes[whole..]) {
        bytes.truncate(whole);
    }
    Ok(bytes)
}

/// The error of a file that cannot be locked.
pub(crate) fn unlockable(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::Unsupported => {
            let message = "the file system cannot lock files, and processes need locks to share the work; use a results folder elsewhere, \
                           or mount the file system with locks (Lustre: the option `flock`)";
            Error::output(path, message)
        }
        _ => Error::output(path, format!("no lock: {error}")),
    }
}

/// Whether the last line lacks only its line end: an editor or a power failure may have removed just that.
fn is_whole(line: &[u8]) -> bool {
    line.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

/// Whether a killed process may have left this part of a line. A power failure may leave zeros.
fn is_begun(unfinished: &[u8], beginning: &str) -> bool {
    let beginning = beginning.as_bytes();
    unfinished.starts_with(beginning) || beginning.starts_with(unfinished) || unfinished.iter().all(|byte| *byte == 0)
}

/// Length in bytes of the part that consists of whole lines.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &tempfile::TempDir) -> Journal {
        Journal::open(folder.path().join("lines"), "h").expect("a temporary folder is writable")
    }

    fn append(journal: &mut Journal, line: &str) {
        journal.lock().expect("nobody holds it").append(line).expect("writable");
    }

    /// The new lines, and whether they come from another file.
    fn news(journal: &mut Journal) -> (String, bool) {
        let locked = journal.lock().expect("nobody holds it");
        (String::from_utf8_lossy(&locked.news).into_owned(), locked.anew)
    }

    fn content(folder: &tempfile::TempDir) -> String {
        std::fs::read_to_string(folder.path().join("lines")).expect("readable")
    }

    #[test]
    fn every_line_is_news_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut one, mut other) = (journal(&folder), journal(&folder));
        append(&mut one, "a");
        assert!(one.is_current() && !other.is_current(), "its own line is no news");
        assert_eq!(news(&mut one), (String::new(), false));
        assert_eq!(news(&mut other), ("a\n".to_string(), false));
        assert!(other.is_current());
        append(&mut one, "b");
        assert_eq!(news(&mut other), ("b\n".to_string(), false));
    }

    #[test]
    fn a_last_line_that_lacks_only_its_end_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "{\"a\":1}\n{\"a\":2}").expect("writable");
        assert_eq!(read(&path).expect("readable"), b"{\"a\":1}\n{\"a\":2}");
        let mut lines = Journal::open(path, "{\"a\"").expect("a temporary folder is writable");
        append(&mut lines, "{}");
        assert_eq!(content(&folder), "{\"a\":1}\n{\"a\":2}\n{}\n");
    }

    #[test]
    fn an_unfinished_line_is_not_news_and_is_removed_by_the_next_to_append() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "whole\nhal").expect("writable");
        assert_eq!(read(&path).expect("readable"), b"whole\n");
        let mut lines = journal(&folder);
        assert_eq!(news(&mut lines), ("whole\n".to_string(), false));
        append(&mut lines, "next");
        assert_eq!(content(&folder), "whole\nnext\n");
    }

    #[test]
    fn text_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        for text in ["my notes", "his first\nmy notes"] {
            std::fs::write(&path, text).expect("writable");
            let error = journal(&folder).lock().err().expect("notes are no line").to_string();
            assert!(error.contains("zprune did not begin it"), "{error}");
            assert_eq!(content(&folder), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let notes = folder.path().join("notes");
        std::fs::write(&notes, "hal").expect("writable");
        std::os::unix::fs::symlink(&notes, folder.path().join("lines")).expect("writable");
        assert!(Journal::open(folder.path().join("lines"), "h").is_err());
        assert_eq!(std::fs::read(&notes).expect("readable"), b"hal");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_takes_the_files_place_is_not_followed_either() {
        for target in ["moved", "notes", "nothing"] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let at = |name: &str| folder.path().join(name);
            std::fs::write(at("notes"), "mine\n").expect("writable");
            let mut lines = journal(&folder);
            append(&mut lines, "one");
            std::fs::rename(at("lines"), at("moved")).expect("one folder");
            std::os::unix::fs::symlink(at(target), at("lines")).expect("writable");
            assert!(!lines.is_current(), "{target}");
            let error = lines.lock().err().expect("a link").to_string();
            assert!(error.contains("lines: cannot write: it is a link"), "{target}: {error}");
            assert_eq!(std::fs::read(at("moved")).expect("readable"), b"one\n");
            assert_eq!(std::fs::read(at("notes")).expect("readable"), b"mine\n");
            assert!(!at("nothing").exists());
        }
    }

    #[test]
    fn a_file_that_was_replaced_or_written_anew_is_read_from_its_beginning() {
        let ways: [fn(&Path, &str); 2] = [
            |path, text| {
                let other = path.with_extension("new");
                std::fs::write(&other, text).expect("writable");
                std::fs::rename(&other, path).expect("one folder");
            },
            |path, text| std::fs::write(path, text).expect("writable"),
        ];
        for way in ways {
            for text in ["", "one\n", "two\none\n", "one\ntwo\nthree\n".repeat(1000).as_str()] {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let mut lines = journal(&folder);
                append(&mut lines, "one");
                append(&mut lines, "deux");
                way(&folder.path().join("lines"), text);
                assert!(!lines.is_current());
                assert_eq!(news(&mut lines), (text.to_string(), true));
                append(&mut lines, "last");
                assert_eq!(content(&folder), format!("{text}last\n"));
            }
        }
    }

    #[test]
    fn a_file_that_was_removed_is_put_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut one, mut other) = (journal(&folder), journal(&folder));
        append(&mut one, "one");
        append(&mut other, "other");
        std::fs::remove_file(folder.path().join("lines")).expect("it is there");
        append(&mut one, "two");
        assert_eq!(news(&mut other), ("one\nother\ntwo\n".to_string(), true));
        assert_eq!(content(&folder), "one\nother\ntwo\n");
        let files = std::fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left in the folder");
    }
}
