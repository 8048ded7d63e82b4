//! A file of lines that several processes append to, each line whole.
//!
//! Appending holds an exclusive lock for as long as one line takes, reading a shared one; the operating
//! system releases either when a process dies. A process killed while it writes leaves at most an unfinished
//! last line, which whoever appends next removes. Lines are synchronised to disk before the lock is released.

use crate::error::{Error, Result};
use crate::files::{input, only_plain};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An open file of lines, and how far it has been read.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// How every line begins.
    beginning: &'static str,
    /// Bytes read so far; always the end of a line.
    read: u64,
}

/// A journal that no other process can append to.
pub(crate) struct Locked<'a> {
    journal: &'a mut Journal,
    /// The whole lines that came since the journal was last read.
    pub(crate) news: Vec<u8>,
}

impl Journal {
    /// Opens the file, or creates it. Nothing is read yet. Every line begins with `beginning`, so that an unfinished one can be
    /// told from somebody's text.
    ///
    /// # Errors
    /// The file cannot be written, or is a link or not a plain file.
    pub(crate) fn open(path: PathBuf, beginning: &'static str) -> Result<Self> {
        only_plain(&path)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        Ok(Journal {
            file: file.map_err(|error| Error::output(&path, error))?,
            path,
            beginning,
            read: 0,
        })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole lines that came since the last call.
    ///
    /// # Errors
    /// The file cannot be locked or read, or has become shorter.
    pub(crate) fn news(&mut self) -> Result<Vec<u8>> {
        // Without anything new there is nothing to lock for; a lock may be a message to a file server.
        let length = self
            .file
            .metadata()
            .map_err(|error| Error::reading(&self.path, error))?;
        if length.len() == self.read {
            return Ok(Vec::new());
        }
        self.file.lock_shared().map_err(|error| unlockable(&self.path, error))?;
        let news = self.read_on();
        self.unlock()?;
        let mut news = news?;
        news.truncate(whole_lines(&news));
        self.read += news.len() as u64;
        Ok(news)
    }

    /// Waits until no other process appends, and keeps it so until the guard is dropped. An unfinished last
    /// line is removed.
    ///
    /// # Errors
    /// The file cannot be locked, read or cut, or has become shorter.
    pub(crate) fn lock(&mut self) -> Result<Locked<'_>> {
        self.file.lock().map_err(|error| unlockable(&self.path, error))?;
        let mut locked = Locked {
            journal: self,
            news: Vec::new(),
        };
        locked.catch_up()?;
        Ok(locked)
    }

    fn read_on(&mut self) -> Result<Vec<u8>> {
        let fail = |error| Error::reading(&self.path, error);
        let mut file = &self.file;
        let length = file.metadata().map_err(fail)?.len();
        if length < self.read {
            let message = format!(
                "the file became shorter while it was in use: {length} bytes of {}",
                self.read
            );
            return Err(Error::input(message).at(self.path.display()));
        }
        file.seek(SeekFrom::Start(self.read)).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    fn unlock(&self) -> Result<()> {
        self.file.unlock().map_err(|error| Error::output(&self.path, error))
    }
}

impl Locked<'_> {
    fn catch_up(&mut self) -> Result<()> {
        let Locked { journal, news } = self;
        *news = journal.read_on()?;
        let whole = whole_lines(news);
        let unfinished = whole < news.len();
        if !is_begun(&news[whole..], journal.beginning) {
            let message =
                "the last line has no end, and zprune did not begin it; end it with a line break, or remove it";
            return Err(Error::input(message).at(journal.path.display()));
        }
        news.truncate(whole);
        journal.read += whole as u64;
        if unfinished {
            tracing::warn!("{}: removed an unfinished last line", journal.path.display());
            let cut = journal.file.set_len(journal.read);
            cut.map_err(|error| Error::output(&journal.path, error))?;
        }
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
            return Err(Error::output(&journal.path, error));
        }
        journal.read += line.len() as u64;
        Ok(())
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file releases the lock as well, so failing here only makes others wait longer.
        let _ = self.journal.file.unlock();
    }
}

/// The whole lines of a file that others may be appending to. Changes nothing and needs no permission to write.
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
    bytes.truncate(whole_lines(&bytes));
    Ok(bytes)
}

/// The error of a file that cannot be locked.
pub(crate) fn unlockable(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::Unsupported => {
            let message = "the file system cannot lock files, which keeps processes out of each other's way; use a results \
                           folder elsewhere, or mount it with locks (Lustre: the option `flock`)";
            Error::output(path, message)
        }
        _ => Error::output(path, format!("no lock: {error}")),
    }
}

/// Whether a killed process may have left this of a line. A loss of power may leave zeros.
fn is_begun(unfinished: &[u8], beginning: &str) -> bool {
    let beginning = beginning.as_bytes();
    unfinished.starts_with(beginning) || beginning.starts_with(unfinished) || unfinished.iter().all(|byte| *byte == 0)
}

/// Length of the part that ends with a line end.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &tempfile::TempDir) -> Journal {
        Journal::open(folder.path().join("lines"), "h").expect("a temporary folder is writable")
    }

    #[test]
    fn every_line_is_news_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut one, mut other) = (journal(&folder), journal(&folder));
        one.lock().expect("nobody holds it").append("a").expect("writable");
        assert_eq!(one.news().expect("readable"), b"", "its own line is no news");
        assert_eq!(other.news().expect("readable"), b"a\n");
        assert_eq!(other.news().expect("readable"), b"");
        one.lock().expect("nobody holds it").append("b").expect("writable");
        let locked = other.lock().expect("nobody holds it");
        assert_eq!(locked.news, b"b\n");
    }

    #[test]
    fn an_unfinished_line_is_not_news_and_is_removed_by_the_next_to_append() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "whole\nhal").expect("writable");
        let mut lines = journal(&folder);
        assert_eq!(lines.news().expect("readable"), b"whole\n");
        assert_eq!(read(&path).expect("readable"), b"whole\n");
        lines.lock().expect("nobody holds it").append("next").expect("writable");
        assert_eq!(std::fs::read(&path).expect("readable"), b"whole\nnext\n");
    }

    #[test]
    fn text_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "his first\nmy notes").expect("writable");
        let error = journal(&folder).lock().err().expect("notes are no line").to_string();
        assert!(error.contains("zprune did not begin it"), "{error}");
        assert_eq!(std::fs::read(&path).expect("readable"), b"his first\nmy notes");
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

    #[test]
    fn a_file_that_became_shorter_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "one\ntwo\n").expect("writable");
        let mut lines = journal(&folder);
        lines.news().expect("readable");
        std::fs::write(&path, "one\n").expect("writable");
        let error = lines.lock().err().expect("the file lost a line").to_string();
        assert!(
            error.contains("became shorter while it was in use: 4 bytes of 8"),
            "{error}"
        );
    }
}
