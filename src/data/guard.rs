//! Panics of other people's parsers on malformed files, made ordinary messages.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

/// Calls a parser of another crate. If it panics, the panic's message becomes the error and nothing is printed.
///
/// # Errors
/// The panic's message.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static GUARDED: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // Panics of other threads, and of this one elsewhere, are reported as before.
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
    GUARDED.set(true);
    // Nothing that a panic may have left half-changed is used afterwards: the caller gives up.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(false);
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or(payload.downcast_ref::<&str>().copied())
            .unwrap_or("malformed")
            .to_string()
    })
}
