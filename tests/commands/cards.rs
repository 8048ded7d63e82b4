//! The card of a pruned model: what it says of itself, and how what was measured gets into it.

use super::{refused, run, works};
use crate::tiny::Folder;

const PRUNE: &str = "prune --model model --method wanda --keep 2 --of 4 --calibration calibration.jsonl --sequences 4 --length 16 --out pruned";
const BEGIN: &str = "<!-- Measured: written by `zprune card`. -->";

fn card(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path("pruned/README.md")).expect("written")
}

fn measure(folder: &Folder, model: &str, windows: usize) {
    works(&run(
        folder,
        &format!("eval --model {model} --corpus novel.txt --length 16 --windows {windows} --json {model}.json"),
    ));
}

#[test]
fn a_pruned_model_has_a_card_with_its_licence_and_how_it_was_made() {
    let folder = Folder::new();
    folder.write(
        "model/README.md",
        "---\nlicense: other\nlicense_link: https://example.org/l\ntags:\n- original\n---\n# The original\n",
    );
    works(&run(&folder, PRUNE));
    let text = card(&folder);
    for part in [
        "---\nlicense: other\nlicense_link: https://example.org/l\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- zprune\n",
        "\n# model, 2:4 pruned by wanda\n",
        "add to the lines above: `base_model`",
        "This is `model`, pruned with zprune ",
        " 50.00 % of the weights",
        "| criterion | `wanda` |",
        "| calibration | 4 windows of 16 tokens from `calibration.jsonl`, sampling `documents`, seed 0, stage `block` |",
    ] {
        assert!(text.contains(part), "`{part}`:\n{text}");
    }
    assert!(
        !text.contains("original\n-") && !text.contains("# The original"),
        "{text}"
    );
    let recorded = std::fs::read_to_string(folder.path("pruned/pruning.json")).expect("written");
    let recorded: serde_json::Value = serde_json::from_str(&recorded).expect("JSON");
    assert_eq!(recorded["base_model"], "model");
    assert_eq!(recorded["calibration_corpus"], "calibration.jsonl");
    assert_eq!(recorded["schema"], 7);
    let text = works(&run(&folder, "verify pruned --against model"));
    assert!(!text.contains("not checked"), "{text}");

    // It belongs to whoever publishes the model.
    folder.write("pruned/README.md", "another");
    let text = works(&run(&folder, "verify pruned --against model"));
    assert!(text.contains("not checked: README.md: it was edited"), "{text}");

    std::fs::remove_file(folder.path("model/README.md")).expect("ours");
    std::fs::remove_dir_all(folder.path("pruned")).expect("ours");
    works(&run(&folder, &PRUNE.replace("wanda", "magnitude")));
    let text = card(&folder);
    assert!(text.starts_with("---\nlibrary_name: "), "{text}");
    assert!(text.contains("add to the lines above: `license`"), "{text}");
    assert!(!text.contains("| calibration |"), "{text}");
}

#[test]
fn what_was_measured_stands_beside_the_original() {
    let folder = Folder::new();
    works(&run(&folder, PRUNE));
    assert!(!card(&folder).contains("## Measured"));
    let whole = card(&folder);
    for model in ["model", "pruned"] {
        measure(&folder, model, 4);
    }
    let card_command = "card pruned --measured pruned.json";
    // What zprune put into its own card is no edit.
    works(&run(&folder, card_command));
    let told = works(&run(&folder, "verify pruned"));
    assert!(
        told.contains("README.md: what `zprune card` put into it; the rest is as it was written"),
        "{told}"
    );
    assert!(!told.contains("edited"), "{told}");
    folder.write("pruned/README.md", whole);
    folder.replace("pruned/README.md", "# model,", "# My model,");
    works(&run(&folder, card_command));
    let text = card(&folder);
    let row = "| perplexity on `novel.txt`, 4 windows of 16 tokens |  | ";
    assert!(text.contains(row) && text.contains("# My model,"), "{text}");
    // Again, with the original.
    works(&run(&folder, &format!("{card_command} --measured model.json")));
    let text = card(&folder);
    let found = |model: &str| {
        let json = std::fs::read_to_string(folder.path(format!("{model}.json"))).expect("written");
        super::number(&json, "perplexity")
    };
    let row = format!(
        "| perplexity on `novel.txt`, 4 windows of 16 tokens | {:.2} | {:.2} |\n",
        found("model"),
        found("pruned")
    );
    assert!(text.contains(&row) && text.contains("# My model,"), "{row}{text}");
    assert_eq!(text.matches("## Measured").count(), 1, "{text}");
    let told = works(&run(&folder, "verify pruned"));
    assert!(told.contains("README.md: it was edited"), "{told}");
    // Several results may stand behind one option, before the folder or after it.
    for several in [
        "card pruned --measured pruned.json model.json",
        "card --measured pruned.json model.json pruned",
    ] {
        works(&run(&folder, several));
        assert_eq!(card(&folder), text, "{several}");
    }
    refused(
        &folder,
        "card --measured pruned.json model.json",
        2,
        &["write `zprune card DIR --measured FILE`"],
    );
    // By itself it leaves the original's column, and another measure leaves this one.
    works(&run(&folder, card_command));
    assert_eq!(card(&folder), text);
    measure(&folder, "pruned", 3);
    works(&run(&folder, card_command));
    let text = card(&folder);
    let other = "| perplexity on `novel.txt`, 3 windows of 16 tokens |  | ";
    assert!(text.contains(&row) && text.contains(other), "{text}");

    // A card that is not there is made.
    std::fs::remove_file(folder.path("pruned/README.md")).expect("ours");
    works(&run(&folder, card_command));
    assert!(card(&folder).contains("# model, 2:4 pruned by wanda"));
}

#[test]
fn a_card_takes_no_results_of_other_models_and_no_other_place() {
    let folder = Folder::new();
    works(&run(&folder, PRUNE));
    measure(&folder, "pruned", 4);
    works(&run(
        &folder,
        &PRUNE
            .replace("--keep 2 --of 4", "--sparsity 0.3")
            .replace("--out pruned", "--out other"),
    ));
    measure(&folder, "other", 4);
    let before = card(&folder);
    let other = "neither pruned nor the one it was made from";
    refused(
        &folder,
        "card pruned --measured pruned.json --measured other.json",
        2,
        &["other.json", other],
    );
    refused(
        &folder,
        "card pruned --measured novel.txt",
        2,
        &["is no result of `zprune eval --json`"],
    );
    refused(
        &folder,
        "card model --measured pruned.json",
        2,
        &["has no pruning.json"],
    );
    assert_eq!(card(&folder), before);
    folder.write("pruned/README.md", "my own\n");
    refused(
        &folder,
        "card pruned --measured pruned.json",
        2,
        &["has no place for what was measured", BEGIN],
    );
    assert_eq!(card(&folder), "my own\n");
}
