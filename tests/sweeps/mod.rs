//! Sweeps over the tiny model that take long enough to be interrupted, and what is left of them.

use crate::tiny::{self, Files, Folder};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use zprune::record::Record;

pub const RECORDS: &str = "results/tiny/runs.jsonl";
pub const EVENTS: &str = "results/tiny/events.jsonl";
/// The list of what a report wrote, which has the hashes of files that say how long things took.
pub const WRITTEN: &str = "results/tiny/written.jsonl";
const PLAN: &str = "results/tiny/plan.toml";

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

/// Waits until `done`, which a minute is enough for.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
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

/// A changed record as a line with the checksum of what it says now.
pub fn sealed(record: Value) -> String {
    let mut record: Record = serde_json::from_value(record).expect("a record is well formed");
    record.check = None;
    record.line().expect("its numbers fit each other")
}

/// The records, without where, when and how fast they were made.
pub fn records(folder: &Folder) -> Vec<Value> {
    let parse = |line: &String| {
        let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
        for key in ["run", "check"] {
            let fields = record.as_object_mut().expect("a record is an object");
            fields
                .remove(key)
                .expect("a record says how it ran, and has a checksum");
        }
        record
    };
    lines(folder).iter().map(parse).collect()
}

/// Plan and reports as `zprune report` makes them from these lines of `runs.jsonl`.
fn reported(folder: &Folder, lines: &[String]) -> Files {
    let made = Folder::new();
    std::fs::create_dir_all(made.path("results/tiny")).expect("the temporary folder is writable");
    let plan = std::fs::read(folder.path(PLAN)).expect("there is a plan");
    made.write(PLAN, plan);
    made.write(RECORDS, lines.join("\n") + "\n");
    let output = made
        .zprune(&["report", "results/tiny"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", said(&output));
    let mut files = made.results();
    files.remove(Path::new(RECORDS));
    files.remove(Path::new(WRITTEN));
    files
}

/// A record as if all were made at the same place and time, equally fast.
fn timeless(line: &str) -> String {
    let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
    record["run"] = json!({
        "version": "", "machine": "", "finished": "", "calibrate_seconds": 1.0, "prune_seconds": 1.0, "total_seconds": 1.0,
    });
    sealed(record)
}

fn assert_same_files(one: &Files, other: &Files) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let differing: Vec<_> = one.iter().filter(|(path, content)| other[*path] != **content).collect();
    let names: Vec<_> = differing.iter().map(|(path, _)| path).collect();
    assert!(names.is_empty(), "{names:?} differ");
}

/// Holds the reports of two sweeps against each other: what is in the folder is what the records say, and records
/// without times make the same reports, byte by byte.
pub fn assert_same_reports(disturbed: &Folder, undisturbed: &Folder) {
    let all = lines(disturbed);
    let mut written = disturbed.results();
    written.retain(|path, _| ![RECORDS, EVENTS, WRITTEN].contains(&path.to_str().expect("a plain name")));
    assert_same_files(&written, &reported(disturbed, &all));
    let without_times = |folder: &Folder| {
        reported(
            folder,
            &lines(folder).iter().map(|line| timeless(line)).collect::<Vec<_>>(),
        )
    };
    assert_same_files(&without_times(disturbed), &without_times(undisturbed));
}
