//! Claim: a result goes where it was asked to go and nowhere else. Inputs and files of others stay as they are, whatever
//! name or link leads to them, and what is written through stays what it is.

use super::tiny::{Files, Folder};
use std::path::Path;
use std::process::Output;

/// Starts the program with words separated by spaces.
fn run(folder: &Folder, words: &str) -> Output {
    let words: Vec<&str> = words.split_whitespace().collect();
    folder.zprune(&words).output().expect("the program starts")
}

fn says(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    text.concat()
}

fn works(output: &Output) -> String {
    assert!(output.status.success(), "{}", says(output));
    says(output)
}

/// Every file of the folder, by its path; a link is what it leads to.
fn all_files(folder: &Folder) -> Files {
    let top = folder.path("");
    let mut files = Files::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(&top).expect("inside").to_path_buf();
            if path.is_symlink() {
                let to = std::fs::read_link(&path).expect("a link");
                files.insert(name, to.to_string_lossy().into_owned().into_bytes());
            } else if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// The command ends with this code, says all of this, and changes nothing.
fn refused(folder: &Folder, words: &str, code: i32, expect: &[&str]) {
    let before = all_files(folder);
    let output = run(folder, words);
    let text = says(&output);
    assert_eq!(output.status.code(), Some(code), "{words}: {text}");
    for part in expect {
        assert!(text.contains(part), "{words}: does not say `{part}`:\n{text}");
    }
    assert!(!text.contains("panicked"), "{words}: {text}");
    assert!(output.stdout.is_empty(), "{words}: did the work first: {text}");
    let after = all_files(folder);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "{words}");
    assert!(before == after, "{words}: changed a file");
}

const EVAL: &str = "eval --model model --corpus novel.txt --length 16";

fn is_result(folder: &Folder, name: &str) {
    let text = std::fs::read_to_string(folder.path(name)).expect(name);
    let value: serde_json::Value = serde_json::from_str(&text).expect(name);
    assert!(value["perplexity"].is_f64(), "{name}: {text}");
}

#[test]
fn a_file_where_a_folder_is_needed_is_named() {
    let folder = Folder::new();
    for words in [
        "prune --model model --method magnitude --sparsity 0.5 --out novel.txt/below",
        "compress model --out novel.txt/below",
        "tokens experiment.toml --out novel.txt/below/deeper",
        "run experiment.toml --results novel.txt",
        "run experiment.toml --results novel.txt/below",
        "submit experiment.toml --engine slurm --write --results novel.txt/below",
    ] {
        refused(
            &folder,
            words,
            3,
            &[
                "cannot write: ",
                "novel.txt is a file, but it must be a folder; choose another place",
            ],
        );
    }
}

#[test]
fn json_replaces_earlier_results_and_nothing_else() {
    let folder = Folder::new();
    folder.write("notes.json", "{\"mine\": 1}");
    folder.write("empty.json", "");
    std::fs::create_dir(folder.path("taken")).expect("writable");
    for (target, why) in [
        (
            "notes.json",
            "notes.json: cannot write: the file exists, and is no earlier result",
        ),
        ("taken", "taken: cannot write: it is a folder"),
        ("taken/", "taken/: cannot write: this is no name of a file"),
        (
            "novel.txt/below",
            "cannot write: novel.txt is a file, but it must be a folder",
        ),
        ("model/config.json", "this command reads it (model)"),
        ("model/tokenizer.json", "this command reads it (model)"),
        ("./model/../model/model.safetensors", "this command reads it (model)"),
        ("novel.txt", "this command reads it (novel.txt)"),
    ] {
        refused(&folder, &format!("{EVAL} --json {target}"), 3, &[why]);
        if why.contains("reads it") {
            refused(&folder, &format!("{EVAL} --force --json {target}"), 3, &[why]);
        }
    }
    refused(&folder, &format!("{EVAL} --force"), 2, &["--json"]);
    for target in ["empty.json", "new.json", "new.json", "below/new/found.json"] {
        works(&run(&folder, &format!("{EVAL} --json {target}")));
        is_result(&folder, target);
    }
    works(&run(&folder, &format!("{EVAL} --force --json notes.json")));
    is_result(&folder, "notes.json");
    // Another command's result is none of this one's.
    let bench = "bench --shape smollm2-135m --layers 1 --sequences 1 --length 16 --json new.json";
    refused(
        &folder,
        bench,
        3,
        &["new.json: cannot write: the file exists, and is no earlier result"],
    );
}

