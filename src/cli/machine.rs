//! The options of every command that computes: who, and how.

use super::choice::choice;
use crate::backend::Compute;
use crate::experiment::machine::{MachineRequest, Wanted};
use std::path::PathBuf;

/// Who is asked to compute.
#[derive(Debug, clap::Args)]
pub(super) struct Machine {
    /// What computes: cpu, gpu, or auto (a GPU where there is a real one) [default: cpu]
    #[arg(long, value_parser = choice::<Wanted>(&[
        "This machine's cores",
        "A GPU",
        "A GPU where there is a real one, else the CPU",
    ]))]
    backend: Option<Wanted>,
    /// What weights and activations are stored in [default: f16 on a GPU that has it, else f32]
    #[arg(long, value_parser = choice::<Compute>(&[
        "Single precision",
        "Half precision, as the papers' code; the residual stream stays in single precision. GPU only",
        "bfloat16 operands of products, everything else in single precision. CPU only",
    ]))]
    compute: Option<Compute>,
    /// The GPU: its number, PCI address or part of its name, as `zprune devices` lists it. A software GPU must be named
    #[arg(long, value_name = "GPU")]
    adapter: Option<String>,
    /// Memory that the CPU backend may use, such as 12GiB; activations beyond it go to a scratch file [default: no limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Folder of scratch files [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl Machine {
    /// What the options ask for.
    pub(super) fn request(&self) -> MachineRequest {
        MachineRequest {
            backend: self.backend,
            compute: self.compute,
            adapter: self.adapter.clone(),
            memory: self.memory.clone(),
            scratch: self.scratch.clone(),
        }
    }
}
