//! Claim: several processes may work on one results folder, be killed at any moment, and together leave the results of
//! one process that was never disturbed: every cell exactly once.
#![cfg(unix)]

mod sweeps;
mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sweeps::{CELLS, EVENTS, RECORDS, assert_same_reports, busy, finish, lines, records, said, wait_for};
use tiny::Folder;

/// Exit code of a process that stopped because it was asked to.
const INTERRUPTED: i32 = 130;

/// The experiment, started and left alone.
fn start(folder: &Folder) -> Child {
    let mut command = folder.zprune(&["experiment.toml"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("the system has `kill`").success());
}

fn events(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path(EVENTS)).expect("there are events");
    let parse = |line: &str| serde_json::from_str(line).expect("an event is JSON");
    text.lines().map(parse).collect()
}

fn events_named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// Cells in a fixed order: processes finish them in any.
fn by_id(folder: &Folder) -> BTreeMap<String, Value> {
    let all = records(folder);
    let count = all.len();
    let by_id: BTreeMap<String, Value> = all
        .into_iter()
        .map(|record| (record["id"].to_string(), record))
        .collect();
    assert_eq!(by_id.len(), count, "a cell has two records");
    by_id
}

fn assert_same_results(shared: &Folder, undisturbed: &Folder) {
    assert_eq!(by_id(shared), by_id(undisturbed));
    assert_same_reports(shared, undisturbed);
}

#[test]
fn four_processes_killed_at_random_leave_every_cell_exactly_once() {
    const PROCESSES: usize = 4;
    const KILLS: usize = 24;
    let undisturbed = busy();
    let started = Instant::now();
    finish(&undisturbed);
    let longest = started.elapsed();

    let mut random = ChaCha8Rng::seed_from_u64(4);
    let (mut killed, mut stopped, mut rounds) = (0, 0, 0);
    while killed + stopped < KILLS {
        rounds += 1;
        assert!(
            rounds < 40,
            "only {killed} processes were killed and {stopped} stopped in {rounds} sweeps"
        );
        let folder = busy();
        let mut children: Vec<Child> = (0..PROCESSES).map(|_| start(&folder)).collect();
        // Until one of them finds nothing left to do, some process is killed every now and then and replaced.
        loop {
            std::thread::sleep(longest.mul_f64(0.25 * random.random::<f64>()));
            let victim = random.random_range(0..PROCESSES);
            if let Some(status) = children[victim].try_wait().expect("a child can be waited for") {
                assert!(status.success(), "ended by itself with {status}");
                break;
            }
            let merciless = random.random::<bool>();
            signal(&children[victim], if merciless { "-KILL" } else { "-TERM" });
            let status = children[victim].wait().expect("a child can be waited for");
            match (merciless, status.code()) {
                (true, None) => killed += 1,
                // A signal before the program is ready for it ends it at once.
                (false, None) => killed += 1,
                (false, Some(INTERRUPTED)) => stopped += 1,
                // It was faster than the signal.
                (_, Some(0)) => break,
                _ => panic!("ended with {status}"),
            }
            children[victim] = start(&folder);
        }
        for child in &mut children {
            let status = child.wait().expect("a child can be waited for");
            assert!(status.success(), "ended with {status}");
        }
        assert_same_results(&folder, &undisturbed);
        assert!(!folder.path("results/tiny/claims").exists(), "claims are left");
        let last = finish(&folder);
        assert!(
            said(&last).contains("0 cells run, 9 had results already"),
            "{}",
            said(&last)
        );
    }
    assert!(killed > 0 && stopped > 0, "{killed} killed, {stopped} stopped");
}

#[test]
fn two_processes_share_the_cells_and_both_end_with_the_whole_report() {
    let undisturbed = busy();
    finish(&undisturbed);
    let folder = busy();
    // The first is held still in its first cell until the second has done one: however slow the machine is, both do something.
    let mut second = None;
    let first = while_one_is_held_still(&folder, |_| {
        second = Some(start(&folder));
        wait_for("a record", || {
            std::fs::metadata(folder.path(RECORDS)).is_ok_and(|file| file.len() > 0)
        });
    });
    signal(&first, "-CONT");
    let pair = [first, second.expect("it was started")];
    let pids = [pair[0].id(), pair[1].id()];
    for child in pair {
        let output = child.wait_with_output().expect("a child can be waited for");
        assert!(output.status.success(), "{}", said(&output));
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let whole = |row: &str| row.contains("sparsegpt") && row.matches('±').count() == 2;
        assert!(table.lines().any(whole), "{table}");
    }
    assert_same_results(&folder, &undisturbed);
    let events = events(&folder);
    let done = events_named(&events, "done");
    assert_eq!(done.len(), CELLS);
    for pid in pids {
        assert!(
            done.iter().any(|event| event["pid"] == pid),
            "process {pid} did nothing"
        );
        let finished = events_named(&events, "finished");
        let finished = finished.iter().find(|event| event["pid"] == pid).expect("it finished");
        let ran = done.iter().filter(|event| event["pid"] == pid).count();
        assert_eq!((&finished["ran"], &finished["left"]), (&ran.into(), &0.into()));
    }
}

