//! One file from the hub into its cache.
//!
//! `hf-hub` downloads into `blobs/<etag>.part`, goes on with such a file, renames it to `blobs/<etag>` and
//! links it into the snapshot. It does not look at what arrived, asks for bytes beyond the end when a whole
//! `.part` was left behind, appends to a `.part` when a server ignores the range, fetches again what another
//! program fetched while it waited, and notes a commit as a branch. All of that is put right around it.

use super::failure::Failure;
use super::{Hub, Repository, is_plain};
use crate::data::digest;
use crate::progress::Progress;
use hf_hub::api::sync::{Api, ApiRepo};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Downloads that break off after they brought something are tried again so often.
const ATTEMPTS: usize = 5;

/// The commit that a file's revision stands for now.
pub fn commit_of(api: &Api, repository: &Repository, file: &str) -> Result<String, Failure> {
    let url = api.repo(repository.at(&repository.revision)).url(file);
    let commit = api.metadata(&url)?.commit_hash().to_string();
    if is_plain(&commit) {
        Ok(commit)
    } else {
        Err(Failure::Nonsense(format!("the commit `{commit}`")))
    }
}

/// Notes which commit a branch or tag stands for, as every Hugging Face program does.
pub fn remember(hub: &Hub, repository: &Repository, commit: &str) -> Result<(), Failure> {
    if repository.revision == commit {
        return Ok(());
    }
    let folder = hub.cache.join(repository.at("").folder_name()).join("refs");
    let reference = folder.join(&repository.revision);
    if std::fs::read_to_string(&reference).is_ok_and(|noted| noted.trim() == commit) {
        return Ok(());
    }
    // hf-hub's own `create_ref` empties the file before it fills it; another program may read it in between.
    let note = || {
        std::fs::create_dir_all(reference.parent().unwrap_or(&folder))?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(commit.as_bytes())?;
        // A temporary file is its owner's alone; a cache may be everybody's.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(&reference)?;
        Ok(())
    };
    note().map_err(|error: std::io::Error| Failure::Disk(error.to_string()))
}

/// Makes sure that a file of a commit is in the cache, whole, and returns its path in the snapshot.
pub fn download(
    hub: &Hub,
    api: &Api,
    repository: &Repository,
    commit: &str,
    file: &str,
    progress: &dyn Progress,
) -> Result<PathBuf, Failure> {
    let cached = hub.cached_repo(repository, commit);
    let pointer = cached.pointer_path(commit).join(file);
    if pointer.exists() {
        return Ok(pointer);
    }
    let remote = api.repo(repository.at(commit));
    let metadata = api.metadata(&remote.url(file))?;
    if metadata.commit_hash() != commit {
        let message = format!("commit {} where {commit} was asked for", metadata.commit_hash());
        return Err(Failure::Nonsense(message));
    }
    if !metadata.etag().split('/').all(is_plain) {
        return Err(Failure::Nonsense(format!("the etag `{}`", metadata.etag())));
    }
    let transfer = Transfer {
        label: format!("{} {file}", repository.name),
        blob: cached.blob_path(metadata.etag()),
        etag: metadata.etag().to_string(),
        size: metadata.size() as u64,
        file,
        pointer,
        progress,
    };
    let _lock = transfer.lock(&hub.cache.join(".locks").join(repository.at(commit).folder_name()))?;
    let folder = hub.cache.join(repository.at(commit).folder_name());
    let reference = folder.join("refs").join(commit);
    let noted = reference.exists();
    let outcome = transfer.run(&remote);
    if !noted {
        // hf-hub notes every commit as if it were a branch; the Python library does not.
        let _ = std::fs::remove_file(reference);
    }
    outcome?;
    Ok(transfer.pointer)
}

