//! The files of a model directory, and which of them may go into a copy.
//!
//! A model directory comes from somebody else, and what is copied from it is often published. A link in it may
//! lead to any file of this machine, so links that lead out of the directory are refused unless somebody asked
//! for them. The snapshots of the Hugging Face cache are made of links into the blobs beside them: those belong
//! to the model.

use crate::error::{Error, Result};
use std::fs::FileType;
use std::path::{Path, PathBuf};

/// How to treat links that lead out of a model directory when files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Refuse to copy the files that they lead to.
    Inside,
    /// Copy the files that they lead to, because the user asked for it.
    Follow,
}

/// A file that was found in a model directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path of the file relative to the directory.
    pub name: PathBuf,
    /// Path of the file's content, with all links resolved.
    pub place: PathBuf,
}

/// All files and folders of a model directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files, sorted by their paths.
    pub files: Vec<Found>,
    /// Folders that contain no file, not even in folders below them, sorted.
    pub empty: Vec<PathBuf>,
    /// Folders that were not looked into.
    pub left_out: Vec<PathBuf>,
}

/// Folders of version control: they hold a second copy of everything and are no part of the model.
const LEFT_OUT: &[&str] = &[".git"];

/// A model directory whose files are to be copied.
pub struct ModelFolder {
    path: PathBuf,
    /// The path of the directory with all links resolved.
    root: PathBuf,
    /// The folder with the files' content, if the directory is in the Hugging Face cache.
    blobs: Option<PathBuf>,
    links: Links,
}

impl Found {
    /// The path relative to the directory as text. Names that are no text are refused where files are found.
    pub fn text(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }
}

