//! The program `zprune`: arguments in, exit code out. Everything else is in the library.

/// Activations are allocated and freed by every operation; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(zprune::cli::main(std::env::args_os()))
}
