//! Experiments as people type them: shorthands, defaults, and standard input.

use super::{Folder, refused, run, says, works};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

/// What the tests' experiment says in full, with as little as possible.
const SHORT: &str = r#"methods = ["wanda", "sparsegpt", { criterion = "ria" }, "magnitude+obs"]

[[model]]
path = "model"

[calibration]
corpus = "calibration.jsonl"
sequences = 4
length = 16

[sweep]
seeds = [0, 1]
patterns = [0.5, "2:4"]

[[method]]
criterion = "sparsegpt"
name = "again"

[[evaluation]]
name = "novel"
corpus = "novel.txt"
length = 16
windows = 4
"#;

const LONG: &str = r#"name = "short"

[[model]]
path = "model"

[calibration]
corpus = "calibration.jsonl"
sampling = "documents"
sequences = 4
length = 16

[sweep]
seeds = [0, 1]
patterns = [{ sparsity = 0.5 }, { keep = 2, of = 4 }]

[[method]]
criterion = "wanda"

[[method]]
criterion = "obs"
solver = "obs"

[[method]]
criterion = "ria"

[[method]]
criterion = "magnitude"
solver = "obs"

[[method]]
name = "again"
criterion = "obs"
solver = "obs"

[[evaluation]]
name = "novel"
corpus = "novel.txt"
length = 16
windows = 4
"#;

