//! Claim: every input that cannot be used is refused before anything is written, with exit code 2 and
//! a message that says where the fault is and, where there is one, how to mend it.
//!
//! Each case is one change to a folder in which the experiment runs (`tests/tiny`). It is tried twice:
//! where there are no results yet, and where the undamaged experiment has left some.

mod checkpoints;
mod configurations;
mod experiments;
mod outputs;
mod records;
mod texts;
#[path = "../tiny/mod.rs"]
mod tiny;

use Change::*;
use std::path::Path;
use std::process::Output;
use tiny::{Files, Folder, Tensors};

struct Case {
    /// What is wrong, in words.
    name: &'static str,
    change: Change,
    /// What the message must say.
    expect: &'static [&'static str],
}

/// One piece of damage.
enum Change {
    /// This text of `experiment.toml` becomes that.
    Experiment(&'static str, &'static str),
    /// This file of `tests/bad_toml` is the experiment.
    ExperimentFile(&'static str),
    /// This text of `config.json` becomes that.
    Config(&'static str, &'static str),
    /// The checkpoint's tensors change before they are stored.
    Weights(fn(&mut Tensors)),
    /// The stored checkpoint changes.
    Stored(fn(&mut Vec<u8>)),
    /// A file has this content.
    Content(&'static str, &'static [u8]),
    /// A file is not there.
    Absent(&'static str),
    /// Anything else.
    Other(fn(&Folder)),
}

impl Change {
    fn apply(&self, folder: &Folder) {
        const WEIGHTS: &str = "model/model.safetensors";
        match self {
            Experiment(old, new) => folder.replace("experiment.toml", old, new),
            ExperimentFile(name) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_toml").join(name);
                folder.write(
                    "experiment.toml",
                    std::fs::read(path).expect("a file of the repository"),
                );
            }
            Config(old, new) => folder.replace("model/config.json", old, new),
            Weights(change) => {
                let mut tensors = tiny::weights();
                change(&mut tensors);
                tiny::save(&tensors, &folder.path(WEIGHTS));
            }
            Stored(change) => {
                let mut bytes = std::fs::read(folder.path(WEIGHTS)).expect("the folder has weights");
                change(&mut bytes);
                folder.write(WEIGHTS, bytes);
            }
            Content(name, content) => folder.write(name, content),
            Absent(name) => std::fs::remove_file(folder.path(name)).expect("the file is there"),
            Other(change) => change(folder),
        }
    }
}

/// What the undamaged experiment leaves behind.
fn results() -> Files {
    let folder = Folder::new();
    let output = folder.run();
    assert!(output.status.success(), "the undamaged experiment failed: {output:?}");
    folder.results()
}

/// A folder that holds these results.
fn folder_with(results: &Files) -> Folder {
    let folder = Folder::new();
    for (path, content) in results {
        let parent = folder.path(path.parent().expect("results lie in folders"));
        std::fs::create_dir_all(parent).expect("the temporary folder is writable");
        folder.write(path, content);
    }
    folder
}

/// What is wrong with a refusal, if anything is; nothing may have changed since `before`.
fn complaint(case: &Case, folder: &Folder, before: &Files, output: &Output) -> Option<String> {
    let message = String::from_utf8_lossy(&output.stderr);
    let mut complaints = Vec::new();
    if output.status.code() != Some(2) {
        complaints.push(format!("ended with {}", output.status));
    }
    if message.contains("panicked") {
        complaints.push("panicked".to_string());
    }
    if !output.stdout.is_empty() {
        complaints.push("wrote to standard output".to_string());
    }
    complaints.extend(
        case.expect
            .iter()
            .filter(|part| !message.contains(**part))
            .map(|part| format!("does not say `{part}`")),
    );
    if folder.path("results").exists() == before.is_empty() || folder.results() != *before {
        complaints.push("changed the results folder".to_string());
    }
    if complaints.is_empty() {
        return None;
    }
    Some(format!(
        "{}: {}\n  {}",
        case.name,
        complaints.join(", "),
        message.trim_end().replace('\n', "\n  ")
    ))
}

/// Tries all cases and fails with everything that was not as it should be.
fn refuses_all(cases: &[Case]) {
    let results = results();
    let mut failures = Vec::new();
    for case in cases {
        for before in [&Files::new(), &results] {
            let folder = folder_with(before);
            case.change.apply(&folder);
            failures.extend(complaint(case, &folder, before, &folder.run()));
        }
    }
    failures.dedup();
    assert!(
        failures.is_empty(),
        "{} cases went wrong:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
