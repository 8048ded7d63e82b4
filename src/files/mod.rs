//! Files: what zprune reads ([`input`]), and everything that it writes: single files, whole folders, and the decision whether a
//! place may be written at all.
//!
//! A file or a folder is made under a temporary name beside its place, synchronised, renamed, and the folder that holds it is
//! synchronised too: readers see the old content or the new, and what was reported as written survives a loss of power. Temporary
//! names are `.zprune-`, twelve letters or digits, and `.tmp`; their writer holds a lock, so that what a killed process left can
//! be told from what a living one is at. The umask decides who may read what is written, and what is made from a file is open to no
//! more people than that ([`Access`]).
//!
//! Nothing that zprune did not write is replaced or removed: see [`OutputFile`].

mod access;
pub mod header;
pub mod input;
pub mod json;
pub mod names;
pub mod near;
mod output;
mod staging;
mod unfinished;
mod whole;

pub use access::Access;
pub use output::OutputFile;
pub use staging::{Staging, remove_on_signals};
pub use whole::{create_folders, create_whole, no_links, only_plain, remove_unfinished, sync_parent, write_whole};