#[cfg(unix)]
#[test]
fn json_follows_links_and_writes_through_devices_and_pipes() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = Folder::new();
    symlink("real.json", folder.path("link.json")).expect("writable");
    for _ in 0..2 {
        works(&run(&folder, &format!("{EVAL} --json link.json")));
        assert!(folder.path("link.json").is_symlink());
        is_result(&folder, "real.json");
    }
    symlink("model/config.json", folder.path("config link")).expect("writable");
    symlink("novel.txt", folder.path("text_link")).expect("writable");
    std::fs::hard_link(folder.path("novel.txt"), folder.path("same_text")).expect("writable");
    for target in ["text_link", "same_text"] {
        refused(
            &folder,
            &format!("{EVAL} --force --json {target}"),
            3,
            &["this command reads it"],
        );
    }
    let spaced = [EVAL.split(' ').collect(), vec!["--force", "--json", "config link"]].concat();
    let output = folder.zprune(&spaced).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));

    for (device, code) in [("/dev/null", 0), ("/dev/full", 3)] {
        let output = run(&folder, &format!("{EVAL} --json {device}"));
        assert_eq!(output.status.code(), Some(code), "{device}: {}", says(&output));
        let kind = Path::new(device).metadata().expect("it is there").file_type();
        assert!(kind.is_char_device(), "{device} was replaced");
    }
    let program = env!("CARGO_BIN_EXE_zprune");
    let script = format!(
        "mkfifo pipe; cat pipe >read & '{program}' {EVAL} --json pipe && wait && test -p pipe && \
         '{program}' {EVAL} --json /dev/stdout >both && '{program}' {EVAL} --json /dev/stdout | cat >piped"
    );
    let output = shell(&folder, &script);
    works(&output);
    is_result(&folder, "read");
    for file in ["both", "piped"] {
        let text = std::fs::read_to_string(folder.path(file)).expect("written");
        assert!(
            text.starts_with("{\n") && text.contains("\n}\nperplexity "),
            "{file}: {text}"
        );
    }
}

/// Runs a script of the shell in the folder.
#[cfg(unix)]
fn shell(folder: &Folder, script: &str) -> Output {
    std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path(""))
        .env_remove("ZPRUNE_LOG")
        .output()
        .expect("a shell")
}

#[test]
fn tokens_replace_the_same_tokens_only() {
    let folder = Folder::new();
    let tokens = "tokens experiment.toml --out out";
    works(&run(&folder, tokens));
    works(&run(&folder, tokens));
    let path = "out/model/calibration_seed0.safetensors";
    let first = std::fs::read(folder.path(path)).expect("written");
    folder.replace("experiment.toml", "sequences = 4", "sequences = 5");
    refused(&folder, tokens, 3, &[path, "has other tokens", "--force"]);
    works(&run(&folder, &format!("{tokens} --force")));
    assert_ne!(std::fs::read(folder.path(path)).expect("written"), first);
    folder.write("out/model/evaluation_novel.safetensors", "mine");
    refused(
        &folder,
        tokens,
        3,
        &["evaluation_novel.safetensors: cannot write: the file exists"],
    );
}

#[test]
fn scripts_replace_earlier_scripts_only() {
    let folder = Folder::new();
    let submit = "submit experiment.toml --engine slurm --write";
    works(&run(&folder, submit));
    works(&run(&folder, submit));
    folder.write("results/tiny/submit/submit.sh", "#!/bin/bash\necho mine\n");
    refused(
        &folder,
        submit,
        3,
        &["submit.sh: cannot write: the file exists", "--force"],
    );
    works(&run(&folder, &format!("{submit} --force")));
}

