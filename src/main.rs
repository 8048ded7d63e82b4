//! The program `zprune`: arguments in, exit code out. Everything else is in the library.

/// Activations are allocated and freed by every operation; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

/// Milliseconds for which freed memory is kept for the next operation that needs as much. What the kernel takes
/// back it clears before it is used again, which costs more than many operations on activations do.
const KEEP_FREED: std::ffi::c_long = 1000;

/// Bytes of stack that the program may use, as systems usually give.
const STACK: usize = 8 << 20;

/// `mi_option_purge_delay`, which libmimalloc-sys has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets two numbers of the allocator, before there is a second thread.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_FREED);
        libmimalloc_sys::mi_option_set(libmimalloc_sys::mi_option_large_os_pages, 1);
    }
    // The first thread's stack is as small as the user's limit (`ulimit -s`); one of our own is not.
    let work = || zprune::cli::main(std::env::args_os());
    let thread = std::thread::Builder::new().name("main".to_string()).stack_size(STACK);
    let code = match thread.spawn(work) {
        Ok(running) => running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => work(),
    };
    ExitCode::from(code)
}
