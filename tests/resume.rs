//! Claim: a sweep may be interrupted at any moment, by anything; what was recorded stays, what was not
//! runs again, and the results are those of a sweep that was never disturbed.
#![cfg(unix)]

mod sweeps;
mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use sweeps::{CELLS, EVENTS, RECORDS, assert_same_reports, busy, finish, lines, records, said, sealed, wait_for};
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
    // One byte of the line, half of it, and all of it but its last byte.
    for length in [1, last.len() / 2, last.len() - 1] {
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
            said(&output).contains("1 cell run, 8 had results already"),
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
fn a_last_record_that_lacks_only_its_line_end_is_kept() {
    let folder = Folder::new();
    finish(&folder);
    let whole = lines(&folder);
    folder.write(RECORDS, whole.join("\n"));
    let output = finish(&folder);
    assert!(!said(&output).contains("removed an unfinished"), "{}", said(&output));
    assert_eq!(lines(&folder), whole, "no record was lost or made again");
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
    let words = "nothing was run: all 9 cells have results in results/tiny already. To run them again, choose another folder with \
                       --results, or remove that folder";
    assert!(said(&second).contains(words), "{}", said(&second));
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
    all[4] = sealed(record);
    folder.write(RECORDS, all.join("\n") + "\n");

    let output = finish(&folder);
    assert!(
        said(&output).contains("1 cell run, 8 had results already"),
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

/// A sweep that is disturbed once it has recorded a cell, and what becomes of it.
fn disturbed(folder: &Folder, disturb: impl FnOnce()) -> Output {
    let mut command = folder.zprune(&["experiment.toml"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program starts");
    wait_for("a record", || {
        std::fs::read_to_string(folder.path(EVENTS)).is_ok_and(|log| log.contains("\"done\""))
    });
    disturb();
    child.wait_with_output().expect("a child can be waited for")
}

const WEIGHTS: &str = "model/model.safetensors";

/// Writes other weights over the end of the file, as a training script does that saves again.
fn overwrite(path: &Path) {
    let mut file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("the weights are writable");
    file.seek(SeekFrom::End(-4)).expect("it is longer");
    file.write_all(&0.25f32.to_le_bytes()).expect("writable");
}

#[test]
fn inputs_that_change_during_a_sweep_end_it_and_no_record_has_their_old_hash_and_new_numbers() {
    type Change = fn(&Folder);
    let changes: [(&str, Change, &str); 6] = [
        (
            WEIGHTS,
            |folder| overwrite(&folder.path(WEIGHTS)),
            "was written to while it was in use",
        ),
        (
            WEIGHTS,
            |folder| {
                let file = std::fs::File::options().write(true).open(folder.path(WEIGHTS));
                file.and_then(|file| file.set_len(4000))
                    .expect("the weights are writable");
            },
            " to 4000 bytes while it was in use",
        ),
        (
            WEIGHTS,
            |folder| {
                std::fs::copy(folder.path(WEIGHTS), folder.path("new")).expect("readable");
                overwrite(&folder.path("new"));
                std::fs::rename(folder.path("new"), folder.path(WEIGHTS)).expect("one folder");
            },
            "was replaced by another file",
        ),
        (
            "model/tokenizer.json",
            |folder| folder.replace("model/tokenizer.json", "\"version\"", " \"version\""),
            "grew from ",
        ),
        (
            "novel.txt",
            |folder| folder.write("novel.txt", tiny::text(7, 3000)),
            "novel.txt: the file ",
        ),
        (
            "calibration.jsonl",
            |folder| std::fs::remove_file(folder.path("calibration.jsonl")).expect("it is there"),
            "was removed",
        ),
    ];
    let undisturbed = busy();
    finish(&undisturbed);
    let good = records(&undisturbed);
    for (file, change, says) in changes {
        let folder = busy();
        let output = disturbed(&folder, || change(&folder));
        let text = said(&output);
        // The change may be seen when a block is read that is no more there, or when the record is to be written.
        assert_eq!(output.status.code(), Some(2), "{file}: {} {text}", output.status);
        assert!(text.contains(file) && text.contains(says), "{text}");
        assert!(
            text.contains(" has no record, ") && text.contains("run the same command again"),
            "{text}"
        );
        let all = records(&folder);
        assert!((1..CELLS).contains(&all.len()), "{} records", all.len());
        assert_eq!(all, good[..all.len()], "{file}");
    }
}

#[test]
fn inputs_that_are_touched_and_keep_their_content_do_not_end_a_sweep() {
    use std::os::unix::fs::PermissionsExt;
    let undisturbed = busy();
    finish(&undisturbed);
    let folder = busy();
    let at = |name: &str| folder.path(name);
    let output = disturbed(&folder, || {
        std::fs::hard_link(at(WEIGHTS), at("other name")).expect("one file system");
        let text = std::fs::File::options().write(true).open(at("novel.txt"));
        let later = std::time::SystemTime::now() + Duration::from_secs(60);
        text.and_then(|file| file.set_modified(later))
            .expect("the text is ours");
        let private = std::fs::Permissions::from_mode(0o600);
        for name in ["model/tokenizer.json", "model/config.json", "calibration.jsonl"] {
            std::fs::set_permissions(at(name), private.clone()).expect("the files are ours");
        }
    });
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(records(&folder), records(&undisturbed));
}

#[test]
fn a_change_that_leaves_no_trace_in_size_and_times_is_found_by_the_hash_at_the_end() {
    let folder = busy();
    let path = folder.path(WEIGHTS);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the weights are writable");
    // SAFETY: nothing else in this process looks at the file while it is mapped.
    #[allow(unsafe_code)]
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.expect("a small file can be mapped");
    let last = map.len() - 4;
    // The first write to a page takes the time; what follows before it goes to disk does not.
    let bytes = map[last..].to_vec();
    map[last..].copy_from_slice(&bytes);
    let old = bytes[0];
    let output = disturbed(&folder, || map[last] = old ^ 0x40);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "model.safetensors: the content changed after the run hashed it",
        "the 9 records of this run that come from it are withdrawn",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let all = records(&folder);
    assert_eq!(all.len(), 2 * CELLS);
    assert!(all[CELLS..].iter().all(|record| record["status"] == "withdrawn"));
    // The old content has no results any more.
    map[last] = old;
    let again = finish(&folder);
    assert!(
        said(&again).contains("9 cells run, 0 had results already"),
        "{}",
        said(&again)
    );
    let undisturbed = busy();
    finish(&undisturbed);
    assert_eq!(records(&folder)[2 * CELLS..], records(&undisturbed));
}

#[test]
fn a_replaced_file_of_records_gets_what_it_lacks() {
    type Way = fn(&Path, &[u8]);
    let ways: [(&str, Way); 4] = [
        ("cp and mv", |path, old| {
            let copy = path.with_extension("copy");
            std::fs::write(&copy, old).expect("writable");
            std::fs::rename(&copy, path).expect("one folder");
        }),
        ("cp over it", |path, old| std::fs::write(path, old).expect("writable")),
        ("removal", |path, _| std::fs::remove_file(path).expect("it is there")),
        ("an editor's two steps", |path, old| {
            std::fs::rename(path, path.with_extension("old")).expect("one folder");
            std::thread::sleep(Duration::from_millis(5));
            std::fs::write(path, old).expect("writable");
        }),
    ];
    let undisturbed = busy();
    finish(&undisturbed);
    for (name, way) in ways {
        let folder = busy();
        let output = disturbed(&folder, || {
            for _ in 0..3 {
                let files = [RECORDS, EVENTS].map(|file| folder.path(file));
                let old = files.each_ref().map(|file| std::fs::read(file).unwrap_or_default());
                std::thread::sleep(Duration::from_millis(150));
                for (file, old) in files.iter().zip(old).filter(|(file, _)| file.exists()) {
                    way(file, &old);
                }
            }
        });
        assert!(output.status.success(), "{name}: {}", said(&output));
        for path in ["results/tiny/runs.old", "results/tiny/events.old"] {
            let _ = std::fs::remove_file(folder.path(path));
        }
        let mut all = records(&folder);
        assert_eq!(all.len(), CELLS, "{name}: {}", said(&output));
        all.sort_by_key(|record| record["id"].to_string());
        let mut expected = records(&undisturbed);
        expected.sort_by_key(|record| record["id"].to_string());
        assert_eq!(all, expected, "{name}");
        let log = std::fs::read_to_string(folder.path(EVENTS)).expect("there are events");
        assert_eq!(log.matches("\"event\":\"done\"").count(), CELLS, "{name}: {log}");
    }
}

#[test]
fn a_file_of_records_that_is_replaced_by_something_else_is_left_alone_and_the_records_are_saved() {
    let folder = busy();
    let output = disturbed(&folder, || {
        folder.write("notes", "my notes\n");
        std::fs::rename(folder.path("notes"), folder.path(RECORDS)).expect("one folder");
    });
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("runs.jsonl:1: not a record: ") && text.contains("runs.rescued-"),
        "{text}"
    );
    assert_eq!(lines(&folder), ["my notes"]);
    let saved = folder.results();
    let (name, saved) = saved
        .iter()
        .find(|(path, _)| path.to_string_lossy().contains("runs.rescued-"))
        .expect("the records are saved");
    std::fs::remove_file(folder.path(name)).expect("it is there");
    folder.write(RECORDS, saved);
    let count = lines(&folder).len();
    assert!((1..=CELLS).contains(&count), "{count} records");
    let output = finish(&folder);
    let cells = if CELLS - count == 1 { "cell" } else { "cells" };
    let expected = format!("{} {cells} run, {count} had results already", CELLS - count);
    assert!(said(&output).contains(&expected), "{}", said(&output));
}

#[test]
fn links_that_take_a_place_in_the_results_folder_are_not_written_through() {
    use std::os::unix::fs::symlink;
    let undisturbed = busy();
    finish(&undisturbed);
    let good = records(&undisturbed);
    // Where the file or folder goes, and what is linked in its place.
    for (file, says) in [
        (RECORDS, "runs.jsonl: "),
        (EVENTS, "events.jsonl: "),
        ("results/tiny/tables", "tables: "),
        ("results/tiny/claims", "claims: "),
    ] {
        let folder = busy();
        let moved = folder.path("moved");
        let output = disturbed(&folder, || {
            // While a cell is computed whose record cannot be written any more.
            wait_for("a second cell", || {
                std::fs::read_to_string(folder.path(EVENTS)).is_ok_and(|log| log.matches("\"claimed\"").count() > 1)
            });
            match file.contains('.') || folder.path(file).exists() {
                true => std::fs::rename(folder.path(file), &moved).expect("one file system"),
                false => std::fs::create_dir(&moved).expect("writable"),
            }
            symlink(&moved, folder.path(file)).expect("writable");
        });
        let before: Vec<_> = match moved.is_dir() {
            true => std::fs::read_dir(&moved)
                .expect("readable")
                .flatten()
                .map(|it| it.file_name())
                .collect(),
            false => Vec::new(),
        };
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{file}: {text}");
        assert!(text.contains(says) && text.contains("it is a link"), "{file}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(
            before.iter().all(|name| name.to_string_lossy().ends_with(".lock")),
            "{file}: {before:?}"
        );
        // The next run says the same.
        let again = folder.run();
        assert_eq!(again.status.code(), Some(3), "{file}: {}", said(&again));
        assert!(
            said(&again).contains(says) && said(&again).contains("it is a link"),
            "{file}: {}",
            said(&again)
        );
        // Put back what was there, and nothing that was computed is lost.
        std::fs::remove_file(folder.path(file)).expect("a link");
        std::fs::rename(&moved, folder.path(file)).expect("one file system");
        let saved = folder.results();
        let saved = saved
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("runs.rescued-"));
        let mut all = lines(&folder);
        let first = all.len();
        for (path, content) in saved {
            let text = String::from_utf8(content.clone()).expect("records are UTF-8");
            let known = all.clone();
            all.extend(text.lines().map(str::to_string).filter(|line| !known.contains(line)));
            std::fs::remove_file(folder.path(path)).expect("it is there");
        }
        let done = text.lines().filter(|line| line.contains(": perplexity novel")).count();
        assert!(
            all.len() >= done,
            "{file}: {done} cells were reported, {} are recorded",
            all.len()
        );
        if file == RECORDS {
            assert!(all.len() > first, "the record that was just computed is lost: {text}");
        }
        folder.write(RECORDS, all.join("\n") + "\n");
        finish(&folder);
        assert_eq!(records(&folder).len(), CELLS, "{file}");
        assert_eq!(records(&folder), good, "{file}");
    }
}

#[test]
fn a_record_that_its_file_has_no_room_for_is_saved_beside_it() {
    let undisturbed = busy();
    finish(&undisturbed);
    let good = records(&undisturbed);
    let size = std::fs::metadata(undisturbed.path(RECORDS))
        .expect("there are records")
        .len();
    let folder = busy();
    // A file that is no record of this run, from a process that had the same number.
    std::fs::create_dir_all(folder.path("results/tiny")).expect("writable");
    let program = env!("CARGO_BIN_EXE_zprune");
    let script = format!(
        "echo mine >results/tiny/runs.rescued-$$.jsonl; ulimit -f {}; exec '{program}' experiment.toml",
        size / 2 / 512
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path(""))
        .output();
    let output = output.expect("a shell");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{}: {text}", output.status);
    assert!(
        text.contains("runs.jsonl: cannot write: ") && text.contains("has the 1 record of this run that"),
        "{text}"
    );
    let mut all = lines(&folder);
    let mut mine = 0;
    for (path, content) in folder.results() {
        if path.to_string_lossy().contains("runs.rescued-") {
            let saved = String::from_utf8(content).expect("UTF-8");
            match saved == "mine\n" {
                true => mine += 1,
                false => all.extend(saved.lines().map(str::to_string)),
            }
        }
    }
    assert_eq!(mine, 1, "a file of somebody else was replaced");
    assert!((1..CELLS).contains(&all.len()), "{} records", all.len());
    folder.write(RECORDS, all.join("\n") + "\n");
    assert_eq!(records(&folder), good[..all.len()]);
    finish(&folder);
    assert_eq!(records(&folder), good);
}
