//! Which GPU, and what it can do.
//!
//! An adapter is found by number, address or name, or taken by merit, and put into one of four tiers; kernels are chosen by
//! tier, so a tier can be forced down to test what smaller devices would run.

use super::visible::{self, Card};
use crate::backend::choice;
pub use crate::backend::choice::{Choice, Listed, Tier};
use crate::error::{Error, Result};
use std::sync::OnceLock;
use wgpu::{Adapter, Backends, CooperativeScalarType, DeviceType, Features, Instance, InstanceDescriptor, Limits};

/// An adapter of this machine, and what tells it from others.
struct Known {
    adapter: Adapter,
    listed: Listed,
    /// The variable that says that this process must not use it.
    hidden: Option<String>,
}

/// All adapters of this machine that this process may use, in the order of their numbers; `WGPU_BACKEND` restricts the interfaces.
pub fn list() -> Vec<Listed> {
    usable(known()).into_iter().map(|known| known.listed).collect()
}

/// What hides GPUs of this machine from this process: for each variable with its value, how many.
pub fn hidden() -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for reason in known().into_iter().filter_map(|known| known.hidden) {
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    counts
}

/// The adapters that may be used, numbered: discrete GPUs come first, then integrated ones, then all others; those of a kind are in the
/// order of their PCI addresses.
fn usable(mut known: Vec<Known>) -> Vec<Known> {
    let merit = |known: &Known| match known.adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    known.retain(|known| known.hidden.is_none());
    known.sort_by(|a, b| (merit(a), &a.listed.address).cmp(&(merit(b), &b.listed.address)));
    for (index, known) in known.iter_mut().enumerate() {
        known.listed.index = index;
    }
    known
}

fn known() -> Vec<Known> {
    let adapters = adapters();
    let card = |adapter: &Adapter| {
        let info = adapter.get_info();
        Card {
            vendor: info.vendor,
            address: info.device_pci_bus_id.to_lowercase(),
        }
    };
    let cards: Vec<Card> = adapters.iter().map(card).collect();
    let hidden = visible::hidden(&cards, &|name| std::env::var(name).ok(), &visible::identifier);
    let known = adapters.into_iter().zip(hidden);
    known
        .map(|(adapter, hidden)| Known {
            listed: listed(&adapter),
            adapter,
            hidden,
        })
        .collect()
}

fn listed(adapter: &Adapter) -> Listed {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    Listed {
        index: 0,
        name: info.name.clone(),
        address: info.device_pci_bus_id.to_lowercase(),
        memory: memory(adapter),
        interface: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        software: info.device_type == DeviceType::Cpu,
        tier: tier(adapter),
        binding: limits.max_storage_buffer_binding_size,
        workgroup: limits.max_compute_workgroup_storage_size,
    }
}

/// Bytes of the adapter's own memory, where its interface tells.
#[cfg(any(target_os = "linux", target_os = "windows"))]
pub(super) fn memory(adapter: &Adapter) -> Option<u64> {
    // The bit of Vulkan's specification for memory that belongs to the device.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handles live as long as `adapter`, are only asked for properties, and nothing is destroyed.
    #[allow(unsafe_code)]
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::vulkan::Api>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = &properties.memory_heaps[..properties.memory_heap_count as usize];
    let own = heaps.iter().filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    own.map(|heap| heap.size).max()
}

/// Bytes of the adapter's own memory; this system shares its memory with it.
#[cfg(not(any(target_os = "linux", target_os = "windows")))]
pub(super) fn memory(_adapter: &Adapter) -> Option<u64> {
    None
}

fn adapters() -> Vec<Adapter> {
    // One for the whole process: a driver has room for some dozens, and finds no adapter after that.
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| {
        let mut descriptor = InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.memory_budget_thresholds.for_resource_creation = Some(97);
        Instance::new(descriptor)
    });
    // Asked for once: drivers take a while to answer, and a process asks several times.
    static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();
    let found = FOUND.get_or_init(|| pollster::block_on(instance.enumerate_adapters(Backends::all())));
    found.clone()
}

