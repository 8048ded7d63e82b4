//! Claims: a search draws the same methods every time, halves as it says, calibrates on nothing that it holds out, may be interrupted,
//! finds a method that is better, and its p-values are none too small although the winner was chosen.

mod tiny;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::process::{Child, Output, Stdio};
use std::time::Duration;
use tiny::Folder;
use zprune::experiment::machine::MachineRequest;
use zprune::experiment::resolve::{Described, parse_described, read_described};
use zprune::experiment::search::SearchPlan;
use zprune::experiment::source::Source;
use zprune::search::halving::best;
use zprune::search::windows;
use zprune::stats::paired::Texts;
use zprune::stats::variance::VarianceComponents;

const SEARCH: &str = r#"
name = "found"
[[model]]
path = "model"
[calibration]
corpus = "text.txt"
sampling = "packed"
length = 16
[sweep]
patterns = [0.5]
seeds = [0]
[search]
trials = 9
sequences = [2, 4, 8]
held_out = 12
against = ["wanda"]
confirm = [10, 11]
[search.method]
criterion = { expression = "abs(w) * x2 ^ (alpha / 2)", alpha = { from = 0.0, to = 2.0 } }
group = ["row", "matrix"]
solver = ["one-shot", "obs", "least-squares"]
"#;

fn folder(search: &str) -> Folder {
    let folder = Folder::new();
    folder.write("text.txt", tiny::text(7, 1500));
    folder.write("search.toml", search);
    folder
}

fn described(text: &str) -> Result<Described, String> {
    let source = Source {
        path: "search.toml".into(),
        text: text.to_string(),
    };
    parse_described(&source).map_err(|error| error.to_string())
}

fn plan(text: &str) -> SearchPlan {
    match described(text) {
        Ok(Described::Search(plan)) => *plan,
        Ok(Described::Experiment(_)) => panic!("it has a [search]"),
        Err(error) => panic!("{error}"),
    }
}

