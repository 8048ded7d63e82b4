//! Damage to the records of an experiment that has run; they are left as they are.

use super::Change::*;
use super::tiny::Folder;
use super::{Case, complaint, folder_with, results};
use serde_json::Value;
use zprune::experiment::identity::Identity;

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
        change: Other(|folder| change_line(folder, 4, |line| *line = line.replace("\"schema\":14", "\"schema\":15"))),
        expect: &[
            "results/tiny/runs.jsonl:5: the record has schema 15, but this zprune reads schemas 1 to 14",
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
    Case {
        name: "a record of another seed",
        change: Other(|folder| change_line(folder, 1, |line| *line = line.replace("\"seed\":0", "\"seed\":7"))),
        expect: &["results/tiny/runs.jsonl:2: the record's id ", "it was edited"],
    },
    Case {
        name: "a record without its checksum",
        change: Other(|folder| {
            change_record(folder, 1, |record| {
                record.as_object_mut().expect("an object").remove("check");
            })
        }),
        expect: &["results/tiny/runs.jsonl:2: the record has no checksum (`check`); it was edited"],
    },
    Case {
        name: "a record without its checksum, made to look older than checksums are",
        change: Other(|folder| {
            change_record(folder, 1, |record| {
                record.as_object_mut().expect("an object").remove("check");
                record["schema"] = 2.into();
                record["evaluations"][0]["windows"] = vec![1.0; 4].into();
                record["evaluations"][0]["perplexity"] = 1f64.exp().into();
            })
        }),
        expect: &[
            "results/tiny/runs.jsonl:2: the record has schema 2, but what is in it came with schema 3; it was edited",
        ],
    },
    Case {
        name: "an older record that withdraws another",
        change: Other(|folder| {
            change_record(folder, 1, |record| {
                record.as_object_mut().expect("an object").remove("check");
                grow_older(record);
                record["status"] = "withdrawn".into();
                record["error"] = "the weights changed".into();
            })
        }),
        expect: &[
            "results/tiny/runs.jsonl:2: the record has schema 2, but what is in it came with schema 3; it was edited",
        ],
    },
    Case {
        name: "another perplexity",
        change: Other(|folder| change_record(folder, 2, |record| record["evaluations"][0]["perplexity"] = 1.01.into())),
        expect: EDITED,
    },
    Case {
        name: "another window and its perplexity",
        change: Other(|folder| {
            change_record(folder, 2, |record| {
                let windows = vec![1.0; 4];
                record["evaluations"][0]["windows"] = windows.into();
                record["evaluations"][0]["perplexity"] = 1f64.exp().into();
            });
        }),
        expect: EDITED,
    },
    Case {
        name: "another method's label",
        change: Other(|folder| change_record(folder, 2, |record| record["label"]["method"] = "ours".into())),
        expect: EDITED,
    },
    Case {
        name: "two good records of one cell that contradict each other",
        change: Other(|folder| {
            let text = std::fs::read_to_string(folder.path(RECORDS)).expect("the experiment has run");
            let mut record: Value = serde_json::from_str(text.lines().nth(2).expect("a third record")).expect("JSON");
            record["evaluations"][0]["windows"] = vec![1.0; 4].into();
            record["evaluations"][0]["perplexity"] = 1f64.exp().into();
            folder.write(RECORDS, text + &forged(record) + "\n");
        }),
        expect: &[
            "results/tiny/runs.jsonl:10: the record contradicts the good record of the same cell (",
            ") in line 3; ",
            "remove its line",
        ],
    },
];

/// What is said of a third record that was edited.
const EDITED: &[&str] = &[
    "results/tiny/runs.jsonl:3: the record's checksum ",
    " does not fit it; it was edited or damaged: put the line back from a copy, or remove it",
];

/// A number that cannot be, with a checksum that fits it or in an old record without any, and what is said of it.
struct Impossible {
    change: fn(&mut Value),
    says: &'static str,
}

