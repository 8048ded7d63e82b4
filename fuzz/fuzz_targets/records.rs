//! A `runs.jsonl`: read as it is, and again with ids and checksums that fit, so that what is behind that check is reached too; records
//! that are accepted are written, read again equal, and reported.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use zprune::experiment::plan::DENSE;
use zprune::experiment::plan_file::{PlanFile, PlannedCell};
use zprune::experiment::source::Source;
use zprune::experiment::resolve;
use zprune::record::{self, Record};
use zprune::report::{Report, Results};

const EXPERIMENT: &str = include_str!("../../tests/fixtures/tiny/experiment.toml");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("runs.jsonl");
    std::fs::write(&path, bytes).expect("writable");
    if let Ok(records) = record::read(folder.path()) {
        report(&records, folder.path());
        return;
    }
    if let Some(lines) = with_fitting_ids(bytes) {
        std::fs::write(&path, lines).expect("writable");
        if let Ok(records) = record::read(folder.path()) {
            report(&records, folder.path());
        }
    }
});

/// The lines with the ids of their cells and their checksums, or nothing if one is no record.
fn with_fitting_ids(bytes: &[u8]) -> Option<String> {
    let mut lines = String::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut record: Record = serde_json::from_slice(line).ok()?;
        record.id = record.cell.id();
        // It has a checksum as well, if it obeys the rules of records.
        lines.push_str(&record.line().ok()?);
        lines.push('\n');
    }
    Some(lines)
}

fn report(records: &[Record], folder: &Path) {
    let lines = records.iter().map(|record| record.line().expect("a record can be written"));
    let lines: String = lines.map(|line| line + "\n").collect();
    std::fs::write(folder.join("runs.jsonl"), &lines).expect("writable");
    let again = record::read(folder).expect("what was written can be read");
    assert_eq!(again.len(), records.len());

    let source = Source {
        path: "x.toml".into(),
        text: EXPERIMENT.to_string(),
    };
    let experiment = resolve::parse(&source).expect("a sound experiment");
    let cell = records.iter().map(|record| PlannedCell {
        id: record.id.clone(),
        model: experiment.models[0].name.clone(),
        method: match &record.cell.pruning {
            Some(_) => experiment.methods[0].name.clone(),
            None => DENSE.to_string(),
        },
        seed: record.cell.pruning.as_ref().map(|_| experiment.seeds[0]),
        pattern: record.cell.pruning.as_ref().map(|_| experiment.patterns[0]),
    });
    let plan = PlanFile {
        zprune: String::new(),
        cell: cell.collect(),
        experiment,
    };
    let report = Report::new(Results::join(plan, records));
    assert!(report.terminal(None).len() > 1);
}
