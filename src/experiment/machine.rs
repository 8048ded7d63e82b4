//! Who computes, and in what precision: what was asked for, and what it means on this machine.

use crate::backend::Compute;
use crate::backend::gpu::adapter::{self, Choice, Tier};
use crate::error::{Error, Result};
use crate::memory::parse_budget;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A backend as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// This machine's cores.
    Cpu,
    /// A GPU.
    Gpu,
    /// A GPU where there is a real one, else the CPU.
    Auto,
}

/// A backend that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processor {
    /// This machine's cores.
    Cpu,
    /// A GPU.
    Gpu,
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Processor::Cpu => "cpu",
            Processor::Gpu => "gpu",
        })
    }
}

/// Who is asked to compute; whatever is absent has a default.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Request {
    /// Who computes: cpu, gpu, or auto (a GPU where there is a real one) [default: the experiment's, or cpu]
    #[arg(long, value_enum)]
    pub backend: Option<Wanted>,
    /// What weights and activations are stored in [default: f16 on a GPU that has it, else f32]
    #[arg(long, value_enum)]
    pub compute: Option<Compute>,
    /// Part of the GPU's name, as `zprune devices` lists it; the only way to a software GPU
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Memory that the CPU backend may use, such as 12GiB; activations beyond it go to a scratch file [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Folder of scratch files [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// Who computes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Backend.
    pub backend: Processor,
    /// What weights and activations are stored in.
    #[serde(default, skip_serializing_if = "Compute::is_default")]
    pub compute: Compute,
    /// Part of the GPU's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Memory a run may use. Decides no number, so it is not part of any id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Folder of scratch files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

impl Request {
    /// This request, and another's answers where it says nothing.
    #[must_use]
    pub fn or(&self, other: &Request) -> Request {
        Request {
            backend: self.backend.or(other.backend),
            compute: self.compute.or(other.compute),
            adapter: self.adapter.clone().or(other.adapter.clone()),
            memory: self.memory.clone().or(other.memory.clone()),
            scratch: self.scratch.clone().or(other.scratch.clone()),
        }
    }

    /// What the request means on this machine.
    ///
    /// # Errors
    /// Half precision on the CPU, an amount of memory that is none, or a GPU that is not there when its abilities
    /// decide the precision.
    pub fn resolve(&self) -> Result<Machine> {
        let wanted = match (self.backend, &self.adapter) {
            (Some(wanted), _) => wanted,
            // Naming a GPU asks for it.
            (None, Some(_)) => Wanted::Gpu,
            (None, None) => Wanted::Cpu,
        };
        let backend = match wanted {
            Wanted::Cpu => Processor::Cpu,
            Wanted::Gpu => Processor::Gpu,
            Wanted::Auto if adapter::real_gpu() => Processor::Gpu,
            Wanted::Auto => Processor::Cpu,
        };
        let compute = match (backend, self.compute) {
            (Processor::Cpu, Some(Compute::F16)) => {
                let message = "compute = \"f16\" needs a GPU: use backend = \"gpu\", or compute = \"f32\" or \"bf16\"";
                return Err(Error::config(message));
            }
            (Processor::Cpu, compute) => compute.unwrap_or_default(),
            (Processor::Gpu, Some(Compute::Bf16)) => {
                let message = "compute = \"bf16\" is for backend = \"cpu\"; on a GPU, half precision is \"f16\"";
                return Err(Error::config(message));
            }
            (Processor::Gpu, Some(compute)) => compute,
            (Processor::Gpu, None) if adapter::best(&self.choice()?)?.tier >= Tier::F16 => Compute::F16,
            (Processor::Gpu, None) => Compute::F32,
        };
        let memory = self.memory.as_deref().map(parse_budget).transpose()?;
        if backend == Processor::Gpu && memory.is_some() {
            let message = "`memory` limits what backend = \"cpu\" keeps; a GPU's memory is what it is: leave it out";
            return Err(Error::config(message));
        }
        if self.scratch.is_some() && memory.is_none() {
            let message = "`scratch` is where activations go that `memory` has no room for; give `memory`, too";
            return Err(Error::config(message));
        }
        Ok(Machine {
            backend,
            compute,
            memory,
            scratch: self.scratch.clone(),
            adapter: self.adapter.clone().filter(|_| backend == Processor::Gpu),
        })
    }

    fn choice(&self) -> Result<Choice> {
        choice(self.adapter.clone())
    }
}

impl Machine {
    /// Where scratch files go.
    pub fn scratch_folder(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Which adapter that is.
    ///
    /// # Errors
    /// An environment variable says something impossible.
    pub fn choice(&self) -> Result<Choice> {
        choice(self.adapter.clone())
    }
}

fn choice(name: Option<String>) -> Result<Choice> {
    let choice = Choice {
        name,
        ..Choice::default()
    };
    choice.or_environment()
}