#[test]
fn options_that_would_begin_another_line_of_a_script_are_refused() {
    let folder = Folder::new();
    for engine in ["slurm", "snakemake"] {
        for (option, value) in [
            ("--partition", "gpu\nrm -rf x"),
            ("--partition", "gpu\rx"),
            ("--partition", "gpu --wrap=x"),
            ("--line", "--gres=gpu:1\necho x"),
            ("--line", "\u{1b}[2J"),
            ("--adapter", "llvm\npipe"),
        ] {
            let arguments = ["submit", "experiment.toml", "--engine", engine, option, value];
            let output = folder.zprune(&arguments).output().expect("the program starts");
            assert_eq!(
                output.status.code(),
                Some(2),
                "{engine} {option} {value:?}: {}",
                says(&output)
            );
            assert!(output.stdout.is_empty(), "{engine} {option} {value:?}");
        }
    }
}

/// Something of the user's in the results folder, and what a run says about it.
type Foreign = (&'static str, fn(&Folder), &'static str);

fn write_at(folder: &Folder, name: &str, content: &str) {
    let path = folder.path("results/tiny").join(name);
    std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("writable");
    std::fs::write(path, content).expect("writable");
}

#[test]
fn files_of_others_in_a_results_folder_stop_the_sweep_before_it_begins() {
    const FOREIGN: &[Foreign] = &[
        (
            "report.html",
            |it| write_at(it, "report.html", "<html>mine"),
            "report.html",
        ),
        ("report.json", |it| write_at(it, "report.json", "{}"), "report.json"),
        (
            "plan.toml",
            |it| write_at(it, "plan.toml", "plan = 'mine'\n"),
            "plan.toml",
        ),
        (
            "a table",
            |it| write_at(it, "tables/perplexity.md", "mine"),
            "tables/perplexity.md",
        ),
        (
            "a CSV",
            |it| write_at(it, "tables/perplexity.csv", "a,b\n1,2\n"),
            "tables/perplexity.csv",
        ),
        (
            "a plot",
            |it| write_at(it, "plots/time-model-novel.svg", "<svg/>"),
            "plots/time-model-novel.svg",
        ),
        (
            "a picture",
            |it| write_at(it, "plots/seeds-model-novel.png", "PNG"),
            "plots/seeds-model-novel.png",
        ),
        (
            "a folder of that name",
            |it| write_at(it, "report.html/mine", "x"),
            "report.html",
        ),
        ("events", |it| write_at(it, "events.jsonl", "mine"), "events.jsonl"),
        (
            "more events",
            |it| write_at(it, "events.jsonl", "mine\n"),
            "events.jsonl",
        ),
        ("records", |it| write_at(it, "runs.jsonl", "mine"), "runs.jsonl"),
        (
            "other records",
            |it| write_at(it, "runs.jsonl", "{\"mine\": 1}"),
            "runs.jsonl",
        ),
        ("a list", |it| write_at(it, "written.jsonl", "mine"), "written.jsonl"),
        #[cfg(unix)]
        (
            "linked records",
            |it| {
                it.write("mine.jsonl", "{\"schema\":2,\"mine\":1}");
                write_at(it, "x", "");
                std::os::unix::fs::symlink("../../mine.jsonl", it.path("results/tiny/runs.jsonl")).expect("writable");
            },
            "runs.jsonl",
        ),
        #[cfg(unix)]
        (
            "a linked page",
            |it| {
                it.write("mine.html", "mine");
                write_at(it, "x", "");
                std::os::unix::fs::symlink("../../mine.html", it.path("results/tiny/report.html")).expect("writable");
            },
            "report.html",
        ),
    ];
    for (name, place, expect) in FOREIGN {
        let folder = Folder::new();
        place(&folder);
        let before = all_files(&folder);
        let output = folder.run();
        let text = says(&output);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{name}: {text}");
        assert!(text.contains(expect) && !text.contains("panicked"), "{name}: {text}");
        let after = all_files(&folder);
        for (path, content) in &before {
            assert_eq!(after.get(path), Some(content), "{name}: {}", path.display());
        }
        let records = folder.path("results/tiny/runs.jsonl");
        let measured = std::fs::read_to_string(records)
            .unwrap_or_default()
            .contains("perplexity");
        assert!(!measured, "{name}: cells were run first");
    }
}

