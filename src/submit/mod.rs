//! Job scripts: a sweep's cells on the engines that clusters already have.
//!
//! Cells are independent and have ids, so an engine needs to know no more than `zprune run X.toml --cell ID`; what is done is
//! known by records, never by the engine. Several jobs write to one results folder, so its file system must lock files. An
//! engine is one file and one line in [`ENGINES`]. Nothing is submitted from here; scripts are text, and the caller writes them.

mod slurm;
mod snakemake;
mod sweep;

use crate::error::Result;
use crate::registry::{Entry, Registry};
pub use sweep::{Resources, ScriptCell, Scripts, Sweep, is_script};

/// All cluster engines by name, each with the function that makes its scripts.
pub const ENGINES: Registry<fn(&Sweep) -> Result<Scripts>> = Registry {
    kind: "engine",
    entries: &[
        Entry {
            name: "slurm",
            summary: "a SLURM job array, one task per cell, and a job that makes the report after it",
            item: slurm::scripts,
        },
        Entry {
            name: "snakemake",
            summary: "a Snakemake workflow, one rule per method, and a rule that makes the report",
            item: snakemake::scripts,
        },
    ],
};
