//! Archives. Bytes that begin with `{` are taken for the manifest of an archive, others for a weight file: of an archive, which
//! is expanded, and of a model, which comes back bit for bit when it is compressed and expanded. A directory is left if and only
//! if that succeeds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use zprune::data::digest::FileDigest;
use zprune::jobs::archive::manifest::{MANIFEST, Manifest};
use zprune::jobs::archive::{ENDING, MARK, compress, expand};
use zprune::model::folder::Links;
use zprune::progress::Silent;

const WEIGHTS: &str = "model.safetensors";
const MODEL: &[u8] = include_bytes!("../seeds/archive/model.safetensors");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| folder.path().join(name);
    if bytes.starts_with(b"{") {
        let _ = Manifest::parse(bytes);
        let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else {
            return;
        };
        archived(MODEL, &place("model"), &place("archive"));
        changed(&manifest, &place("archive"), &place("expanded"));
        return;
    }
    // As a part of an archive of another model, whose manifest says that it belongs there.
    archived(MODEL, &place("other"), &place("changed"));
    let part = [&MARK[..], bytes].concat();
    std::fs::write(place("changed").join(format!("{WEIGHTS}{ENDING}")), &part).expect("writable");
    let mut manifest = Manifest::read(&place("changed")).expect("it was just written");
    if let Some(weights) = manifest.weights.get_mut(WEIGHTS) {
        weights.archived = FileDigest::of_bytes(&part);
    }
    changed(&manifest, &place("changed"), &place("expanded"));

    if archived(bytes, &place("model"), &place("archive")) {
        expand(&place("archive"), &place("again"), &Silent).expect("what was compressed expands");
        let again = std::fs::read(place("again").join(WEIGHTS)).expect("readable");
        assert!(again == bytes, "other bytes came back");
    }
});

/// Compresses a model of one weight file, if it can be.
fn archived(weights: &[u8], model: &Path, archive: &Path) -> bool {
    std::fs::create_dir(model).expect("writable");
    std::fs::write(model.join(WEIGHTS), weights).expect("writable");
    let done = compress(model, archive, Links::Inside, &Silent);
    assert_eq!(done.is_ok(), archive.exists());
    done.is_ok()
}

/// Expands an archive with a manifest that may say anything, under a checksum that fits.
fn changed(manifest: &Manifest, archive: &Path, out: &Path) {
    let Ok(bytes) = manifest.to_bytes() else {
        return;
    };
    std::fs::write(archive.join(MANIFEST), bytes).expect("writable");
    let done = expand(archive, out, &Silent);
    assert_eq!(done.is_ok(), out.exists());
}