/// A process that has claimed a cell and is held still, for `act` to do something meanwhile.
fn while_one_is_held_still(folder: &Folder, act: impl FnOnce(&Child)) -> Child {
    let child = start(folder);
    wait_for("a claim", || {
        std::fs::read_to_string(folder.path(EVENTS)).is_ok_and(|log| log.contains("claimed"))
    });
    // Not while it holds one of the short locks, which would hold up everybody.
    let locked = |file: &str| std::fs::File::open(folder.path(file)).is_ok_and(|file| file.try_lock().is_err());
    wait_for("no lock", || {
        signal(&child, "-STOP");
        // A signal takes a moment to arrive.
        std::thread::sleep(Duration::from_millis(20));
        let standing = [RECORDS, EVENTS].into_iter().all(|file| !locked(file));
        if !standing {
            signal(&child, "-CONT");
        }
        standing
    });
    act(&child);
    child
}

#[test]
fn a_process_leaves_claimed_cells_alone_and_takes_over_those_of_a_dead_one() {
    let undisturbed = busy();
    finish(&undisturbed);
    let folder = busy();
    let mut held = while_one_is_held_still(&folder, |_| {
        let plan = folder
            .zprune(&["plan", "experiment.toml"])
            .output()
            .expect("the program starts");
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert_eq!(plan.matches("  running  ").count(), 1, "{plan}");
        // It does what it can and says what it leaves.
        let command = folder.zprune(&["run", "experiment.toml", "--no-wait"]).output();
        let output = command.expect("the program starts");
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains(", 1 left to other processes; wrote "),
            "{}",
            said(&output)
        );
    });
    assert_eq!(records(&folder).len(), CELLS - 1);
    // One that waits gets the cell when its process dies.
    let mut waiting = start(&folder);
    wait_for("a second start", || {
        events_named(&events(&folder), "started").len() == 3
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        waiting.try_wait().expect("a child can be waited for").is_none(),
        "it did not wait"
    );
    held.kill().expect("SIGKILL can be sent to a child");
    held.wait().expect("a killed child can be waited for");
    let output = waiting.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("waiting for a cell that another process is working on"),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("1 cell run, 8 had results already"),
        "{}",
        said(&output)
    );
    assert_same_results(&folder, &undisturbed);
}

#[test]
fn a_first_signal_stops_after_the_block_and_a_second_at_once() {
    let ignored = Command::new("sh").args(["-c", "kill -HUP $$; exit 0"]).status();
    let ignored = ignored.expect("a shell").success();
    // Under `nohup`, a terminal that goes away ends nothing.
    for (name, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        if name == "-HUP" && ignored {
            continue;
        }
        let folder = busy();
        let child = while_one_is_held_still(&folder, |child| signal(child, name));
        signal(&child, "-CONT");
        let output = child.wait_with_output().expect("a child can be waited for");
        assert_eq!(output.status.code(), Some(INTERRUPTED), "after signal {number}");
        let log = events(&folder);
        let last = log.last().expect("there are events");
        assert_eq!(
            (&last["event"], &last["ran"]),
            (&"interrupted".into(), &(lines(&folder).len()).into())
        );
        assert_eq!(
            events_named(&log, "claimed").len(),
            lines(&folder).len() + 1,
            "a cell was under way"
        );
        finish(&folder);
        assert_eq!(by_id(&folder).len(), CELLS);
    }
    // Standing still, a process cannot come to the end of its block; only the second signal, at its first instruction,
    // can end it without an event.
    let folder = busy();
    let mut child = while_one_is_held_still(&folder, |child| {
        signal(child, "-INT");
        signal(child, "-TERM");
    });
    signal(&child, "-CONT");
    let status = child.wait().expect("a child can be waited for");
    assert_eq!(status.code(), Some(INTERRUPTED));
    assert!(
        events_named(&events(&folder), "interrupted").is_empty(),
        "it did not end at once"
    );
    finish(&folder);
    assert_eq!(by_id(&folder).len(), CELLS);
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_writes_no_report() {
    let folder = busy();
    let child = start(&folder);
    wait_for("a record", || {
        std::fs::metadata(folder.path(RECORDS)).is_ok_and(|file| file.len() > 0)
    });
    signal(&child, "-INT");
    let output = child.wait_with_output().expect("a child can be waited for");
    assert_eq!(output.status.code(), Some(INTERRUPTED), "{}", said(&output));
    for part in [
        "stopping after this step; an unfinished cell starts again next time (Ctrl-C again: stop at once)",
        "the same command goes on with the others",
    ] {
        assert!(said(&output).contains(part), "{}", said(&output));
    }
    assert!(output.stdout.is_empty() && !folder.path("results/tiny/tables").exists());
}

#[test]
fn events_say_who_did_what_and_when() {
    let folder = Folder::new();
    finish(&folder);
    let log = events(&folder);
    let names: Vec<&str> = log
        .iter()
        .map(|event| event["event"].as_str().expect("a name"))
        .collect();
    let mut expected = vec!["started"];
    expected.extend(std::iter::repeat_n(["claimed", "done"], CELLS).flatten());
    expected.push("finished");
    assert_eq!(names, expected);
    for event in &log {
        let at = event["at"].as_str().expect("a time");
        assert!(at.len() >= 20 && at.ends_with('Z'), "{at}");
        assert!(event["pid"].as_u64().is_some_and(|pid| pid > 0), "{event}");
        assert!(event["host"].as_str().is_some_and(|host| !host.is_empty()), "{event}");
    }
    let done = events_named(&log, "done");
    let ids: Vec<&Value> = done.iter().map(|event| &event["id"]).collect();
    let recorded = records(&folder);
    assert_eq!(ids, recorded.iter().map(|record| &record["id"]).collect::<Vec<_>>());
    for (event, record) in done.iter().zip(&recorded) {
        assert_eq!(event["perplexity"]["novel"], record["evaluations"][0]["perplexity"]);
        assert!(
            event["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
            "{event}"
        );
    }
}
