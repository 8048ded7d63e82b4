//! The cache that every Hugging Face program shares: `blobs/<hash>`, `snapshots/<commit>/<file>`, which are links to
//! blobs, and `refs/<revision>`, in a folder per repository; locks in `.locks`.
//!
//! Nothing is written outside it, also not through links that stand in it. The folder itself may be a link.
//!
//! # When a file of the cache is trusted
//!
//! A blob's name is its hash. It is computed before a snapshot is linked to a blob, and for every file of a snapshot
//! each time the model or corpus is fetched. Large files are hashed once: that they were good is noted beside their lock,
//! with size, time of change and inode, and they are hashed again when one of these differs. A file that stands in the
//! snapshot itself (where links are not to be had) or links to a blob of another name has no hash to be held against.

use super::failure::Failure;
use super::names::{Commit, Etag, FileName};
use super::repository::{Kind, Repository};
use crate::error::Error;
use crate::files::{self, input};
use crate::progress::Progress;
use std::fs::{File, Metadata};
use std::path::{Component, Path, PathBuf};

/// Files of up to this many bytes are hashed every time they are used.
const SMALL: u64 = 16 << 20;

/// The cache of hub files, in the layout of the Python library.
#[derive(Clone)]
pub struct Cache {
    root: PathBuf,
}

/// What there is at the place of a file in a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// The file is there, and has the right hash if its blob is named after one.
    Good,
    /// Nothing is there, or a link to nothing.
    Absent,
    /// A file with another hash is there; the text says what is wrong.
    Damaged(String),
}

impl Cache {
    /// A cache in a folder, which need not exist yet. The path is made absolute, because links in the cache are
    /// relative to it.
    pub fn new(root: PathBuf) -> Cache {
        Cache { root }
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn name(repository: &Repository) -> String {
        let kind = match repository.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("{kind}--{}", repository.name.replace('/', "--"))
    }

    /// The snapshot folder, which holds the files of one commit.
    pub fn snapshot(&self, repository: &Repository, commit: &Commit) -> PathBuf {
        let folder = self.root.join(Cache::name(repository)).join("snapshots");
        folder.join(commit.as_str())
    }

    /// The commit that a revision stood for when it was last looked up.
    pub fn commit(&self, repository: &Repository) -> Option<Commit> {
        if let Some(commit) = Commit::parse(&repository.revision) {
            return Some(commit);
        }
        let folder = self.root.join(Cache::name(repository)).join("refs");
        let path = folder.join(&repository.revision);
        // A commit has 40 digits; a file that is much longer is none and is not read.
        Commit::parse(input::read_text(&path, 1 << 10).ok()?.trim())
    }

    /// Writes down which commit a branch or tag stands for, as every Hugging Face program does.
    pub fn note(&self, repository: &Repository, commit: &Commit) -> Result<(), Failure> {
        if Commit::parse(&repository.revision).is_some() || self.commit(repository).as_ref() == Some(commit) {
            return Ok(());
        }
        let path = Path::new(&Cache::name(repository))
            .join("refs")
            .join(&repository.revision);
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        self.write(&path, commit.as_str())
    }

    /// Creates a folder below the cache, and its parents.
    fn folder(&self, below: &Path) -> Result<PathBuf, Failure> {
        std::fs::create_dir_all(&self.root).map_err(Failure::disk)?;
        let root = self.root.canonicalize().map_err(Failure::disk)?;
        let mut path = self.root.clone();
        for part in below.components() {
            let Component::Normal(part) = part else {
                return Err(Failure::Foreign(format!("{} leads out of it", below.display())));
            };
            path.push(part);
            match path.symlink_metadata() {
                Ok(there) if there.is_dir() => {}
                Ok(there) if there.is_symlink() => match path.canonicalize() {
                    Ok(target) if target.starts_with(&root) && target.is_dir() => {}
                    _ => return Err(Failure::Foreign(format!("{} is a link out of it", path.display()))),
                },
                Ok(_) => return Err(Failure::Disk(format!("{} is not a folder", path.display()))),
                Err(_) => match std::fs::create_dir(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(Failure::Disk(format!("{}: {error}", path.display())));
                    }
                    _ => {}
                },
            }
        }
        Ok(path)
    }

    /// The path of a blob, whether it exists or not. Its folder is created.
    pub fn blob(&self, repository: &Repository, etag: &Etag) -> Result<PathBuf, Failure> {
        let folder = self.folder(&Path::new(&Cache::name(repository)).join("blobs"))?;
        Ok(folder.join(etag.as_str()))
    }