/// A plan without the time that is expected, which depends on what else runs.
fn timeless(plan: &str) -> String {
    let lines = plan.lines().filter(|line| !line.starts_with("time,"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn shorthands_are_the_experiment_that_is_written_in_full() {
    let folder = Folder::new();
    folder.write("short.toml", SHORT);
    folder.write("long.toml", LONG);
    let short = works(&run(&folder, "plan short.toml"));
    assert_eq!(timeless(&short), timeless(&works(&run(&folder, "plan long.toml"))));
    for part in [
        "drawn from its documents (sampling = \"documents\", as the papers do)",
        "from novel.txt, join = \"none\"",
        "method: sparsegpt = criterion obs",
        "method: magnitude+obs = criterion magnitude",
    ] {
        assert!(short.contains(part), "no `{part}` in:\n{short}");
    }
}

#[test]
fn a_plan_counts_what_is_there_and_says_what_is_not() {
    let folder = Folder::new();
    let tasks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks");
    std::fs::copy(tasks.join("arc_easy.jsonl"), folder.path("arc_easy.jsonl")).expect("writable");
    let rows = std::fs::read_to_string(folder.path("arc_easy.jsonl"))
        .expect("there")
        .lines()
        .count();
    folder.write(
        "prompts.jsonl",
        "{\"q\": \"a b\", \"answer\": \"c\"}\n{\"q\": \"d\", \"answer\": \"e\"}\n",
    );
    let more = "[[evaluation]]\nname = \"whole\"\ncorpus = \"novel.txt\"\nlength = 32\n\
                [[task]]\nname = \"arc_easy\"\ndata = \"arc_easy.jsonl\"\nlimit = 2\n\
                [[generation]]\nname = \"words\"\nprompts = \"prompts.jsonl\"\ntemplate = \"{q}\"\nmatch = \"exact\"\nmax_tokens = 4\n";
    folder.write("more.toml", format!("{SHORT}{more}"));
    folder.write("model/generation_config.json", "{\"eos_token_id\": 0}");
    let plan = works(&run(&folder, "plan more.toml"));
    // The tokenizer makes one token of each byte.
    let tokens = std::fs::metadata(folder.path("novel.txt")).expect("there").len();
    let (short, long) = (tokens / 16, tokens / 32);
    for part in [
        format!("evaluation: novel, 4 of {short} windows of 16 tokens"),
        format!("evaluation: whole, all {long} windows of 32 tokens"),
        format!("task: arc_easy, 2 of {rows} documents"),
        "generation: words, all 2 prompts".to_string(),
        "memory and time are without the answers to prompts, which".to_string(),
    ] {
        assert!(plan.contains(&part), "no `{part}` in:\n{plan}");
    }
    // Without the tokenizer, windows are not known, and the rest still is.
    std::fs::remove_file(folder.path("model/tokenizer.json")).expect("ours");
    std::fs::remove_file(folder.path("prompts.jsonl")).expect("ours");
    let output = run(&folder, "plan more.toml");
    let plan = says(&output);
    // What a run would refuse comes last, with its place and the exit code of the run.
    assert_eq!(output.status.code(), Some(2), "{plan}");
    assert_eq!(run(&folder, "run more.toml").status.code(), Some(2));
    let json = run(&folder, "plan more.toml --json");
    assert_eq!(json.status.code(), Some(2), "{}", says(&json));
    let listed: serde_json::Value = serde_json::from_slice(&json.stdout).expect("the plan is JSON");
    assert_eq!(listed["missing"].as_array().map(Vec::len), Some(2), "{listed}");
    for part in [
        "evaluation: novel, 4 windows of 16 tokens",
        "evaluation: whole, all windows of 32 tokens",
        "generation: words, all prompts",
        "error: more.toml: 2 files or folders are not there",
        "tokenizer: `model/tokenizer.json` is not there",
        " │ path = \"model\"",
        "prompts of `words`: `prompts.jsonl` is not there",
        " │ prompts = \"prompts.jsonl\"",
    ] {
        assert!(plan.contains(part), "no `{part}` in:\n{plan}");
    }
    assert!(
        plan.contains(&format!("task: arc_easy, 2 of {rows} documents")),
        "{plan}"
    );
    // Too little text is told before anything is run.
    let folder = Folder::new();
    folder.replace("experiment.toml", "windows = 4", "windows = 4000");
    let refused = run(&folder, "plan experiment.toml");
    assert_eq!(refused.status.code(), Some(2), "{}", says(&refused));
    assert!(
        says(&refused).contains("use more text, fewer windows"),
        "{}",
        says(&refused)
    );
}

/// Runs the program with a text as its standard input.
fn fed(folder: &Folder, words: &str, text: &[u8]) -> Output {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = folder.zprune(&words);
    let command = command
        .env("TMPDIR", folder.path("temporary"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("it is piped");
    // It need not read to the end if it refuses something else.
    let _ = input.write_all(text);
    drop(input);
    child.wait_with_output().expect("it ends")
}

#[test]
fn texts_may_come_from_standard_input() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("temporary")).expect("writable");
    let text = |name: &str| std::fs::read(folder.path(name)).expect("a file");
    let likelihoods = |name: &str| {
        let found: serde_json::Value = serde_json::from_slice(&text(name)).expect("JSON");
        found["windows"].clone()
    };
    let eval = "eval --model model --length 16 --windows 4 --json";
    works(&run(&folder, &format!("{eval} file.json --corpus novel.txt")));
    let said = works(&fed(
        &folder,
        &format!("{eval} fed.json --corpus -"),
        &text("novel.txt"),
    ));
    assert!(
        said.contains("standard input: ") && said.contains("of plain text"),
        "{said}"
    );
    assert_eq!(likelihoods("file.json"), likelihoods("fed.json"));
    assert!(
        likelihoods("fed.json")
            .as_array()
            .is_some_and(|windows| windows.len() == 4)
    );

    let prune = "prune --model model --method wanda --sparsity 0.5 --sequences 4 --length 16 --out";
    works(&run(&folder, &format!("{prune} file --calibration calibration.jsonl")));
    let said = works(&fed(
        &folder,
        &format!("{prune} fed --calibration -"),
        &text("calibration.jsonl"),
    ));
    assert!(said.contains("of JSON lines"), "{said}");
    assert!(text("file/model.safetensors") == text("fed/model.safetensors"));
    let origin = String::from_utf8(text("fed/pruning.json")).expect("UTF-8");
    assert!(origin.contains("\"standard-input.jsonl\""), "{origin}");

    for (words, says_so) in [
        (format!("{eval} x.json --tokens -"), "--tokens must be a file"),
        (format!("{eval} x.json --corpus -"), "contains no text"),
        (
            "eval --model model --tasks wnli --data -".to_string(),
            "--data must be a file",
        ),
        (format!("{prune} x --tokens -"), "--tokens must be a file"),
        (
            "submit - --engine slurm".to_string(),
            "an experiment that jobs read must be a file",
        ),
    ] {
        let refused = fed(&folder, &words, b"");
        assert_eq!(refused.status.code(), Some(2), "{words}: {}", says(&refused));
        assert!(says(&refused).contains(says_so), "{words}: {}", says(&refused));
    }
    folder.replace("experiment.toml", "corpus = \"novel.txt\"", "corpus = \"-\"");
    let refused = says(&run(&folder, "plan experiment.toml"));
    assert!(refused.contains("standard input can be read only once"), "{refused}");
    let left = std::fs::read_dir(folder.path("temporary")).expect("readable").count();
    assert_eq!(left, 0, "a copy is left");
}

#[test]
fn an_experiment_may_come_from_standard_input() {
    let folder = Folder::new();
    let plan = |text: &str| fed(&folder, "plan -", text.as_bytes());
    folder.write("short.toml", SHORT);
    let said = works(&plan(LONG));
    assert_eq!(timeless(&said), timeless(&works(&run(&folder, "plan short.toml"))));
    let nameless = plan(SHORT);
    assert_eq!(nameless.status.code(), Some(2));
    let said = says(&nameless);
    assert!(
        said.contains("standard input: `name` is missing: the name of the results folder"),
        "{said}"
    );
    let refused = plan(&LONG.replace("path = \"model\"", "path = 3"));
    assert!(
        says(&refused).contains("standard input:4:8: `path` must be a text in quotes"),
        "{}",
        says(&refused)
    );
}

#[test]
fn init_writes_a_file_that_can_be_planned_and_replaces_none() {
    let folder = Folder::new();
    let refused = run(&folder, "init");
    assert_eq!(refused.status.code(), Some(3), "{}", says(&refused));
    assert!(says(&refused).contains("experiment.toml: cannot write: there is a file or folder with this name already"));
    works(&run(&folder, "init --model model below/mine.toml"));
    let text = std::fs::read_to_string(folder.path("below/mine.toml")).expect("written");
    assert!(
        text.contains("path = \"../model\"") && text.contains("name = \"mine\""),
        "{text}"
    );
    assert!(text.contains("backend = \"cpu\""), "{text}");
    let planned = works(&run(&folder, "plan below/mine.toml"));
    assert!(
        planned.contains("mine\n") && planned.contains("method: sparsegpt = "),
        "{planned}"
    );
    works(&run(&folder, "init --model org/name@main --gpu hub.toml"));
    let text = std::fs::read_to_string(folder.path("hub.toml")).expect("written");
    assert!(text.contains("hub = \"org/name\"\nrevision = \"main\""), "{text}");
    assert!(text.contains("backend = \"gpu\""), "{text}");
    works(&run(&folder, "plan hub.toml --compute f32"));
    let wrong = run(&folder, "init --model nowhere other.toml");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        says(&wrong).contains("there is no folder `nowhere`")
            && says(&wrong).contains("a model of the hub is written org/name"),
        "{}",
        says(&wrong)
    );
    let not_a_model = run(&folder, "init --model below other.toml");
    assert!(says(&not_a_model).contains("below: "), "{}", says(&not_a_model));
    assert!(!folder.path("other.toml").exists());
}

#[test]
fn a_path_that_is_no_folder_is_not_taken_for_a_name_of_the_hub() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("mine/tiny-llama")).expect("writable");
    for (typed, expect) in [
        (
            "models/nothere",
            "there is no folder `models/nothere`, and no folder `models`; a model of the hub is written org/name, and \
             hub:models/nothere if that is what you mean",
        ),
        (
            "mine/tiny-lama",
            "there is no folder `mine/tiny-lama`; did you mean `tiny-llama`, which is in the same folder?; a model of the hub",
        ),
        (
            "mine/other",
            "; folders in `mine` are `tiny-llama`; a model of the hub is written org/name, and hub:mine/other",
        ),
        (
            "./org/name",
            "there is no folder `./org/name`, and no folder `./org`; a model",
        ),
        (
            "../nothere/x",
            "and no folder `../nothere`; a model of the hub is written org/name\n",
        ),
        (
            "org/name/",
            "there is no folder `org/name/`, and no folder `org`; a model of the hub is written org/name, and hub:org/name",
        ),
        (
            "a/b/c",
            "there is no folder `a/b/c`, and no folder `a/b`; a model of the hub is written org/name\n",
        ),
        (
            "modle",
            "did you mean `model`, which is in the same folder?; a model of the hub is written org/name, or hub:modle",
        ),
    ] {
        let refused = folder
            .zprune(&["init", "other.toml", "--model", typed])
            .output()
            .expect("it starts");
        assert_eq!(refused.status.code(), Some(2), "{typed}: {}", says(&refused));
        let said = says(&refused).replace("\n  ", " ");
        assert!(said.contains(expect), "no `{expect}` in:\n{said}");
        assert!(!folder.path("other.toml").exists());
    }
    works(&run(&folder, "init --model hub:models/nothere hub.toml"));
    let text = std::fs::read_to_string(folder.path("hub.toml")).expect("written");
    assert!(text.contains("hub = \"models/nothere\""), "{text}");
}

