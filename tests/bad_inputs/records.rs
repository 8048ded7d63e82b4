//! Damage to the records of an experiment that has run; they are left as they are.

use super::Change::*;
use super::tiny::Folder;
use super::{Case, complaint, folder_with, results};

const RECORDS: &str = "results/tiny/runs.jsonl";

/// Damage to the records of an experiment that has run, with what the message must say.
const DAMAGED_RECORDS: &[Case] = &[
    Case {
        name: "a line that ends too early",
        change: Other(|folder| change_line(folder, 2, |line| line.truncate(100))),
        expect: &["results/tiny/runs.jsonl:3: not a record: ", "at column 100"],
    },
    Case {
        name: "a line that is not JSON",
        change: Other(|folder| change_line(folder, 0, |line| *line = "<<<<<<< HEAD".to_string())),
        expect: &["results/tiny/runs.jsonl:1: not a record: expected value at column 1"],
    },
    Case {
        name: "a record of a newer zprune",
        change: Other(|folder| change_line(folder, 4, |line| *line = line.replace("\"schema\":2", "\"schema\":3"))),
        expect: &[
            "results/tiny/runs.jsonl:5: the record has schema 3, but this zprune reads schemas 1 to 2",
            "use the zprune that wrote it, or another results folder",
        ],
    },
    Case {
        name: "a record with an edited id",
        change: Other(|folder| {
            change_line(folder, 1, |line| {
                let start = line.find("\"id\":\"").expect("a record has an id") + 6;
                line.replace_range(start..start + 16, "0123456789abcdef");
            });
        }),
        expect: &[
            "results/tiny/runs.jsonl:2: the record's id 0123456789abcdef is not the hash of its cell; it was edited",
        ],
    },
    Case {
        name: "a record with edited settings",
        change: Other(|folder| change_line(folder, 1, |line| *line = line.replace("\"length\":16", "\"length\":17"))),
        expect: &["results/tiny/runs.jsonl:2: the record's id ", "it was edited"],
    },
    Case {
        name: "a record with an unknown field",
        change: Other(|folder| change_line(folder, 3, |line| line.insert_str(1, "\"note\":\"mine\","))),
        expect: &["results/tiny/runs.jsonl:4: not a record: unknown field `note`"],
    },
];

fn change_line(folder: &Folder, index: usize, change: impl Fn(&mut String)) {
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("the experiment has run");
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    change(&mut lines[index]);
    folder.write(RECORDS, lines.join("\n") + "\n");
}

#[test]
fn damaged_records_are_refused_and_left_alone() {
    let results = results();
    let mut failures = Vec::new();
    for case in DAMAGED_RECORDS {
        for command in ["run", "plan", "report"] {
            let folder = folder_with(&results);
            case.change.apply(&folder);
            let before = folder.results();
            let output = folder
                .zprune(&[command, "experiment.toml"])
                .output()
                .expect("the program starts");
            failures.extend(complaint(case, &folder, &before, &output));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
