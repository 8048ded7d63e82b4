//! Which GPU, and what it can do.
//!
//! An adapter is found by name or taken by merit, and put into one of four tiers; kernels are chosen by
//! tier, so a tier can be forced down to test what smaller devices would run.

pub use crate::backend::choice::{Choice, Listed, Tier};
use crate::error::{Error, Result};
use std::sync::OnceLock;
use wgpu::{Adapter, Backends, CooperativeScalarType, DeviceType, Features, Instance, InstanceDescriptor, Limits};

/// All adapters of this machine; `WGPU_BACKEND` restricts the interfaces.
pub fn list() -> Vec<Listed> {
    adapters().iter().map(listed).collect()
}

fn listed(adapter: &Adapter) -> Listed {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    Listed {
        name: info.name.clone(),
        interface: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        software: info.device_type == DeviceType::Cpu,
        tier: tier(adapter),
        binding: limits.max_storage_buffer_binding_size,
        workgroup: limits.max_compute_workgroup_storage_size,
    }
}

fn adapters() -> Vec<Adapter> {
    // One for the whole process: a driver has room for some dozens, and finds no adapter after that.
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| {
        let mut descriptor = InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.memory_budget_thresholds.for_resource_creation = Some(97);
        Instance::new(descriptor)
    });
    pollster::block_on(instance.enumerate_adapters(Backends::all()))
}

/// The best adapter that fits the choice: discrete GPUs come first, then integrated ones, then all others.
///
/// # Errors
/// None fits; lists those there are.
pub(super) fn find(choice: &Choice) -> Result<Adapter> {
    let all = adapters();
    let known: Vec<String> = all.iter().map(|adapter| adapter.get_info().name).collect();
    let fits = |adapter: &Adapter| {
        let info = adapter.get_info();
        match &choice.name {
            Some(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
            None => choice.software || info.device_type != DeviceType::Cpu,
        }
    };
    let merit = |adapter: &Adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    all.into_iter().filter(fits).min_by_key(merit).ok_or_else(|| {
        let wanted = match &choice.name {
            Some(name) => format!("no GPU has a name with `{name}` in it"),
            None => "no GPU was found".to_string(),
        };
        let there = match known.is_empty() {
            true => "this machine offers none (is its Vulkan, Metal or DirectX 12 driver installed?)".to_string(),
            false => format!(
                "this machine offers: {} (software adapters are used only when asked for by name)",
                known.join(", ")
            ),
        };
        Error::config(format!("{wanted}; {there}; backend = \"cpu\" works everywhere"))
    })
}

/// The adapter that fits the choice best, with the tier limited as the choice says.
///
/// # Errors
/// None fits; lists those there are.
pub fn best(choice: &Choice) -> Result<Listed> {
    let mut listed = listed(&find(choice)?);
    listed.tier = choice.tier.map_or(listed.tier, |tier| tier.min(listed.tier));
    Ok(listed)
}

/// Whether there is a real GPU, so that `backend = "auto"` uses it.
pub fn real_gpu() -> bool {
    adapters()
        .iter()
        .any(|adapter| !matches!(adapter.get_info().device_type, DeviceType::Cpu | DeviceType::Other))
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
