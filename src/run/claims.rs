//! Claims: which process is at which cell, so that several may work on one results folder.
//!
//! A claim is a lock on `claims/<id>.lock`. The operating system releases it when its process ends, however that
//! happens, so a cell whose process was killed is free at once. The file is removed only when its cell has a
//! good record: whoever locks a file that is gone from its place, or makes it anew, finds that record and
//! leaves the cell alone.

use crate::error::{Error, Result};
use crate::files::{create_folders, no_links, only_plain};
use crate::record::journal::unlockable;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The text that the note in a lock file begins with.
const NOTE: &str = "process ";

/// How often a lock file is made again because others removed the folder of the last one.
const ATTEMPTS: usize = 100;

/// The claims of a results folder.
pub(crate) struct Claims {
    folder: PathBuf,
}

/// A cell that no other process will run while this lives.
pub(crate) struct Claim {
    path: PathBuf,
    _locked: File,
}

impl Claims {
    /// The claims of the results folder `results`.
    pub(crate) fn of(results: &Path) -> Claims {
        Claims {
            folder: results.join("claims"),
        }
    }

    /// Refuses a path that leads out of the results folder.
    fn own(&self, path: &Path) -> Result<()> {
        let results = self.folder.parent().unwrap_or(Path::new(""));
        no_links(results, path.strip_prefix(results).unwrap_or(path))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.lock"))
    }

    /// Claims a cell; `None` if another process has claimed it.
    ///
    /// # Errors
    /// The folder cannot be written, or its file system has no locks.
    pub(crate) fn take(&self, id: &str) -> Result<Option<Claim>> {
        let path = self.path(id);
        self.own(&path)?;
        only_plain(&path)?;
        let mut file = self.open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(unlockable(&path, error)),
        }
        let mut note = String::new();
        let read = file.read_to_string(&mut note);
        if read.is_err() || !is_note(&note) {
            return Err(Error::output(&path, "zprune did not write it; rename or remove it"));
        }
        // For people who wonder; nothing reads it, and an old note is as good as none.
        let _ = file.set_len(0).and_then(|()| {
            let host = gethostname::gethostname();
            file.rewind()?;
            writeln!(file, "{NOTE}{} on {}", std::process::id(), host.to_string_lossy())
        });
        Ok(Some(Claim { path, _locked: file }))
    }

    fn open(&self, path: &Path) -> Result<File> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            create_folders(&self.folder)?;
            match OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
            {
                Ok(file) => return Ok(file),
                // Another process has just removed the empty folder.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => last = Some(error),
                Err(error) => return Err(Error::output(path, error)),
            }
        }
        let error = last.expect("every attempt failed");
        Err(Error::output(path, error))
    }

    /// Whether a living process has claimed a cell.
    pub(crate) fn held(&self, id: &str) -> bool {
        let path = self.path(id);
        let file = only_plain(&path).ok().and_then(|()| File::open(path).ok());
        file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Removes what processes that were killed between a record and its claim have left, and the folder if no claim is
    /// left in it. `done` says whether a cell has a good record.
    pub(crate) fn tidy(&self, done: impl Fn(&str) -> bool) {
        if self.own(&self.folder).is_err() {
            return;
        }
        // A lock file that cannot be removed does no harm: nobody holds it.
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            if id.is_some_and(&done) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Whether a file holds the note of a claim, or what a loss of power has left of one: its beginning, or zeros.
fn is_note(text: &str) -> bool {
    text.starts_with(NOTE) || NOTE.starts_with(text) || text.bytes().all(|byte| byte == 0)
}

impl Claim {
    /// Gives up the claim of a cell that has a good record.
    pub(crate) fn settled(self) {
        // A file that stays does no harm: its cell is never run again. Behind a link it would be somebody else's.
        if self.path.parent().is_some_and(|folder| !folder.is_symlink()) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_claimed_once_until_its_claim_is_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let claims = Claims::of(folder.path());
        assert!(!claims.held("a"));
        let claim = claims.take("a").expect("writable").expect("nobody is at it");
        assert!(claims.held("a"));
        assert!(claims.take("a").expect("writable").is_none());
        assert!(claims.take("b").expect("writable").is_some());
        drop(claim);
        assert!(!claims.held("a"));
        claims.take("a").expect("writable").expect("it was given up").settled();
        claims.take("b").expect("writable").expect("it was given up").settled();
        claims.tidy(|_| false);
        assert!(!folder.path().join("claims").exists());
    }

    #[test]
    fn only_claims_of_recorded_cells_are_tidied_away() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let claims = Claims::of(folder.path());
        for id in ["recorded", "interrupted"] {
            drop(claims.take(id).expect("writable").expect("nobody is at it"));
        }
        claims.tidy(|id| id == "recorded");
        assert!(!claims.path("recorded").exists() && claims.path("interrupted").exists());
    }

    #[test]
    fn a_note_cut_short_by_a_loss_of_power_is_no_obstacle_and_a_strange_file_is_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let claims = Claims::of(folder.path());
        std::fs::create_dir(folder.path().join("claims")).expect("writable");
        for left in ["", "proc", "process 12", "\0\0\0\0"] {
            std::fs::write(claims.path("a"), left).expect("writable");
            assert!(claims.take("a").expect("it is a claim").is_some(), "{left:?}");
        }
        std::fs::write(claims.path("a"), "my notes").expect("writable");
        assert!(claims.take("a").is_err());
        assert_eq!(std::fs::read(claims.path("a")).expect("readable"), b"my notes");
    }
}