#[test]
fn files_with_other_names_live_beside_the_results() {
    let folder = Folder::new();
    let mine = [
        ".tmpabc123.tmp",
        "notes.tmp",
        "tables/mine.md",
        "plots/mine.svg",
        "plots/.tmpabc123.tmp",
        ".zprune-mine.tmp",
        "claims/mine.txt",
    ];
    for name in mine {
        write_at(&folder, name, "mine");
    }
    write_at(&folder, ".zprune-Dead00000000.tmp", "half a page");
    works(&folder.run());
    for name in mine {
        assert_eq!(
            std::fs::read(folder.path("results/tiny").join(name)).expect(name),
            b"mine"
        );
    }
    assert!(!folder.path("results/tiny/.zprune-Dead00000000.tmp").exists());
    // What the user changed is the user's.
    write_at(&folder, "tables/perplexity.md", "my notes");
    let output = run(&folder, "report experiment.toml");
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));
    assert!(
        says(&output).contains("it was changed since zprune wrote it"),
        "{}",
        says(&output)
    );
    assert_eq!(
        std::fs::read(folder.path("results/tiny/tables/perplexity.md")).expect("there"),
        b"my notes"
    );
}

#[test]
fn a_results_folder_of_zprune_0_1_0_goes_on() {
    let folder = Folder::new();
    works(&folder.run());
    std::fs::remove_file(folder.path("results/tiny/written.jsonl")).expect("reports are listed");
    // That version wrote no numbers of plots.
    for entry in std::fs::read_dir(folder.path("results/tiny/plots")).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            std::fs::remove_file(path).expect("ours");
        }
    }
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0, 1, 2]");
    let text = works(&folder.run());
    assert!(text.contains("4 cells run, 9 had results already"), "{text}");
    assert!(folder.path("results/tiny/written.jsonl").exists());
}

#[test]
fn labels_that_make_no_names_are_refused_before_the_sweep() {
    let long = "x".repeat(240);
    let second = |name: &str| format!("path = \"model\"\n\n[[model]]\nname = {name}\npath = \"model\"\n");
    for (old, new, expect) in [
        (
            "path = \"model\"\n",
            second("\"Model\""),
            vec!["would share the file plots/", "`Model`", "`model`"],
        ),
        (
            "path = \"model\"\n",
            format!("name = \"a b\"\n{}", second("\"a_b\"")),
            vec!["would share the file plots/", "`a b`", "`a_b`"],
        ),
        (
            "path = \"model\"\n",
            format!("name = \"{long}\"\npath = \"model\"\n"),
            vec!["bytes, but 255 are possible", "model `xxx"],
        ),
        (
            "path = \"model\"\n",
            "name = \"two\\nlines\"\npath = \"model\"\n".to_string(),
            vec!["model name \"two\\nlines\" has a line break"],
        ),
        (
            "name = \"novel\"",
            "name = \"bell\\u0007\"".to_string(),
            vec!["evaluation name"],
        ),
        (
            "name = \"novel\"",
            "name = \"left\\u202Etfel\"".to_string(),
            vec!["evaluation name", "U+202E"],
        ),
        (
            "path = \"model\"\n",
            "name = \"one\\u2028two\"\npath = \"model\"\n".to_string(),
            vec!["model name", "U+2028"],
        ),
        (
            "name = \"wanda\"\n",
            "name = \"\\u2067wanda\\u2069\"\n".to_string(),
            vec!["method name", "U+2067"],
        ),
        (
            "[sweep]",
            "[[comparison]]\nfamily = \"a\\u2029\"\nours = \"wanda\"\nagainst = [\"dense\"]\n\n[sweep]".to_string(),
            vec!["family", "U+2029"],
        ),
        (
            "name = \"wanda\"\n",
            "name = \"\\u001b[31m\"\n".to_string(),
            vec!["method name"],
        ),
        (
            "name = \"tiny\"",
            format!("name = \"{}\"", "y".repeat(256)),
            vec!["`name` becomes the name of a folder"],
        ),
        (
            "name = \"tiny\"",
            "name = \"nul\"".to_string(),
            vec!["name `nul` becomes the name of a folder"],
        ),
    ] {
        let folder = Folder::new();
        folder.replace("experiment.toml", old, &new);
        for command in ["run", "plan"] {
            refused(&folder, &format!("{command} experiment.toml"), 2, &expect);
        }
    }
    let folder = Folder::new();
    folder.replace("experiment.toml", "name = \"novel\"", "name = \"../../novel\"");
    works(&folder.run());
    assert!(folder.path("results/tiny/plots/time-model-.._.._novel.svg").exists());
}

