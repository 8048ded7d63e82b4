//! Claim: a sweep may be interrupted at any moment, by anything; what was recorded stays, what was not
//! runs again, and the results are those of a sweep that was never disturbed.
#![cfg(unix)]

mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tiny::{Folder, Tensor};

const RECORDS: &str = "results/tiny/runs.jsonl";

/// Dense, and two methods by two patterns by two seeds.
const CELLS: usize = 9;

/// A folder whose experiment takes a second or two: long enough to be interrupted.
fn busy() -> Folder {
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

fn start(folder: &Folder) -> Child {
    let mut command = folder.zprune(&["experiment.toml"]);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

fn finish(folder: &Folder) -> Output {
    let output = folder.run();
    assert!(output.status.success(), "{output:?}");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(folder: &Folder) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("there are records");
    text.lines().map(str::to_string).collect()
}

/// The records, without where, when and how fast they were made.
fn records(folder: &Folder) -> Vec<Value> {
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

fn text_of<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().expect("a text")
}

fn ids(folder: &Folder) -> BTreeSet<String> {
    records(folder)
        .iter()
        .map(|record| text_of(record, "id").to_string())
        .collect()
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
        .filter(|(path, _)| path != Path::new(RECORDS));
    files.map(timeless).collect()
}

fn assert_same_results(disturbed: &Folder, undisturbed: &Folder) {
    assert_eq!(records(disturbed), records(undisturbed));
    assert_eq!(reports(disturbed), reports(undisturbed));
}

#[test]
fn killed_at_random_moments_it_ends_with_the_results_of_an_undisturbed_run() {
    const KILLS: usize = 10;
    let undisturbed = busy();
    let started = Instant::now();
    finish(&undisturbed);
    // Measured in runs, not seconds, so that a slow machine is interrupted as often as a fast one.
    let longest = started.elapsed().mul_f64(0.5);
    assert_eq!(records(&undisturbed).len(), CELLS);

    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut kills = 0;
    let mut caught_between_cells = false;
    while kills < KILLS {
        let disturbed = busy();
        loop {
            let mut child = start(&disturbed);
            std::thread::sleep(longest.mul_f64(random.random()));
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                assert!(status.success(), "ended by itself with {status}");
                break;
            }
            child.kill().expect("SIGKILL can be sent to a child");
            child.wait().expect("a killed child can be waited for");
            kills += 1;
            let done =
                std::fs::read(disturbed.path(RECORDS)).map_or(0, |bytes| bytes.split(|b| *b == b'\n').count() - 1);
            caught_between_cells |= (1..CELLS).contains(&done);
        }
        assert_same_results(&disturbed, &undisturbed);
        let last = finish(&disturbed);
        assert!(
            said(&last).contains("0 cells run, 9 had results already"),
            "{}",
            said(&last)
        );
    }
    assert!(caught_between_cells, "no kill came between the first and the last cell");
}

#[test]
fn an_unfinished_last_line_is_removed_and_its_cell_runs_again() {
    let undisturbed = Folder::new();
    finish(&undisturbed);
    let whole = lines(&undisturbed);
    let last = whole.last().expect("there are records");
    // One byte of the line, half of it, and all of it without its line end.
    for length in [1, last.len() / 2, last.len()] {
        let folder = Folder::new();
        finish(&folder);
        folder.write(RECORDS, whole[..CELLS - 1].join("\n") + "\n" + &last[..length]);
        let output = finish(&folder);
        assert!(
            said(&output).contains("results/tiny/runs.jsonl: removed an unfinished last line"),
            "{}",
            said(&output)
        );
        assert!(
            said(&output).contains("1 cells run, 8 had results already"),
            "{}",
            said(&output)
        );
        assert_eq!(
            lines(&folder)[..CELLS - 1],
            whole[..CELLS - 1],
            "finished records were touched"
        );
        assert_same_results(&folder, &undisturbed);
    }
}

#[test]
fn a_second_process_on_the_same_folder_is_turned_away() {
    let folder = busy();
    let mut first = start(&folder);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::metadata(folder.path(RECORDS)).is_ok_and(|file| file.len() > 0) {
        assert!(Instant::now() < deadline, "the first process recorded nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Held still, the first process keeps its lock however long the second takes to get there.
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &first.id().to_string()]).status();
        assert!(status.expect("the system has `kill`").success());
    };
    signal("-STOP");
    let before = folder.results();
    let second = folder.run();
    let after = folder.results();
    signal("-CONT");
    assert_eq!(second.status.code(), Some(3), "{}", said(&second));
    assert!(said(&second).contains("results/tiny/runs.jsonl: "), "{}", said(&second));
    assert!(said(&second).contains("another zprune is writing"), "{}", said(&second));
    assert_eq!(before, after);
    assert!(first.wait().expect("a child can be waited for").success());
    assert_eq!(ids(&folder).len(), CELLS);
}

#[test]
fn a_finished_experiment_runs_nothing_again() {
    let folder = Folder::new();
    let first = finish(&folder);
    assert!(
        said(&first).contains("9 cells run, 0 had results already"),
        "{}",
        said(&first)
    );
    let before = folder.results();
    let second = finish(&folder);
    assert!(
        said(&second).contains("0 cells run, 9 had results already"),
        "{}",
        said(&second)
    );
    assert_eq!(folder.results(), before);
    assert_eq!(second.stdout, first.stdout);
}

