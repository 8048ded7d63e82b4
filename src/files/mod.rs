//! Files: what zprune reads ([`input`]), and everything that it writes: single files, whole folders, and the decision whether a
//! place may be written at all.
//!
//! A file or a folder is made under a temporary name beside its place, synchronised, renamed, and the folder that holds it is
//! synchronised too: readers see the old content or the new, and what was reported as written survives a loss of power. Temporary
//! names are `.zprune-`, twelve letters or digits, and `.tmp`; their writer holds a lock, so that what a killed process left can
//! be told from what a living one is at. The umask decides who may read what is written, and what is made from a file is open to no
//! more people than that ([`Access`]).
//!
//! Nothing that zprune did not write is replaced or removed: see [`OutputFile`].

mod access;
pub mod header;
pub mod input;
pub mod json;
pub mod names;
mod output;
mod staging;
mod whole;

pub use access::Access;
pub use output::OutputFile;
pub use staging::{Staging, remove_on_signals};
pub use whole::{create_folders, create_whole, no_links, only_plain, remove_unfinished, sync_parent, write_whole};

use std::path::Path;
use tempfile::NamedTempFile;

/// The text that names of temporary files and folders begin with.
const PREFIX: &str = ".zprune-";

/// Number of random letters and digits after [`PREFIX`].
const RANDOM: usize = 12;

/// The ending of the names of unfinished files and folders.
const UNFINISHED: &str = ".tmp";

/// The ending of the name of the lock file beside an unfinished folder.
const LOCK: &str = ".lock";

/// Makes a file with a temporary name that has this ending. The umask can remove bits of `access`.
fn temporary_file(folder: &Path, ending: &str, access: Access) -> std::io::Result<NamedTempFile> {
    let mut names = tempfile::Builder::new();
    names.prefix(PREFIX).rand_bytes(RANDOM).suffix(ending);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Without this, temporary files are their owner's alone.
        names.permissions(std::fs::Permissions::from_mode(access.of_data().mode()));
    }
    #[cfg(not(unix))]
    let _ = access;
    names.tempfile_in(folder).map_err(without_name)
}

/// The error of a temporary file without the file's name, which the user does not know.
fn without_name(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((what, _)) => std::io::Error::new(error.kind(), what),
        None => error,
    }
}

/// The random part of a temporary name with this ending; `None` for every other name.
fn random_part<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let part = name.strip_prefix(PREFIX)?.strip_suffix(ending)?;
    (part.len() == RANDOM && part.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(part)
}

/// The folder that contains `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