#[test]
fn impossible_confidences_and_numbers_of_threads_are_refused() {
    let folder = Folder::new();
    works(&folder.run());
    for confidence in [
        "5.0",
        "nan",
        "0.0",
        "1.0",
        "-0.5",
        "inf",
        "0.4999",
        "0.9991",
        "0.9999999",
        "0.9999999999999999",
    ] {
        let report = format!("[report]\nconfidence = {confidence}\n\n[sweep]");
        folder.replace("experiment.toml", "[sweep]", &report);
        refused(
            &folder,
            "run experiment.toml",
            2,
            &["must be between 0.5 and 0.999, such as 0.95"],
        );
        folder.replace("experiment.toml", &report, "[sweep]");
        folder.replace(
            "results/tiny/plan.toml",
            "confidence = 0.95",
            &format!("confidence = {confidence}"),
        );
        refused(
            &folder,
            "report results/tiny",
            2,
            &["results/tiny/plan.toml", "must be between 0.5 and 0.999, such as 0.95"],
        );
        folder.replace(
            "results/tiny/plan.toml",
            &format!("confidence = {confidence}"),
            "confidence = 0.95",
        );
    }
    for threads in ["100000", "-1", "many", "18446744073709551616"] {
        let mut command = folder.zprune(&["list"]);
        let output = command
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{threads}: {}", says(&output));
        assert!(says(&output).contains("RAYON_NUM_THREADS"), "{}", says(&output));
    }
}

/// What starts a program as a user that has no other process, so that a limit of processes is one of its threads; `None` where
/// this user may not.
#[cfg(target_os = "linux")]
fn as_a_user_of_its_own(threads: u32) -> Option<Vec<String>> {
    let user = (60_000 + std::process::id() % 1000).to_string();
    let id = std::process::Command::new("id").arg("-u").output().ok()?;
    let root = String::from_utf8_lossy(&id.stdout).trim() == "0";
    let before: &[&str] = if root { &[] } else { &["sudo", "-n"] };
    let limit = format!("--nproc={threads}");
    let words = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "prlimit",
        &limit,
    ];
    let words: Vec<String> = before.iter().chain(&words).map(|word| word.to_string()).collect();
    let mut probe = std::process::Command::new(&words[0]);
    let probed = probe.args(&words[1..]).arg("true").output().ok()?;
    probed.status.success().then_some(words)
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_the_system_refuses_is_an_error_or_done_without() {
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| {
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, mode).expect("our own file");
    };
    let mut done = 0;
    for threads in 1..=8 {
        let Some(words) = as_a_user_of_its_own(threads) else {
            println!("skipped: no limit of processes can be set here");
            return;
        };
        for command in [
            "run experiment.toml",
            "prune --model model --method magnitude --sparsity 0.5 --out out/pruned",
        ] {
            let folder = Folder::new();
            std::fs::create_dir_all(folder.path("out")).expect("writable");
            std::fs::copy(env!("CARGO_BIN_EXE_zprune"), folder.path("zprune")).expect("writable");
            ["", "out", "zprune"].iter().for_each(|path| open(&folder.path(path)));
            let mut program = std::process::Command::new(&words[0]);
            let started = program
                .args(&words[1..])
                .arg("env")
                .args(["RAYON_NUM_THREADS=2", "./zprune"]);
            let output = started
                .args(command.split_whitespace())
                .current_dir(folder.path(""))
                .output();
            let output = output.expect("the program starts");
            let text = says(&output);
            assert!(!text.contains("panicked"), "{threads} threads: {text}");
            match output.status.code() {
                Some(0) => done += 1,
                Some(2) => assert!(
                    text.contains("thread") && text.contains("RAYON_NUM_THREADS"),
                    "{threads}: {text}"
                ),
                other => panic!("{threads} threads: {other:?}: {text}"),
            }
        }
    }
    // With a thread for signals but none to read ahead, and with more.
    assert!(done >= 6, "only {done} of 16 commands did their work");
}

