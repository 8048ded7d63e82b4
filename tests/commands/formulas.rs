//! Claim: formulas have what they use gathered, and what is not a number in them is refused.

use super::axes::with;
use super::{Folder, run, works};
use zprune::prune::criterion::words::VALUES;

#[test]
fn every_value_can_be_used_alone() {
    let names = || VALUES.iter().flat_map(|value| value.names);
    assert!(names().count() > 20);
    let method = |name: &&str| {
        format!("[[method]]\nname = \"{name}\"\ncriterion = {{ expression = \"abs(w) * (abs({name}) + 1)\" }}\n\n")
    };
    let methods: String = names().map(method).collect();
    let folder = with(&methods);
    let told = works(&run(&folder, "experiment.toml"));
    assert!(told.contains(" cells run, 0 had results already"), "{told}");
}

#[test]
fn a_score_that_is_no_number_names_its_layer() {
    for formula in [
        "minimum(abs(w), sqrt(0 - abs(w)))",
        "maximum(abs(w), log(0 - abs(w)))",
        "below(sqrt(w), 1) * abs(w)",
        "inverse(sqrt(w)) * abs(w)",
        "max(sqrt(w)) + abs(w)",
        "min(sqrt(w)) + abs(w)",
    ] {
        let folder = Folder::new();
        let set = format!("expression={formula}");
        let words = "prune --model model --sparsity 0.5 --method expression --out out --set";
        let mut words: Vec<&str> = words.split(' ').collect();
        words.push(&set);
        let output = folder.zprune(&words).output().expect("the program starts");
        let text = super::says(&output);
        assert!(!output.status.success(), "{formula}: {text}");
        assert!(text.contains("layers.0") && text.contains("NaN"), "{formula}: {text}");
    }
}

#[test]
fn a_formula_that_cannot_rank_is_refused_before_anything_is_loaded() {
    for (formula, group, pattern, says) in [
        ("y2", "row", "0.5", "with group = \"row\" the inputs of one output"),
        ("row_sum(abs(w)) * depth", "row", "0.5", "row_sums(abs(w)) * depth"),
        ("y2", "matrix", "\"2:4\"", "under 2:4 the 4 neighbouring inputs"),
        ("abs(w) ^ 0", "matrix", "0.5", "gives every weight the same score"),
        ("w - w + fan_in", "matrix", "0.5", "gives every weight the same score"),
    ] {
        let method = format!("criterion = {{ expression = \"{formula}\" }}\ngroup = \"{group}\"\npattern = {pattern}");
        let folder = with(&format!("[[method]]\n{method}\n"));
        std::fs::remove_dir_all(folder.path("model")).expect("writable");
        let output = run(&folder, "plan experiment.toml");
        let text = super::says(&output);
        assert_eq!(output.status.code(), Some(2), "{formula}: {text}");
        for part in [says, "experiment.toml", "^"] {
            assert!(text.contains(part), "{formula}: no `{part}` in {text}");
        }
    }
    // Rows can be ranked where they are compared with each other.
    let folder = with("[[method]]\ncriterion = { expression = \"y2\" }\ngroup = \"matrix\"\npattern = 0.5\n");
    works(&run(&folder, "plan experiment.toml"));
}
