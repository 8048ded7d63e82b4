//! One file from the hub into its cache.
//!
//! The hub is asked once what the file is; that answer is checked, and it alone gives the blob its name. The content
//! goes to `blobs/<hash>.part`, which a later attempt goes on with, and becomes `blobs/<hash>` when its hash is right.

use super::answers::Metadata;
use super::cache::{Cache, Stored};
use super::client::Client;
use super::failure::Failure;
use super::names::{Commit, Etag, FileName};
use super::repository::Repository;
use crate::progress::Progress;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The download of one file from the hub into the cache.
pub struct Transfer<'a> {
    /// The cache that the file goes to.
    pub cache: &'a Cache,
    /// Sends the requests to the hub.
    pub client: &'a Client,
    /// The repository that has the file.
    pub repository: &'a Repository,
    /// The file's name in the repository.
    pub file: &'a FileName,
    /// The largest size that is accepted, in bytes.
    pub most: u64,
    /// Receives the progress of the download.
    pub progress: &'a dyn Progress,
}

/// Why an attempt to download the content ended.
enum Stop {
    /// The connection was lost; another attempt may bring more bytes.
    Lost(Failure),
    /// Another attempt would fail, too.
    Failed(Failure),
}

impl Transfer<'_> {
    /// Makes sure that the file of a commit is in the cache and complete, and returns its path in the snapshot.
    pub fn run(&self, commit: &Commit) -> Result<PathBuf, Failure> {
        if self.is_there(commit) {
            return Ok(self.place(commit));
        }
        let metadata = self.client.metadata(self.repository, commit.as_str(), self.file)?;
        if metadata.commit != *commit {
            let message = format!("the commit {} where {commit} was asked for", metadata.commit);
            return Err(Failure::Nonsense(message));
        }
        self.bring(&metadata)
    }

    /// As [`Transfer::run`], for the commit that the repository's revision stands for now; returns the path and that
    /// commit.
    pub fn run_at_revision(&self) -> Result<(PathBuf, Commit), Failure> {
        let metadata = self
            .client
            .metadata(self.repository, &self.repository.revision, self.file)?;
        let path = match self.is_there(&metadata.commit) {
            true => self.place(&metadata.commit),
            false => self.bring(&metadata)?,
        };
        Ok((path, metadata.commit))
    }

    fn place(&self, commit: &Commit) -> PathBuf {
        self.cache.snapshot(self.repository, commit).join(self.file.as_str())
    }

    fn label(&self) -> String {
        format!("{} {}", self.repository.name, self.file)
    }

    fn is_there(&self, commit: &Commit) -> bool {
        match self.cache.state(self.repository, commit, self.file, self.progress) {
            Stored::Good => true,
            Stored::Absent => false,
            Stored::Damaged(how) => {
                tracing::warn!("{}: damaged in the cache: {how}; it is downloaded again", self.label());
                false
            }
        }
    }

    fn too_large(&self, size: u64) -> Failure {
        Failure::Nonsense(format!(
            "a length of {size} bytes, more than the {} that a file of this sort may have",
            self.most
        ))
    }

    /// Makes sure that the blob and the link to it exist, and returns the link's path.
    fn bring(&self, metadata: &Metadata) -> Result<PathBuf, Failure> {
        let Metadata { commit, etag, size } = metadata;
        if let Some(size) = size.filter(|size| *size > self.most) {
            return Err(self.too_large(size));
        }
        let cache = self.cache;
        let blob = cache.blob(self.repository, etag)?;
        let _lock = cache.lock(self.repository, etag, &self.label(), self.progress)?;
        // Another program, or another revision, may have brought it.
        let there = cache.checked(self.repository, etag, &blob, self.file, self.progress);
        if there != Stored::Good {
            self.fetch(metadata, &blob)?;
        }
        cache.link(self.repository, commit, self.file, etag)?;
        Ok(self.place(commit))
    }

    /// Downloads the blob; continues with what an earlier attempt left.
    fn fetch(&self, metadata: &Metadata, blob: &Path) -> Result<(), Failure> {
        let path = blob.with_extension("part");
        let (mut part, mut received) = open_part(&path).map_err(Failure::disk)?;
        // Of a file of unknown length, nobody can say whether a part is one of it.
        if metadata.size.is_none_or(|size| received > size) {
            received = restart(&mut part).map_err(Failure::disk)?;
        }
        loop {
            let resumed = received > 0;
            if let Err(failure) = self.fill(metadata, &mut part, received) {
                let empty = part.metadata().is_ok_and(|there| there.len() == 0);
                if metadata.size.is_none() || empty {
                    // Nobody can go on with it.
                    std::fs::remove_file(&path).map_err(Failure::disk)?;
                }
                return Err(failure);
            }
            part.sync_all().map_err(Failure::disk)?;
            match self.adopt(&metadata.etag, &path, blob) {
                // The earlier part was another file's: once more, from the beginning.
                Err(Failure::Damaged(how)) if resumed => {
                    tracing::info!("{}: the part that was here already cannot be used: {how}", self.label());
                    received = restart(&mut part).map_err(Failure::disk)?;
                }
                Err(Failure::Damaged(how)) => {
                    std::fs::remove_file(&path).map_err(Failure::disk)?;
                    return Err(Failure::Damaged(format!(
                        "arrived damaged and was deleted: {how} as announced; run the same command again"
                    )));
                }
                outcome => return outcome,
            }
        }
    }

    /// Checks the hash of a complete part file and renames it to the blob.
    fn adopt(&self, etag: &Etag, part: &Path, blob: &Path) -> Result<(), Failure> {
        self.progress.stage(&format!("checking the hash of {}", self.label()));
        let found = etag.of_file(part).map_err(|error| Failure::Disk(error.to_string()))?;
        if found != *etag {
            return Err(Failure::Damaged(format!("its {} is {found}, not {etag}", etag.kind())));
        }
        std::fs::rename(part, blob).map_err(Failure::disk)?;
        // Renaming counts as a change.
        let there = blob.metadata().map_err(Failure::disk)?;
        self.cache.note_good(self.repository, etag, &there);
        Ok(())
    }

    /// Appends what is missing to the part file; tries again as long as every attempt brings something.
    fn fill(&self, metadata: &Metadata, part: &mut File, mut received: u64) -> Result<(), Failure> {
        let limits = self.client.limits();
        let mut attempt = 1;
        while metadata.size.is_none_or(|size| received < size) {
            let before = received;
            match self.attempt(metadata, part, &mut received) {
                Ok(()) => return Ok(()),
                Err(Stop::Lost(_))
                    if received > before && attempt < limits.file_attempts && metadata.size.is_some() =>
                {
                    tracing::info!("{}: the connection broke at {received} bytes", self.label());
                    std::thread::sleep(limits.pause);
                    attempt += 1;
                }
                Err(Stop::Lost(failure) | Stop::Failed(failure)) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Requests the bytes that are missing and writes what arrives, up to the announced length.
    fn attempt(&self, metadata: &Metadata, part: &mut File, received: &mut u64) -> Result<(), Stop> {
        let disk = |error| Stop::Failed(Failure::disk(error));
        let content = self.client.content(self.repository, metadata, self.file, *received);
        let (start, mut body) = match content {
            // The server does not have what comes after the part.
            Err(Failure::Status(416)) if *received > 0 => {
                *received = restart(part).map_err(disk)?;
                self.client.content(self.repository, metadata, self.file, 0)
            }
            content => content,
        }
        .map_err(Stop::Failed)?;
        if start.from < *received {
            // It does not know ranges and sends the whole file.
            *received = restart(part).map_err(disk)?;
        }
        if let Some(size) = start.size.filter(|size| *size > self.most) {
            return Err(Stop::Failed(self.too_large(size)));
        }
        let label = self.label();
        let most = match start.size {
            Some(size) => size,
            None => self.client.limits().unannounced.min(self.most),
        };
        let mut buffer = vec![0; 1 << 16];
        self.progress.download(&label, *received, most);
        loop {
            let room = most.saturating_sub(*received);
            if room == 0 && start.size.is_some() {
                // Whatever still comes does not belong to the file.
                return Ok(());
            }
            // Where the length is not known, one byte more than there may be shows that there is more.
            let wanted = if start.size.is_some() { room } else { room + 1 };
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(buffer.len());
            let length = match body.read(&mut buffer[..wanted]) {
                Ok(length) => length,
                Err(failure @ Failure::Cut(_)) => return Err(Stop::Lost(failure)),
                Err(failure) => return Err(Stop::Failed(failure)),
            };
            if length == 0 {
                let Some(size) = start.size else {
                    self.progress.download(&label, *received, *received);
                    return Ok(());
                };
                let message = format!("{received} of {size} bytes arrived before the server ended the file");
                // Without a length of the body, a broken connection looks the same.
                return Err(match start.length {
                    Some(_) => Stop::Failed(Failure::Network(message)),
                    None => Stop::Lost(Failure::Cut(message)),
                });
            }
            if length as u64 > room {
                let message = format!("a file of more than {most} bytes that did not say how long it is");
                return Err(Stop::Failed(Failure::Nonsense(message)));
            }
            part.write_all(&buffer[..length]).map_err(disk)?;
            *received += length as u64;
            self.progress.download(&label, *received, most);
        }
    }
}

/// Opens a part file at its end, and returns its length. A link, a pipe or a second name of another file is replaced,
/// so that the bytes do not go elsewhere.
fn open_part(path: &Path) -> std::io::Result<(File, u64)> {
    let own = match path.symlink_metadata() {
        Ok(there) => there.is_file() && has_one_name(&there),
        Err(_) => false,
    };
    if !own {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        return Ok((file, 0));
    }
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    Ok((file, length))
}

#[cfg(unix)]
fn has_one_name(there: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(there) == 1
}

#[cfg(not(unix))]
fn has_one_name(_there: &std::fs::Metadata) -> bool {
    true
}

fn restart(part: &mut File) -> std::io::Result<u64> {
    part.set_len(0)?;
    part.seek(SeekFrom::Start(0))
}