#[cfg(unix)]
#[test]
fn a_small_limit_of_the_stack_is_no_obstacle() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_zprune");
    let script = format!(
        "ulimit -S -s 64; set -e; '{program}' list; '{program}' plan experiment.toml; '{program}' experiment.toml"
    );
    works(&shell(&folder, &script));
}

#[cfg(unix)]
#[test]
fn the_umask_is_respected() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_zprune");
    let prune = "prune --model model --method magnitude --sparsity 0.5 --out pruned";
    works(&shell(&folder, &format!(
        "umask 077; set -e; '{program}' {prune}; '{program}' compress pruned --out archive; '{program}' expand archive --out again
         '{program}' {EVAL} --json found.json; '{program}' tokens experiment.toml --out tokens; '{program}' experiment.toml
         '{program}' submit experiment.toml --engine slurm --write"
    )));
    let mut paths: Vec<_> = ["pruned", "archive", "again", "found.json", "tokens", "results"]
        .map(|name| folder.path(name))
        .into();
    let mut count = 0;
    while let Some(path) = paths.pop() {
        let there = path.metadata().expect("it is there");
        assert_eq!(
            there.permissions().mode() & 0o077,
            0,
            "{} is open to others",
            path.display()
        );
        count += 1;
        if there.is_dir() {
            paths.extend(
                std::fs::read_dir(path)
                    .expect("readable")
                    .map(|entry| entry.expect("readable").path()),
            );
        }
    }
    assert!(count > 30, "only {count} files");
}

/// Permission bits of a file or folder.
#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
}

#[cfg(unix)]
#[test]
fn what_is_made_from_a_private_file_is_as_private() {
    let folder = Folder::new();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/q8_0.gguf");
    std::fs::copy(gguf, folder.path("model.gguf")).expect("a file of the repository");
    for private in [
        "model/model.safetensors",
        "model/tokenizer.json",
        "model.gguf",
        "calibration.jsonl",
    ] {
        set_mode(&folder.path(private), 0o600);
    }
    set_mode(&folder.path("model"), 0o750);
    for open in ["model/config.json", "novel.txt"] {
        set_mode(&folder.path(open), 0o644);
    }
    let program = env!("CARGO_BIN_EXE_zprune");
    let prune = "prune --model model --method magnitude --sparsity 0.5 --out pruned";
    works(&shell(&folder, &format!(
        "umask 022; set -e; '{program}' {prune}; '{program}' compress pruned --out archive; '{program}' expand archive --out again
         '{program}' import model.gguf --out imported; '{program}' tokens experiment.toml --out tokens"
    )));
    for (made, weights) in [
        ("pruned", "model.safetensors"),
        ("archive", "model.safetensors.zprune"),
        ("again", "model.safetensors"),
    ] {
        for (name, expected) in [
            ("", 0o750),
            (weights, 0o600),
            ("tokenizer.json", 0o600),
            ("config.json", 0o644),
            ("pruning.json", 0o600),
        ] {
            assert_eq!(mode(&folder.path(made).join(name)), expected, "{made}/{name}");
        }
    }
    assert_eq!(mode(&folder.path("archive/zprune-archive.json")), 0o600);
    for entry in std::fs::read_dir(folder.path("imported")).expect("written") {
        let path = entry.expect("readable").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    for (name, expected) in [("calibration_seed0", 0o600), ("evaluation_novel", 0o644)] {
        let path = folder.path(format!("tokens/model/{name}.safetensors"));
        assert_eq!(mode(&path), expected, "{name}");
    }
    // What was opened to everybody before is closed when it is made from a private text.
    set_mode(&folder.path("tokens/model/calibration_seed0.safetensors"), 0o644);
    works(&run(&folder, "tokens experiment.toml --out tokens"));
    assert_eq!(mode(&folder.path("tokens/model/calibration_seed0.safetensors")), 0o600);
    // An archive that was closed afterwards gives nobody what he could not read in it.
    set_mode(&folder.path("archive/config.json"), 0o600);
    works(&shell(
        &folder,
        &format!("umask 022; '{program}' expand archive --out closed"),
    ));
    assert_eq!(mode(&folder.path("closed/config.json")), 0o600);
}

#[cfg(unix)]
#[test]
fn links_in_a_results_folder_are_not_written_through() {
    use std::os::unix::fs::symlink;
    for (linked, command) in [
        ("tables", "run experiment.toml"),
        ("plots", "run experiment.toml"),
        ("claims", "run experiment.toml"),
        ("submit", "submit experiment.toml --engine slurm --write"),
        ("submit", "submit experiment.toml --engine slurm --write --force"),
    ] {
        for target in ["elsewhere", "not there"] {
            let folder = Folder::new();
            std::fs::create_dir_all(folder.path("elsewhere")).expect("writable");
            write_at(&folder, "x", "");
            let link = folder.path("results/tiny").join(linked);
            symlink(folder.path(target), &link).expect("writable");
            let output = run(&folder, command);
            let text = says(&output);
            assert_eq!(output.status.code(), Some(3), "{linked}: {text}");
            for part in [linked, "it is a link", "replace the link"] {
                assert!(text.contains(part), "{linked}: does not say `{part}`: {text}");
            }
            assert!(link.is_symlink() && !folder.path("not there").exists());
            assert_eq!(
                std::fs::read_dir(folder.path("elsewhere")).expect("there").count(),
                0,
                "{linked}"
            );
        }
    }
    let folder = Folder::new();
    works(&run(&folder, "submit experiment.toml --engine slurm --write"));
    folder.write("mine", "# Written by `zprune submit`: mine");
    let script = folder.path("results/tiny/submit/submit.sh");
    std::fs::remove_file(&script).expect("written");
    symlink(folder.path("mine"), &script).expect("writable");
    refused(
        &folder,
        "submit experiment.toml --engine slurm --write",
        3,
        &["submit/submit.sh: cannot write: it is a link"],
    );
    // The folder of all results, and that of one experiment, may be elsewhere.
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("scratch/tiny")).expect("writable");
    std::fs::create_dir(folder.path("results")).expect("writable");
    symlink("../scratch/tiny", folder.path("results/tiny")).expect("writable");
    works(&folder.run());
    assert!(folder.path("scratch/tiny/tables/perplexity.md").exists());
}

