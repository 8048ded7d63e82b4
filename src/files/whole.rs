//! Files that appear whole or not at all, and what is left of them when their writer is killed.

use super::access::Access;
use super::unfinished::{LOCK, PREFIX, UNFINISHED, parent, random_part, temporary_file};
use crate::error::{Error, ErrorKind as Kind, Located, Result};
use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// How often a file is written again if its temporary file was mistaken for that of a dead process.
const ATTEMPTS: usize = 5;

/// Writes a file under a temporary name beside its place, then renames it: readers see the old content or the new, never a
/// part. Missing folders are made. A file that is there keeps its permissions, and one with this content is left as it is.
///
/// Whoever calls this has made sure that the file is zprune's to replace.
///
/// # Errors
/// The folder cannot be written to, or something is there that is not a plain file, or that is read-only.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    write_for(path, content, Access::OPEN)
}

/// As [`write_whole`], for a file that nobody without the rights `access` may use.
///
/// # Errors
/// As [`write_whole`].
pub(super) fn write_for(path: &Path, content: &[u8], access: Access) -> Result<()> {
    let fail = |error: std::io::Error| Error::writing(path, error);
    create_folders(parent(path)).at(path.display())?;
    only_plain(path)?;
    let permissions = path.metadata().ok().map(|there| there.permissions());
    if let Some(permissions) = &permissions {
        let as_narrow = narrowed(permissions, access) == *permissions;
        if as_narrow && std::fs::read(path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        if permissions.readonly() {
            return Err(Error::output(path, "it is read-only"));
        }
    }
    let mut attempt = 1;
    loop {
        match temporary(path, content, permissions.as_ref(), access)
            .map_err(fail)?
            .persist(path)
        {
            // Between its creation and its lock, another process removed it as left over.
            Err(error) if error.error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(fail(error.error)),
            Ok(_) => return sync_parent(path),
        }
    }
}

/// Writes a file if nothing is at its path. Returns `false`, and writes nothing, if something is there.
///
/// # Errors
/// The folder cannot be written to.
pub fn create_whole(path: &Path, content: &[u8]) -> Result<bool> {
    let fail = |error: std::io::Error| Error::writing(path, error);
    let mut attempt = 1;
    loop {
        let made = temporary(path, content, None, Access::OPEN).map_err(fail)?;
        match made.persist_noclobber(path) {
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            // As in `write_for`.
            Err(error) if error.error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(fail(error.error)),
            Ok(_) => return sync_parent(path).map(|()| true),
        }
    }
}

/// Makes sure that the name of a file or folder that was just made is on disk; see [`write_whole`], which does so.
///
/// # Errors
/// The disk refuses. What was made is there nevertheless, and the error says so.
pub fn sync_parent(path: &Path) -> Result<()> {
    sync_folder(parent(path)).map_err(|error| {
        let message = format!(
            "it is written, but the system could not confirm that its name is on disk: {error}; it may be lost if the power fails"
        );
        Error::new(Kind::Output, message).at(path.display())
    })
}

/// Refuses a path with something that is not a plain file: a link, a folder, a device. It is no error if nothing is
/// there.
///
/// # Errors
/// Says what is there.
pub fn only_plain(path: &Path) -> Result<()> {
    let there = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        there => there.map_err(|error| Error::writing(path, error))?,
    };
    match not_plain(&there) {
        Some(what) => {
            let message = format!("{what}, but it must be a plain file; replace it, or name another folder");
            Err(Error::output(path, message))
        }
        None => Ok(()),
    }
}

/// Refuses a path below a folder of results that is a link or leads through one, since the file would be written to
/// another place. The folder itself may be a link.
///
/// # Errors
/// Names the link.
pub fn no_links(folder: &Path, below: impl AsRef<Path>) -> Result<()> {
    let mut path = folder.to_path_buf();
    for part in below.as_ref() {
        path.push(part);
        if path.symlink_metadata().is_ok_and(|there| there.is_symlink()) {
            let message = "it is a link, and nothing is written through links in a results folder; replace the link by its file or \
                           folder, or choose another results folder";
            return Err(Error::output(&path, message));
        }
    }
    Ok(())
}

/// The kind of a thing that is not a plain file, in words; `None` for a plain file.
fn not_plain(there: &Metadata) -> Option<&'static str> {
    if there.is_file() {
        None
    } else if there.is_dir() {
        Some("it is a folder")
    } else if there.is_symlink() {
        Some("it is a link")
    } else {
        Some("it is a device or a pipe")
    }
}

/// Writes the content to a temporary file beside `path`, and to disk.
fn temporary(
    path: &Path,
    content: &[u8],
    permissions: Option<&Permissions>,
    access: Access,
) -> std::io::Result<NamedTempFile> {
    let mut file = temporary_file(parent(path), UNFINISHED, access)?;
    // Where files cannot be locked, runs are refused elsewhere; reports of finished ones still can be written.
    let _ = file.as_file().lock();
    file.as_file_mut().write_all(content)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(narrowed(permissions, access))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Permissions without those that `access` does not have.
#[cfg(unix)]
fn narrowed(permissions: &Permissions, access: Access) -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(permissions.mode() & (access.of_data().with_executing().mode() | !0o777))
}

/// Permissions, where the system has no others.
#[cfg(not(unix))]
fn narrowed(permissions: &Permissions, _: Access) -> Permissions {
    permissions.clone()
}