const IMPOSSIBLE: &[Impossible] = &[
    Impossible {
        change: |record| record["evaluations"][0]["perplexity"] = 1.01.into(),
        says: "evaluation novel: perplexity = 1.01, but its windows give ",
    },
    Impossible {
        change: |record| record["evaluations"][0]["perplexity"] = (-5.0).into(),
        says: "evaluation novel: perplexity = -5, but its windows give ",
    },
    Impossible {
        change: |record| record["evaluations"][0]["windows"] = Value::Array(Vec::new()),
        says: "evaluation novel: `windows` is empty",
    },
    Impossible {
        change: |record| {
            record["evaluations"][0]["windows"] = vec![-5.0; 4].into();
            record["evaluations"][0]["perplexity"] = (-5f64).exp().into();
        },
        says: "evaluation novel: window 0 = -5 is no mean negative log-likelihood",
    },
    Impossible {
        change: |record| record["evaluations"][0]["windows"][1] = 900.0.into(),
        says: "evaluation novel: perplexity = ",
    },
    Impossible {
        change: |record| record["evaluations"][0]["tokens"] = 65.into(),
        says: "evaluation novel: tokens = 65, but it has 4 windows of 16",
    },
    Impossible {
        change: |record| record["evaluations"][0]["token_digest"] = "abc".into(),
        says: "evaluation novel: `token_digest` is no SHA-256",
    },
    Impossible {
        change: |record| record["evaluations"] = Value::Array(Vec::new()),
        says: "it has 0 evaluations, but its cell asks for 1",
    },
    Impossible {
        change: |record| record["sparsity"] = 7.0.into(),
        says: "sparsity = 7 is no fraction from 0 to 1",
    },
    Impossible {
        change: |record| record["sparsity"] = 0.25.into(),
        says: "sparsity is 0.25, but its layers say 0.5",
    },
    Impossible {
        change: |record| {
            record.as_object_mut().expect("an object").remove("sparsity");
        },
        says: "`sparsity` belongs to pruned models, and to all of them",
    },
    Impossible {
        change: |record| record["layers"][3]["removed"] = 1_000_000.into(),
        says: "1000000 removed and 512 zeros of 1024 weights cannot be",
    },
    Impossible {
        change: |record| record["layers"][0]["output_error"] = (-0.5).into(),
        says: "output_error = -0.5 is negative",
    },
    Impossible {
        change: |record| record["run"]["prune_seconds"] = (-1.0).into(),
        says: "prune_seconds = -1 is no duration",
    },
    Impossible {
        change: |record| record["error"] = "none".into(),
        says: "its status is `ok`, but it has an `error`",
    },
    Impossible {
        change: |record| record["status"] = "failed".into(),
        says: "it has no result and no `error` that says why",
    },
    Impossible {
        change: |record| record["tasks"] = serde_json::json!([wnli()]),
        says: "it has 1 tasks, but its cell asks for 0",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["metrics"]["acc"]["value"] = 0.75.into();
        },
        says: "task wnli: acc = 0.75, but 1 of 2 documents are right",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["metrics"]["acc"]["stderr"] = 0.25.into();
        },
        says: "task wnli: the standard error of acc does not follow from its documents",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["metrics"]["acc"]["interval"] = serde_json::json!([0.6, 0.7]);
        },
        says: "task wnli: the interval of acc, 0.6 to 0.7, does not hold 0.5",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["correct"] = "101".into();
        },
        says: "task wnli: `correct` is about 3 documents, but `documents` is 2",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["sources"] = vec![1].into();
        },
        says: "task wnli: `sources` is about 1 documents, but `documents` is 2",
    },
    Impossible {
        change: |record| {
            fail(record);
            record["tasks"] = serde_json::json!([wnli()]);
            record["tasks"][0]["correct_norm"] = "11".into();
        },
        says: "task wnli: `acc_norm` and the outcomes of its documents are not both there",
    },
];

/// A task's result that holds, of two documents.
fn wnli() -> Value {
    serde_json::json!({
        "name": "wnli", "version": 2, "data_digest": "0".repeat(64), "documents": 2,
        "metrics": { "acc": { "value": 0.5, "stderr": 0.5, "interval": [0.1, 0.9] } }, "correct": "10",
    })
}

/// A failure may have tasks that its cell does not ask for.
fn fail(record: &mut Value) {
    record["status"] = "failed".into();
    record["error"] = "out of memory".into();
}

/// Makes it the record of the last zprune that wrote no checksums.
fn grow_older(record: &mut Value) {
    record["schema"] = 2.into();
    record["cell"]["numbers"] = 2.into();
    let cell: Identity = serde_json::from_value(record["cell"].clone()).expect("the cell of a record");
    record["id"] = cell.id().into();
}

