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
    for label in ["wanda+sparse-swaps", "wanda+dsnot", "magnitude+sparse-swaps+obs"] {
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
    refused(&folder, &words, 2, &["changes how many a block of columns keeps"]);
    left_nothing(&folder, &words);
    let method = "criterion = \"wanda\"\nrefine = \"dsnot\"\ngroup = \"column-block\"";
    folder.replace("experiment.toml", "criterion = \"wanda\"", method);
    std::fs::remove_dir_all(folder.path("model")).expect("it is there");
    refused(
        &folder,
        "plan experiment.toml",
        2,
        &["experiment.toml:19:1", "a block of columns keeps"],
    );
}
