//! Which GPU tests use: a real one, or the software Vulkan that CI installs.
//!
//! Without any, tests are skipped and say so; with `ZPRUNE_REQUIRE_GPU` set, as in CI, that is a failure.

use zprune::backend::Compute;
use zprune::backend::gpu::Gpu;
use zprune::backend::gpu::adapter::{Choice, Tier, list};

/// The highest tier of the adapter that tests use; `None` when there is none.
pub fn best_tier() -> Option<Tier> {
    let adapters = list();
    let best = adapters
        .iter()
        .min_by_key(|adapter| adapter.software)
        .map(|adapter| adapter.tier);
    if best.is_none() {
        assert!(
            std::env::var_os("ZPRUNE_REQUIRE_GPU").is_none(),
            "ZPRUNE_REQUIRE_GPU is set, and no adapter was found"
        );
        println!("skipped: no GPU here, not even a software one (Debian: mesa-vulkan-drivers)");
    }
    best
}

/// Opens it, with no more than a tier.
#[allow(dead_code, reason = "the quickstart's test goes through the program")]
pub fn open(tier: Tier, compute: Compute) -> Gpu {
    let choice = Choice {
        adapter: None,
        software: true,
        tier: Some(tier),
    };
    Gpu::open(&choice, compute).unwrap_or_else(|error| panic!("tier {tier}: {error}"))
}
