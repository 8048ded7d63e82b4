//! A `pruning.json`: read as it is, and again with a checksum that fits; what is accepted is written again equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::jobs::provenance::PruningFile;

fuzz_target!(|bytes: &[u8]| {
    let file = PruningFile::parse(bytes).ok();
    let file = file.or_else(|| serde_json::from_slice::<PruningFile>(bytes).ok());
    let Some(sealed) = file.and_then(|file| file.to_bytes().ok()) else {
        return;
    };
    if let Ok(file) = PruningFile::parse(&sealed) {
        assert_eq!(file.to_bytes().expect("it was written before"), sealed);
    }
});
