//! Folders, and files too large for memory, that appear whole or not at all.
//!
//! A folder under construction has a lock file beside it for as long as its process lives, so that what a killed process left can
//! be removed by the next one ([`remove_unfinished`]), and signals remove it at once ([`remove_on_signals`]).

use super::access::Access;
use super::unfinished::{LOCK, PREFIX, UNFINISHED, parent, random_part, temporary_file};
use super::whole::{create_folders, remove_unfinished, sync_folder, sync_parent};
use crate::error::{Error, Located, Result};
#[cfg(unix)]
use crate::threads;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{NamedTempFile, TempPath};

/// How often another name is tried if the lock file was mistaken for that of a dead process.
const ATTEMPTS: usize = 5;

/// What is said where something has the final name.
const TAKEN: &str = "it exists already; remove it, or choose another --out";

/// The unfinished folders of this process.
static UNDER_WORK: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Locks the list of unfinished folders. While it is locked, no folder gets its final name and none is removed.
fn under_work() -> MutexGuard<'static, Vec<PathBuf>> {
    UNDER_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An unfinished folder beside its final place. It is removed if it is dropped without [`Staging::commit`].
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    /// The one file that gets the final name; `None` if the folder does.
    file: Option<&'static str>,
    /// Paths of the files and folders that were made here, relative to the folder. Everything else was put there by
    /// somebody else.
    made: RefCell<BTreeSet<PathBuf>>,
    /// The lock that shows other processes that this one is still running.
    _lock: NamedTempFile,
}

impl Staging {
    /// Begins a folder that will get the name `target`. Parents that are missing are made, and what killed processes
    /// left beside it is removed.
    ///
    /// # Errors
    /// `target` exists and is not an empty folder that can be replaced, or its parent cannot be written.
    pub fn new(target: &Path) -> Result<Self> {
        check_free(target)?;
        Staging::begin(target, None)
    }

    /// Begins a folder whose file `name` will get the name `target`, and of which nothing else is kept. Everything else is as in
    /// [`Staging::new`].
    ///
    /// # Errors
    /// Something is at `target`, or its parent cannot be written.
    pub fn for_file(target: &Path, name: &'static str) -> Result<Self> {
        check_none(target)?;
        Staging::begin(target, Some(name))
    }