fn search(folder: &Folder) -> Output {
    let output = folder
        .zprune(&["search", "search.toml"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    output
}

fn numbers(folder: &Folder) -> Value {
    let text = std::fs::read_to_string(folder.path("results/found/search.json")).expect("there is a result");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn methods_are_drawn_alike_every_time_and_are_all_different() {
    let first = plan(SEARCH);
    assert_eq!(first.trials.len(), 9);
    assert_eq!((first.points, first.merged.len()), (None, 0));
    let methods = |plan: &SearchPlan| plan.trials.iter().map(|it| it.method.to_string()).collect::<Vec<_>>();
    assert_eq!(methods(&first), methods(&plan(SEARCH)));
    let other = plan(&SEARCH.replace("trials = 9", "trials = 9\nseed = 1"));
    assert_ne!(methods(&first), methods(&other));
    let all: BTreeSet<String> = methods(&first).into_iter().collect();
    assert_eq!(all.len(), 9);
    // A block that is pasted into an experiment is the method that was tried.
    for trial in &first.trials {
        let block = &trial.block;
        let text = SEARCH
            .split("[search]")
            .next()
            .expect("a beginning")
            .replace("length", "sequences = 2\nlength");
        let text = format!("{text}\n{block}\n[[evaluation]]\nname = \"x\"\ncorpus = \"text.txt\"\nlength = 16\n");
        let Ok(Described::Experiment(experiment)) = described(&text) else {
            panic!("{text}");
        };
        assert_eq!(experiment.methods, std::slice::from_ref(&trial.method), "{block}");
    }
}

#[test]
fn a_small_space_is_tried_as_a_whole() {
    let steps = SEARCH
        .replace("trials = 9\n", "")
        .replace("to = 2.0", "to = 2.0, steps = 5");
    let whole = plan(&steps);
    assert_eq!((whole.points, whole.trials.len()), (Some(30), 30));
    let powers: BTreeSet<String> = whole.trials.iter().map(|it| it.settings[0].1.to_string()).collect();
    assert_eq!(powers, ["0", "0.5", "1", "1.5", "2"].map(String::from).into());
    assert_eq!(
        plan(&steps.replace("[search]", "[search]\ntrials = 100")).trials.len(),
        30
    );
    let some = plan(&steps.replace("[search]", "[search]\ntrials = 29"));
    assert_eq!((some.points, some.trials.len()), (Some(30), 29));
    // Groups mean nothing under N:M patterns.
    let merged = plan(&steps.replace("patterns = [0.5]", "patterns = [\"2:4\"]"));
    assert_eq!((merged.trials.len(), merged.merged.len()), (15, 15));
    // Several spaces, a step that may be left out, and components with parameters of their own.
    let spaces = SEARCH
        .split("[search.method]")
        .next()
        .expect("a beginning")
        .replace("trials = 9\n", "");
    let spaces = format!(
        "{spaces}[[search.method]]\ncriterion = [\"wanda\", {{ name = \"ria\", activation_power = [0.5, 1.0] }}]\nrefine = [\"none\", \"dsnot\"]\n\
         [[search.method]]\nname = \"plain\"\ncriterion = \"magnitude\"\n"
    );
    let several = plan(&spaces);
    assert_eq!((several.points, several.trials.len()), (Some(7), 7));
    let refined = |plan: &SearchPlan| {
        let with = plan
            .trials
            .iter()
            .filter(|it| it.method.recipe().is_some_and(|it| it.steps.refine.is_some()));
        with.count()
    };
    assert_eq!(refined(&several), 3);
    assert_eq!(several.trials[6].method.name, "plain-7");
}

#[test]
fn a_third_goes_on() {
    let sizes = |trials: usize, halve: usize, rungs: &str| {
        let text = SEARCH
            .replace("trials = 9", &format!("trials = {trials}\nhalve = {halve}"))
            .replace("[2, 4, 8]", rungs);
        let plan = plan(&text);
        let kept = (0..plan.sequences.len())
            .map(|rung| plan.kept(rung))
            .collect::<Vec<_>>();
        (plan.sizes(), kept)
    };
    assert_eq!(sizes(27, 3, "[2, 4, 8]"), (vec![27, 9, 3], vec![9, 3, 1]));
    assert_eq!(sizes(10, 3, "[2, 4, 8]"), (vec![10, 4, 2], vec![4, 2, 1]));
    assert_eq!(sizes(2, 4, "[2, 4, 8]"), (vec![2, 1, 1], vec![1, 1, 1]));
    assert_eq!(sizes(5, 2, "[9]"), (vec![5], vec![1]));
}

#[test]
fn what_is_held_out_is_never_calibrated_on() {
    for sampling in ["packed", "documents"] {
        let folder = folder(SEARCH);
        folder.replace("search.toml", "\"packed\"", &format!("\"{sampling}\""));
        if sampling == "documents" {
            let documents =
                (0..40).map(|seed| format!("{}\n", serde_json::json!({ "text": tiny::text(seed % 30, 20) })));
            folder.write("text.jsonl", documents.collect::<String>());
            folder.replace("search.toml", "text.txt", "text.jsonl");
        }
        let plan = plan_of(&folder);
        let drawn = windows::draw(&plan).expect("enough text");
        assert_eq!((drawn.selecting.count(), drawn.confirming.count()), (6, 6));
        assert_eq!(drawn.calibration.keys().copied().collect::<Vec<_>>(), [0, 10, 11]);
        let again = windows::draw(&plan).expect("enough text");
        assert_eq!(
            (again.selecting.ids(), again.calibration),
            (drawn.selecting.ids(), drawn.calibration.clone())
        );
        // Words are random, so that eight letters in a row are nowhere else.
        let runs = |ids: &[u32]| -> HashSet<Vec<u32>> {
            let windows = ids.chunks(16).flat_map(|window| window.windows(8));
            windows.map(<[u32]>::to_vec).collect()
        };
        let (selecting, confirming) = (runs(drawn.selecting.ids()), runs(drawn.confirming.ids()));
        assert!(selecting.is_disjoint(&confirming));
        for windows in drawn.calibration.values() {
            assert_eq!(windows.count(), 8);
            let own = runs(windows.ids());
            assert!(
                own.is_disjoint(&selecting) && own.is_disjoint(&confirming),
                "{sampling}"
            );
        }
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (from, to, said) in [
        (
            "trials = 9",
            "trials = 0",
            "search.toml:13:10: `trials` is a number of methods to try: at least 1",
        ),
        ("trials = 9", "trials = 10001", "at most 10000"),
        (
            "trials = 9\n",
            "",
            "the space has infinitely many methods; say how many of them are tried",
        ),
        (
            "trials = 9",
            "trials = 9\nhalve = 1",
            "search.toml:14:9: `halve = N` means that one of N methods goes on",
        ),
        ("[2, 4, 8]", "[2, 4, 4]", "search.toml:14:13: `sequences` must ascend"),
        ("[2, 4, 8]", "[]", "`sequences` is empty"),
        ("[2, 4, 8]", "[0, 4]", "at least one window"),
        ("sequences = [2, 4, 8]\n", "", "`sequences` is missing"),
        (
            "held_out = 12",
            "held_out = 3",
            "search.toml:15:12: `held_out` is a number of windows",
        ),
        ("against = [\"wanda\"]\n", "", "`against` is missing"),
        ("against = [\"wanda\"]", "against = [\"wnada\"]", "did you mean `wanda`"),
        (
            "confirm = [10, 11]",
            "confirm = [0, 1]",
            "search.toml:17:11: seed 0 is one of the seeds of the search",
        ),
        ("confirm = [10, 11]", "confirm = []", "`confirm` is empty"),
        ("confirm = [10, 11]", "confirm = [3, 3]", "a seed is listed twice"),
        (
            "from = 0.0, to = 2.0",
            "from = 2.0, to = 0.0",
            "`from` must be less than `to`: write { from = 0, to = 2 }",
        ),
        ("from = 0.0, to = 2.0", "from = 1, to = 1", "is one number"),
        ("from = 0.0, to = 2.0", "from = 0.0, to = inf", "is not finite"),
        (
            "from = 0.0, to = 2.0",
            "from = 0.0, to = 2.0, log = true",
            "must begin above 0",
        ),
        ("from = 0.0, to = 2.0", "from = 0.0, to = 2.0, steps = 1", "at least 2"),
        ("from = 0.0, to = 2.0", "from = 0.0", "`to` is missing"),
        ("from = 0.0, to = 2.0", "from = 0.0, upto = 2.0", "but not `upto`"),
        (
            "from = 0.0, to = 2.0",
            "from = \"a\", to = 2.0",
            "`from` of a range must be a number",
        ),
        ("[\"row\", \"matrix\"]", "[]", "search.toml:20:9: an empty list"),
        (
            "[\"row\", \"matrix\"]",
            "[\"row\", \"matrx\"]",
            "search.toml:20:9: trial-",
        ),
        ("\"obs\", ", "\"osb\", ", "unknown solver `osb` (known"),
        ("group = [", "gruop = [", "unknown key `gruop`; did you mean `group`"),
        ("x2 ^", "x3 ^", "unknown value `x3`"),
        ("solver = [", "target = \"dense\"\nsolver = [", "only removes weights"),
        (
            "[sweep]",
            "[[method]]\ncriterion = \"wanda\"\n[sweep]",
            "search.toml:9:1: a search has no `[[method]]`",
        ),
        ("length = 16", "length = 16\nsequences = 4", "leave this one out"),
        (
            "corpus = \"text.txt\"\nsampling = \"packed\"",
            "tokens = \"t.safetensors\"",
            "a search draws its windows from a `corpus`",
        ),
        (
            "\"packed\"",
            "\"answers\"",
            "cannot hold windows out of prompts with answers",
        ),
        ("seeds = [0]", "seeds = []", "needs calibration seeds"),
        (
            "[search]\n",
            "[[evaluation]]\nname = \"own\"\ncorpus = \"text.txt\"\nlength = 16\n[search]\n",
            "search.toml:14:10: it is the text of the search",
        ),
        (
            "group = [\"row\", \"matrix\"]\n",
            "group = \"row\"\ngroup_ = 1\n",
            "unknown key `group_`",
        ),
        (
            "{ expression = ",
            "{ group = \"row\", expression = ",
            "the table of the formula says group = \"row\", and the method group = \"matrix\"",
        ),
        (
            "[calibration]",
            "[[model]]\npath = \"other\"\n[calibration]",
            "a search has one [[model]]",
        ),
    ] {
        assert!(SEARCH.contains(from), "{from}");
        let error = described(&SEARCH.replacen(from, to, 1))
            .err()
            .unwrap_or_else(|| panic!("{to} is taken"));
        assert!(error.contains(said), "no `{said}` for {to} in:\n{error}");
    }
    let space = SEARCH.split("[search.method]").next().expect("a beginning");
    let error = described(space).err().expect("no space");
    assert!(error.contains("there is no [search.method]"), "{error}");
    // How long the text is, is known when it is read; nothing is run then. A plan says the same.
    let folder = folder(&SEARCH.replace("held_out = 12", "held_out = 5000"));
    let told = refused_by_both(&folder);
    assert!(
        told.contains("text.txt") && told.contains("5000 are to be held out"),
        "{told}"
    );
}

/// What `zprune plan` and `zprune search` say, which is the same; nothing is run.
fn refused_by_both(folder: &Folder) -> String {
    let said = [
        &["plan", "search.toml"][..],
        &["plan", "--json", "search.toml"],
        &["search", "search.toml"],
    ]
    .map(|words| {
        let output = folder.zprune(words).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        said
    });
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], said[2]);
    assert!(folder.results().is_empty());
    said[0].clone()
}

#[test]
fn nothing_is_reported_on_the_text_that_chose_the_winner() {
    let with = |evaluation: &str| {
        let evaluation = format!("[[evaluation]]\nname = \"own\"\n{evaluation}\nlength = 16\n[search]\n");
        SEARCH.replacen("[search]\n", &evaluation, 1)
    };
    // The same text under another name.
    let copied = folder(&with("corpus = \"copy.txt\""));
    copied.write("copy.txt", tiny::text(7, 1500));
    let told = refused_by_both(&copied);
    for part in ["evaluation `own`", "copy.txt", "it is the text of the search"] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    // The windows themselves.
    let windows = folder(SEARCH);
    let drawn = windows::draw(&plan_of(&windows)).expect("enough text");
    for (name, half) in [("selecting", &drawn.selecting), ("confirming", &drawn.confirming)] {
        half.write(&windows.path(format!("{name}.safetensors")))
            .expect("writable");
        windows.write("search.toml", with(&format!("tokens = \"{name}.safetensors\"")));
        let told = refused_by_both(&windows);
        assert!(told.contains(name) && told.contains("evaluation `own`"), "{told}");
    }
    // Another text may be reported.
    windows.write("other.txt", tiny::text(8, 1500));
    windows.write("search.toml", with("corpus = \"other.txt\""));
    let output = windows
        .zprune(&["plan", "search.toml"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
}

fn plan_of(folder: &Folder) -> SearchPlan {
    match read_described(&folder.path("search.toml"), &MachineRequest::default()) {
        Ok(Described::Search(plan)) => *plan,
        _ => panic!("it has a [search]"),
    }
}

#[test]
fn a_search_that_lost_its_last_records_finds_the_same() {
    let folder = folder(SEARCH);
    let output = folder
        .zprune(&["plan", "search.toml"])
        .output()
        .expect("the program starts");
    let planned = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        planned.contains("rung-1    9 methods with 2 calibration windows: 10 cells"),
        "{planned}"
    );
    assert!(planned.contains("at most 21 cells"), "{planned}");
    assert!(folder.results().is_empty());
    // The bare file name runs it, too.
    let output = folder.zprune(&["search.toml"]).output().expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("rung 3 of 3: 1 tried with 8 calibration windows, 1 kept"),
        "{said}"
    );
    let found = numbers(&folder);
    let page = std::fs::read(folder.path("results/found/report.md")).expect("there is a report");
    let rungs: Vec<usize> = (1..=3)
        .map(|rung| {
            let path = folder.path(format!("results/found/rung-{rung}/runs.jsonl"));
            std::fs::read_to_string(path).expect("records").lines().count()
        })
        .collect();
    assert_eq!(rungs, [10, 4, 2]);
    for (file, left) in [("rung-1", 4), ("rung-2", 1), ("rung-3", 0), ("confirm", 2)] {
        let path = folder.path(format!("results/found/{file}/runs.jsonl"));
        let text = std::fs::read_to_string(&path).expect("records");
        let lines: String = text.split_inclusive('\n').take(left).collect();
        std::fs::write(&path, lines).expect("writable");
    }
    let said = String::from_utf8_lossy(&search(&folder).stderr).into_owned();
    assert!(said.contains("7 had results already"), "{said}");
    assert_eq!(numbers(&folder), found);
    assert_eq!(
        std::fs::read(folder.path("results/found/report.md")).expect("a report"),
        page
    );
    // A third time, there is nothing to do.
    let said = String::from_utf8_lossy(&search(&folder).stderr).into_owned();
    assert!(said.contains("0 cells run"), "{said}");
    let output = folder
        .zprune(&["report", "search.toml"])
        .output()
        .expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it has a [search]"));
    // An experiment beside it is what it was.
    assert!(folder.run().status.success());
    let output = folder
        .zprune(&["search", "experiment.toml"])
        .output()
        .expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it has no [search]"));
}

#[test]
fn two_processes_share_a_search_of_which_one_is_killed() {
    let alone = folder(SEARCH);
    search(&alone);
    let shared = folder(SEARCH);
    let mut processes: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = shared.zprune(&["-q", "search", "search.toml"]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("the program starts")
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    processes[0].kill().expect("it can be killed, or has ended");
    for process in &mut processes {
        process.wait().expect("it ends");
    }
    search(&shared);
    assert_eq!(numbers(&shared), numbers(&alone));
    for (rung, cells) in [("rung-1", 10), ("rung-2", 4), ("rung-3", 2), ("confirm", 5)] {
        let records = std::fs::read_to_string(shared.path(format!("results/found/{rung}/runs.jsonl")));
        assert_eq!(records.expect("records").lines().count(), cells, "{rung}");
    }
}

/// The records of every folder of a search, without where and when they were made.
fn records(folder: &Folder) -> BTreeSet<String> {
    let of = |rung: &str| {
        let text = std::fs::read_to_string(folder.path(format!("results/found/{rung}/runs.jsonl"))).expect("records");
        let timeless = |line: &str| {
            let mut record: Value = serde_json::from_str(line).expect("JSON");
            let fields = record.as_object_mut().expect("a record is an object");
            fields.remove("run").expect("a record says how it ran");
            fields.remove("check").expect("the checksum of all of it");
            format!("{rung} {record}")
        };
        text.lines().map(timeless).collect::<Vec<_>>()
    };
    let all: Vec<String> = ["rung-1", "rung-2", "rung-3", "confirm"]
        .into_iter()
        .flat_map(of)
        .collect();
    let different: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(all.len(), different.len(), "no cell was recorded twice");
    different
}

#[test]
fn a_search_that_is_killed_again_and_again_has_the_same_records() {
    let undisturbed = folder(SEARCH);
    search(&undisturbed);
    let killed = folder(SEARCH);
    let done = || killed.path("results/found/search.json").exists();
    let (mut kills, mut delay) = (0, 30);
    while !done() && kills < 40 {
        let mut command = killed.zprune(&["-q", "search", "search.toml"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(delay));
        process.kill().expect("it can be killed, or has ended");
        let status = process.wait().expect("it ends");
        kills += usize::from(!status.success());
        delay = 30 + (delay * 7) % 400;
    }
    assert!(kills > 0, "it was never killed");
    search(&killed);
    assert_eq!(records(&killed), records(&undisturbed));
    assert_eq!(numbers(&killed), numbers(&undisturbed));
}

#[test]
fn a_trial_that_fails_drops_out() {
    let failing = SEARCH
        .replace("trials = 9\n", "")
        .replace(
            "criterion = { expression = \"abs(w) * x2 ^ (alpha / 2)\", alpha = { from = 0.0, to = 2.0 } }",
            "criterion = [\"wanda\", \"magnitude\", { expression = \"log(w)\" }]",
        )
        .replace("solver = [\"one-shot\", \"obs\", \"least-squares\"]\n", "");
    let folder = folder(&failing);
    let said = String::from_utf8_lossy(&search(&folder).stdout).into_owned();
    assert!(said.contains("Of 6 methods tried (2 failed)"), "{said}");
    let found = numbers(&folder);
    let failed: Vec<&Value> = found["trials"]
        .as_array()
        .expect("trials")
        .iter()
        .filter(|trial| trial["rungs"][0]["error"].is_string())
        .collect();
    assert_eq!(failed.len(), 2);
    assert!(
        failed
            .iter()
            .all(|trial| trial["rungs"].as_array().is_some_and(|rungs| rungs.len() == 1))
    );
    folder.write("search.toml", failing.replace("\"wanda\", \"magnitude\", ", ""));
    let output = folder
        .zprune(&["search", "search.toml"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("all 2 trials of rung 1 failed"), "{said}");
}

#[test]
fn the_better_method_of_a_trained_model_is_found() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::new();
    let text = SEARCH
        .replace("path = \"model\"", &format!("path = {:?}", root.join("models/tiny-llama")))
        .replace("\"text.txt\"", &format!("{:?}", root.join("corpora/austen_calibration.txt")))
        .replace("length = 16", "length = 64")
        .replace("trials = 9\n", "")
        .replace(
            "criterion = { expression = \"abs(w) * x2 ^ (alpha / 2)\", alpha = { from = 0.0, to = 2.0 } }",
            // One of them removes what matters least, the others the contrary or anything.
            "criterion = { expression = \"power(abs(w), way) * x2 ^ (way / 2) + bonus * fan_in / (1 + abs(w))\", way = [1, -1], bonus = [0.0, 1.0] }",
        )
        .replace("group = [\"row\", \"matrix\"]\nsolver = [\"one-shot\", \"obs\", \"least-squares\"]", "group = \"row\"")
        .replace("against = [\"wanda\"]", "against = [\"magnitude\"]");
    folder.write("search.toml", text);
    search(&folder);
    let found = numbers(&folder);
    let winner = found["winner"].as_str().expect("a winner");
    let trials = found["trials"].as_array().expect("trials");
    assert_eq!(trials.len(), 4);
    let trial = trials
        .iter()
        .find(|trial| trial["name"] == winner)
        .expect("it was tried");
    let settings = (
        trial["settings"]["criterion.way"].as_str(),
        trial["settings"]["criterion.bonus"].as_str(),
    );
    assert_eq!(settings, (Some("1"), Some("0.0")), "{trial}");
    assert!(
        found["comparisons"][0]["p_corrected"]
            .as_f64()
            .is_some_and(|p| (0.0..=1.0).contains(&p))
    );
}

/// Losses of methods that are all alike, in nats: what a window has for all methods, and what a method has by luck with a window, with a
/// seed, and with both.
struct Equal {
    windows: Vec<f64>,
    /// For each method: by seed, by window, and by both.
    own: Vec<(Vec<f64>, Vec<f64>, Vec<f64>)>,
}

impl Equal {
    fn new(random: &mut ChaCha8Rng, methods: usize, seeds: usize, windows: usize) -> Equal {
        // Four uniform numbers add up to one that is nearly normal, with variance 1.
        let mut normal = || -> f64 { 3f64.sqrt() * ((0..4).map(|_| random.random::<f64>()).sum::<f64>() - 2.0) };
        let mut draws = |count: usize, size: f64| -> Vec<f64> { (0..count).map(|_| size * normal()).collect() };
        Equal {
            windows: draws(windows, 5.0),
            own: (0..methods)
                .map(|_| (draws(seeds, 0.3), draws(windows, 1.0), draws(seeds * windows, 0.5)))
                .collect(),
        }
    }

    /// One row for each seed.
    fn rows(&self, method: usize, seeds: Range<usize>, windows: &[usize]) -> Vec<Vec<f64>> {
        let (by_seed, by_window, by_both) = &self.own[method];
        let loss = |seed: usize, window: usize| {
            let both = by_both[seed * self.windows.len() + window];
            self.windows[window] + by_seed[seed] + by_window[window] + both
        };
        seeds
            .map(|seed| windows.iter().map(|window| loss(seed, *window)).collect())
            .collect()
    }
}

/// The share of searches among equal methods whose winner is told apart from a method that was not tried, at the 5 % level: on the
/// windows and with the seeds that chose it, and on the other half with other seeds, as a search does it.
#[test]
fn among_equal_methods_the_winner_is_not_found_to_be_better() {
    const SEARCHES: usize = 1500;
    const TRIALS: usize = 27;
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let selecting: Vec<usize> = (0..40).step_by(2).collect();
    let confirming: Vec<usize> = (1..40).step_by(2).collect();
    let (mut chosen, mut other) = (0i32, 0i32);
    for _ in 0..SEARCHES {
        let equal = Equal::new(&mut random, TRIALS + 1, 6, 40);
        let score = |method: usize| zprune::stats::mean(&equal.rows(method, 0..3, &selecting).concat());
        let mut alive: Vec<usize> = (0..TRIALS).collect();
        for count in [9, 3, 1] {
            let scores: Vec<Option<f64>> = alive.iter().map(|method| Some(score(*method))).collect();
            alive = best(&scores, count).into_iter().map(|place| alive[place]).collect();
        }
        let differs = |seeds: Range<usize>, windows: &[usize]| {
            let pairs = equal
                .rows(alive[0], seeds.clone(), windows)
                .into_iter()
                .zip(equal.rows(TRIALS, seeds, windows));
            let rows: Vec<Vec<f64>> = pairs
                .map(|(a, b)| a.iter().zip(&b).map(|(a, b)| a - b).collect())
                .collect();
            let difference = VarianceComponents::of(&rows, Texts::Stream).expect("a grid");
            difference.p().expect("a spread") < 0.05
        };
        chosen += i32::from(differs(0..3, &selecting));
        other += i32::from(differs(3..6, &confirming));
    }
    let [chosen, other] = [chosen, other].map(|count| f64::from(count) / SEARCHES as f64);
    // Three standard errors of a share of 5 % are 1.7 points.
    assert!(other < 0.067, "{other}");
    assert!(chosen > 0.1, "{chosen}: the test would not see a choice");
}
