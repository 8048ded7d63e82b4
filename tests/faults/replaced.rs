//! Files that are replaced, renamed or removed while a sweep goes on, at every moment.
//!
//! Whoever does it may lose what he removes, and nothing else: every record that was reported as done afterwards is there, or
//! the run says that it failed; no record has the numbers of one input and the name of another; and with the inputs as they
//! were, the same command ends as if it had never been disturbed.

use crate::jobs::{self, SWEEP, lay_out, tree};
use crate::tiny;
use crate::traced::{self, Operation};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::path::Path;

/// Moments of a sweep that are tried with each of these.
const MOST: usize = 6;

/// What happens, and the files in which records may be found afterwards.
struct Event {
    command: &'static str,
    /// Whether it takes records away that were there.
    loses: bool,
}

const RECORDS: &str = "results/tiny/runs.jsonl";

const fn keeps(command: &'static str) -> Event {
    Event { command, loses: false }
}

const fn loses(command: &'static str) -> Event {
    Event { command, loses: true }
}

const EVENTS: [Event; 19] = [
    // What an editor does, `sed -i`, and `cp` with `mv`: the same lines in another file.
    keeps("cp results/tiny/runs.jsonl copy && mv copy results/tiny/runs.jsonl"),
    keeps("mv results/tiny/runs.jsonl results/tiny/runs.old.jsonl"),
    loses("rm results/tiny/runs.jsonl"),
    loses(": > results/tiny/runs.jsonl"),
    keeps("mv results/tiny results/moved"),
    loses("rm -r results/tiny"),
    keeps("echo '# mine' > results/tiny/plan.toml"),
    keeps("rm results/tiny/plan.toml"),
    keeps("rm -rf results/tiny/claims"),
    keeps("mv results/tiny/claims results/tiny/claims.old || true"),
    keeps("rm -f results/tiny/events.jsonl"),
    // A training script that saves again, in place and by renaming; `rsync --inplace`.
    keeps("cat other.safetensors > model/model.safetensors"),
    keeps("cp other.safetensors new && mv new model/model.safetensors"),
    keeps("truncate -s 1000 model/model.safetensors"),
    keeps("rm model/model.safetensors"),
    keeps("mv model elsewhere"),
    keeps("tr a-m b-n < novel.txt > new && cat new > novel.txt && rm new"),
    keeps("tr a-m b-n < calibration.jsonl > new && mv new calibration.jsonl"),
    keeps("rm novel.txt calibration.jsonl"),
];

/// Records in the files where they may be: in place, and where these commands put them.
fn recorded(root: &Path) -> BTreeSet<String> {
    let places = [RECORDS, "results/tiny/runs.old.jsonl", "results/moved/runs.jsonl"];
    let found = places.iter().filter_map(|name| std::fs::read(root.join(name)).ok());
    found.flat_map(|bytes| jobs::timeless(&bytes)).collect()
}

/// The id of a record.
fn id(record: &str) -> String {
    let record: serde_json::Value = serde_json::from_str(record).expect("a record is JSON");
    record["id"].as_str().expect("a record has an id").to_string()
}

