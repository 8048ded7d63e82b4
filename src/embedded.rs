//! The experiment of `zprune quickstart` with its model and its texts, as a part of the program.
//!
//! Whatever reads a model reads files, so they are written to a folder before they are used. A file that has the right bytes
//! already is left alone and every other one is replaced whole. So several processes may unpack into one folder at the same time,
//! a folder that holds everything may be read-only, and the next start mends what was interrupted or damaged.

use crate::data::digest::RunningDigest;
use crate::error::{Error, Result};
use crate::files::write_whole;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Path of the experiment below the folder.
const EXPERIMENT: &str = "experiments/quickstart.toml";

/// Each file with its path below the repository.
macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))),*]
    };
}

/// The files by their paths below the folder; the same as in the repository.
const FILES: [(&str, &[u8]); 10] = embedded![
    "experiments/quickstart.toml",
    "models/tiny-llama/README.md",
    "models/tiny-llama/config.json",
    "models/tiny-llama/generation_config.json",
    "models/tiny-llama/model.safetensors",
    "models/tiny-llama/tokenizer.json",
    "models/tiny-llama/tokenizer_config.json",
    "corpora/README.md",
    "corpora/austen_calibration.txt",
    "corpora/persuasion.txt",
];

/// A folder with the experiment, its model and its texts.
#[derive(Debug)]
pub struct Unpacked {
    folder: PathBuf,
    /// A folder that is removed with this value, where the user has none that can be written.
    temporary: Option<TempDir>,
}

impl Unpacked {
    /// Makes sure that all files are in `folder`, with these bytes.
    ///
    /// # Errors
    /// One is missing or has other bytes, and the folder cannot be written.
    pub fn at(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|error| Error::writing(folder, error))?;
        for (path, content) in FILES {
            write_whole(&folder.join(path), content)?;
        }
        Ok(Unpacked {
            folder,
            temporary: None,
        })
    }

    /// The same in the user's folder for caches; where there is none, or none that can be written, in a temporary folder.
    ///
    /// # Errors
    /// No temporary folder can be made.
    pub fn in_cache() -> Result<Self> {
        Unpacked::below(caches())
    }

    fn below(caches: Option<PathBuf>) -> Result<Self> {
        if let Some(caches) = caches {
            // Other versions have other files, and may be running.
            let folder = caches.join("zprune").join(format!("quickstart-{}", digest()));
            match Unpacked::at(&folder) {
                Ok(unpacked) => return Ok(unpacked),
                Err(error) => tracing::info!("{error}; a temporary folder takes its place"),
            }
        }
        let temporary = tempfile::Builder::new().prefix("zprune-quickstart-").tempdir();
        let temporary = temporary.map_err(|error| Error::writing(&std::env::temp_dir(), error))?;
        let unpacked = Unpacked::at(temporary.path())?;
        Ok(Unpacked {
            temporary: Some(temporary),
            ..unpacked
        })
    }

    /// Path of the experiment's file.
    pub fn experiment(&self) -> PathBuf {
        self.folder.join(EXPERIMENT)
    }

    /// The folder that has the experiment, the model and the texts.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder is removed with this value.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

/// The first sixteen hexadecimal digits of the SHA-256 of all paths and files.
fn digest() -> String {
    let mut all = RunningDigest::default();
    for (path, content) in FILES {
        all.update(path.as_bytes());
        all.update(content);
    }
    all.finish().sha256[..16].to_string()
}

/// The folder that this system gives a user for what can be made again.
fn caches() -> Option<PathBuf> {
    // A relative path in a variable would mean another folder in every place.
    let folder = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let below_home = |path| {
        std::env::home_dir()
            .filter(|home| home.is_absolute())
            .map(|home| home.join(path))
    };
    if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        below_home("Library/Caches")
    } else {
        folder("XDG_CACHE_HOME").or_else(|| below_home(".cache"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(unpacked: &Unpacked, path: &str) -> Vec<u8> {
        std::fs::read(unpacked.folder().join(path)).expect("unpacked")
    }

    #[test]
    fn what_is_missing_or_damaged_is_mended_and_the_rest_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let unpacked = Unpacked::at(folder.path()).expect("writable");
        for (path, bytes) in FILES {
            assert!(content(&unpacked, path) == bytes, "{path}");
        }
        let changed = |path: &str| {
            unpacked
                .folder()
                .join(path)
                .metadata()
                .expect("there")
                .modified()
                .expect("known")
        };
        let (weights, config) = ("models/tiny-llama/model.safetensors", "models/tiny-llama/config.json");
        let before = changed(config);
        std::fs::write(unpacked.folder().join(weights), b"cut").expect("ours");
        std::fs::remove_file(unpacked.experiment()).expect("ours");
        Unpacked::at(folder.path()).expect("writable");
        for (path, bytes) in FILES {
            assert!(content(&unpacked, path) == bytes, "{path}");
        }
        assert_eq!(changed(config), before, "a good file is not written again");
    }

    #[test]
    fn processes_may_unpack_at_the_same_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let unpack = || Unpacked::at(folder.path()).expect("writable");
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(unpack))));
        let unpacked = unpack();
        for (path, bytes) in FILES {
            assert!(content(&unpacked, path) == bytes, "{path}");
        }
        let entries = std::fs::read_dir(folder.path().join("corpora")).expect("readable");
        assert_eq!(entries.count(), 3, "nothing temporary is left");
    }

    #[test]
    fn a_place_that_is_no_folder_is_an_error_and_a_temporary_folder_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "a file").expect("writable");
        let error = Unpacked::at(&file).expect_err("a file is in the way").to_string();
        assert!(
            error.contains("something that is not a folder has this name"),
            "{error}"
        );
        for caches in [None, Some(file)] {
            let unpacked = Unpacked::below(caches).expect("the system has temporary folders");
            let experiment = unpacked.experiment();
            assert!(unpacked.is_temporary() && experiment.is_file());
            drop(unpacked);
            assert!(!experiment.exists(), "it is removed");
        }
        let unpacked = Unpacked::below(Some(folder.path().join("caches"))).expect("writable");
        assert!(!unpacked.is_temporary() && unpacked.folder().starts_with(folder.path().join("caches/zprune")));
    }
}
