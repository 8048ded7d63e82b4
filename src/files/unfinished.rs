//! Names of what is not finished: temporary files and folders beside their final places, and their locks. All ways of writing use
//! the same ones, so that each can tell what another left.

use super::access::Access;
use std::path::Path;
use tempfile::NamedTempFile;

/// The text that names of temporary files and folders begin with.
pub const PREFIX: &str = ".zprune-";

/// Number of random letters and digits after [`PREFIX`].
const RANDOM: usize = 12;

/// The ending of the names of unfinished files and folders.
pub const UNFINISHED: &str = ".tmp";

/// The ending of the name of the lock file beside an unfinished folder.
pub const LOCK: &str = ".lock";

/// Makes a file with a temporary name that has this ending. The umask can remove bits of `access`.
pub fn temporary_file(folder: &Path, ending: &str, access: Access) -> std::io::Result<NamedTempFile> {
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
pub fn without_name(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((what, _)) => std::io::Error::new(error.kind(), what),
        None => error,
    }
}

/// The random part of a temporary name with this ending; `None` for every other name.
pub fn random_part<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let part = name.strip_prefix(PREFIX)?.strip_suffix(ending)?;
    (part.len() == RANDOM && part.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(part)
}

/// The folder that contains `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
