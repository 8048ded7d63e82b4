//! Claim: mask refinements work from a command and from an experiment, under names that say so, and what they cannot do is
//! refused before anything is read.

use super::{Folder, left_nothing, refused, run, works};

const PRUNE: &str =
    "prune --model model --method wanda --calibration calibration.jsonl --sequences 4 --length 16 --out pruned";

#[test]
fn every_refinement_prunes_a_model_that_verify_accepts() {
    let listed = works(&run(&Folder::new(), "list"));
    for name in ["sparse-swaps", "dsnot", "sparse-fw"] {
        assert!(listed.contains(&format!("  {name} ")), "{listed}");
        for pattern in ["--sparsity 0.6", "--keep 2 --of 4"] {
            let folder = Folder::new();
            let set = if name == "sparse-fw" {
                "--set refine.iterations=20"
            } else {
                ""
            };
            let done = works(&run(&folder, &format!("{PRUNE} {pattern} --refine {name} {set}")));
            assert!(done.contains(&format!("wanda+{name}")), "{done}");
            works(&run(&folder, "verify pruned --against model"));
        }
    }
}

#[test]
fn an_experiment_compares_a_method_with_its_refinements() {
    let folder = Folder::new();
    let methods = r#"refine = "sparse-swaps"

[[method]]
criterion = "wanda"
refine = { name = "dsnot", layers = "all" }

[[method]]
criterion = "magnitude"
group = "row"
refine = { name = "sparse-swaps", max_swaps = 2 }
solver = "obs"

[[method]]
name = "sparsegpt""#;
    folder.replace("experiment.toml", "name = \"wanda\"\n", "");
    folder.replace("experiment.toml", "\n[[method]]\nname = \"sparsegpt\"", methods);
    let plan = works(&run(&folder, "plan experiment.toml"));
    works(&run(&folder, "experiment.toml"));
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    for label in [
        "wanda+sparse-swaps",
        "wanda+dsnot (layers all)",
        "magnitude+sparse-swaps+obs (max swaps 2)",
    ] {
        assert!(plan.contains(label), "{plan}");
        assert!(records.contains(&format!("\"{label}\"")), "{label} is not in {records}");
    }
    for part in [
        r#""refine":{"name":"sparse-swaps","parameters":{}}"#,
        r#""refine":{"name":"sparse-swaps","parameters":{"max_swaps":2}}"#,
    ] {
        assert!(records.contains(part), "{part} is not in {records}");
    }
}

#[test]
fn a_refinement_that_cannot_keep_the_groups_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let words = format!("{PRUNE} --sparsity 0.5 --refine dsnot --group column-block");
    refused(
        &folder,
        &words,
        2,
        &["changes how many weights a block of columns keeps"],
    );
    left_nothing(&folder, &words);
    let method = "criterion = \"wanda\"\nrefine = \"dsnot\"\ngroup = \"column-block\"";
    folder.replace("experiment.toml", "criterion = \"wanda\"", method);
    std::fs::remove_dir_all(folder.path("model")).expect("it is there");
    refused(
        &folder,
        "plan experiment.toml",
        2,
        &["experiment.toml:22:10", "a block of columns keeps"],
    );
}

#[test]
fn what_a_command_asks_for_in_vain_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let prune =
        "prune --model nowhere --out out --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16";
    let refuse = |rest: &str, says: &[&str]| refused(&folder, &format!("{prune} {rest}"), 2, says);
    refuse(
        "--method magnitude --permutation ria",
        &["permutation `ria`", "50 %", "has no such groups"],
    );
    for method in ["wanda", "magnitude"] {
        refuse(&format!("--method {method} --target dense"), &["reproduces no outputs"]);
    }
    refuse(
        "--method wanda --allocator atp --stage dense",
        &["stage = \"dense\" has only statistics of all windows"],
    );
    refuse("--method wanda --refine dsnot --group column-block", &["dsnot"]);
    left_nothing(&folder, "out");
    let there = prune.replace("nowhere", "model").replace("0.5", "0.3");
    let refuse = |rest: &str, says: &[&str]| refused(&folder, &format!("{there} --method wanda {rest}"), 2, says);
    refuse(
        "--allocator atp --set allocator.beta=1.0",
        &["parameter `beta` = 1", "at most"],
    );
    let table = "--allocator table --set allocator.shares={\"nope\"=0.4}";
    refuse(table, &["nope"]);
}

#[test]
fn recipes_by_name_prune() {
    let folder = Folder::new();
    let calibration = "--calibration calibration.jsonl --sequences 4 --length 16";
    let listed = works(&run(&folder, "list"));
    for name in ["sparsegpt", "thanos", "admm", "alps", "fistapruner", "swap-solve"] {
        assert!(listed.contains(&format!("\n  {name} ")), "{listed}");
        let prune = format!("prune --model model --method {name} --sparsity 0.5 --out {name} {calibration}");
        works(&run(&folder, &prune));
        works(&run(&folder, &format!("verify {name} --against model")));
    }
    // A bound of 0 is never reached: rows that are solved have no direction left.
    let exact = "prune --model model --method wanda+least-squares --set solver.tolerance=0 --sparsity 0.5 --out exact";
    works(&run(&folder, &format!("{exact} {calibration}")));
    let pruning = std::fs::read_to_string(folder.path("fistapruner/pruning.json")).expect("written");
    let pruning: serde_json::Value = serde_json::from_str(&pruning).expect("JSON");
    let text = pruning.to_string();
    assert!(
        text.contains("\"separate\"") && text.contains("\"target\":\"dense\""),
        "{text}"
    );
}
