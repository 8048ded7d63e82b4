//! Sweeps over the tiny model that take long enough to be interrupted, and what is left of them.

use crate::tiny::{self, Folder};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

pub const RECORDS: &str = "results/tiny/runs.jsonl";
pub const EVENTS: &str = "results/tiny/events.jsonl";

/// Dense, and two methods by two patterns by two seeds.
pub const CELLS: usize = 9;

/// A folder whose experiment takes a second or two: long enough to be interrupted.
pub fn busy() -> Folder {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "length = 16\nwindows = 4",
        "length = 64\nwindows = 150",
    );
    folder.replace(
        "experiment.toml",
        "sequences = 4\nlength = 16",
        "sequences = 32\nlength = 64",
    );
    folder.write("novel.txt", tiny::text(100, 3000));
    folder
}

/// Runs the experiment to its end, which must be a good one.
pub fn finish(folder: &Folder) -> Output {
    let output = folder.run();
    assert!(output.status.success(), "{output:?}");
    output
}

/// What a program wrote to standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of `runs.jsonl`.
pub fn lines(folder: &Folder) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("there are records");
    text.lines().map(str::to_string).collect()
}

/// The records, without where, when and how fast they were made.
pub fn records(folder: &Folder) -> Vec<Value> {
    let parse = |line: &String| {
        let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
        record
            .as_object_mut()
            .expect("a record is an object")
            .remove("run")
            .expect("a record says how it ran");
        record
    };
    lines(folder).iter().map(parse).collect()
}

/// Tables, plots and plan, without the seconds, which are the last column of every table.
fn reports(folder: &Folder) -> Vec<(String, String)> {
    let cells = |line: &str, separator: char| -> String {
        let mut cells: Vec<&str> = line
            .trim_end_matches(separator)
            .split(separator)
            .map(str::trim)
            .collect();
        cells.pop();
        cells.join("|")
    };
    let timeless = |(path, content): (std::path::PathBuf, Vec<u8>)| {
        let text = String::from_utf8(content).expect("reports are text");
        let kept = |line: &str| match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => cells(line, ','),
            // The rule under the header is as wide as the seconds are.
            Some("md") if line.starts_with("|--") => String::new(),
            Some("md") if line.starts_with('|') => cells(line, '|'),
            _ => line.to_string(),
        };
        (
            path.display().to_string(),
            text.lines().map(kept).collect::<Vec<_>>().join("\n"),
        )
    };
    let files = folder
        .results()
        .into_iter()
        .filter(|(path, _)| path != Path::new(RECORDS) && path != Path::new(EVENTS));
    files.map(timeless).collect()
}

/// Holds two folders' tables, plots and plans against each other; says which files differ, not how.
pub fn assert_same_reports(disturbed: &Folder, undisturbed: &Folder) {
    let (one, other) = (reports(disturbed), reports(undisturbed));
    let names = |reports: &[(String, String)]| reports.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    let differing: Vec<&String> = one
        .iter()
        .zip(&other)
        .filter(|(a, b)| a != b)
        .map(|((name, _), _)| name)
        .collect();
    assert!(differing.is_empty(), "{differing:?} differ");
}
