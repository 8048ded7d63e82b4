//! Claim: a sweep may be interrupted at any moment, by anything; what was recorded stays, what was not
//! runs again, and the results are those of a sweep that was never disturbed.
#![cfg(unix)]

mod sweeps;
mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Instant;
use sweeps::{CELLS, RECORDS, assert_same_reports, busy, finish, lines, records, said};
use tiny::{Folder, Tensor};

/// The experiment, started and left alone.
fn start(folder: &Folder) -> Child {
    let mut command = folder.zprune(&["experiment.toml"]);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

fn assert_same_results(disturbed: &Folder, undisturbed: &Folder) {
    assert_eq!(records(disturbed), records(undisturbed));
    assert_same_reports(disturbed, undisturbed);
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
    assert!(table.contains("9 cells: 9 done, 0 failed"), "{table}");
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
    assert_same_reports(&folder, &undisturbed);
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
