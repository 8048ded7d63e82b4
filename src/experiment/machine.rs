//! Who computes, and in what precision: what was asked for ([`MachineRequest`]), what that means on any machine
//! ([`MachinePlan`]), and what it means on this one ([`Machine`]).
//!
//! Only [`MachinePlan::here`] and [`MachinePlan::foreseen`] look at this machine.

use super::problems::{AtKey, Keyed};
use crate::backend::Compute;
use crate::backend::adapter;
use crate::backend::choice::{Choice, Tier};
use crate::error::{Error, Result};
use crate::linalg::Provider;
use crate::memory::parse_budget;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A backend as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The cores of the machine that zprune runs on.
    Cpu,
    /// A GPU, through Vulkan, Metal or DirectX 12.
    Gpu,
    /// A GPU where there is a real one, else the CPU.
    Auto,
}

/// A backend that computes, after `auto` was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processor {
    /// The cores of the machine that zprune runs on.
    Cpu,
    /// A GPU, through Vulkan, Metal or DirectX 12.
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

/// The backend that is asked for, its precision and its memory; whatever is absent has a default.
#[derive(Debug, Clone, Default)]
pub struct MachineRequest {
    /// The backend; the experiment's, or the CPU.
    pub backend: Option<Wanted>,
    /// The number format of weights and activations; half precision on a GPU that has it, else single.
    pub compute: Option<Compute>,
    /// The GPU's number, PCI address or part of its name, as `zprune devices` lists it. A software GPU must be named.
    pub adapter: Option<String>,
    /// Memory that the CPU backend may use, such as 12GiB; activations beyond it go to a scratch file.
    pub memory: Option<String>,
    /// Folder of scratch files; the system's for temporary files.
    pub scratch: Option<PathBuf>,
}

/// The backend that is to compute, its precision and its memory, before anything is known of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// The backend that was asked for.
    pub backend: Wanted,
    /// The number format of weights and activations; `None` leaves it to the device: `f16` on a GPU that has it, else `f32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
    /// The GPU's number, PCI address or part of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Memory a run may use. Decides no number, so it is not part of any id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// The folder of scratch files; the system's for temporary files if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

/// The backend that computes on this machine, and its precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The backend that computes, after `auto` was decided.
    pub backend: Processor,
    /// The number format of weights and activations.
    pub compute: Compute,
}

/// The backend that would compute, for those who only plan: where the GPU that is asked for is not here, as on the login node of a
/// cluster, half precision is taken for granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The backend that would compute, and its precision.
    pub machine: Machine,
    /// What was taken for granted, in words.
    pub assumed: Option<String>,
}

impl MachineRequest {
    /// This request, and another's answers where it says nothing.
    #[must_use]
    pub fn or(&self, other: &MachineRequest) -> MachineRequest {
        MachineRequest {
            backend: self.backend.or(other.backend),
            compute: self.compute.or(other.compute),
            adapter: self.adapter.clone().or(other.adapter.clone()),
            memory: self.memory.clone().or(other.memory.clone()),
            scratch: self.scratch.clone().or(other.scratch.clone()),
        }
    }

    /// Whether the request has a value for this key of `[compute]`.
    pub(super) fn says(&self, key: &str) -> bool {
        match key {
            "compute" => self.compute.is_some(),
            "memory" => self.memory.is_some(),
            "scratch" => self.scratch.is_some(),
            _ => false,
        }
    }

    /// What the request means, whatever the machine.
    ///
    /// # Errors
    /// A precision, a memory limit or a provider that the backend does not have, or an amount of memory that is none.
    pub fn resolve(&self, provider: Provider) -> Result<MachinePlan> {
        self.resolved(provider).map_err(|(_, error)| error)
    }

    /// The same, with the key of `[compute]` that an error is about.
    pub(super) fn resolved(&self, provider: Provider) -> Keyed<MachinePlan> {
        let backend = match (self.backend, &self.adapter) {
            (Some(wanted), _) => wanted,
            // Naming a GPU asks for it.
            (None, Some(_)) => Wanted::Gpu,
            (None, None) => Wanted::Cpu,
        };
        let memory = self.memory.as_deref().map(parse_budget).transpose().at_key("memory")?;
        if self.scratch.is_some() && memory.is_none() {
            let message = "`scratch` is the folder for activations that do not fit in `memory`; give `memory`, too";
            return Err(("scratch", Error::config(message)));
        }
        let plan = MachinePlan {
            backend,
            compute: self.compute,
            memory,
            scratch: self.scratch.clone(),
            adapter: self.adapter.clone().filter(|_| backend != Wanted::Cpu),
        };
        match backend {
            Wanted::Cpu => plan.fits(Processor::Cpu, provider)?,
            Wanted::Gpu => plan.fits(Processor::Gpu, provider)?,
            // Which of them it will be is not known, but one of them must do.
            Wanted::Auto => plan
                .fits(Processor::Gpu, provider)
                .or_else(|_| plan.fits(Processor::Cpu, provider))?,
        }
        Ok(plan)
    }
}

