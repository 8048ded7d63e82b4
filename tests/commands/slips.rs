//! What people type for an argument that there is none of: each is answered with what to write.

use super::{refused, run, says, works};
use crate::tiny::Folder;

#[test]
fn arguments_of_other_programs_are_answered_with_ours() {
    let folder = Folder::new();
    let prune = "prune --model model --calibration calibration.jsonl --sequences 4 --length 16 --out out";
    for (more, expect) in [
        (
            "--method sparsegpt --sparsity 0.5 --set damping=0.1",
            "`obs`, which is the method's solver, has one: write --set solver.damping=0.1",
        ),
        (
            "--method sparsegpt --sparsity 0.5 --damping 0.1",
            "--set solver.damping=VALUE (solver ",
        ),
        (
            "--method wanda --pattern 2:4",
            "give how much to remove with --sparsity: ",
        ),
        ("--method wanda --sparsity 2/4", "is no pattern; did you mean 2:4?"),
        ("--method wanda --sparsity 0,5", "is no pattern; did you mean 0.5?"),
        (
            "--method wanda --sparsity 0.5%",
            "Do you mean 0.5? Write it without the percent sign",
        ),
        ("--method wanda --sparsity 0.5 --nsamples=4", "with --sequences"),
    ] {
        refused(&folder, &format!("{prune} {more}"), 2, &[expect]);
    }
    let shrink = "shrink --model model --method flap --calibration calibration.jsonl --out out";
    refused(&folder, &format!("{shrink} --sparsity 0.2"), 2, &["--units 0.2"]);
    refused(
        &folder,
        &format!("{shrink} --units 0,2"),
        2,
        &["is no share; did you mean 0.2?"],
    );
    refused(
        &folder,
        "run experiment.toml --seed 3",
        2,
        &["write it into the experiment file"],
    );
    refused(&folder, "run experiment.toml --dry-run", 2, &["`zprune plan` shows"]);
    refused(&folder, "eval --model model --tasks ,", 2, &["--tasks names no task"]);
    refused(
        &folder,
        "eval --model model --dataset novel.txt",
        2,
        &["give the text with --corpus"],
    );
    for (more, expect) in [
        (
            "--corpus novel.txt",
            "`zprune eval` measures one of them at a time: run it twice",
        ),
        (
            "--length 16",
            "--length belongs to perplexity on a text, and --tasks measures accuracy on tasks; leave --length out",
        ),
    ] {
        refused(
            &folder,
            &format!("eval --model model --tasks piqa {more}"),
            2,
            &[expect],
        );
    }
    refused(
        &folder,
        "eval --model model --tasks piqa --data nowhere/tasks",
        2,
        &["`nowhere/tasks` is not there; it is looked for from the folder in which zprune was started"],
    );
    refused(
        &folder,
        "list sparsgpt",
        2,
        &["unknown name `sparsgpt`; did you mean `sparsegpt`? `zprune list` has all names"],
    );
}

#[test]
fn tables_rows_and_columns_that_a_report_does_not_have_are_answered_with_those_it_has() {
    let folder = Folder::new();
    works(&folder.run());
    let told = works(&run(
        &folder,
        "report results/tiny --table perplexity,comparisons --columns 50%,difference",
    ));
    assert!(
        told.contains("50 %") && told.contains("difference") && !told.contains("group"),
        "{told}"
    );
    assert!(
        told.contains("sparsegpt against wanda") || told.contains("wanda against sparsegpt"),
        "no names of rows: {told}"
    );
    let told = works(&run(
        &folder,
        "report results/tiny --table perplexity,comparisons --columns 50%,difference --format csv",
    ));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "table,method,50 %", "{told}");
    assert!(lines[1].contains(",dense,"), "{told}");
    assert!(lines.contains(&"table,measure,pattern,comparison,difference"), "{told}");
    let rows = lines.iter().filter(|line| line.contains(" against "));
    assert!(
        rows.clone().count() > 1 && rows.clone().all(|line| line.ends_with(" %")),
        "{told}"
    );
    for (more, expect) in [
        (
            "--table axes",
            "there is no table `axes` here: nothing asks for it, as `tables = [[\"criterion\", \"solver\"]]`",
        ),
        (
            "--table published",
            "cites no published values ([[reference]]); there are `perplexity`",
        ),
        ("--table power", "cites no published values"),
        ("--table accuracy", "no task is scored ([[task]])"),
        ("--rows piqa", "rows begin with dense, wanda, sparsegpt"),
        ("--rows 50", "`50 %` is a column: --columns \"50 %\""),
        ("--rows against", "other tables have such rows: --table comparisons"),
    ] {
        refused(&folder, &format!("report results/tiny {more}"), 2, &[expect]);
    }
}

#[test]
fn a_length_that_contradicts_the_protocol_is_one_mistake() {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "name = \"tiny\"\n",
        "name = \"tiny\"\nprotocol = \"sparsegpt\"\n",
    );
    let output = run(&folder, "plan experiment.toml");
    let told = says(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("experiment.toml has 2 mistakes"), "{told}");
    assert_eq!(
        told.matches("protocol `sparsegpt` sets length = 2048, but here it is 16")
            .count(),
        2,
        "{told}"
    );
    assert!(!told.contains("is missing"), "{told}");
}

#[test]
fn words_without_an_option_are_answered_with_it() {
    let folder = Folder::new();
    for (words, expect) in [
        ("eval model", "give the model as --model model"),
        ("eval --model model novel.txt", "give the text as --corpus novel.txt"),
        ("prune model --method wanda", "give the model as --model model"),
        ("export model out.gguf", "give what is made as --out out.gguf"),
        ("submit experiment.toml slurm", "give the engine as --engine slurm"),
        ("run experiment.toml other.toml", "a command takes one experiment"),
        ("run experiment.toml --backend cuda", "did you mean `gpu`?"),
        ("verify hub:org/name", "this command takes a folder of this machine"),
        ("init other.toml --backend gpu", "add --gpu to write a file for a GPU"),
        (
            "report .",
            "so it is not a results folder; give one, such as results/NAME",
        ),
    ] {
        refused(&folder, words, 2, &[expect]);
    }
    std::fs::create_dir_all(folder.path("results/tiny")).expect("writable");
    folder.write("results/tiny/runs.jsonl", "");
    refused(&folder, "report results", 2, &["give one, such as results/tiny"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_command_says_what_was_not_made() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    let folder = Folder::new();
    for (words, expect) in [
        ("eval --model model --corpus -", "stopped: there is no result"),
        (
            "prune --model model --method wanda --sparsity 0.5 --calibration - --out out",
            "stopped: the folder was not made",
        ),
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut command = folder.zprune(&words);
        // It waits for its text.
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let text = child.stdin.take().expect("a pipe");
        let since = Instant::now();
        let catches = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 0b10 != 0))
        };
        while !catches() {
            assert!(since.elapsed() < Duration::from_secs(60), "{words:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(sent.expect("there is kill").success());
        let output = child.wait_with_output().expect("it ends");
        drop(text);
        assert_eq!(output.status.code(), Some(130), "{words:?}");
        assert!(says(&output).contains(expect), "{words:?}: {}", says(&output));
        super::left_nothing(&folder, "an interrupted command");
    }
}
