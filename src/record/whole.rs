//! Files that appear whole or not at all, and what is left of them when their writer is killed.
//!
//! A writer locks its temporary file, so that a temporary file that is not locked has no writer any more.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// How often a file is written again because its temporary file was taken for a dead process's.
const ATTEMPTS: usize = 5;

/// Writes a file under a temporary name beside its place, then renames it: readers see the old content
/// or the new, never a part.
///
/// # Errors
/// The folder cannot be written to.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let fail = |error: std::io::Error| Error::output(path, error);
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(fail)?;
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    for _ in 1..ATTEMPTS {
        match temporary(path, content).map_err(fail)?.persist(path) {
            // Between its creation and its lock, another process removed it as left over.
            Err(error) if error.error.kind() == std::io::ErrorKind::NotFound => {}
            done => return done.map(drop).map_err(|error| fail(error.error)),
        }
    }
    let last = temporary(path, content).map_err(fail)?.persist(path);
    last.map(drop).map_err(|error| fail(error.error))
}

/// A temporary file beside `path` with this content, on disk.
fn temporary(path: &Path, content: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .suffix(".tmp")
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    // Where files cannot be locked, runs are refused elsewhere; reports of finished ones still can be written.
    let _ = file.as_file().lock();
    file.write_all(content)?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable)?;
    }
    Ok(file)
}

/// Removes the temporary files of [`write_whole`] in a folder whose writers are dead.
pub fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".tmp")
            && name.ends_with(".tmp")
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            // A file that cannot be removed does no harm; the next run tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_without_a_writer_are_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.md");
        let living = temporary(&path, b"a table").expect("writable");
        std::fs::write(folder.path().join(".tmpdead.tmp"), "half a ta").expect("writable");
        std::fs::write(folder.path().join("notes.tmp"), "the user's own").expect("writable");
        remove_unfinished(folder.path());
        assert!(living.path().exists());
        assert!(!folder.path().join(".tmpdead.tmp").exists());
        assert!(folder.path().join("notes.tmp").exists());
        living.persist(&path).expect("it is still there");
        assert_eq!(std::fs::read(&path).expect("readable"), b"a table");
    }

    #[test]
    fn a_file_is_written_while_others_clean_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.md");
        std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| (0..2000).for_each(|_| remove_unfinished(folder.path())));
            for round in 0..50 {
                write_whole(&path, format!("table {round}").as_bytes()).expect("nobody takes it away for good");
                assert_eq!(
                    std::fs::read(&path).expect("readable"),
                    format!("table {round}").as_bytes()
                );
            }
            cleaner.join().expect("cleaning does not panic");
        });
    }
}
