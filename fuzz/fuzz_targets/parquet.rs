//! A parquet file: read as a corpus and as a table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::table;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.parquet");
    std::fs::write(&file, bytes).expect("writable");
    if let Ok(corpus) = Corpus::read(&file, Join::Wikitext) {
        assert!(corpus.documents().iter().any(|document| !document.trim().is_empty()));
    }
    if let Ok(rows) = table::read(&file) {
        assert!(!rows.is_empty());
    }
});