#[cfg(unix)]
#[test]
fn a_model_that_is_a_link_has_the_name_of_the_link() {
    let folder = Folder::new();
    std::fs::rename(folder.path("model"), folder.path("blob-4f2a")).expect("ours");
    std::os::unix::fs::symlink("blob-4f2a", folder.path("my-model")).expect("a link");
    works(&run(&folder, "init --model my-model/ below/mine.toml"));
    let text = std::fs::read_to_string(folder.path("below/mine.toml")).expect("written");
    assert!(text.contains("path = \"../my-model\""), "{text}");
    works(&run(
        &folder,
        "prune --model my-model --method magnitude --sparsity 0.5 --out out",
    ));
    let told = std::fs::read_to_string(folder.path("out/pruning.json")).expect("written");
    assert!(told.contains("\"base_model\": \"my-model\""), "{told}");
    // The working directory has no name of its own as a path.
    let mut inside = folder.zprune(&["init", "--model", "."]);
    inside.current_dir(folder.path("blob-4f2a"));
    works(&inside.output().expect("it starts"));
    let text = std::fs::read_to_string(folder.path("blob-4f2a/experiment.toml")).expect("written");
    assert!(text.contains("blob-4f2a\""), "{text}");
}

#[test]
fn every_missing_file_is_marked_where_it_is_named() {
    let folder = Folder::new();
    let tasks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks");
    std::fs::create_dir(folder.path("tasks")).expect("writable");
    std::fs::copy(tasks.join("arc_easy.jsonl"), folder.path("tasks/arc_easy.jsonl")).expect("writable");
    let more = "[[task]]\nname = \"arc_easy\"\ndata = \"tasks\"\n[[task]]\nname = \"piqa\"\nlimit = 2\ndata = \"tasks\"\n\
                [[task]]\nname = \"winogrande\"\n[[evaluation]]\nname = \"other\"\nlength = 16\ncorpus = \"missing.txt\"\n";
    folder.write("more.toml", format!("{SHORT}{more}"));
    let lines = |part: &str| {
        format!("{SHORT}{more}")
            .lines()
            .position(|line| line.contains(part))
            .map(|line| line + 1)
    };
    let output = folder
        .zprune(&["plan", "more.toml"])
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("it starts");
    let said = says(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let second = lines("piqa").expect("there") + 2;
    for (place, part) in [
        (format!("more.toml:{second}:8"), "data of task `piqa`"),
        (
            format!("more.toml:{}:8", lines("winogrande").expect("there")),
            "data of task `winogrande`",
        ),
        (
            format!("more.toml:{}:10", lines("missing.txt").expect("there")),
            "evaluation corpus",
        ),
    ] {
        assert!(
            said.contains(&format!("{place}: {part}")),
            "no `{place}: {part}` in:\n{said}"
        );
    }
    assert!(!said.contains("arc_easy\n"), "{said}");
    // What stands in place of the hub is said.
    assert!(
        said.contains("give a folder or a file of this machine in its place"),
        "{said}"
    );
}

#[test]
fn a_plan_refuses_what_a_run_would_refuse() {
    for (typed, wrong, said) in [
        // No document is so long, and no text.
        (
            "sequences = 4\nlength = 16",
            "sequences = 4\nlength = 30000",
            "is longer than a window of 30000 tokens",
        ),
        (
            "sampling = \"documents\"\nsequences = 4\nlength = 16",
            "sampling = \"packed\"\nsequences = 4\nlength = 300000",
            "a window of 300000 needs at least one more",
        ),
        (
            "[sweep]",
            "[compute]\nmemory = \"16MiB\"\n\n[sweep]",
            "memory = \"16.0 MiB\" is not enough",
        ),
        (
            "[sweep]",
            "[[generation]]\nname = \"words\"\nprompts = \"prompts.jsonl\"\ntemplate = \"{q}\"\nmatch = \"exact\"\nmax_tokens = \
             4\n\n[sweep]",
            "prompts.jsonl: line 1: ",
        ),
    ] {
        let folder = Folder::new();
        folder.replace("experiment.toml", typed, wrong);
        folder.write("prompts.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");
        folder.write("model/generation_config.json", "{\"eos_token_id\": 0}");
        for command in ["plan experiment.toml", "run experiment.toml"] {
            refused(&folder, command, 2, &[said]);
        }
    }
}

#[test]
fn a_run_says_where_results_go_and_what_its_calibration_lacks() {
    let folder = Folder::new();
    folder.replace(
        "experiment.toml",
        "sampling = \"documents\"\nsequences = 4",
        "sampling = \"packed\"\nsequences = 40000",
    );
    folder.replace("experiment.toml", "length = 16\n\n", "length = 2\n\n");
    let plan = works(&run(&folder, "plan experiment.toml"));
    let text = "calibration.jsonl: 40000 windows of 2 tokens are 80000 tokens, and the text has ";
    assert!(
        plan.contains(text) && plan.contains("the same text is drawn again and again"),
        "{plan}"
    );
    folder.replace("experiment.toml", "sequences = 40000", "sequences = 3");
    let told = works(&run(&folder, "run experiment.toml --results elsewhere"));
    assert!(!told.contains("again and again"), "{told}");
    let whole = folder.path("elsewhere").canonicalize().expect("it is there");
    assert!(
        told.contains(&format!("results are written to {}", whole.join("tiny").display())),
        "{told}"
    );
    let few = "6 calibration tokens are fewer than the";
    assert!(
        told.contains(few) && works(&run(&folder, "plan experiment.toml")).contains(few),
        "{told}"
    );
    // All that is written is counted.
    let files = |folder_name: &str| std::fs::read_dir(folder.path(folder_name)).expect("written").count();
    let (tables, plots) = (files("elsewhere/tiny/tables"), files("elsewhere/tiny/plots"));
    assert!(
        told.contains(&format!(
            "report.html, report.json, {tables} files of tables, {plots} files of plots"
        )),
        "{told}"
    );
}

#[test]
fn a_text_that_cannot_be_used_is_marked_where_it_is_named() {
    for (typed, wrong, said) in [
        (
            "corpus = \"novel.txt\"",
            "corpus = \"model\"",
            "model: is a folder; a file is needed here",
        ),
        ("windows = 4", "windows = 4000", "use more text, fewer windows"),
        (
            "length = 16\n\n",
            "length = 30000\n\n",
            "is longer than a window of 30000 tokens",
        ),
        ("patterns = [0.5, \"2:4\"]", "patterns = [\"2:7\"]", "model"),
    ] {
        let folder = Folder::new();
        let text = SHORT.replace(typed, wrong);
        assert_ne!(text, SHORT);
        folder.write("typed.toml", &text);
        let mut place = "error: typed.toml:".to_string();
        if wrong.starts_with("windows") {
            // The number is what is wrong, and not the text.
            let line = 1 + text
                .lines()
                .position(|line| line == wrong)
                .expect("it was just written");
            place.push_str(&format!("{line}:11: "));
        }
        for command in ["plan typed.toml", "run typed.toml"] {
            refused(&folder, command, 2, &[&place, said, "╰──"]);
        }
    }
}

#[test]
fn a_name_that_is_nearly_that_of_an_experiment_is_told_the_experiment() {
    let folder = Folder::new();
    for name in ["experiment", "experiment.tom"] {
        refused(
            &folder,
            name,
            2,
            &["to run the experiment experiment.toml: zprune experiment.toml"],
        );
    }
    refused(
        &folder,
        "plan other.toml",
        2,
        &["`zprune init FILE` writes an experiment to start from"],
    );
    refused(&folder, "quikstart", 2, &["quickstart"]);
}

#[test]
fn paths_that_mean_something_elsewhere_are_told_what_to_write() {
    let folder = Folder::new();
    for (typed, said) in [
        (
            "~/texts/a.txt",
            "`~` stands for your own folder only in a shell: write the whole path",
        ),
        ("$HOME/a.txt", "variables are not filled in: write the whole path"),
        ("https://a.org/a.txt", "it is an address, and addresses are not opened"),
        ("c4", "a text of the hub is written \"hub:c4\""),
        ("", "this path is empty: it names a file or a folder"),
    ] {
        let text = SHORT.replace("\"novel.txt\"", &format!("\"{typed}\""));
        assert_ne!(text, SHORT);
        folder.write("typed.toml", text);
        refused(
            &folder,
            "plan typed.toml",
            2,
            &["typed.toml:", &format!("│ corpus = \"{typed}\""), said],
        );
    }
    for (typed, said) in [
        ("path = \"\"", "this path is empty"),
        (
            "hub = \"./model\"",
            "a folder of this machine is written `path = \"./model\"`",
        ),
        (
            "hub = \"https://huggingface.co/org/name\"",
            "write `hub = \"org/name\"`",
        ),
    ] {
        let text = SHORT.replace("path = \"model\"", typed);
        assert_ne!(text, SHORT);
        folder.write("typed.toml", text);
        refused(&folder, "plan typed.toml", 2, &[&format!("│ {typed}"), said]);
    }
}

#[test]
fn what_init_writes_runs() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::new();
    for path in [
        "models/tiny-llama/config.json",
        "models/tiny-llama/model.safetensors",
        "models/tiny-llama/tokenizer.json",
        "models/tiny-llama/tokenizer_config.json",
        "corpora/austen_calibration.txt",
        "corpora/persuasion.txt",
    ] {
        let to = folder.path(path);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("writable");
        std::fs::copy(root.join(path), to).expect("a file of the repository");
    }
    works(&run(&folder, "init start.toml"));
    folder.replace("start.toml", "windows = 20", "windows = 2");
    folder.replace("start.toml", "sequences = 16", "sequences = 2");
    let output = works(&run(&folder, "--quiet run start.toml"));
    assert!(folder.path("results/start/report.html").exists());
    for method in ["magnitude", "wanda", "sparsegpt"] {
        assert!(output.contains(method), "{output}");
    }
}