/// A record with a checksum that fits it, as someone makes who means to deceive.
fn forged(mut record: Value) -> String {
    record.as_object_mut().expect("an object").remove("check");
    // Fields that were added stand at the end; zprune writes them in its own order.
    let order = [
        "schema",
        "id",
        "status",
        "error",
        "label",
        "cell",
        "sparsity",
        "calibration_tokens",
        "evaluations",
        "tasks",
        "layers",
        "run",
    ];
    let ordered: serde_json::Map<String, Value> = order
        .iter()
        .filter_map(|key| Some((key.to_string(), record.get(*key)?.clone())))
        .collect();
    let mut record = Value::Object(ordered);
    let check = zprune::data::digest::of_bytes(record.to_string().as_bytes())[..16].to_string();
    record["check"] = check.into();
    record.to_string()
}

fn change_record(folder: &Folder, index: usize, change: impl Fn(&mut Value)) {
    change_line(folder, index, |line| {
        let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
        change(&mut record);
        *line = record.to_string();
    });
}

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

#[test]
fn numbers_that_cannot_be_are_refused_whatever_the_checksum_and_the_schema() {
    let folder = folder_with(&results());
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("the experiment has run");
    let lines: Vec<&str> = text.lines().collect();
    for Impossible { change, says } in IMPOSSIBLE {
        for schema in [2, 3] {
            let mut record: Value = serde_json::from_str(lines[1]).expect("a record is JSON");
            change(&mut record);
            let line = match schema {
                2 => {
                    record.as_object_mut().expect("an object").remove("check");
                    grow_older(&mut record);
                    record.to_string()
                }
                _ => forged(record),
            };
            folder.write(RECORDS, format!("{}\n{line}\n{}\n", lines[0], lines[2]));
            let error = zprune::record::read(&folder.path("results/tiny"))
                .expect_err(says)
                .to_string();
            assert!(
                error.contains("runs.jsonl:2: the record cannot be what zprune wrote: ") && error.contains(says),
                "schema {schema}: {error}\n  does not say `{says}`"
            );
        }
    }
}

#[test]
fn equal_good_records_of_one_cell_are_read_and_a_withdrawn_one_runs_again() {
    let folder = folder_with(&results());
    let text = std::fs::read_to_string(folder.path(RECORDS)).expect("the experiment has run");
    // Folders of two machines, one appended to the other.
    folder.write(RECORDS, format!("{text}{text}"));
    let output = folder.run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("0 cells run, 9 had results already"), "{said}");

    let mut record: Value = serde_json::from_str(text.lines().nth(3).expect("a record")).expect("JSON");
    record["status"] = "withdrawn".into();
    record["error"] = "the weights changed".into();
    for key in ["sparsity", "calibration_tokens", "layers"] {
        record.as_object_mut().expect("an object").remove(key);
    }
    record["evaluations"] = Value::Array(Vec::new());
    folder.write(RECORDS, format!("{text}{}\n", forged(record)));
    let plan = folder
        .zprune(&["plan", "experiment.toml"])
        .output()
        .expect("the program starts");
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        plan.contains("9 cells: 8 done, 1 to do") && plan.contains("  failed  "),
        "{plan}"
    );
    let report = folder
        .zprune(&["report", "experiment.toml"])
        .output()
        .expect("the program starts");
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("9 cells: 8 done, 1 failed"), "{report}");
    let output = folder.run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 cell run, 8 had results already"), "{said}");
    let after = std::fs::read_to_string(folder.path(RECORDS)).expect("records");
    assert_eq!(after.lines().count(), 11);
}

#[test]
fn a_report_of_something_else_says_what_it_is_made_of() {
    let folder = Folder::new();
    for (target, expect) in [
        (
            "novel.txt",
            "made of a results folder, such as results/NAME, or of an experiment file (.toml)",
        ),
        ("missing", "missing: no such file or directory"),
        (
            "missing",
            "made of a results folder, such as results/NAME, or of an experiment file (.toml)",
        ),
        ("model", "model: has no runs.jsonl, so it is not a results folder"),
    ] {
        let output = folder.zprune(&["report", target]).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{target}: {said}");
        assert!(said.contains(expect), "{target}: {said}");
    }
}
