//! A `config.json`: read, and walked as opening a checkpoint walks it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::model::families::parse_spec;

fuzz_target!(|text: &str| {
    if let Ok(spec) = parse_spec(text) {
        assert!(spec.tensors().take(1000).all(|(name, _)| !name.is_empty()));
        let _ = (spec.reach(0), spec.reach(spec.blocks - 1), spec.prunable());
    }
});
