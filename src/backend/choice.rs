//! Which GPU is wanted, and what is known of those there are.

use crate::choices;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kernels may use on a device; each tier includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// WebGPU's default limits: 128 MiB bindings, 16 KiB of workgroup memory, 256 invocations, no extensions.
    Base,
    /// The adapter's own limits, and operations across a subgroup.
    Subgroups,
    /// Half precision in shaders and in memory.
    F16,
    /// Cooperative matrices: products of 16 x 16 tiles in half precision, accumulated in single.
    Cooperative,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Base => "base",
            Tier::Subgroups => "subgroups",
            Tier::F16 => "f16",
            Tier::Cooperative => "cooperative",
        })
    }
}

/// What the user wants of an adapter.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// A part of the adapter's name, in upper or lower case; `None` for the best adapter.
    pub name: Option<String>,
    /// Whether a software adapter is accepted if no name is given.
    pub software: bool,
    /// The highest tier that may be used; `None` for all that the adapter supports.
    pub tier: Option<Tier>,
}

impl Choice {
    /// Fills in what the caller left open from `WGPU_ADAPTER_NAME` and `ZPRUNE_GPU_TIER`.
    ///
    /// # Errors
    /// `ZPRUNE_GPU_TIER` is not a tier.
    pub fn or_environment(mut self) -> Result<Choice> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        if self.name.is_none() {
            self.name = variable("WGPU_ADAPTER_NAME");
        }
        if let (None, Some(tier)) = (self.tier, variable("ZPRUNE_GPU_TIER")) {
            let parsed = choices::named("tier", &tier.to_lowercase());
            self.tier = Some(parsed.map_err(|_| {
                Error::config(format!(
                    "ZPRUNE_GPU_TIER = {tier}: the tiers are base, subgroups, f16, cooperative"
                ))
            })?);
        }
        Ok(self)
    }
}

/// One adapter of this machine, as `zprune devices` lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name of the adapter.
    pub name: String,
    /// The interface that is used to reach it, for example Vulkan.
    pub interface: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Whether it is a program that runs on the CPU.
    pub software: bool,
    /// The highest tier that the adapter supports.
    pub tier: Tier,
    /// Largest part of a buffer that a kernel can see at once, in bytes.
    pub binding: u64,
    /// Memory of a workgroup, in bytes.
    pub workgroup: u32,
}
