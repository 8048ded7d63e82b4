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
    /// The adapter's number, its PCI address, or a part of its name, in upper or lower case; `None` for the first.
    pub adapter: Option<String>,
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
        if self.adapter.is_none() {
            self.adapter = variable("WGPU_ADAPTER_NAME");
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
    /// Number of the adapter among those that this process may use.
    pub index: usize,
    /// Name of the adapter.
    pub name: String,
    /// PCI address, such as `0000:41:00.0`; empty where the driver does not tell.
    pub address: String,
    /// The adapter's own memory in bytes, where its interface tells.
    pub memory: Option<u64>,
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

impl Listed {
    /// Number, name and address, for messages.
    pub fn brief(&self) -> String {
        match self.address.is_empty() {
            true => format!("{}: {}", self.index, self.name),
            false => format!("{}: {} at {}", self.index, self.name, self.address),
        }
    }
}

/// The place in the list of the adapter that is meant: its number, its PCI address with or without the domain, or a part of its name.
pub fn named(wanted: &str, all: &[&Listed]) -> Option<usize> {
    let wanted = wanted.trim().to_lowercase();
    let number = wanted.parse().ok().filter(|number| *number < all.len());
    let at = |it: &&Listed| {
        let (address, found) = (it.address.as_str(), !it.address.is_empty());
        found && (address == wanted || address.split_once(':').is_some_and(|(_, short)| short == wanted))
    };
    number
        .or_else(|| all.iter().position(at))
        .or_else(|| all.iter().position(|it| it.name.to_lowercase().contains(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_cards_are_told_apart_by_number_and_address() {
        let card = |index, name: &str, address: &str| Listed {
            index,
            name: name.to_string(),
            address: address.to_string(),
            memory: None,
            interface: "vulkan".to_string(),
            driver: String::new(),
            software: false,
            tier: Tier::Base,
            binding: 0,
            workgroup: 0,
        };
        let all = [
            card(0, "NVIDIA H100 80GB HBM3", "0000:19:00.0"),
            card(1, "NVIDIA H100 80GB HBM3", "0000:3b:00.0"),
            card(2, "llvmpipe (LLVM 19)", ""),
        ];
        let all: Vec<&Listed> = all.iter().collect();
        for (wanted, found) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("3B:00.0", Some(1)),
            ("0000:19:00.0", Some(0)),
            ("h100", Some(0)),
            ("LLVMPIPE", Some(2)),
            ("19", Some(2)),
            ("3", Some(0)),
            ("7", None),
            ("00:00.0", None),
        ] {
            assert_eq!(named(wanted, &all), found, "{wanted}");
        }
        assert_eq!(all[1].brief(), "1: NVIDIA H100 80GB HBM3 at 0000:3b:00.0");
        assert_eq!(all[2].brief(), "2: llvmpipe (LLVM 19)");
    }
}
