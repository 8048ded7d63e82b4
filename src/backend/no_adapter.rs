//! What stands in for the GPUs of this machine where the program was built without the feature `gpu`: there are none.

use super::choice::{Choice, Listed};
use crate::error::{Error, ErrorKind, Result};

/// The adapters of this machine: none.
pub fn list() -> Vec<Listed> {
    Vec::new()
}

/// What hides GPUs of this machine: nothing.
pub fn hidden() -> Vec<(String, usize)> {
    Vec::new()
}

/// The adapter that a choice takes.
///
/// # Errors
/// Always: there is none.
pub fn best(choice: &Choice) -> Result<Listed> {
    Err(missing(choice))
}

/// Whether `backend = "auto"` takes a GPU.
pub fn real_gpu() -> bool {
    false
}

/// The error of whoever wants a GPU, whichever it is.
pub fn missing(_choice: &Choice) -> Error {
    let message = "this program was built without the feature `gpu`; use backend = \"cpu\"";
    Error::new(ErrorKind::Config, message)
}