#[cfg(unix)]
#[test]
fn errors_name_what_the_user_named() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_zprune");
    // As much as a file may have, so that each command ends while it writes.
    for (blocks, command, name) in [
        (
            1,
            "prune --model model --method magnitude --sparsity 0.5 --out pruned",
            "pruned/",
        ),
        (1, "tokens experiment.toml --out tokens", "tokens/model/"),
        (
            0,
            "eval --model model --corpus novel.txt --length 16 --json found.json",
            "found.json",
        ),
        (0, "submit experiment.toml --engine slurm --write", "submit/"),
    ] {
        let output = shell(&folder, &format!("ulimit -f {blocks}; '{program}' {command}"));
        let text = says(&output);
        assert_eq!(output.status.code(), Some(3), "{command}: {text}");
        assert!(
            text.contains(name) && text.contains("cannot write"),
            "{command}: {text}"
        );
        assert!(!text.contains(".zprune-"), "{command}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn streams_that_take_nothing_end_no_command_in_a_panic() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_zprune");
    let commands = [
        "list",
        "devices",
        "--help",
        "--version",
        "run --help",
        "plan experiment.toml",
        "plan experiment.toml --json",
        EVAL,
        "verify model",
        "submit experiment.toml --engine slurm",
        "nonsense",
    ];
    for command in commands {
        let fails = i32::from(command == "nonsense") * 2;
        // A log that nobody can read, however much there is of it.
        for lost in ["2>/dev/full >out", "2>&- >out", "2>&1 >out | true"] {
            let output = shell(&folder, &format!("ZPRUNE_LOG=trace '{program}' {command} {lost}"));
            let expected = if lost.ends_with("true") { 0 } else { fails };
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{command} {lost}: {}",
                says(&output)
            );
        }
        let output = shell(&folder, &format!("'{program}' {command} >/dev/full"));
        let expected = if fails == 0 { 3 } else { fails };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{command} >/dev/full: {}",
            says(&output)
        );
        for lost in [">&-", ">/dev/full 2>/dev/full", "| true", "2>&1 | head -1", ">&- 2>&-"] {
            let text = says(&shell(&folder, &format!("'{program}' {command} {lost}")));
            assert!(!text.contains("panicked"), "{command} {lost}: {text}");
        }
        // Unix tools say nothing when nobody reads on.
        let output = shell(
            &folder,
            &format!("{{ '{program}' {command}; echo $? >status; }} 2>err | true"),
        );
        assert!(output.status.success());
        let status = std::fs::read_to_string(folder.path("status")).unwrap_or_default();
        assert_eq!(status.trim(), fails.to_string(), "{command} | true");
    }
    for (index, lost) in ["2>/dev/full", "2>&-", "2>&1 | head -1"].iter().enumerate() {
        let output = shell(
            &folder,
            &format!("'{program}' experiment.toml --results r{index} {lost}"),
        );
        assert!(output.status.success(), "{lost}: {}", says(&output));
        let records = std::fs::read_to_string(folder.path(format!("r{index}/tiny/runs.jsonl"))).expect("records");
        assert_eq!(records.lines().count(), 9, "{lost}");
        assert!(folder.path(format!("r{index}/tiny/report.html")).exists(), "{lost}");
    }
    let output = shell(&folder, &format!("'{program}' experiment.toml --results r3 >/dev/full"));
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));
    let records = std::fs::read_to_string(folder.path("r3/tiny/runs.jsonl")).expect("records");
    assert_eq!(records.lines().count(), 9, "the records stay");
}

