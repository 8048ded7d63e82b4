//! The threads that everything is computed with.

use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::num::NonZero;

/// The environment variable for the number of threads.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// A larger number of threads is taken for a mistake, unless the machine has as many cores.
const MOST: usize = 1024;

/// Starts the threads: the number that the environment asks for, or one per core.
///
/// # Errors
/// The environment says something else than a number of threads, or the system refuses so many.
pub(super) fn start() -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match std::env::var_os(VARIABLE) {
        Some(asked) => asked_for(&asked, cores)?,
        None => cores,
    };
    let started = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    started.map_err(|error| {
        Error::config(format!(
            "{threads} threads cannot be started ({error}); set {VARIABLE} to fewer"
        ))
    })
}

/// The number of threads that a text asks for on a machine with this many cores. 0 and an empty text ask for one per
/// core.
fn asked_for(text: &OsStr, cores: usize) -> Result<usize> {
    let most = MOST.max(cores);
    let number = text.to_str().map(str::trim);
    match number.map(|number| (number, number.parse())) {
        Some(("", _)) | Some((_, Ok(0))) => Ok(cores),
        Some((_, Ok(threads))) if threads <= most => Ok(threads),
        _ => Err(Error::config(format!(
            "{VARIABLE} = {text:?} must be a number of threads from 1 to {most}; this machine has {cores} cores"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_possible_numbers_of_threads_are_taken() {
        let asked = |text: &str| asked_for(OsStr::new(text), 2).ok();
        assert_eq!(
            [asked("1"), asked(" 64 "), asked("1024")],
            [Some(1), Some(64), Some(1024)]
        );
        assert_eq!([asked(""), asked("0")], [Some(2), Some(2)]);
        for wrong in ["100000", "1025", "-1", "two", "1.5", "99999999999999999999"] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
        assert_eq!(asked_for(OsStr::new("2000"), 4000).ok(), Some(2000));
    }
}