/// Makes a folder and what is missing above it, each of them on disk.
///
/// # Errors
/// The system refuses, or something else has the name.
pub fn create_folders(folder: &Path) -> Result<()> {
    // The folder that the program works in may have been removed, and has no parent by this name.
    if folder.as_os_str().is_empty() || folder == Path::new(".") {
        return Ok(());
    }
    match folder.metadata() {
        Ok(there) if there.is_dir() => return Ok(()),
        // Only what is missing can be made.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::writing(folder, error));
        }
        _ => {}
    }
    create_folders(parent(folder))?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match folder.symlink_metadata() {
            // It was there, and another process has removed it since.
            Err(error) if error.kind() == ErrorKind::NotFound => create_folders(folder),
            _ => Err(Error::output(folder, "something that is not a folder has this name")),
        },
        made => made
            .and_then(|()| sync_folder(parent(folder)))
            .map_err(|error| Error::writing(folder, error)),
    }
}

/// Makes sure that the names in a folder are on disk: without it, a file that was written and renamed may be gone after a loss
/// of power.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Windows has no such call, and needs none.
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot, and a folder that may be written but not read cannot be opened: nothing is to be done.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// Removes what writers that were killed have left in a folder: the temporary files of [`write_whole`], and unfinished folders.
/// Files and folders of living writers are locked and stay, and so does everything with another name.
pub fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        // Opening anything but a plain file may wait for ever.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let unfinished = match random_part(name, LOCK) {
            Some(part) => Some(folder.join(format!("{PREFIX}{part}{UNFINISHED}"))),
            None if random_part(name, UNFINISHED).is_some() => None,
            None => continue,
        };
        if let Ok(file) = File::options().read(true).write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            // What cannot be removed does no harm; the next run tries again.
            let gone = unfinished.is_none_or(|folder| {
                let there = folder.symlink_metadata();
                !there.is_ok_and(|there| there.is_dir()) || std::fs::remove_dir_all(folder).is_ok()
            });
            if gone {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &str) {
        std::fs::write(path, content).expect("a temporary folder is writable");
    }

    #[test]
    fn only_temporary_files_without_a_writer_are_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.md");
        let living = temporary(&path, b"a table", None, Access::OPEN).expect("writable");
        let others = ["notes.tmp", ".tmpabcdef.tmp", ".zprune-notes.tmp", ".zprune-.tmp"];
        others
            .iter()
            .for_each(|name| write(&folder.path().join(name), "the user's own"));
        write(&folder.path().join(".zprune-Dead00000001.tmp"), "half a ta");
        write(&folder.path().join(".zprune-Dead00000002.lock"), "");
        std::fs::create_dir(folder.path().join(".zprune-Dead00000002.tmp")).expect("writable");
        write(
            &folder.path().join(".zprune-Dead00000002.tmp/model.safetensors"),
            "half a mo",
        );
        // Without its lock file, nobody knows whose a folder is.
        std::fs::create_dir(folder.path().join(".zprune-Dead00000003.tmp")).expect("writable");
        remove_unfinished(folder.path());
        assert!(living.path().exists());
        for name in others {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        assert!(folder.path().join(".zprune-Dead00000003.tmp").exists());
        for dead in ["Dead00000001.tmp", "Dead00000002.tmp", "Dead00000002.lock"] {
            assert!(!folder.path().join(format!(".zprune-{dead}")).exists(), "{dead}");
        }
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

    #[cfg(unix)]
    #[test]
    fn links_folders_and_read_only_files_are_not_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        write(&at("mine"), "the user's own");
        std::os::unix::fs::symlink(at("mine"), at("link")).expect("writable");
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).expect("writable");
        std::fs::create_dir(at("folder")).expect("writable");
        write(&at("finished"), "kept");
        std::fs::set_permissions(at("finished"), Permissions::from_mode(0o444)).expect("it is ours");
        for (name, why) in [
            ("link", "it is a link"),
            ("dangling", "it is a link"),
            ("folder", "it is a folder"),
            ("finished", "it is read-only"),
            ("mine/below", "not a folder"),
        ] {
            let error = write_whole(&at(name), b"new").expect_err(name).to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert_eq!(std::fs::read(at("mine")).expect("readable"), b"the user's own");
        assert_eq!(std::fs::read(at("finished")).expect("readable"), b"kept");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 5);
    }

    #[cfg(unix)]
    #[test]
    fn links_below_a_folder_are_refused_and_the_folder_may_be_one() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("real/tables")).expect("writable");
        std::fs::create_dir(at("elsewhere")).expect("writable");
        symlink("real", at("results")).expect("writable");
        symlink("../elsewhere", at("real/plots")).expect("writable");
        symlink("nowhere", at("real/dangling")).expect("writable");
        for below in ["", "tables", "tables/a.md", "claims/a.lock"] {
            no_links(&at("results"), below).expect(below);
        }
        for (below, link) in [
            ("plots", "plots"),
            ("plots/a/b.svg", "plots"),
            ("dangling/a", "dangling"),
        ] {
            let error = no_links(&at("results"), below).expect_err(below).to_string();
            assert!(
                error.contains(&format!("results/{link}: cannot write: it is a link")),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn errors_do_not_name_temporary_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("missing");
        let error = temporary_file(&missing, UNFINISHED, Access::OPEN).expect_err("no folder");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!error.to_string().contains(PREFIX), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_open_to_no_more_people_than_it_may_be() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokens");
        let private = Access::try_from("600".to_string()).expect("octal");
        let mode = || path.metadata().expect("it is there").permissions().mode() & 0o777;
        write_for(&path, b"new", private).expect("writable");
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
        write_for(&path, b"newer", private).expect("writable");
        assert_eq!(mode(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("private");
        write(&path, "old");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        write_whole(&path, b"new").expect("writable");
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