/// Whether these tests run under `nohup`, so that the program does, too, and a terminal that goes away does not end it.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let output = std::process::Command::new("sh")
        .args(["-c", "kill -HUP $$; exit 0"])
        .status();
    output.expect("a shell").success()
}

#[cfg(unix)]
#[test]
fn a_terminal_that_goes_away_ends_no_run_that_is_to_outlive_it() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_zprune");
    let bench = "bench --shape smollm2-135m --layers 8 --write big";
    let output = shell(
        &folder,
        &format!("trap '' HUP; '{program}' {bench} & child=$!; sleep 0.2; kill -HUP $child; wait $child"),
    );
    works(&output);
    assert!(folder.path("big/config.json").exists());
}

#[cfg(unix)]
#[test]
fn interrupted_folders_are_removed_at_once_or_by_the_next_command() {
    use std::time::{Duration, Instant};
    let folder = Folder::new();
    std::fs::create_dir(folder.path("made")).expect("writable");
    let unfinished = || -> Vec<String> {
        let entries = std::fs::read_dir(folder.path("made")).expect("readable");
        let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with('.')).collect()
    };
    let begun = || {
        let mut command = folder.zprune(&[
            "bench",
            "--shape",
            "smollm2-135m",
            "--layers",
            "30",
            "--write",
            "made/big",
        ]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let child = command.spawn().expect("the program starts");
        let since = Instant::now();
        // Until its weights are being written.
        while !unfinished().iter().any(|name| {
            let weights = folder.path("made").join(name).join("model.safetensors");
            weights.exists()
        }) {
            assert!(since.elapsed() < Duration::from_secs(60), "nothing was begun");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let kill = |child: &std::process::Child, signal: &str| {
        let sent = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("there is kill").success());
    };
    let mut signals = vec!["-INT", "-TERM"];
    if !hangup_is_ignored() {
        signals.push("-HUP");
    }
    for signal in signals {
        let mut child = begun();
        kill(&child, signal);
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{signal}");
        assert_eq!(unfinished(), Vec::<String>::new(), "{signal}");
        assert!(!folder.path("made/big").exists(), "{signal}");
    }
    let small = |name: &str| format!("prune --model model --method magnitude --sparsity 0.5 --out made/{name}");
    let mut child = begun();
    kill(&child, "-KILL");
    child.wait().expect("it ends");
    assert!(!unfinished().is_empty(), "nobody could remove it");
    works(&run(&folder, &small("first")));
    assert_eq!(unfinished(), Vec::<String>::new(), "the next command removes it");
    let mut living = begun();
    let there = unfinished();
    works(&run(&folder, &small("second")));
    assert_eq!(unfinished(), there, "a living process's folder stays");
    kill(&living, "-TERM");
    living.wait().expect("it ends");
    assert_eq!(unfinished(), Vec::<String>::new());
}
