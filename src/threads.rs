//! Threads beside those that compute: where the system refuses one, that is an error with a reason and never a panic. And locks that
//! threads share.

use crate::error::{Error, Result};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Starts a thread that nobody waits for; `name` says what it is for.
///
/// # Errors
/// The system refuses.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = Builder::new().name(name.to_string());
    thread.spawn(work).map(drop).map_err(|error| refused(name, &error))
}

/// Checks that a thread can be started, before somebody else's code does so and panics if it cannot.
///
/// # Errors
/// The system refuses.
pub fn check(name: &str) -> Result<()> {
    let thread = Builder::new().name(name.to_string());
    let started = thread.spawn(|| ()).map_err(|error| refused(name, &error))?;
    // A thread without work has no reason to panic.
    let _ended = started.join();
    Ok(())
}

/// Does work on a thread of its own that has `bytes` of stack, of which memory is used as far as the work goes.
///
/// # Errors
/// The system refuses such a thread.
///
/// # Panics
/// The work does.
pub fn with_stack<T: Send>(name: &str, bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let thread = Builder::new().name(name.to_string()).stack_size(bytes);
    std::thread::scope(|scope| {
        let running = thread.spawn_scoped(scope, work);
        let running = running.map_err(|error| refused(name, &error))?;
        Ok(running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// As [`with_stack`], but waits no longer than `limit`; none if the work has not come to its end by then. Nobody can stop a thread from
/// outside: it goes on until its work or the program ends.
///
/// # Errors
/// The system refuses such a thread.
///
/// # Panics
/// The work does.
pub fn with_limit<T: Send + 'static>(
    name: &str,
    bytes: usize,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (done, ended) = mpsc::channel();
    let thread = Builder::new().name(name.to_string()).stack_size(bytes);
    let running = thread.spawn(move || {
        // Nobody waits any more where the time is over.
        let _waited = done.send(work());
    });
    let running = running.map_err(|error| refused(name, &error))?;
    match ended.recv_timeout(limit) {
        Ok(found) => Ok(Some(found)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => match running.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Ok(None),
        },
    }
}

/// Locks a mutex. One that is poisoned is used as it is: another thread panicked while it held the lock, which ends the
/// program anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(name: &str, error: &io::Error) -> Error {
    Error::config(format!(
        "the system starts no thread for {name} ({error}); allow more processes (`ulimit -u`) or more address space (`ulimit -v`), or set RAYON_NUM_THREADS to fewer"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_without_an_end_is_not_waited_for() {
        let limit = Duration::from_millis(50);
        let forever = || std::thread::sleep(Duration::from_secs(3600));
        assert_eq!(with_limit("a test", 1 << 16, limit, forever).expect("a thread"), None);
        let long = Duration::from_secs(60);
        assert_eq!(with_limit("a test", 1 << 16, long, || 7).expect("a thread"), Some(7));
    }

    #[test]
    fn a_refusal_says_what_the_thread_was_for_and_what_to_do() {
        let error = refused("signals", &io::Error::from(io::ErrorKind::WouldBlock));
        assert!(
            error
                .to_string()
                .starts_with("the system starts no thread for signals ("),
            "{error}"
        );
        assert!(error.to_string().contains("ulimit -u"), "{error}");
        assert_eq!(error.kind().exit_code(), 2);
        check("a test").expect("this machine has room for a thread");
    }
}
