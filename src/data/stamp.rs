//! Which file a path leads to, and in what state: what tells a file from another at its place, and from itself after it was written to.

use crate::error::{Error, Result};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file's state, as far as the system tells without reading it. Times are only as fine as the system's clock
/// (milliseconds, as a rule), so two writes within one step look the same. Only a hash tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    place: Place,
    length: u64,
    modified: Option<SystemTime>,
    /// Time of the last change to the file or its properties, in seconds and nanoseconds; nobody can set it back.
    changed: Option<(i64, i64)>,
}

/// Device and inode; on systems other than Unix, the time at which the file was created.
#[cfg(unix)]
type Place = (u64, u64);
#[cfg(not(unix))]
type Place = Option<SystemTime>;

impl Stamp {
    /// The state of an open file.
    ///
    /// # Errors
    /// As the system's.
    pub fn of(file: &File) -> std::io::Result<Stamp> {
        file.metadata().map(|metadata| Stamp::new(&metadata))
    }

    /// The state of the file at a path; links are followed.
    ///
    /// # Errors
    /// As the system's, when there is none or it cannot be looked at.
    pub fn at(path: &Path) -> std::io::Result<Stamp> {
        std::fs::metadata(path).map(|metadata| Stamp::new(&metadata))
    }

    /// The state of what is at a path; if it is a link, that of the link itself.
    ///
    /// # Errors
    /// As [`Stamp::at`].
    pub fn in_place(path: &Path) -> std::io::Result<Stamp> {
        std::fs::symlink_metadata(path).map(|metadata| Stamp::new(&metadata))
    }

    #[cfg(unix)]
    fn new(metadata: &Metadata) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        Stamp {
            place: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed: Some((metadata.ctime(), metadata.ctime_nsec())),
        }
    }

    #[cfg(not(unix))]
    fn new(metadata: &Metadata) -> Stamp {
        Stamp {
            place: metadata.created().ok(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed: None,
        }
    }

    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether both stamps are of the same file, whatever its state.
    pub fn same_file(&self, other: &Stamp) -> bool {
        self.place == other.place
    }
}

/// A file that must not change while it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFile {
    path: PathBuf,
    stamp: Stamp,
}

impl WatchedFile {
    /// Records the file's state. Must be called before the file is read.
    ///
    /// # Errors
    /// There is no such file.
    pub fn new(path: &Path) -> Result<WatchedFile> {
        Ok(WatchedFile {
            path: path.to_path_buf(),
            stamp: Stamp::at(path).map_err(|error| Error::reading(path, error))?,
        })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that it is still the same file with the same length. If only its times differ, its present state is
    /// returned: the file was renamed, got other permissions or was written to, and only a hash tells which.
    ///
    /// # Errors
    /// Names the file and says what became of it.
    pub fn check(&self) -> Result<Option<Stamp>> {
        let (old, what) = (&self.stamp, Stamp::at(&self.path));
        let what = match what {
            Ok(new) if new == *old => return Ok(None),
            Ok(new) if !new.same_file(old) => "was replaced by another file".to_string(),
            Ok(new) if new.length < old.length => format!("was cut from {} to {} bytes", old.length, new.length),
            Ok(new) if new.length > old.length => format!("grew from {} to {} bytes", old.length, new.length),
            Ok(new) => return Ok(Some(new)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was removed".to_string(),
            Err(error) => format!("cannot be read any more: {error}"),
        };
        let message = format!("the file {what} while it was in use; start again when nothing writes to it any more");
        Err(Error::input(message).at(self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        let write = |content: &str| std::fs::write(&path, content).expect("writable");
        let cases: [(&str, &dyn Fn()); 4] = [
            ("was cut from 4 to 3 bytes", &|| write("one")),
            ("grew from 4 to 5 bytes", &|| write("three")),
            ("was replaced by another file", &|| {
                let other = folder.path().join("other");
                std::fs::write(&other, "four").expect("writable");
                std::fs::rename(&other, &path).expect("one folder");
            }),
            ("was removed", &|| std::fs::remove_file(&path).expect("it is there")),
        ];
        for (what, change) in cases {
            write("four");
            let watched = WatchedFile::new(&path).expect("it is there");
            assert_eq!(watched.check().expect("nothing happened yet"), None);
            change();
            let error = watched.check().expect_err(what).to_string();
            assert!(error.contains(what) && error.contains("weights: "), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_leaves_the_size_is_seen_by_its_times() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        let ways: [&dyn Fn(); 3] = [
            &|| std::fs::write(&path, "five").expect("writable"),
            &|| std::fs::hard_link(&path, folder.path().join("other name")).expect("one folder"),
            &|| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours"),
        ];
        std::fs::write(&path, "four").expect("writable");
        for change in ways {
            let watched = WatchedFile::new(&path).expect("it is there");
            // Within one step of the clock a second change leaves no trace.
            std::thread::sleep(std::time::Duration::from_millis(50));
            change();
            let stamp = watched.check().expect("the same file");
            assert_eq!(stamp, Some(Stamp::at(&path).expect("it is there")));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_time_that_was_set_back_does_not_hide_a_write() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        std::fs::write(&path, "four").expect("writable");
        let before = std::fs::metadata(&path).and_then(|it| it.modified()).expect("a time");
        let watched = WatchedFile::new(&path).expect("it is there");
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&path, "five").expect("writable");
        let file = File::options().write(true).open(&path).expect("writable");
        file.set_modified(before).expect("a file's owner sets its times");
        assert!(watched.check().expect("the same file").is_some());
    }
}
