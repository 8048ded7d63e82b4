//! A text, JSON lines or either of them gzipped: read as a corpus, with every join, and as a table. What is packed here
//! must read as it does unpacked.
#![no_main]

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::path::Path;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::table;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("writable");
        path
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let path = write("x.jsonl.gz", bytes);
        let _ = (documents(&path, Join::None), table::read(&path).is_ok());
        let _ = documents(&write("x.txt.gz", bytes), Join::Lines);
        return;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("in memory");
    let packed = packed.finish().expect("in memory");
    let (plain, gzipped) = (write("x.jsonl", bytes), write("x.jsonl.gz", &packed));
    assert_eq!(documents(&plain, Join::None), documents(&gzipped, Join::None));
    assert_eq!(table::read(&plain).ok(), table::read(&gzipped).ok());
    let (plain, gzipped) = (write("x.txt", bytes), write("x.txt.gz", &packed));
    for join in [Join::None, Join::Lines, Join::Spaces, Join::Wikitext] {
        assert_eq!(documents(&plain, join), documents(&gzipped, join));
    }
});

fn documents(path: &Path, join: Join) -> Option<Vec<String>> {
    let corpus = Corpus::read(path, join).ok()?;
    assert!(corpus.documents().iter().any(|document| !document.trim().is_empty()));
    Some(corpus.documents().to_vec())
}
