//! What goes wrong with a download, and what to do about it.

use super::names::FileName;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a request or a download failed.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The hub answered with this status.
    Status(u16),
    /// The hub answered with this status and asks for a pause of this length before the next request.
    Busy(u16, Duration),
    /// The hub could not be reached, or does not answer.
    Network(String),
    /// The connection broke during the answer; another attempt may bring more.
    Cut(String),
    /// The cache could not be written.
    Disk(String),
    /// Something in the cache, such as a link, leads out of it.
    Foreign(String),
    /// The file that arrived is not the file that was announced.
    Damaged(String),
    /// The hub's answer cannot be understood or contradicts itself.
    Nonsense(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Busy(status, wait) => write!(f, "status {status}, to be asked again in {} s", wait.as_secs()),
            Failure::Network(message)
            | Failure::Cut(message)
            | Failure::Disk(message)
            | Failure::Foreign(message)
            | Failure::Damaged(message)
            | Failure::Nonsense(message) => f.write_str(message),
        }
    }
}

impl Failure {
    /// A failure of the file system below the cache.
    pub fn disk(error: io::Error) -> Failure {
        Failure::Disk(error.to_string())
    }

    /// Whether it is sensible to try later, or to use the cache until then: the hub cannot be reached or is
    /// overloaded.
    pub fn unreachable(&self) -> bool {
        matches!(
            self,
            Failure::Network(_) | Failure::Cut(_) | Failure::Busy(..) | Failure::Status(408 | 429 | 500..=599)
        )
    }
}

/// The name of a file that is to be downloaded.
///
/// # Errors
/// It is not the name of a file below a folder.
pub fn file_name(name: &str) -> Result<FileName, Failure> {
    FileName::parse(name).map_err(|fault| Failure::Nonsense(format!("the file name {name:?}: {fault}")))
}