#[test]
fn quiet_leaves_progress_out() {
    let folder = Folder::new();
    let error = |words: &str| String::from_utf8_lossy(&run(&folder, words).stderr).into_owned();
    assert_eq!(error("--quiet run experiment.toml"), "");
    assert!(error("run experiment.toml").contains("nothing was run: all 9 cells have results"));
    assert_eq!(error("run --quiet experiment.toml --results others"), "");
    assert!(
        error("plan nothing.toml --quiet").contains("nothing.toml: no such file"),
        "errors are said"
    );
    // What may be wrong with numbers is said, too.
    std::fs::copy(folder.path("novel.txt"), folder.path("wikitext.txt")).expect("writable");
    let told = error("eval --quiet --model model --corpus wikitext.txt --length 16 --windows 2 --join none");
    assert!(
        told.starts_with("note: wikitext.txt is read as it is") && told.lines().count() == 1,
        "{told}"
    );
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0, 1, 2]");
    let told = error("report --quiet experiment.toml");
    assert!(told.contains("experiment.toml was edited since its last run"), "{told}");
}

#[test]
fn commands_that_take_long_say_first_what_is_done_and_how_much() {
    let folder = Folder::new();
    super::place_windows(&folder);
    let text = "--calibration calibration.jsonl --sequences 3 --length 16";
    for (words, expect) in [
        (
            "eval --model model --corpus novel.txt --length 16 --windows 5".to_string(),
            "model is measured: 5 windows of 16 tokens from novel.txt",
        ),
        (
            "eval --model model --tokens tokens.safetensors --against model".to_string(),
            "model is measured: 4 windows of 16 tokens from tokens.safetensors, against model",
        ),
        (
            format!("prune --model model --method wanda --sparsity 2:4 --out a {text}"),
            "model is pruned with wanda to 2:4: 2 blocks, calibration on 3 windows of 16 tokens from calibration.jsonl",
        ),
        (
            "prune --model model --method magnitude --sparsity 50% --out b".to_string(),
            "model is pruned with magnitude to 50 %: 2 blocks, no calibration",
        ),
        (
            format!("shrink --model model --method flap --units 0.3 --out c {text}"),
            "model is made 30 % smaller with flap: 2 blocks, calibration on 3 windows of 16 tokens from calibration.jsonl",
        ),
        (
            format!("export-statistics --model model --out d.safetensors {text}"),
            "model is looked at: 2 blocks, calibration on 3 windows of 16 tokens from calibration.jsonl",
        ),
    ] {
        let output = run(&folder, &words);
        works(&output);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.lines().any(|line| line == expect),
            "{words}: no `{expect}` in:\n{said}"
        );
        let quiet = run(&folder, &format!("{words}2 --quiet"));
        assert!(quiet.stderr.is_empty() || !quiet.status.success(), "{}", says(&quiet));
    }
}

