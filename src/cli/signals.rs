//! Signals of the system that end the program, and those that must not.

use crate::error::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals that ask the program to end: Ctrl-C, a request to terminate, and the loss of the terminal, unless the
/// program was started so that it survives that (`nohup`).
pub(super) fn ending() -> Vec<i32> {
    [SIGINT, SIGTERM].into_iter().chain(hangup()).collect()
}

/// The signal for the loss of the terminal, if it should end the program.
#[cfg(unix)]
fn hangup() -> Option<i32> {
    Some(signal_hook::consts::SIGHUP).filter(|signal| !is_ignored(*signal))
}

/// Systems other than Unix have no such signal.
#[cfg(not(unix))]
fn hangup() -> Option<i32> {
    None
}

/// Whether the program was started with this signal switched off.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call changes nothing and fills the old one in, which is read only if it did.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init_ref().sa_sigaction == libc::SIG_IGN
    }
}

/// From now on this signal sets the flag, or ends the program at once if the flag is set already.
///
/// # Errors
/// The system refuses.
pub(super) fn stop_or_end(signal: i32, stop: Arc<AtomicBool>) -> Result<()> {
    // Looking and setting are one step: two signals may reach two threads at the same time.
    let act = move || {
        if stop.swap(true, Ordering::SeqCst) {
            signal_hook::low_level::exit(ErrorKind::Interrupted.exit_code().into());
        }
    };
    // SAFETY: the action uses an atomic flag and ends the process, which a handler of signals may do.
    #[allow(unsafe_code)]
    let registered = unsafe { signal_hook::low_level::register(signal, act) };
    registered.map(drop).map_err(refused)
}

/// The error for a signal handler that the system refuses.
pub(super) fn refused(error: std::io::Error) -> Error {
    Error::writing(Path::new("signal handlers"), error)
}

/// If a file grows beyond the system's limit (`ulimit -f`), a signal ends the program. With a handler for this
/// signal, writing fails instead, and the error names the file.
#[cfg(unix)]
pub(super) fn outlive_limits_of_files() -> Result<()> {
    let seen = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen)
        .map(drop)
        .map_err(refused)
}

/// On systems without this signal, writing fails in any case.
#[cfg(not(unix))]
pub(super) fn outlive_limits_of_files() -> Result<()> {
    Ok(())
}
