//! The program `zprune`: arguments in, exit code out. Everything else is in the library.

/// Activations are allocated and freed by every operation; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

/// Milliseconds for which freed memory is kept for the next operation that needs as much. What the kernel takes
/// back it clears before it is used again, which costs more than many operations on activations do.
const KEEP_FREED: std::ffi::c_long = 1000;

/// `mi_option_purge_delay`, which libmimalloc-sys has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets two numbers of the allocator, before there is a second thread.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_FREED);
        libmimalloc_sys::mi_option_set(libmimalloc_sys::mi_option_large_os_pages, 1);
    }
    ExitCode::from(zprune::cli::main(std::env::args_os()))
}