#[test]
fn nothing_is_lost_and_nothing_is_false() {
    let folder = SWEEP.folder();
    let root = jobs::root(&folder);
    let mut other = tiny::weights();
    for tensor in other.values_mut() {
        // The same numbers in another order: as large, as finite, and another model.
        tensor.bytes = tensor
            .bytes
            .as_chunks::<4>()
            .0
            .iter()
            .rev()
            .flatten()
            .copied()
            .collect();
    }
    tiny::save(&other, &folder.path("other.safetensors"));
    let before = tree(&root);
    let undisturbed = traced::run(&root, &SWEEP.arguments(), "none");
    assert_eq!(undisturbed.code, 0, "{}", undisturbed.stderr);
    let (made, expected) = (SWEEP.made(&root), recorded(&root));
    let known: BTreeSet<String> = expected.iter().map(|record| id(record)).collect();
    let moments = {
        let again = tempfile::tempdir().expect("a temporary folder");
        lay_out(&before, again.path());
        traced::run(again.path(), &SWEEP.arguments(), &format!("RUN:{}:true", i64::MAX)).failable
    };

    let mut random = ChaCha8Rng::seed_from_u64(18);
    let mut wrong = Vec::new();
    let mut caught = 0;
    for Event { command, loses } in EVENTS {
        for part in 0..MOST {
            let nth = random.random_range(part * moments / MOST..(part + 1) * moments / MOST) + 1;
            let folder = tempfile::tempdir().expect("a temporary folder");
            let root = folder.path();
            lay_out(&before, root);
            // Before the file is there, there is nothing to replace.
            let run = traced::run(
                root,
                &SWEEP.arguments(),
                &format!("RUN:{nth}:({command}) 2>/dev/null || true"),
            );
            let mut fail = |reason: &str| {
                wrong.push(format!(
                    "{command}, before operation {nth}: {reason}\n  {}",
                    run.stderr.trim()
                ))
            };
            if run.stderr.contains("panicked") || !(0..=3).contains(&run.code) {
                fail(&format!("ended with {}", run.code));
                continue;
            }
            // Cells that were reported as done after it happened.
            let happened = run.operations.iter().position(|it| matches!(it, Operation::Failed(..)));
            let reported = |operations: &[Operation]| {
                let said = operations.iter().filter_map(|operation| match operation {
                    Operation::Said(text) => {
                        Some(text.lines().filter(|line| line.contains(": perplexity novel")).count())
                    }
                    _ => None,
                });
                said.sum::<usize>()
            };
            let (_, then) = run.operations.split_at(happened.unwrap_or(0));
            // One may have been recorded before it happened and reported afterwards.
            let due = if loses {
                reported(then).saturating_sub(1)
            } else {
                reported(&run.operations)
            };
            let found = recorded(root);
            caught += usize::from(run.code != 0);
            if found.len() < due {
                fail(&format!(
                    "{due} cells were reported as done, {} are recorded",
                    found.len()
                ));
            }
            for record in &found {
                if known.contains(&id(record)) && !expected.contains(record) && jobs::is_good(record) {
                    fail(&format!("record {} is false", id(record)));
                }
            }
            if run.code == 0 && reported(&run.operations) == expected.len() && !loses && found.len() < expected.len() {
                fail("exit code 0, and records are missing");
            }
            // As before, but for what is recorded.
            let mut inputs = before.clone();
            inputs.retain(|path, content| content.is_some() && !path.starts_with("results"));
            for (path, content) in &inputs {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("writable");
                std::fs::write(path, content.as_deref().unwrap_or_default()).expect("writable");
            }
            let mut again = traced::run(root, &SWEEP.arguments(), "none");
            // What somebody else wrote is not written over; its owner takes it away.
            let foreign = "results/tiny/plan.toml: cannot write: zprune did not write it";
            if command.contains("> results/tiny/plan.toml") && again.stderr.contains(foreign) {
                std::fs::remove_file(root.join("results/tiny/plan.toml")).expect("it is there");
                again = traced::run(root, &SWEEP.arguments(), "none");
            }
            if again.code != 0 {
                fail(&format!("the next run ends with {}: {}", again.code, again.stderr));
                continue;
            }
            let missing = made
                .keys()
                .find(|path| !root.join(path).exists() && !path.ends_with("notes.md"));
            if let Some(missing) = missing {
                fail(&format!("after the next run, {} is missing", missing.display()));
            }
            let records = jobs::timeless(&std::fs::read(root.join(RECORDS)).unwrap_or_default());
            if !expected.iter().all(|record| records.contains(record)) {
                fail("after the next run, records are missing");
            }
        }
    }
    println!(
        "{} events at {MOST} moments each, {caught} noticed by the run",
        EVENTS.len()
    );
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
