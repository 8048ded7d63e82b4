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
