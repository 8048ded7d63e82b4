//! Claim: whatever goes wrong with a disk, nothing is lost and nothing is false.
//!
//! - [`failing`]: every file operation of every command fails once, and from then on: full disk, quota, read-only, no
//!   permission, input/output error, half a write.
//! - [`power`]: the power fails after any operation, and what was not synchronised may be gone.
//! - [`replaced`]: files are replaced, renamed and removed while a sweep goes on.
//!
//! The program under test is the real one, run under `tracer.c`, which the system's C compiler makes. Which operations are
//! tried where there are many is decided by `ZPRUNE_FAULT_SEED`; `ZPRUNE_FAULTS=all` tries all.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod disk;
mod failing;
mod jobs;
mod power;
mod replaced;
// Other tests use what these do not.
#[allow(dead_code)]
#[path = "../tiny/mod.rs"]
mod tiny;
mod traced;
