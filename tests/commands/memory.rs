//! Claim: the memory that `zprune plan` tells is not less than what the run then takes, on a small model and on a larger one.

use super::tiny::Folder;
use super::{run, says, works};
use bytesize::ByteSize;
use std::process::Stdio;
use std::time::Duration;

/// The largest resident set of a run, in bytes.
fn used(folder: &Folder, words: &str) -> u64 {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = folder.zprune(&words);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut most = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        most = most.max(found.unwrap_or(0) << 10);
        if let Some(ended) = child.try_wait().expect("a child") {
            assert!(ended.success(), "{words:?}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the plan of `experiment.toml` tells.
fn told(folder: &Folder) -> u64 {
    let plan = works(&run(folder, "plan experiment.toml"));
    let line = plan.lines().find_map(|line| line.strip_prefix("memory, "));
    let (_, amount) = line.and_then(|line| line.split_once("about ")).expect("a forecast");
    let (amount, _) = amount.split_once(" (").expect("its parts");
    amount.parse::<ByteSize>().expect("an amount").0
}

fn holds(folder: &Folder) {
    let told = told(folder);
    let used = used(folder, "run experiment.toml");
    assert!(
        used > 0 && used <= told,
        "{} told, {} used",
        ByteSize(told),
        ByteSize(used)
    );
    // A forecast of ten times what is used would hold, too, and serve nobody.
    assert!(told < 10 * used, "{} told, {} used", ByteSize(told), ByteSize(used));
}

/// `shrink` keeps to a budget: what does not fit goes to scratch files, which changes no bit, and a budget that will not do is refused.
#[cfg(target_os = "linux")]
#[test]
fn shrinking_keeps_to_a_budget() {
    let folder = medium("[[method]]\nunits = \"llm-pruner\"\n[[method]]\nunits = \"olica\"\n");
    for method in ["llm-pruner", "olica"] {
        let shrink = |budget: &str, out: &str| {
            format!(
                "shrink --model medium --tokens medium/windows.safetensors --method {method} --units 0.3{budget} --out {method}-{out}"
            )
        };
        let output = run(&folder, &shrink(" --memory 16MiB", "out"));
        assert_eq!(output.status.code(), Some(2), "{}", says(&output));
        let text = says(&output);
        let (_, amount) = text.split_once("about ").expect("a forecast");
        let fixed = amount
            .split_once(" must be")
            .expect("an amount")
            .0
            .parse::<ByteSize>()
            .expect("an amount")
            .0;
        // The residual stream of 256 tokens takes 0.6 MB.
        let budget = format!(" --memory {}KiB --scratch scratch", (fixed >> 10) + 200);
        let output = run(&folder, &shrink(&budget, "out"));
        assert_eq!(output.status.code(), Some(3), "{method}: {}", says(&output));
        assert!(
            says(&output).contains("what does not fit in `memory` goes to scratch files"),
            "{}",
            says(&output)
        );
        std::fs::create_dir_all(folder.path("scratch")).expect("writable");
        let used = used(&folder, &shrink(&budget, "tight"));
        assert!(
            used < fixed,
            "{method}: {} told, {} used",
            ByteSize(fixed),
            ByteSize(used)
        );
        works(&run(&folder, &shrink("", "free")));
        let weights =
            |out: &str| std::fs::read(folder.path(format!("{method}-{out}/model.safetensors"))).expect("written");
        assert!(weights("tight") == weights("free"), "{method}");
        std::fs::remove_dir(folder.path("scratch")).expect("nothing is left in it");
    }
    holds(&folder);
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_model_takes_no_more_than_was_told() {
    holds(&Folder::new());
}

/// An experiment with methods on two blocks of a larger model's shape.
fn medium(methods: &str) -> Folder {
    let folder = Folder::new();
    let write = "bench --shape smollm2-135m --layers 2 --sequences 2 --length 128 --write medium";
    works(&run(&folder, write));
    let tokens = "tokens = \"medium/windows.safetensors\"\nlength = 128";
    folder.write(
        "experiment.toml",
        format!(
            "name = \"medium\"\n[[model]]\npath = \"medium\"\n[calibration]\n{tokens}\nsequences = 2\npropagate = \"block\"\n\
             [sweep]\nseeds = [0]\npatterns = [{{ sparsity = 0.5 }}]\n{methods}[[evaluation]]\nname = \"random\"\n{tokens}\nwindows = 2\n"
        ),
    );
    folder
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_of_a_large_vocabulary_takes_no_more_than_was_told() {
    holds(&medium(
        "[[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"obs\"\nsolver = \"obs\"\n",
    ));
}

#[cfg(target_os = "linux")]
#[test]
fn gradients_take_no_more_than_was_told() {
    holds(&medium(
        "[[method]]\ncriterion = \"gblm\"\n[[method]]\ncriterion = { name = \"taylor\", form = \"mixed\" }\n",
    ));
}