#[test]
fn a_run_that_goes_on_says_how_many_cells_have_results() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0, 1, 2]");
    let said = works(&run(&folder, "experiment.toml"));
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(" already")).collect();
    assert!(lines[0].starts_with("9 of 13 cells have results already"), "{said}");
    let plan = works(&run(&folder, "plan experiment.toml"));
    assert!(!plan.contains("\ntime"), "everything is done:\n{plan}");
    // One time is enough, and records know it best.
    folder.replace("experiment.toml", "seeds = [0, 1, 2]", "seeds = [0, 1, 2, 3]");
    let plan = works(&run(&folder, "plan experiment.toml"));
    let times: Vec<&str> = plan.lines().filter(|line| line.starts_with("time")).collect();
    assert_eq!(times.len(), 1, "{plan}");
    assert!(
        times[0].starts_with("time, by the cells that are recorded: about"),
        "{plan}"
    );
}

#[test]
fn a_misspelt_file_is_told_its_neighbour() {
    let folder = Folder::new();
    let output = run(&folder, "run experiment.tml");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        says(&output).contains("did you mean `experiment.toml`, which is in the same folder?"),
        "{}",
        says(&output)
    );
}

#[test]
fn a_text_that_seems_to_be_wikitext_says_how_it_is_joined() {
    let folder = Folder::new();
    std::fs::copy(folder.path("novel.txt"), folder.path("wiki.test.raw")).expect("writable");
    let eval = |more: &str| {
        says(&run(
            &folder,
            &format!("eval --model model --length 16 --windows 4 {more}"),
        ))
    };
    let plain = eval("--corpus wiki.test.raw");
    assert!(plain.contains("tokens, join = \"none\", model)"), "{plain}");
    assert!(
        plain.contains("wiki.test.raw is read as it is") && plain.contains("--join wikitext does so"),
        "{plain}"
    );
    let joined = eval("--corpus wiki.test.raw --join wikitext");
    assert!(
        joined.contains("join = \"wikitext\", model)") && !joined.contains("note:"),
        "{joined}"
    );
    assert!(!eval("--corpus novel.txt").contains("note:"));
    folder.replace(
        "experiment.toml",
        "corpus = \"novel.txt\"",
        "corpus = \"wiki.test.raw\"",
    );
    assert!(works(&run(&folder, "plan experiment.toml")).contains("wiki.test.raw is read as it is"));
}

