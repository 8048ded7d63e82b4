//! Who may use a file or a folder: what is made from one must not be open to more people than it is.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Permission bits as Unix has them: reading, writing and executing for the owner, the group and everybody. On other
/// systems they have no effect. The umask can remove bits, whatever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Access(u32);

impl Access {
    /// Access for everybody, as far as the umask allows.
    pub const OPEN: Access = Access(0o777);

    /// Access for the owner alone.
    pub const OWN: Access = Access(0o700);

    /// The access rights of what is at a path; links are followed.
    ///
    /// # Errors
    /// Nothing is there, or it cannot be looked at.
    pub fn of(path: &Path) -> Result<Access> {
        let there = path.metadata().map_err(|source| Error::reading(path, source))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            Ok(Access(there.permissions().mode()).and(Access::OPEN))
        }
        #[cfg(not(unix))]
        {
            let _ = there;
            Ok(Access::OPEN)
        }
    }

    /// The access rights that both give.
    #[must_use]
    pub fn and(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }

    /// The rights for a file of data that zprune makes: those who may read or write keep these rights, and nobody may
    /// execute it.
    #[must_use]
    pub fn of_data(self) -> Access {
        Access(self.0 & 0o666 | 0o600)
    }

    /// The rights for a folder that zprune makes: its owner can put files into it.
    #[must_use]
    pub fn of_folder(self) -> Access {
        Access(self.0 | 0o700)
    }

    /// The same rights, and the right to execute for everybody who may read.
    #[must_use]
    pub fn with_executing(self) -> Access {
        Access(self.0 | (self.0 & 0o444) >> 2)
    }

    /// The access rights as permission bits of Unix.
    #[cfg(unix)]
    pub(super) fn mode(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

impl From<Access> for String {
    fn from(access: Access) -> String {
        access.to_string()
    }
}

impl TryFrom<String> for Access {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Access, String> {
        let octal = text.len() == 3 && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let bits = u32::from_str_radix(&text, 8).ok().filter(|_| octal);
        bits.map(Access)
            .ok_or_else(|| format!("permissions {text:?} are not three digits from 0 to 7"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        Access::try_from(text.to_string()).expect("octal digits")
    }

    #[test]
    fn permissions_are_three_octal_digits() {
        for text in ["000", "600", "755", "777"] {
            assert_eq!(access(text).to_string(), text);
        }
        for text in ["", "8", "0755", "+17", "rwx", "77", "778"] {
            assert!(Access::try_from(text.to_string()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_made_is_no_wider() {
        assert_eq!(access("755").of_data(), access("644"));
        assert_eq!(access("444").of_data(), access("644"));
        assert_eq!(access("640").and(access("604")), access("600"));
        assert_eq!(access("050").of_folder(), access("750"));
        assert_eq!(access("640").with_executing(), access("750"));
    }
}
