//! A GGUF file: parsed in memory, and imported from a file as the command does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::gguf::Gguf;
use zprune::gguf::import::{ImportOptions, import};
use zprune::progress::Silent;

fuzz_target!(|bytes: &[u8]| {
    if Gguf::parse(bytes).is_err() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, out) = (folder.path().join("m.gguf"), folder.path().join("out"));
    std::fs::write(&file, bytes).expect("writable");
    let imported = import(&file, &out, ImportOptions::default(), &Silent);
    assert_eq!(imported.is_ok(), out.exists(), "a directory appears if and only if the import succeeds");
});