impl ModelFolder {
    /// Opens a directory; nothing in it is read yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path, links: Links) -> Result<Self> {
        let root = path.canonicalize().map_err(|source| Error::reading(path, source))?;
        let snapshots = root.parent().filter(|parent| parent.ends_with("snapshots"));
        let repository = snapshots.and_then(Path::parent);
        Ok(ModelFolder {
            path: path.to_path_buf(),
            blobs: repository.map(|repository| repository.join("blobs")),
            root,
            links,
        })
    }

    /// The files directly in the directory whose names are `wanted`, in order of their names. Folders are left out.
    ///
    /// # Errors
    /// One of them leads out of the directory or to nothing, or is neither a file nor a folder.
    pub fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for (name, kind) in self.entries(Path::new(""))? {
            if wanted(&name.to_string_lossy()) && !kind.is_dir() {
                found.extend(self.file(name, kind)?);
            }
        }
        Ok(found)
    }

    /// Everything in the directory and below it. Links of `exempt` files are followed wherever they lead.
    ///
    /// # Errors
    /// As [`ModelFolder::files`]; links to folders.
    pub fn everything(&self, exempt: impl Fn(&Path) -> bool) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let entries = self.entries(&folder)?;
            if entries.is_empty() && folder != Path::new("") {
                listing.empty.push(folder);
                continue;
            }
            for (name, kind) in entries {
                if kind.is_dir() && LEFT_OUT.iter().any(|left_out| name.ends_with(left_out)) {
                    listing.left_out.push(name);
                } else if kind.is_dir() {
                    folders.push(name);
                } else if exempt(&name) {
                    let place = self.path.join(&name);
                    listing.files.push(Found { name, place });
                } else {
                    let found = self.file(name.clone(), kind)?;
                    let found = found
                        .ok_or_else(|| self.refused(&name, "is a link to a folder; put the folder itself there"))?;
                    listing.files.push(found);
                }
            }
        }
        listing.files.sort_by(|a, b| a.name.cmp(&b.name));
        listing.empty.sort();
        Ok(listing)
    }

    /// The entries of a folder below the directory, sorted, with paths relative to the directory.
    fn entries(&self, folder: &Path) -> Result<Vec<(PathBuf, FileType)>> {
        let path = self.path.join(folder);
        let unreadable = |source| Error::reading(&path, source);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            entries.push((folder.join(entry.file_name()), entry.file_type().map_err(unreadable)?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// A file or a link to one; `None` for a link to a folder.
    fn file(&self, name: PathBuf, kind: FileType) -> Result<Option<Found>> {
        let path = self.path.join(&name);
        if name.to_str().is_none() {
            return Err(self.refused(&name, "its name is not UTF-8; rename it"));
        }
        let place = match path.canonicalize() {
            Ok(place) => place,
            Err(error) if kind.is_symlink() => {
                return Err(self.refused(&name, &format!("is a link that leads nowhere: {error}")));
            }
            Err(error) => return Err(Error::reading(&path, error)),
        };
        let metadata = place.metadata().map_err(|source| Error::reading(&path, source))?;
        if kind.is_symlink() && !self.belongs(&place) && self.links == Links::Inside {
            let place = place.display();
            return Err(self.refused(
                &name,
                &format!("is a link to {place}, outside of the model folder, and would be copied from there; remove it, or say --follow-links"),
            ));
        }
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() {
            return Err(self.refused(&name, "is neither a file nor a folder"));
        }
        Ok(Some(Found { name, place }))
    }

    /// Whether a path without links lies in the model directory or in the cache's folder of contents.
    fn belongs(&self, place: &Path) -> bool {
        let blobs = self.blobs.as_ref();
        place.starts_with(&self.root) || blobs.is_some_and(|blobs| place.starts_with(blobs))
    }

    fn refused(&self, name: &Path, what: &str) -> Error {
        Error::input(what).at(self.path.join(name).display())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().filter_map(|found| found.name.to_str()).collect()
    }

    #[test]
    fn links_that_lead_out_are_refused_until_somebody_asks_for_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("model");
        std::fs::create_dir_all(model.join("sub")).expect("writable");
        std::fs::write(folder.path().join("secret"), "s").expect("writable");
        std::fs::write(model.join("a.json"), "{}").expect("writable");
        symlink("a.json", model.join("b.json")).expect("writable");
        let all = |links| ModelFolder::open(&model, links)?.everything(|_| false);
        assert_eq!(
            names(&all(Links::Inside).expect("all inside").files),
            ["a.json", "b.json"]
        );
        assert_eq!(all(Links::Inside).expect("all inside").empty, [Path::new("sub")]);

        symlink("../../secret", model.join("sub/c.json")).expect("writable");
        let error = all(Links::Inside).expect_err("it leads out").to_string();
        assert!(
            error.contains("model/sub/c.json: is a link to ") && error.contains("--follow-links"),
            "{error}"
        );
        assert_eq!(
            names(&all(Links::Follow).expect("asked for").files),
            ["a.json", "b.json", "sub/c.json"]
        );
        // Not wanted, not looked at.
        let top = ModelFolder::open(&model, Links::Inside).and_then(|it| it.files(|name| name.ends_with(".json")));
        assert_eq!(
            names(&top.expect("the link is in a folder below")),
            ["a.json", "b.json"]
        );

        symlink("..", model.join("up")).expect("writable");
        assert!(
            all(Links::Follow)
                .expect_err("a folder")
                .to_string()
                .contains("is a link to a folder")
        );
        std::fs::remove_file(model.join("up")).expect("there");
        symlink("nowhere", model.join("d.json")).expect("writable");
        assert!(
            all(Links::Follow)
                .expect_err("dangling")
                .to_string()
                .contains("d.json: is a link that leads nowhere")
        );
    }

    #[test]
    fn links_of_the_hubs_cache_belong_to_the_model() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repository = folder.path().join("models--org--name");
        let snapshot = repository.join("snapshots/0123");
        for made in [
            &snapshot,
            &repository.join("blobs"),
            &folder.path().join("models--other--name/blobs"),
        ] {
            std::fs::create_dir_all(made).expect("writable");
        }
        std::fs::write(repository.join("blobs/abc"), "{}").expect("writable");
        std::fs::write(folder.path().join("models--other--name/blobs/abc"), "{}").expect("writable");
        symlink("../../blobs/abc", snapshot.join("config.json")).expect("writable");
        let listing = || ModelFolder::open(&snapshot, Links::Inside)?.everything(|_| false);
        assert_eq!(names(&listing().expect("its own blob").files), ["config.json"]);
        symlink("../../../models--other--name/blobs/abc", snapshot.join("other.json")).expect("writable");
        assert!(listing().is_err(), "the blob of another repository");
    }
}
