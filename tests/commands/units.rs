//! Claim: a sweep removes whole units as `shrink` does, measures what is left, and shows it beside single weights.

use super::axes::with;
use super::shrink::json;
use super::{Folder, refused, run, works};
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
    // Two patterns and two seeds; whole units have no cells for 2:4, and magnitudes no seeds: 1 + 4 + 2 + 1 + 2.
    assert!(told.contains("10 cells"), "{told}");
    works(&run(&folder, "experiment.toml"));
    let records = records(&folder);
    assert_eq!(records.len(), 10);
    for (method, out, arguments) in [
        (
            "flap (per block)",
            "thin",
            "--method flap --set metric=wifn --widths per-block",
        ),
        ("unit-sum", "sums", "--method unit-sum --set score=magnitude"),
        ("block-drop", "short", "--method block-drop"),
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
            let recorded = &record["structure"][key];
            assert_eq!(recorded[0], before[key], "{method}: {key}");
            // The file also has the biases of 0 that its configuration asks for.
            let [left, written] = [&recorded[1], &after[key]].map(|count| count.as_f64().expect("a number"));
            let equal = key == "multiply_adds" || method == "block-drop";
            assert!(
                left == written || !equal && left < written && written < 1.02 * left,
                "{method}: {key} {left} {written}"
            );
        }
        assert_eq!(record["sparsity"], structure["removed"], "{method}");
        assert!(record["run"]["seconds_per_token"][1].as_f64() > Some(0.0), "{method}");
    }
    let table = std::fs::read_to_string(folder.path("results/tiny/tables/sizes.md")).expect("a table of sizes");
    for line in ["| dense", "| flap", "| unit-sum", "| block-drop"] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    assert!(!table.contains("wanda"), "{table}");
    let scores = std::fs::read_to_string(folder.path("results/tiny/tables/perplexity.md")).expect("a table of scores");
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
fn whole_units_need_a_fraction_and_no_steps() {
    let folder = with(UNITS);
    folder.replace("experiment.toml", "{ sparsity = 0.5 }, ", "");
    refused(
        &folder,
        "plan experiment.toml",
        2,
        &["flap (per block): it removes whole units, and all patterns are N:M"],
    );
    let folder = with("[[method]]\nunits = \"flap\"\ncriterion = \"wanda\"\n");
    refused(&folder, "plan experiment.toml", 2, &["leave out `criterion`"]);
    refused(
        &folder,
        "prune --model model --method flap --sparsity 0.5 --out out",
        2,
        &["`flap` removes whole units", "zprune shrink --method flap"],
    );
}
