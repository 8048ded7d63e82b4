//! The files of a directory against the hashes in its `pruning.json` or `structure.json`.

use super::verdict::Verdict;
use crate::data::digest::FileDigest;
use crate::error::{Error, Result};
use crate::files::input;
use crate::jobs::card::{self, CARD};
use crate::jobs::provenance::PruningFile;
use crate::model::export::PRUNING;
use std::collections::BTreeMap;
use std::path::Path;

/// Compares the files with what was written, and adds those that changed, are missing or were added to the verdict.
pub(super) fn check(folder: &Path, claim: Option<&PruningFile>, verdict: &mut Verdict) -> Result<()> {
    let Some(claim) = claim else {
        verdict
            .unchecked
            .push(format!("whether anything changed: there is no {PRUNING}"));
        return Ok(());
    };
    let Some(fingerprints) = &claim.fingerprints else {
        verdict.unchecked.push(format!(
            "hashes of the files: {PRUNING} is of an older zprune and has none, so that weights which changed within their \
             pattern would not be seen; prune again to have them"
        ));
        return Ok(());
    };
    hold(folder, &fingerprints.output, PRUNING, verdict)
}

/// Compares the files with these hashes, which are in the directory's file `record`, and adds those that changed, are missing or were
/// added to the verdict.
pub(super) fn hold(
    folder: &Path,
    written: &BTreeMap<String, FileDigest>,
    record: &str,
    verdict: &mut Verdict,
) -> Result<()> {
    let mut same = 0;
    for (name, wanted) in written {
        let path = folder.join(name);
        if name == CARD {
            // People edit it, and no program reads it to compute.
            match FileDigest::of_file(&path) {
                Ok(found) if found == *wanted => same += 1,
                _ if measured(&path, wanted) => {
                    same += 1;
                    verdict.unchecked.push(format!(
                        "{name}: what `zprune card` put into it; the rest is as it was written"
                    ));
                }
                _ if path.exists() => verdict.unchecked.push(format!("{name}: it was edited")),
                _ => verdict.unchecked.push(format!("{name}: it was removed")),
            }
            continue;
        }
        if !path.is_file() {
            verdict.faults.push(format!("{name}: is missing; zprune wrote it"));
            continue;
        }
        match FileDigest::of_file(&path) {
            Ok(found) if found == *wanted => same += 1,
            Ok(found) => verdict.faults.push(format!(
                "{name}: is not what zprune wrote: it has {found}, not {wanted}"
            )),
            Err(error) => verdict
                .faults
                .push(format!("{name}: it cannot be compared with what zprune wrote: {error}")),
        }
    }
    verdict.files = Some(same);
    added(folder, written, record, verdict)
}

/// Whether a card has what was measured, and is for the rest the one that was written with the model.
fn measured(path: &Path, written: &FileDigest) -> bool {
    let card = input::read_text(path, input::SMALL).ok();
    let as_made = card.and_then(|card| card::as_made(&card));
    as_made.is_some_and(|card| FileDigest::of_bytes(card.as_bytes()) == *written)
}

/// Adds to the verdict what the directory contains besides the files that belong there and `record`.
pub(super) fn added<T>(folder: &Path, known: &BTreeMap<String, T>, record: &str, verdict: &mut Verdict) -> Result<()> {
    let unreadable = |source| Error::reading(folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        if known.contains_key(&name) || name == record {
            continue;
        }
        if name.starts_with('.') || name == CARD {
            verdict.unchecked.push(format!("{name}: it was added later"));
        } else {
            verdict
                .faults
                .push(format!("{name}: was added; zprune did not write it"));
        }
    }
    Ok(())
}