    fn begin(target: &Path, file: Option<&'static str>) -> Result<Self> {
        let beside = parent(target);
        create_folders(beside).at(target.display())?;
        remove_unfinished(beside);
        let fail = |error| Error::writing(beside, error).at(target.display());
        for _ in 0..ATTEMPTS {
            let mut lock = temporary_file(beside, LOCK, Access::OPEN).map_err(fail)?;
            // Where files cannot be locked, nobody takes the folder for a dead process's either.
            let _ = lock.as_file().lock();
            // For people who wonder; nothing reads it.
            let _ = writeln!(lock, "process {}", std::process::id());
            let name = lock.path().file_name().unwrap_or_default().to_string_lossy();
            let part = random_part(&name, LOCK).expect("the name was made so");
            let folder = beside.join(format!("{PREFIX}{part}{UNFINISHED}"));
            // Between its creation and its lock, another process may have removed it as left over.
            if !lock.path().exists() {
                continue;
            }
            let mut all = under_work();
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(fail)?,
            }
            all.push(folder.clone());
            return Ok(Staging {
                folder,
                target: target.to_path_buf(),
                file,
                made: RefCell::default(),
                _lock: lock,
            });
        }
        let message = "other processes removed every temporary file that was made here";
        Err(Error::output(beside, message))
    }

    /// The path of a file in the folder while the folder is unfinished.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The path that a file will have at the end, for messages.
    pub fn named(&self, name: &Path) -> PathBuf {
        match self.file.is_some_and(|file| Path::new(file) == name) {
            true => self.target.clone(),
            false => self.target.join(name),
        }
    }

    /// An error from reading the folder, with the final paths of its files.
    pub fn renamed(&self, error: Error) -> Error {
        let [temporary, own] = [&self.folder, &self.target].map(|path| path.display().to_string());
        let mut message = error.to_string();
        if let Some(file) = self.file {
            message = message.replace(&self.path(file).display().to_string(), &own);
        }
        Error::new(error.kind(), message.replace(&temporary, &own))
    }

    /// Limits the rights on the folder itself to `access`. Must be called before anything is made in it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn restrict(&self, access: Access) -> Result<()> {
        restrict(&self.folder, access).map_err(|error| Error::writing(&self.target, error))
    }

    /// Makes a folder below this one; its parent must exist.
    ///
    /// # Errors
    /// The disk refuses, or somebody has put something there.
    pub fn folder(&self, name: impl AsRef<Path>, access: Access) -> Result<()> {
        let name = name.as_ref();
        let made = std::fs::create_dir(self.path(name)).and_then(|()| restrict(&self.path(name), access));
        made.map_err(|error| Error::writing(&self.named(name), error))?;
        self.made.borrow_mut().insert(name.to_path_buf());
        Ok(())
    }

    /// Makes a file with the rights `access`, from which the umask can remove bits.
    ///
    /// # Errors
    /// The disk refuses, or somebody has put something there.
    pub fn create(&self, name: impl AsRef<Path>, access: Access) -> Result<File> {
        let name = name.as_ref();
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, access.mode());
        #[cfg(not(unix))]
        let _ = access;
        let file = options.open(self.path(name));
        let file = file.map_err(|error| Error::writing(&self.named(name), error))?;
        self.made.borrow_mut().insert(name.to_path_buf());
        Ok(file)
    }

    /// Writes a small file with the rights `access`, from which the umask can remove bits.
    ///
    /// # Errors
    /// The disk refuses, or somebody has put something there.
    pub fn write(&self, name: impl AsRef<Path>, content: &[u8], access: Access) -> Result<()> {
        let mut file = self.create(&name, access.of_data())?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(|error| Error::output(&self.named(name.as_ref()), error))
    }

    /// Whether a file or folder was made here and not put here by somebody else.
    pub fn has_made(&self, name: &Path) -> bool {
        self.made.borrow().contains(name)
    }

    /// Paths of what somebody else has put here, relative to the folder. It is not removed.
    fn strangers(&self, below: &Path) -> std::io::Result<Vec<PathBuf>> {
        let mut strangers = Vec::new();
        for entry in std::fs::read_dir(self.path(below))? {
            let entry = entry?;
            let name = below.join(entry.file_name());
            if !self.has_made(&name) {
                strangers.push(name);
            } else if entry.file_type()?.is_dir() {
                strangers.extend(self.strangers(&name)?);
            }
        }
        Ok(strangers)
    }

    /// Writes everything to disk and gives the folder, or its one file, the final name. The file must be on disk already.
    ///
    /// # Errors
    /// The disk refuses, or something else took the name meanwhile.
    pub fn commit(self) -> Result<()> {
        if let Some(file) = self.file {
            return self.commit_file(file);
        }
        let fail = |error| Error::writing(&self.target, error);
        for stranger in self.strangers(Path::new("")).map_err(fail)? {
            let name = self.named(&stranger);
            tracing::warn!("{}: another program put this file there, not zprune", name.display());
        }
        sync_folders(&self.folder).map_err(fail)?;
        check_free(&self.target)?;
        let mut all = under_work();
        // An empty folder may stand in the way on systems whose rename does not replace one.
        if cfg!(windows) && self.target.is_dir() {
            std::fs::remove_dir(&self.target).map_err(fail)?;
        }
        std::fs::rename(&self.folder, &self.target).map_err(fail)?;
        all.retain(|folder| *folder != self.folder);
        sync_parent(&self.target)
    }

    fn commit_file(&self, file: &str) -> Result<()> {
        check_none(&self.target)?;
        let fail = |error| Error::writing(&self.target, error);
        let file = TempPath::try_from_path(self.path(file)).map_err(fail)?;
        file.persist_noclobber(&self.target)
            .map_err(|error| fail(error.error))?;
        sync_parent(&self.target)
    }
}

