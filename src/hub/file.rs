//! Files of data sets on the hub: bringing one into the cache.

use super::datasets::DatasetFile;
use super::download::Transfer;
use super::failure::file_name;
use super::names::FileName;
use super::settings::Hub;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::path::PathBuf;

impl Hub {
    /// The path of a data set's file, if it is in the cache. Uses no network and hashes nothing.
    pub fn cached_file(&self, file: &DatasetFile) -> Option<PathBuf> {
        let commit = self.cache.commit(&file.repository)?;
        let name = FileName::parse(&file.file).ok()?;
        let path = self.cache.snapshot(&file.repository, &commit).join(name.as_str());
        Some(path).filter(|path| path.exists())
    }

    /// Makes sure that a file of a data set is in the cache and returns its path.
    ///
    /// # Errors
    /// As [`Hub::fetch_model`].
    pub fn fetch_file(&self, file: &DatasetFile, progress: &dyn Progress) -> Result<PathBuf> {
        let repository = &file.repository;
        let name = file_name(&file.file).map_err(|failure| Error::config(failure).at(repository))?;
        let check = || self.cache.check(repository, [file.file.as_str()], progress);
        let cached = match self.cached_file(file) {
            Some(path) if self.offline => return check().map(|()| path),
            None if self.offline => return Err(self.offline_error(&file.to_string())),
            Some(path) if repository.pinned() => match check() {
                Ok(()) => return Ok(path),
                // What is damaged is downloaded anew.
                Err(_) => None,
            },
            cached => cached,
        };
        progress.stage(&format!("asking the hub for {file}"));
        let client = self.client()?;
        let transfer = Transfer {
            cache: &self.cache,
            client: &client,
            repository,
            file: &name,
            most: self.limits.file,
            progress,
        };
        let fetched = transfer.run_at_revision().and_then(|(path, commit)| {
            self.cache.note(repository, &commit)?;
            Ok(path)
        });
        match fetched {
            Ok(path) => Ok(path),
            Err(failure) if cached.is_some() => {
                let path = self.without(cached, failure, &client, repository)?;
                check().map(|()| path)
            }
            Err(failure) => Err(self.explain(failure, &client, repository, Some(&file.file))),
        }
    }
}