/// The first adapter, by its number, that fits the choice.
///
/// # Errors
/// None fits; lists those there are.
fn find_known(choice: &Choice) -> Result<Known> {
    let all = usable(known());
    let names: Vec<String> = all.iter().map(|known| known.listed.brief()).collect();
    let found = match &choice.adapter {
        Some(wanted) => {
            let listed: Vec<&Listed> = all.iter().map(|known| &known.listed).collect();
            choice::named(wanted, &listed)
        }
        None => all.iter().position(|known| choice.software || !known.listed.software),
    };
    let found = found.and_then(|index| all.into_iter().nth(index));
    found.ok_or_else(|| {
        let wanted = match &choice.adapter {
            Some(wanted) => format!("no GPU has the number or the address `{wanted}`, or a name with it"),
            None => "no GPU was found".to_string(),
        };
        let mut there = match names.is_empty() {
            true => "this machine offers none (is its Vulkan, Metal or DirectX 12 driver installed?)".to_string(),
            false => format!(
                "this machine offers: {} (software adapters are used only when asked for)",
                names.join(", ")
            ),
        };
        for (reason, count) in hidden() {
            there.push_str(&format!("; {reason} hides {count}"));
        }
        Error::config(format!("{wanted}; {there}; backend = \"cpu\" works everywhere"))
    })
}

/// The first adapter, by its number, that fits the choice.
///
/// # Errors
/// None fits; lists those there are.
pub(super) fn find(choice: &Choice) -> Result<Adapter> {
    Ok(find_known(choice)?.adapter)
}

/// The adapter that fits the choice best, with the tier limited as the choice says.
///
/// # Errors
/// None fits; lists those there are.
pub fn best(choice: &Choice) -> Result<Listed> {
    let mut listed = find_known(choice)?.listed;
    listed.tier = choice.tier.map_or(listed.tier, |tier| tier.min(listed.tier));
    Ok(listed)
}

/// Whether there is a real GPU that this process may use, so that `backend = "auto"` uses it.
pub fn real_gpu() -> bool {
    let real = |known: &Known| {
        !matches!(
            known.adapter.get_info().device_type,
            DeviceType::Cpu | DeviceType::Other
        )
    };
    usable(known()).iter().any(real)
}

/// The highest tier that an adapter supports.
pub(super) fn tier(adapter: &Adapter) -> Tier {
    let features = adapter.features();
    if !features.contains(Features::SUBGROUP) {
        Tier::Base
    } else if !features.contains(Features::SHADER_F16) {
        Tier::Subgroups
    } else if features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) && multiplies_halves(adapter) {
        Tier::Cooperative
    } else {
        Tier::F16
    }
}

/// Whether the adapter multiplies 16 x 16 x 16 tiles in half precision and adds up in single precision.
fn multiplies_halves(adapter: &Adapter) -> bool {
    adapter.cooperative_matrix_properties().iter().any(|it| {
        (it.m_size, it.n_size, it.k_size) == (16, 16, 16)
            && it.ab_type == CooperativeScalarType::F16
            && it.cr_type == CooperativeScalarType::F32
    })
}

/// The features that a tier needs, and double precision if the adapter has it.
pub(super) fn features(tier: Tier, adapter: &Adapter) -> Features {
    let mut features = Features::empty();
    if tier >= Tier::Subgroups {
        features |= Features::SUBGROUP | (adapter.features() & Features::SHADER_F64);
    }
    if tier >= Tier::F16 {
        features |= Features::SHADER_F16;
    }
    if tier >= Tier::Cooperative {
        features |= Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    }
    features
}

/// The limits that kernels of a tier may use.
pub(super) fn limits(tier: Tier, adapter: &Adapter) -> Limits {
    if tier == Tier::Base {
        Limits::defaults()
    } else {
        adapter.limits()
    }
}