impl MachinePlan {
    /// What the plan means on this machine. Looks for a GPU only where that decides something, and opens none.
    ///
    /// # Errors
    /// A GPU that is not there when its abilities decide the precision, or a machine that `auto` makes one that the rest of
    /// the plan does not fit.
    pub fn here(&self, provider: Provider) -> Result<Machine> {
        let backend = self.processor();
        self.fits(backend, provider).map_err(|(_, error)| error)?;
        let compute = match (backend, self.compute) {
            (_, Some(compute)) => compute,
            (Processor::Cpu, None) => Compute::default(),
            (Processor::Gpu, None) => half_if(adapter::best(&self.choice()?)?.tier),
        };
        Ok(Machine { backend, compute })
    }

    /// What the plan means here, or would mean where there is the GPU that it asks for.
    ///
    /// # Errors
    /// As [`MachinePlan::here`], except that a GPU may be missing.
    pub fn foreseen(&self, provider: Provider) -> Result<Foreseen> {
        let backend = self.processor();
        self.fits(backend, provider).map_err(|(_, error)| error)?;
        if let (Processor::Gpu, None) = (backend, self.compute) {
            let choice = self.choice()?;
            if let Err(missing) = adapter::best(&choice) {
                let compute = half_if(choice.tier.unwrap_or(Tier::F16));
                let name = compute.name();
                return Ok(Foreseen {
                    machine: Machine { backend, compute },
                    assumed: Some(format!(
                        "{missing}. The ids are those of compute = \"{name}\", the default on a GPU that supports it; to be sure of it, \
                         write it into the experiment"
                    )),
                });
            }
        }
        Ok(Foreseen {
            machine: self.here(provider)?,
            assumed: None,
        })
    }

    /// The plan that asks for exactly this machine, for files that tell how results came about.
    #[must_use]
    pub fn settled(&self, machine: Machine) -> MachinePlan {
        let gpu = machine.backend == Processor::Gpu;
        MachinePlan {
            backend: match machine.backend {
                Processor::Cpu => Wanted::Cpu,
                Processor::Gpu => Wanted::Gpu,
            },
            compute: Some(machine.compute).filter(|compute| gpu || !compute.is_default()),
            adapter: self.adapter.clone().filter(|_| gpu),
            ..self.clone()
        }
    }

    /// The backend that is meant here.
    fn processor(&self) -> Processor {
        match self.backend {
            Wanted::Cpu => Processor::Cpu,
            Wanted::Gpu => Processor::Gpu,
            Wanted::Auto if adapter::real_gpu() => Processor::Gpu,
            Wanted::Auto => Processor::Cpu,
        }
    }

    /// Refuses what a backend does not have, with the key that it is about.
    fn fits(&self, processor: Processor, provider: Provider) -> Keyed<()> {
        let (key, message) = match (processor, self.compute) {
            (Processor::Cpu, Some(Compute::F16)) => (
                "compute",
                "compute = \"f16\" needs a GPU: use backend = \"gpu\", or compute = \"f32\" or \"bf16\"",
            ),
            (Processor::Gpu, Some(Compute::Bf16)) => (
                "compute",
                "compute = \"bf16\" is for backend = \"cpu\"; on a GPU, half precision is \"f16\"",
            ),
            (Processor::Gpu, _) if self.memory.is_some() => (
                "memory",
                "`memory` limits the memory of backend = \"cpu\" and has no effect on a GPU; leave it out",
            ),
            (Processor::Gpu, _) if provider != Provider::Faer => (
                "linear_algebra",
                "linear_algebra = \"lapack\" is for backend = \"cpu\": a GPU factors matrices itself",
            ),
            _ => return Ok(()),
        };
        Err((key, Error::config(message)))
    }

    /// The folder that scratch files go to: the one that was asked for, or the system's for temporary files.
    pub fn scratch_folder(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Which adapter is meant.
    ///
    /// # Errors
    /// An environment variable says something impossible.
    pub fn choice(&self) -> Result<Choice> {
        let choice = Choice {
            adapter: self.adapter.clone(),
            ..Choice::default()
        };
        choice.or_environment()
    }
}

/// The precision of a GPU that nobody asked for another one.
fn half_if(tier: Tier) -> Compute {
    match tier >= Tier::F16 {
        true => Compute::F16,
        false => Compute::F32,
    }
}
