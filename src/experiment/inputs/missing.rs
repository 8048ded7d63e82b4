//! What an experiment names and is not there: what it is, how to get it, and where the experiment's file names it.

use crate::error::Result;
use crate::experiment::origin::Part;
use crate::files::near::meant;
use crate::hub::Hub;
use crate::hub::datasets::{DATASETS, PREFIX};
use std::fmt;
use std::path::Path;

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is, and how to get it, in a sentence.
    pub message: String,
    /// The part of the experiment that names it.
    pub part: Part,
    /// Whether it is on the hub, from where a run gets it.
    pub downloaded: bool,
}

/// How an experiment names a file or a folder.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    /// The part that names it.
    pub part: &'a Part,
    /// The path, from the working directory; with the parts that each cell fills in.
    pub path: &'a Path,
    /// How to get it, if the experiment says so.
    pub obtain: Option<&'a str>,
    /// Whether a file names it, and not an argument.
    pub in_file: bool,
}

impl Missing {
    /// The part that names it, and what is said of it.
    pub(super) fn said(&self) -> (&Part, &str) {
        (&self.part, &self.message)
    }

    /// A file or a folder: `named` is what the experiment has for it, `instead` what is there in its place.
    pub(super) fn file(
        what: &str,
        path: &Path,
        Named {
            part,
            path: named,
            obtain,
            in_file,
        }: Named,
        instead: Option<String>,
    ) -> Missing {
        let obtain = obtain.map(|obtain| format!("to get it: {obtain}"));
        // A neighbour with nearly the same name is likelier than what the name might stand for.
        let there = path.parent().is_some_and(|folder| folder == named);
        let meant = elsewhere(named).or_else(|| meant(path).filter(|_| !there)).or(instead);
        let mut how: Vec<String> = obtain.into_iter().chain(meant).collect();
        if how.is_empty() {
            how.push(match path.is_symlink() {
                true => "it is a link to something that does not exist".to_string(),
                false if in_file => "paths in an experiment file are relative to its folder".to_string(),
                false => "it is looked for from the folder in which zprune was started".to_string(),
            });
        }
        Missing {
            message: format!("{what}: `{}` is not there; {}", path.display(), how.join("; ")),
            part: part.clone(),
            downloaded: false,
        }
    }

    /// Something else is in its place.
    pub(super) fn other(what: &str, path: &Path, part: &Part, instead: &str) -> Missing {
        Missing {
            message: format!("{what}: `{}` is not a model folder; {instead}", path.display()),
            part: part.clone(),
            downloaded: false,
        }
    }

    /// Something of the hub that its cache does not have.
    ///
    /// # Errors
    /// The environment's settings of the hub are wrong.
    pub(super) fn in_cache(what: &str, part: &Part, described: &str) -> Result<Missing> {
        let hub = Hub::from_environment()?;
        let how = match hub.forbids() {
            None => "; `zprune run` downloads it".to_string(),
            Some(why) => format!(", and {why}"),
        };
        Ok(Missing {
            message: format!(
                "{what} {described} is not in the Hugging Face cache{how}, or {}",
                Hub::INSTEAD
            ),
            part: part.clone(),
            downloaded: hub.downloads(),
        })
    }
}

/// What a path is that is none of a file: one that a shell would complete, an address, or the name of a text of the hub.
fn elsewhere(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let last = path.file_name()?.to_string_lossy();
    if text.contains('~') && path.components().any(|part| part.as_os_str() == "~") {
        return Some("`~` stands for your own folder only in a shell: write the whole path".to_string());
    }
    if text.contains(['$', '%']) {
        return Some("variables are not filled in: write the whole path".to_string());
    }
    if ["http:/", "https:/", "file:/"].iter().any(|kind| text.contains(kind)) {
        return Some(
            "it is an address, and addresses are not opened: name a file or a folder of this machine".to_string(),
        );
    }
    let known = DATASETS.find(&last).is_ok();
    known.then(|| format!("a text of the hub is written \"{PREFIX}{last}\""))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
