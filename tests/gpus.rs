//! Claim: `zprune run --gpus` makes with several workers the records that one process makes, whatever ends one of them, and ends them
//! with itself.
#![cfg(unix)]

mod gpu;
#[allow(dead_code, reason = "reports are compared elsewhere")]
mod sweeps;
#[allow(dead_code, reason = "only the folder is of use here")]
mod tiny;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use sweeps::{CELLS, records, said, wait_for};
use tiny::Folder;

/// Two workers on the first GPU, which every machine has that has one at all.
const TWO: [&str; 5] = ["run", "experiment.toml", "--gpus", "0,0", "--compute"];

/// An experiment whose cells take a moment each on a software GPU.
fn short() -> Folder {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "length = 16\nwindows = 4",
        "length = 32\nwindows = 20",
    );
    folder.write("novel.txt", tiny::text(100, 1000));
    folder
}

/// Starts a run with two workers.
fn start(folder: &Folder) -> Child {
    let mut command = folder.zprune(&[&TWO[..], &["f32"]].concat());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// The processes that this one started.
fn children(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task");
    let tasks = std::fs::read_dir(path).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether a process is there and has not ended.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|status| {
        !status
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("the system has `kill`").success());
}

fn by_id(folder: &Folder) -> BTreeMap<String, Value> {
    let all = records(folder);
    let count = all.len();
    let by_id: BTreeMap<String, Value> = all.into_iter().map(|it| (it["id"].to_string(), it)).collect();
    assert_eq!(by_id.len(), count, "a cell has two records");
    by_id
}

/// Reads what the program says until a cell has ended.
fn until_a_cell_ended(stderr: ChildStderr) -> (BufReader<ChildStderr>, String) {
    let (mut reader, mut text) = (BufReader::new(stderr), String::new());
    while !text.contains(" on GPU 0: ") {
        assert_ne!(reader.read_line(&mut text).expect("it says something"), 0, "{text}");
    }
    (reader, text)
}

/// What one process finds on the same GPU.
fn alone() -> BTreeMap<String, Value> {
    let folder = short();
    let output = folder
        .zprune(&["run", "experiment.toml", "--adapter", "0", "--compute", "f32"])
        .output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", said(&output));
    by_id(&folder)
}

#[test]
fn two_workers_find_what_one_process_finds_also_if_one_is_killed_or_all_are_stopped() {
    if gpu::best_tier().is_none() || !cfg!(target_os = "linux") {
        return;
    }
    let wanted = alone();

    let folder = short();
    let output = start(&folder).wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(by_id(&folder), wanted);
    let text = said(&output);
    assert!(
        text.contains(&format!("{CELLS} cells run, 0 had results already")),
        "{text}"
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("sparsegpt"),
        "no table"
    );
    let events = std::fs::read_to_string(folder.path("results/tiny/events.jsonl")).expect("there are events");
    assert_eq!(events.matches("\"event\":\"started\"").count(), 2, "{events}");

    // One worker is killed: the other does the rest.
    let folder = short();
    let mut child = start(&folder);
    let (mut reader, mut text) = until_a_cell_ended(child.stderr.take().expect("it is piped"));
    let workers = children(child.id());
    assert_eq!(workers.len(), 2, "{text}");
    signal(workers[0], "-KILL");
    reader.read_to_string(&mut text).expect("it says more");
    assert!(child.wait().expect("it ends").success(), "{text}");
    assert!(text.contains("ended unexpectedly: signal: 9"), "{text}");
    assert_eq!(by_id(&folder), wanted);

    // All are asked to stop, and go on later.
    let folder = short();
    let mut child = start(&folder);
    let (mut reader, mut text) = until_a_cell_ended(child.stderr.take().expect("it is piped"));
    signal(child.id(), "-TERM");
    reader.read_to_string(&mut text).expect("it says more");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{text}");
    assert!(text.contains("the same command goes on with the others"), "{text}");
    assert!(by_id(&folder).len() < CELLS);
    let output = start(&folder).wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(by_id(&folder), wanted);

    // Without the process that started them, workers end.
    let folder = short();
    let mut child = start(&folder);
    let _said = until_a_cell_ended(child.stderr.take().expect("it is piped"));
    let workers = children(child.id());
    signal(child.id(), "-KILL");
    child.wait().expect("it ends");
    wait_for("the end of the workers", || {
        workers.iter().all(|worker| !lives(*worker))
    });
}

#[test]
fn gpus_that_are_not_there_and_contradictions_are_refused() {
    if gpu::best_tier().is_none() {
        return;
    }
    let folder = Folder::new();
    for (arguments, reason) in [
        (
            &["--gpus", "0,17"][..],
            "there is no GPU `17`; write `all`, or some of: 0: ",
        ),
        (
            &["--gpus", "0", "--backend", "cpu"],
            "--gpus and --backend cpu contradict each other",
        ),
        (&["--gpus", "0", "--adapter", "0"], "cannot be used with"),
        (&["--gpus", "0", "--cell", "abc"], "abc"),
    ] {
        let arguments = [&["run", "experiment.toml"], arguments].concat();
        let output = folder.zprune(&arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(reason), "{}", said(&output));
        assert!(!folder.path("results/tiny/runs.jsonl").exists());
    }
}