/// One file on its way.
struct Transfer<'a> {
    label: String,
    blob: PathBuf,
    etag: String,
    size: u64,
    file: &'a str,
    pointer: PathBuf,
    progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// Takes the lock that the Python library takes, too, and waits for it: whoever holds it is fetching this very file.
    fn lock(&self, folder: &Path) -> Result<File, Failure> {
        let disk = |error: std::io::Error| Failure::Disk(error.to_string());
        let path = folder.join(format!("{}.lock", self.etag));
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(disk)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(disk)?;
        if file.try_lock().is_err() {
            let message = format!("waiting for another program that is downloading {}", self.label);
            self.progress.stage(&message);
            file.lock().map_err(disk)?;
        }
        Ok(file)
    }

    fn part(&self) -> PathBuf {
        self.blob.with_extension("part")
    }

    fn received(&self) -> u64 {
        self.part().metadata().map_or(0, |part| part.len())
    }

    /// Brings blob and link about.
    fn run(&self, remote: &ApiRepo) -> Result<(), Failure> {
        let disk = |error: std::io::Error| Failure::Disk(error.to_string());
        if self.pointer.exists() {
            return Ok(());
        }
        if self.pointer.is_symlink() {
            // A link to a blob that was deleted.
            std::fs::remove_file(&self.pointer).map_err(disk)?;
        }
        if self.blob.metadata().is_ok_and(|blob| blob.len() == self.size) {
            return self.link();
        }
        if self.blob.exists() {
            std::fs::remove_file(&self.blob).map_err(disk)?;
        }
        // Left behind between its last byte and its new name; if it is not what it should be, it is gone now.
        if self.whole() && self.adopt().is_ok() {
            return Ok(());
        }
        self.fetch(remote)
    }

    fn whole(&self) -> bool {
        self.part().exists() && self.received() >= self.size
    }

    /// Makes a whole `.part` the blob. hf-hub would ask for the bytes after its last one, which is an error.
    fn adopt(&self) -> Result<(), Failure> {
        std::fs::rename(self.part(), &self.blob).map_err(|error| Failure::Disk(error.to_string()))?;
        self.check()?;
        self.link()
    }

    /// Lets hf-hub download; tries again while every attempt brings something.
    fn fetch(&self, remote: &ApiRepo) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let before = self.received();
            let bar = Bar {
                transfer: self,
                done: before,
            };
            match remote.download_with_progress(self.file, bar).map_err(Failure::from) {
                Ok(_) => return self.check(),
                Err(Failure::Network(_)) if self.whole() => return self.adopt(),
                Err(Failure::Network(_)) if self.received() > before && attempt < ATTEMPTS => {
                    tracing::info!("{}: the connection broke at {} bytes", self.label, self.received());
                    std::thread::sleep(Duration::from_millis(500));
                    attempt += 1;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Holds what arrived against what was announced; a damaged file does not stay.
    fn check(&self) -> Result<(), Failure> {
        let disk = |error: std::io::Error| Failure::Disk(error.to_string());
        let length = self.blob.metadata().map_err(disk)?.len();
        if length < self.size {
            // The beginning is good: the next attempt goes on from here.
            let _ = std::fs::remove_file(&self.pointer);
            std::fs::rename(&self.blob, self.part()).map_err(disk)?;
            return Err(Failure::Network(format!(
                "{length} of {} bytes arrived before the server ended the file",
                self.size
            )));
        }
        // The name of a large file's blob is its SHA-256; of a small one's it is git's hash.
        let hashed = self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut damage = None;
        if length > self.size {
            damage = Some(format!("{length} bytes arrived where {} were announced", self.size));
        } else if hashed {
            self.progress.stage(&format!("checking the hash of {}", self.label));
            let found = digest::of_file(&self.blob).map_err(|error| Failure::Disk(error.to_string()))?;
            if found != self.etag.to_lowercase() {
                damage = Some(format!("its SHA-256 is {found}, not {} as announced", self.etag));
            }
        }
        match damage {
            None => Ok(()),
            Some(damage) => {
                let _ = std::fs::remove_file(&self.pointer);
                std::fs::remove_file(&self.blob).map_err(disk)?;
                let message = format!("arrived damaged and was deleted: {damage}; run the same command again");
                Err(Failure::Damaged(message))
            }
        }
    }

    /// Links the snapshot to a blob that is there already.
    fn link(&self) -> Result<(), Failure> {
        let disk = |error: std::io::Error| Failure::Disk(error.to_string());
        let folder = self.pointer.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(disk)?;
        #[cfg(unix)]
        {
            // snapshots/<commit>/<file> to blobs/<etag>: as many steps up as the file has parts, and two.
            let up = Path::new(self.file).components().count() + 1;
            let mut target = PathBuf::from_iter(std::iter::repeat_n("..", up));
            target.push("blobs");
            target.push(&self.etag);
            std::os::unix::fs::symlink(target, &self.pointer).map_err(disk)
        }
        #[cfg(not(unix))]
        std::fs::copy(&self.blob, &self.pointer).map(|_| ()).map_err(disk)
    }
}

/// hf-hub's events as this crate's.
struct Bar<'a> {
    transfer: &'a Transfer<'a>,
    done: u64,
}

impl hf_hub::api::Progress for Bar<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        // Called once before and once after the request; what is here already follows as an update.
        self.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let Transfer { label, size, .. } = self.transfer;
        self.transfer.progress.download(label, self.done, *size);
    }

    fn finish(&mut self) {}
}