#[test]
fn one_changed_byte_of_an_evaluation_corpus_changes_every_cell() {
    let folder = Folder::new();
    finish(&folder);
    let old = ids(&folder);
    let mut novel = std::fs::read(folder.path("novel.txt")).expect("the folder has a novel");
    let last = novel.last_mut().expect("the novel is not empty");
    *last = b'.';
    folder.write("novel.txt", novel);
    let output = finish(&folder);
    assert!(
        said(&output).contains("9 cells run, 0 had results already"),
        "{}",
        said(&output)
    );
    assert_eq!(
        (old.len(), ids(&folder).len()),
        (CELLS, 2 * CELLS),
        "an old id was used again"
    );
}

#[test]
fn a_renamed_method_keeps_its_results_and_shows_its_new_name() {
    let folder = Folder::new();
    finish(&folder);
    let before = lines(&folder);
    folder.replace("experiment.toml", "name = \"sparsegpt\"", "name = \"surgeon\"");
    let output = finish(&folder);
    assert!(
        said(&output).contains("0 cells run, 9 had results already"),
        "{}",
        said(&output)
    );
    assert_eq!(lines(&folder), before);
    let report = folder
        .zprune(&["report", "experiment.toml"])
        .output()
        .expect("the program starts");
    let table = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(
        report.status.success() && table.contains("surgeon") && !table.contains("sparsegpt"),
        "{report:?}"
    );
    assert!(
        table.contains("9 cells: 9 done, 0 failed") && !table.contains("pending"),
        "{table}"
    );
}

/// Adds a model to the experiment whose weights differ from the first one's in these tensors.
fn add_model(folder: &Folder, name: &str, changed: &[(&str, f32)]) {
    let mut tensors = tiny::weights();
    for (name, value) in changed {
        let tensor = tensors.get_mut(*name).expect("a tensor of the model");
        let count = tensor.shape.iter().product();
        *tensor = Tensor::new(&tensor.shape, std::iter::repeat_n(*value, count));
    }
    std::fs::create_dir(folder.path(name)).expect("the temporary folder is writable");
    for file in ["config.json", "tokenizer.json"] {
        let from = folder.path("model").join(file);
        std::fs::copy(from, folder.path(name).join(file)).expect("the model has the file");
    }
    tiny::save(&tensors, &folder.path(name).join("model.safetensors"));
    folder.replace(
        "experiment.toml",
        "[calibration]",
        &format!("[[model]]\npath = \"{name}\"\n\n[calibration]"),
    );
}

#[test]
fn a_cell_that_breaks_down_is_recorded_with_its_reason_and_the_others_go_on() {
    let folder = Folder::new();
    // All weights are finite, so nothing can be refused beforehand. Activations reach 1e60, beyond single
    // precision; or log-likelihoods are finite, but the perplexity, their exponential, is not.
    let block = "model.layers.0.mlp";
    let (up, down) = (format!("{block}.up_proj.weight"), format!("{block}.down_proj.weight"));
    add_model(&folder, "overflowing", &[(&up, 1e30), (&down, 1e30)]);
    add_model(&folder, "overconfident", &[("model.norm.weight", 1e5)]);

    let output = folder.run();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("18 of 27 cells failed; runs.jsonl says why"),
        "{}",
        said(&output)
    );
    let first = records(&folder);
    assert_eq!(first.len(), 3 * CELLS);
    for record in &first {
        let reason = record
            .get("error")
            .map(|error| error.as_str().expect("a reason is a text"));
        match record["label"]["model"].as_str().expect("a label") {
            "model" => assert_eq!((text_of(record, "status"), reason), ("ok", None)),
            // The dense model's likelihood, or a score or an activation on the way.
            "overflowing" => assert!(
                reason.is_some_and(|reason| reason.contains("is not finite") || reason.contains("is inf")),
                "{record}"
            ),
            "overconfident" => {
                assert!(
                    reason.is_some_and(|reason| reason.starts_with("novel: the perplexity, exp of ")),
                    "{record}"
                );
            }
            other => panic!("no model is called {other}"),
        }
        assert_eq!(text_of(record, "status") == "failed", reason.is_some(), "{record}");
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("failed"), "{table}");

    let again = folder.run();
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("18 of 18 cells failed"), "{}", said(&again));
    assert!(
        said(&again).contains("18 cells run, 9 had results already"),
        "{}",
        said(&again)
    );
    let failed = first.into_iter().filter(|record| record["status"] == "failed");
    assert_eq!(records(&folder)[3 * CELLS..], failed.collect::<Vec<_>>());
}

#[test]
fn a_cell_that_failed_for_a_passing_reason_gets_its_result_from_the_next_run() {
    let undisturbed = Folder::new();
    finish(&undisturbed);
    let folder = Folder::new();
    finish(&folder);
    let mut all = lines(&folder);
    let mut record: Value = serde_json::from_str(&all[4]).expect("a record is JSON");
    record["status"] = "failed".into();
    record["error"] = "the machine was out of memory".into();
    record["evaluations"] = Value::Array(Vec::new());
    all[4] = record.to_string();
    folder.write(RECORDS, all.join("\n") + "\n");

    let output = finish(&folder);
    assert!(
        said(&output).contains("1 cells run, 8 had results already"),
        "{}",
        said(&output)
    );
    assert_eq!(lines(&folder)[..CELLS], all, "old records were touched");
    assert_eq!(records(&folder)[CELLS], records(&undisturbed)[4]);
    assert_eq!(reports(&folder), reports(&undisturbed));
}

#[test]
fn results_that_cannot_be_written_are_an_error_of_their_own() {
    let folder = Folder::new();
    folder.write("results", "not a folder");
    let output = folder.run();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("results/tiny: cannot write: "),
        "{}",
        said(&output)
    );
}