    /// Takes the lock of a blob, which the Python library takes, too. Waits for it: whoever holds the lock is
    /// downloading this blob.
    pub fn lock(
        &self,
        repository: &Repository,
        etag: &Etag,
        label: &str,
        progress: &dyn Progress,
    ) -> Result<File, Failure> {
        let folder = self.folder(&Path::new(".locks").join(Cache::name(repository)))?;
        let path = folder.join(format!("{etag}.lock"));
        // Opening a link would make a file elsewhere; opening a pipe would wait for ever.
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            return Err(Failure::Foreign(format!("{} is not a plain file", path.display())));
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Failure::disk)?;
        if file.try_lock().is_err() {
            progress.stage(&format!("waiting for another program that is downloading {label}"));
            file.lock().map_err(Failure::disk)?;
        }
        Ok(file)
    }

    /// What is at a file's place in a snapshot. Hashes the file if that was not done before.
    pub fn state(&self, repository: &Repository, commit: &Commit, file: &FileName, progress: &dyn Progress) -> Stored {
        let path = self.snapshot(repository, commit).join(file.as_str());
        if !path.exists() {
            return Stored::Absent;
        }
        let target = std::fs::read_link(&path).ok();
        let name = target
            .as_deref()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        match name.and_then(Etag::parse) {
            Some(etag) => self.checked(repository, &etag, &path, file, progress),
            None => Stored::Good,
        }
    }

    /// Checks that files that are used without asking the hub have the hashes they should have.
    ///
    /// # Errors
    /// One has another; names it and what to do.
    pub fn check<'a>(
        &self,
        repository: &Repository,
        files: impl IntoIterator<Item = &'a str>,
        progress: &dyn Progress,
    ) -> crate::error::Result<()> {
        let Some(commit) = self.commit(repository) else {
            return Ok(());
        };
        for file in files {
            let Ok(name) = FileName::parse(file) else {
                continue;
            };
            if let Stored::Damaged(how) = self.state(repository, &commit, &name, progress) {
                let message = format!(
                    "is damaged in the cache {}: {how}; run again where the hub can be reached and without \
                     HF_HUB_OFFLINE, which downloads it anew",
                    self.root.display()
                );
                return Err(Error::input(message).at(file).at(repository));
            }
        }
        Ok(())
    }

    /// Checks that a file of the cache has the hash that its blob is named after.
    pub fn checked(
        &self,
        repository: &Repository,
        etag: &Etag,
        path: &Path,
        file: &FileName,
        progress: &dyn Progress,
    ) -> Stored {
        let there = match path.metadata() {
            Ok(there) if there.is_file() => there,
            Ok(_) => return Stored::Damaged("it is not a plain file".to_string()),
            Err(_) => return Stored::Absent,
        };
        let large = there.len() > SMALL;
        let noted = input::read_text(&self.root.join(Cache::note_of(repository, etag)), 1 << 10);
        if large && noted.is_ok_and(|noted| noted == identity(&there)) {
            return Stored::Good;
        }
        if large {
            progress.stage(&format!("checking the hash of {} {file}", repository.name));
        }
        match etag.of_file(path) {
            Ok(found) if found == *etag => {
                self.note_good(repository, etag, &there);
                Stored::Good
            }
            Ok(found) => Stored::Damaged(format!("its {} is {found}, not {etag}", etag.kind())),
            Err(error) => Stored::Damaged(error.to_string()),
        }
    }

    /// Writes down that a blob has its hash, with its state before it was hashed. Nothing is written for small blobs
    /// and in a cache that is read-only; those are hashed every time.
    pub fn note_good(&self, repository: &Repository, etag: &Etag, there: &Metadata) {
        if there.len() <= SMALL {
            return;
        }
        let path = Cache::note_of(repository, etag);
        let folder = self.folder(path.parent().unwrap_or(Path::new("")));
        if let Err(failure) = folder.and_then(|_| self.write(&path, &identity(there))) {
            tracing::debug!("{repository}: the check of {etag} is not noted: {failure}");
        }
    }

    fn note_of(repository: &Repository, etag: &Etag) -> PathBuf {
        let folder = Path::new(".locks").join(Cache::name(repository));
        folder.join(format!("{etag}.checked"))
    }

    /// Writes a note below the cache, in a folder that exists already.
    fn write(&self, path: &Path, note: &str) -> Result<(), Failure> {
        files::write_whole(&self.root.join(path), note.as_bytes()).map_err(|error| Failure::Disk(error.to_string()))
    }

    /// Makes the file's place in a snapshot a link to its blob. The caller holds the blob's lock.
    pub fn link(&self, repository: &Repository, commit: &Commit, file: &FileName, etag: &Etag) -> Result<(), Failure> {
        let snapshots = Path::new(&Cache::name(repository)).join("snapshots");
        let path = snapshots.join(commit.as_str()).join(file.as_str());
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let place = self.root.join(path);
        #[cfg(unix)]
        {
            // snapshots/<commit>/<file> to blobs/<etag>: as many steps up as the file has parts, and one.
            let up = file.as_str().split('/').count() + 1;
            let mut target = PathBuf::from_iter(std::iter::repeat_n("..", up));
            target.push("blobs");
            target.push(etag.as_str());
            if std::fs::read_link(&place).is_ok_and(|there| there == target) {
                return Ok(());
            }
            if place.is_symlink() {
                // To a blob that was deleted, or that is another.
                std::fs::remove_file(&place).map_err(Failure::disk)?;
            }
            std::os::unix::fs::symlink(target, &place).map_err(Failure::disk)
        }
        #[cfg(not(unix))]
        {
            let blob = self.blob(repository, etag)?;
            std::fs::copy(blob, &place).map(|_| ()).map_err(Failure::disk)
        }
    }
}

/// Properties that change when a file is written to or replaced, as text.
fn identity(there: &Metadata) -> String {
    let changed = there
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt;
        (there.dev(), there.ino(), there.ctime(), there.ctime_nsec())
    };
    #[cfg(not(unix))]
    let inode = ();
    format!("{} bytes, changed {changed:?}, {inode:?}\n", there.len())
}
