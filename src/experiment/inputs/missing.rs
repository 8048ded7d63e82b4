//! What an experiment names and is not there: what it is, how to get it, and where the experiment's file names it.

use crate::error::Result;
use crate::files::near::meant;
use crate::hub::Hub;
use std::fmt;
use std::path::{Path, PathBuf};

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is, and how to get it, in a sentence.
    pub message: String,
    /// The path that the experiment names, from the working directory; with the parts that each cell fills in.
    pub named: PathBuf,
    /// Whether it is on the hub, from where a run gets it.
    pub downloaded: bool,
}

impl Missing {
    /// What the experiment names, and what is said of it.
    pub(super) fn said(&self) -> (&Path, &str) {
        (&self.named, &self.message)
    }

    /// A file or a folder: `named` is what the experiment has for it, `instead` what is there in its place.
    pub(super) fn file(
        what: &str,
        path: &Path,
        (named, obtain): (&Path, Option<&str>),
        instead: Option<String>,
    ) -> Missing {
        let obtain = obtain.map(|obtain| format!("to get it: {obtain}"));
        // A neighbour with nearly the same name is likelier than what the name might stand for.
        let there = path.parent().is_some_and(|folder| folder == named);
        let meant = meant(path).filter(|_| !there).or(instead);
        let mut how: Vec<String> = obtain.into_iter().chain(meant).collect();
        if how.is_empty() {
            how.push(match path.is_symlink() {
                true => "it is a link to something that does not exist".to_string(),
                false => {
                    "paths in an experiment file are relative to its folder, others to the folder zprune is started in"
                        .to_string()
                }
            });
        }
        Missing {
            message: format!("{what}: `{}` is not there; {}", path.display(), how.join("; ")),
            named: named.to_path_buf(),
            downloaded: false,
        }
    }

    /// Something else is in its place.
    pub(super) fn other(what: &str, path: &Path, named: &Path, instead: &str) -> Missing {
        Missing {
            message: format!("{what}: `{}` is no model directory; {instead}", path.display()),
            named: named.to_path_buf(),
            downloaded: false,
        }
    }

    /// Something of the hub that its cache does not have.
    ///
    /// # Errors
    /// The environment's settings of the hub are wrong.
    pub(super) fn in_cache(what: &str, named: &Path, described: &str) -> Result<Missing> {
        Ok(Missing {
            message: format!(
                "{what} {described} is not in the Hugging Face cache; `zprune run` downloads it, or name a local file or folder in its \
                 place"
            ),
            named: named.to_path_buf(),
            downloaded: Hub::from_environment()?.downloads(),
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
