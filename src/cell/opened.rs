//! The backend that computes: chosen and opened here, and nowhere else.

use crate::backend::Compute;
#[cfg(not(feature = "gpu"))]
use crate::backend::adapter;
use crate::backend::cpu::{Bf16Kernel, Cpu, CpuBf16};
#[cfg(feature = "gpu")]
use crate::backend::gpu::Gpu;
use crate::error::Result;
use crate::experiment::machine::{Machine, MachinePlan, Processor};
use crate::prune::pattern::Pattern;
use crate::prune::recipe::Recipe;
use crate::prune::workbench::Workbench;

/// A backend that is ready to compute.
pub enum Opened {
    /// This machine's cores, in single precision.
    Cpu(Cpu),
    /// The same, with products of bfloat16.
    CpuBf16(CpuBf16),
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<Gpu>),
}

/// Work that every backend can do.
pub trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// The work's own.
    fn on<B: Workbench>(self, backend: &B) -> Result<Self::Output>;
}

impl Opened {
    /// Opens what a plan means on this machine.
    ///
    /// # Errors
    /// The GPU is not there, or cannot do what is asked of it.
    pub fn new(plan: &MachinePlan, machine: Machine) -> Result<Opened> {
        Ok(match machine.backend {
            Processor::Cpu if machine.compute == Compute::Bf16 => {
                let cpu = CpuBf16::or_environment()?;
                if cpu.kernel() == Bf16Kernel::F32 {
                    tracing::warn!(
                        "compute = \"bf16\" is not faster than \"f32\" on this processor, which computes in \"f32\" with rounded operands"
                    );
                }
                Opened::CpuBf16(cpu)
            }
            Processor::Cpu => Opened::Cpu(Cpu),
            #[cfg(feature = "gpu")]
            Processor::Gpu => Opened::Gpu(Box::new(Gpu::open(&plan.choice()?, machine.compute)?)),
            #[cfg(not(feature = "gpu"))]
            Processor::Gpu => return Err(adapter::missing(&plan.choice()?)),
        })
    }

    /// Does a piece of work on it.
    ///
    /// # Errors
    /// The work's own.
    pub fn run<W: Work>(&self, work: W) -> Result<W::Output> {
        match self {
            Opened::Cpu(cpu) => work.on(cpu),
            Opened::CpuBf16(cpu) => work.on(cpu),
            #[cfg(feature = "gpu")]
            Opened::Gpu(gpu) => work.on(gpu.as_ref()),
        }
    }

    /// Checks that a recipe stays within the backend's limits under a pattern, before anything is computed.
    ///
    /// # Errors
    /// It does not; says which limit.
    pub fn check(&self, recipe: &Recipe, pattern: Pattern) -> Result<()> {
        struct Check<'a>(&'a Recipe, Pattern);

        impl Work for Check<'_> {
            type Output = ();

            fn on<B: Workbench>(self, backend: &B) -> Result<()> {
                self.0.check(self.1, &backend.limits())
            }
        }

        self.run(Check(recipe, pattern))
    }
}