#[test]
fn missing_arguments_are_named_with_their_alternatives() {
    let folder = Folder::new();
    for (words, parts) in [
        (
            "prune --model model --method magnitude --out out",
            &["--sparsity 0.5", "--keep 2 --of 4"][..],
        ),
        (
            "eval --model model",
            &["--corpus FILE", "--tokens FILE", "--tasks NAMES"],
        ),
    ] {
        let output = run(&folder, words);
        assert_eq!(output.status.code(), Some(2), "{}", says(&output));
        for part in parts {
            assert!(says(&output).contains(part), "no `{part}` in:\n{}", says(&output));
        }
    }
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = works(&run(&folder, &format!("completions {shell}")));
        assert!(
            script.contains("zprune") && script.contains("completions") && script.contains("sparsity"),
            "{shell}"
        );
    }
    let pages = works(&run(&folder, "man --out pages"));
    assert!(
        pages.lines().count() > 10 && pages.contains("zprune-prune.1"),
        "{pages}"
    );
    let page = std::fs::read_to_string(folder.path("pages/zprune-prune.1")).expect("written");
    assert!(page.contains(".TH zprune") && page.contains("sparsity"), "{page}");
    works(&run(&folder, "man --out pages"));
    folder.write("pages/zprune.1", "somebody's own");
    assert_eq!(run(&folder, "man --out pages").status.code(), Some(3));
}