/// Removes permissions that `access` does not have, except the owner's.
#[cfg(unix)]
fn restrict(folder: &Path, access: Access) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = folder.metadata()?.permissions().mode();
    let narrow = mode & (access.of_folder().mode() | !0o777);
    match narrow == mode {
        true => Ok(()),
        false => std::fs::set_permissions(folder, std::fs::Permissions::from_mode(narrow)),
    }
}

/// On systems without such permissions, nothing has to be removed.
#[cfg(not(unix))]
fn restrict(_: &Path, _: Access) -> std::io::Result<()> {
    Ok(())
}

impl Drop for Staging {
    fn drop(&mut self) {
        let mut all = under_work();
        if let Some(position) = all.iter().position(|folder| *folder == self.folder) {
            all.remove(position);
            // What cannot be removed now is removed by the next process that writes here.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Checks that a file can get this name: nothing may be there.
fn check_none(target: &Path) -> Result<()> {
    let named_as_folder = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    if target.file_name().is_none() || named_as_folder {
        return Err(Error::output(target, "give the file that is to be made a name"));
    }
    match target.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::writing(target, error)),
        Ok(_) => Err(Error::output(target, TAKEN)),
    }
}

/// Checks that a folder can get this name: nothing may be there but an empty folder.
fn check_free(target: &Path) -> Result<()> {
    if target.file_name().is_none() {
        return Err(Error::output(target, "give the folder that is to be made a name"));
    }
    let there = match target.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::writing(target, error)),
    };
    let empty = there.is_dir() && std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if !empty {
        return Err(Error::output(target, TAKEN));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if parent(target)
            .metadata()
            .is_ok_and(|parent| parent.dev() != there.dev())
        {
            let message = "it is where a file system is mounted, and cannot be replaced; name a folder inside it";
            return Err(Error::output(target, message));
        }
    }
    Ok(())
}

/// Makes sure that all names in a folder and below it are on disk.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// From now on, each of these signals ends the program at once, and what it has under construction is removed first; `told` says so.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub fn remove_on_signals(signals: &[i32], told: impl FnOnce() + Send + 'static) -> Result<()> {
    use crate::error::ErrorKind;
    let fail = |error| Error::writing(Path::new("signal handlers"), error);
    let mut signals = signal_hook::iterator::Signals::new(signals).map_err(fail)?;
    let wait = move || {
        if signals.forever().next().is_some() {
            // Held until the end, so that nothing is begun or finished any more.
            let all = under_work();
            all.iter().for_each(|folder| remove_while_written(folder));
            told();
            signal_hook::low_level::exit(ErrorKind::Interrupted.exit_code().into());
        }
    };
    threads::start("signals", wait)
}

/// Where the system has no such signals, the next process that writes there removes what was under construction.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn remove_on_signals(_: &[i32], _: impl FnOnce() + Send + 'static) -> Result<()> {
    Ok(())
}

