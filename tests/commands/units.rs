//! Claim: a sweep removes whole units as `shrink` does, measures what is left, and shows it beside single weights.

use super::axes::with;
use super::shrink::json;
use super::{Folder, place, refused, run, says, works};
use serde_json::Value;

const UNITS: &str = r#"[[method]]
criterion = "wanda"

[[method]]
units = { name = "flap", metric = "wifn" }
widths = "per-block"

[[method]]
units = { name = "unit-sum", score = "magnitude" }

[[method]]
units = "block-drop"

[[method]]
units = { name = "olica", calibrated = 1, ratio = 0.1 }
"#;

fn records(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

#[test]
fn a_sweep_scores_what_shrink_writes() {
    let folder = with(UNITS);
    let told = works(&run(&folder, "plan experiment.toml"));
    // Two patterns and two seeds; whole units have no cells for 2:4, and magnitudes no seeds: 1 + 4 + 2 + 1 + 2 + 2.
    assert!(told.contains("12 cells"), "{told}");
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    assert_eq!(records.len(), 12);
    for (method, out, arguments) in [
        (
            "flap (metric wifn, per block)",
            "thin",
            "--method flap --set metric=wifn --widths per-block",
        ),
        (
            "unit-sum (score magnitude)",
            "sums",
            "--method unit-sum --set score=magnitude",
        ),
        ("block-drop", "short", "--method block-drop"),
        (
            "olica (calibrated 1, ratio 0.1)",
            "narrow",
            "--method olica --set calibrated=1 --set ratio=0.1",
        ),
    ] {
        let mut own = records.iter().filter(|record| record["label"]["method"] == method);
        let record = own.next().expect("the sweep has that cell");
        let calibration = match record["cell"]["pruning"].get("calibration") {
            Some(calibration) => format!(
                "--calibration calibration.jsonl --sampling documents --sequences 4 --length 16 --seed {}",
                calibration["seed"]
            ),
            None => String::new(),
        };
        works(&run(
            &folder,
            &format!("shrink --model model {arguments} --units 0.5 {calibration} --out {out}"),
        ));
        let eval = format!("eval --model {out} --corpus novel.txt --length 16 --windows 4 --json {out}.json");
        works(&run(&folder, &eval));
        let found = json(&folder, &format!("{out}.json"));
        let of = |value: &Value| value["perplexity"].as_f64().expect("a number");
        let (recorded, found) = (of(&record["evaluations"][0]), of(&found));
        // The written model has what the sweep computed with, in the checkpoint's own type.
        assert!((found / recorded - 1.0).abs() < 1e-5, "{method}: {found} of {recorded}");
        let structure = json(&folder, &format!("{out}/structure.json"));
        let (before, after) = (&structure["before"], &structure["after"]);
        for key in ["parameters", "bytes", "multiply_adds"] {
            // One model: the one that is measured and written.
            let wanted = serde_json::json!([before[key], after[key]]);
            assert_eq!(record["structure"][key], wanted, "{method}: {key}");
        }
        assert_eq!(record["sparsity"], structure["removed"], "{method}");
        assert!(record["run"]["seconds_per_token"][1].as_f64() > Some(0.0), "{method}");
    }
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/sizes.md")).expect("a table of sizes");
    for line in [
        "| dense",
        "| flap",
        "| unit-sum",
        "| block-drop",
        "| olica",
        "multiplied out",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    assert!(!table.contains("wanda"), "{table}");
    let scores = std::fs::read_to_string(folder.path("results/tiny/tables/perplexity.md")).expect("a table of scores");
    // Units have sizes: what was removed is said where it is another share.
    let mut said = 0;
    for method in [
        "flap (metric wifn, per block)",
        "unit-sum (score magnitude)",
        "block-drop",
        "olica (calibrated 1, ratio 0.1)",
    ] {
        let own = records.iter().filter(|record| record["label"]["method"] == method);
        let shares: Vec<f64> = own.filter_map(|record| record["sparsity"].as_f64()).collect();
        let removed = 100.0 * shares.iter().sum::<f64>() / shares.len() as f64;
        let off = (removed - 50.0).abs() > 0.5;
        assert_eq!(
            scores.contains(&format!(" {removed:.1} % at 50 %")),
            off,
            "{method}: {scores}"
        );
        said += usize::from(off);
    }
    assert_eq!(
        scores.contains("did not remove exactly the share that was asked for"),
        said > 0,
        "{scores}"
    );
    let row = scores.lines().find(|line| line.starts_with("| flap")).expect("a row");
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert_eq!((cells[2], cells[4]), ("units", ""), "{row}");
    assert!(folder.path("results/tiny/plots/speed-model-novel.svg").exists());
    // All is there, and a report made again is the same.
    let before = folder.results();
    works(&run(&folder, "report results/tiny"));
    assert!(before == folder.results());
}

#[test]
fn what_is_measured_and_cannot_be_written_is_said_before() {
    let folder = with(
        "[[method]]\nunits = \"flap\"\n\n[[method]]\nunits = \"unit-sum\"\n\n[[method]]\nunits = { name = \"llm-pruner\", end = 9 }\nwidths = \"per-block\"\n",
    );
    place(&folder, "qwen2", true);
    folder.replace("experiment.toml", "path = \"model\"", "path = \"qwen2\"");
    // The model's vocabulary ends before the small letters.
    let novel = std::fs::read_to_string(folder.path("novel.txt")).expect("a text");
    folder.write("novel.txt", novel.to_uppercase());
    folder.replace(
        "experiment.toml",
        "corpus = \"calibration.jsonl\"",
        "corpus = \"novel.txt\"",
    );
    let told = works(&run(&folder, "plan experiment.toml"));
    let note = |method: &str| {
        told.lines()
            .find(|line| line.starts_with(&format!("note: qwen2, {method}, 50 %: ")))
    };
    assert!(
        note("flap").is_some_and(|note| note.contains("`zprune shrink` could not write such a model")),
        "{told}"
    );
    assert!(told.contains("--set bias=false"), "{told}");
    assert!(
        note("llm-pruner (end 9, per block)").is_some_and(|note| note.contains("its cells will fail")),
        "{told}"
    );
    assert!(!told.contains("note: qwen2, unit-sum"), "{told}");
}

#[test]
fn whole_units_need_a_fraction_and_no_steps() {
    let folder = with(UNITS);
    folder.replace("experiment.toml", "{ sparsity = 0.5 }, ", "");
    refused(
        &folder,
        "plan experiment.toml",
        2,
        &["flap (metric wifn, per block): it removes whole units, and all patterns are N:M"],
    );
    let folder = with("[[method]]\nunits = \"flap\"\ncriterion = \"wanda\"\n");
    refused(&folder, "plan experiment.toml", 2, &["leave out `criterion`"]);
    let folder = with(UNITS);
    folder.replace("experiment.toml", "{ sparsity = 0.5 }, ", "{ units = 0.2 }, ");
    let output = run(&folder, "plan experiment.toml");
    assert_eq!(output.status.code(), Some(2), "{}", says(&output));
    assert_eq!(
        says(&output).matches("experiment.toml:").count(),
        2,
        "one mistake, in words and in the file: {}",
        says(&output)
    );
    assert!(
        says(&output).contains("a pattern has no key `units`: write 0.2 here"),
        "{}",
        says(&output)
    );
    refused(
        &folder,
        "prune --model model --method flap --sparsity 0.5 --out out",
        2,
        &["`flap` removes whole units", "zprune shrink --method flap"],
    );
}
