//! Claim: a model that was pruned in other variables is written so that every loader reads it, and `verify` knows which biases changed.

use super::{Folder, run, works};
use serde_json::Value;

const PRUNE: &str = "prune --model model --sparsity 0.5 --calibration calibration.jsonl --sampling documents --sequences 4 \
                     --length 16 --seed 1";

fn json(folder: &Folder, path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.path(path)).expect("written")).expect("JSON")
}

#[test]
fn models_pruned_in_other_variables_are_verified() {
    let folder = Folder::new();
    for (transform, biased) in [("scale", false), ("centre", true), ("sparsity-induction", true)] {
        let solver = if transform == "scale" { "magnitude" } else { "wanda+obs" };
        let done = works(&run(
            &folder,
            &format!("{PRUNE} --method {solver} --transform {transform} --out {transform}"),
        ));
        assert!(done.contains(transform), "{done}");
        let pruning = json(&folder, &format!("{transform}/pruning.json"));
        let layers = pruning["layers"].as_array().expect("a list");
        assert!(
            layers.iter().all(|layer| layer["compensated"].is_number() == biased),
            "{transform}"
        );
        let config = json(&folder, &format!("{transform}/config.json"));
        assert_eq!(config["mlp_bias"] == true, biased, "{transform}");
        let verified = works(&run(&folder, &format!("verify {transform} --against model")));
        let says = format!("biases against the original's: `{transform}` changes them on purpose");
        assert_eq!(verified.contains(&says), biased, "{verified}");
    }
    // Masks of magnitude with the norms of inputs are Wanda's, weight by weight.
    works(&run(&folder, &format!("{PRUNE} --method wanda --out wanda")));
    works(&run(
        &folder,
        &format!("{PRUNE} --method magnitude --group row --transform scale --out same"),
    ));
    let weights = |of: &str| std::fs::read(folder.path(of).join("model.safetensors")).expect("written");
    assert!(weights("wanda") == weights("same"));
}