/// Removes an unfinished folder and its lock file, while another thread may still be making files in it.
#[cfg(unix)]
fn remove_while_written(folder: &Path) {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            // The lock goes last: with it, the next process finds what could not be removed.
            let _ = std::fs::remove_file(folder.with_extension(LOCK.trim_start_matches('.')));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("readable");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("deep/model");
        let staging = Staging::new(&target).expect("writable");
        staging.write("config.json", b"{}", Access::OPEN).expect("writable");
        assert!(!target.exists(), "nothing is visible before the commit");
        // Another process that cleans up meanwhile leaves it alone.
        remove_unfinished(&folder.path().join("deep"));
        staging.commit().expect("the name is free");
        assert_eq!(names(&folder.path().join("deep")), ["model"]);
        assert_eq!(names(&target), ["config.json"]);
        assert!(Staging::new(&target).is_err(), "nothing is written over");
    }

    #[test]
    fn what_somebody_else_puts_there_is_told_from_what_was_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("model");
        let staging = Staging::new(&target).expect("writable");
        staging.folder("sub", Access::OPEN).expect("writable");
        staging.write("sub/config.json", b"{}", Access::OPEN).expect("writable");
        for name in ["notes.txt", "sub/notes.txt", "taken.json"] {
            std::fs::write(staging.path(name), "the user's own").expect("writable");
        }
        let error = staging
            .write("taken.json", b"{}", Access::OPEN)
            .expect_err("it is there");
        assert!(error.to_string().contains("model/taken.json: cannot write"), "{error}");
        let mut strangers = staging.strangers(Path::new("")).expect("readable");
        strangers.sort();
        assert_eq!(
            strangers,
            ["notes.txt", "sub/notes.txt", "taken.json"].map(PathBuf::from)
        );
        assert!(staging.has_made(Path::new("sub/config.json")));
        let own = staging.renamed(Error::reading(&staging.path("x"), std::io::ErrorKind::NotFound.into()));
        assert!(
            own.to_string().starts_with(&*target.join("x").to_string_lossy()),
            "{own}"
        );
        staging.commit().expect("the name is free");
        assert_eq!(
            std::fs::read(target.join("taken.json")).expect("kept"),
            b"the user's own"
        );
    }

    #[test]
    fn a_file_appears_whole_and_alone_and_takes_nobodys_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("deep/model.gguf");
        let begun = || {
            let staging = Staging::for_file(&target, "file").expect("writable");
            staging.write("file", b"a model", Access::OPEN).expect("writable");
            staging.folder("more", Access::OPEN).expect("writable");
            staging
        };
        begun().commit().expect("the name is free");
        assert_eq!(names(&folder.path().join("deep")), ["model.gguf"]);
        assert_eq!(std::fs::read(&target).expect("there"), b"a model");
        std::fs::remove_file(&target).expect("ours");
        let staging = begun();
        assert_eq!(staging.named(Path::new("file")), target);
        let own = staging.renamed(Error::input("wrong").at(staging.path("file").display()));
        assert_eq!(own.to_string(), format!("{}: wrong", target.display()));
        std::fs::write(&target, "the user's own").expect("writable");
        let error = staging.commit().expect_err("the name is taken").to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(names(&folder.path().join("deep")), ["model.gguf"]);
        assert_eq!(std::fs::read(&target).expect("there"), b"the user's own");
        for taken in ["deep", "deep/model.gguf", "new/", ".."] {
            assert!(
                Staging::for_file(&folder.path().join(taken), "file").is_err(),
                "{taken}"
            );
        }
    }

    #[test]
    fn an_abandoned_folder_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let staging = Staging::new(&folder.path().join("model")).expect("writable");
        staging.write("config.json", b"{}", Access::OPEN).expect("writable");
        drop(staging);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_stays_with_its_owner() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("model");
        let staging = Staging::new(&target).expect("writable");
        std::fs::write(&target, "the user's own").expect("writable");
        let error = staging.commit().expect_err("the name is taken").to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_nameless_folders_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("empty")).expect("writable");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("empty"), &link).expect("writable");
        assert!(Staging::new(&link).is_err());
        assert!(Staging::new(&folder.path().join("empty/..")).is_err());
        assert!(Staging::new(Path::new(".")).is_err());
        assert_eq!(names(folder.path()), ["empty", "link"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_umask_decides_who_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        let usual = folder.path().join("usual");
        std::fs::create_dir(&usual).expect("writable");
        std::fs::write(usual.join("file"), "").expect("writable");
        let target = folder.path().join("model");
        let staging = Staging::new(&target).expect("writable");
        staging.write("config.json", b"{}", Access::OPEN).expect("writable");
        staging.commit().expect("the name is free");
        super::super::whole::write_whole(&target.join("table.md"), b"a table").expect("writable");
        assert_eq!(mode(&target), mode(&usual));
        for file in ["config.json", "table.md"] {
            assert_eq!(mode(&target.join(file)), mode(&usual.join("file")), "{file}");
        }
    }
}