#[test]
fn one_name_is_told_about() {
    let folder = Folder::new();
    let said = works(&run(&folder, "list wanda"));
    for part in [
        "S_ij = |w_ij| ||x_j||",
        "comparison group: row",
        "arXiv 2306.11695",
        "the norms of the inputs",
        "no parameters",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    let unknown = run(&folder, "list wnada");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(says(&unknown).contains("did you mean `wanda`?"), "{}", says(&unknown));
    let schema = works(&run(&folder, "schema"));
    assert!(schema.starts_with('{') && schema.contains("\"An experiment of zprune\""));
}

#[test]
fn packed_windows_join_documents_as_an_experiment_does() {
    let folder = Folder::new();
    let prune = |more: &str, out: &str| {
        let calibration = "--calibration calibration.jsonl --sampling packed --sequences 4 --length 16";
        let words = format!("prune --model model --method wanda --sparsity 0.5 {calibration} {more} --out {out}");
        let told = works(&run(&folder, &words));
        (
            told,
            std::fs::read(folder.path(out).join("model.safetensors")).expect("a model"),
        )
    };
    let (told, alone) = prune("", "alone");
    assert!(told.contains("join = \"none\""), "{told}");
    let (_, none) = prune("--join none", "none");
    let (told, blank) = prune("--join wikitext", "blank");
    assert!(told.contains("join = \"wikitext\""), "{told}");
    assert!(alone == none && alone != blank);
    // The experiment's cell has the same tokens.
    folder.replace("experiment.toml", "sampling = \"documents\"", "sampling = \"packed\"");
    works(&run(&folder, "experiment.toml"));
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    let cell = std::fs::read_to_string(folder.path("alone/pruning.json")).expect("a record");
    let cell: serde_json::Value = serde_json::from_str(&cell).expect("JSON");
    let same = records.lines().filter(|line| {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        record["cell"]["pruning"] == cell["cell"]["pruning"]
    });
    assert_eq!(same.count(), 1, "{}", cell["cell"]["pruning"]);
}
