//! Claim: a permutation that is folded into the neurons of the MLPs leaves the model what it is, the file has its N:M groups side by side
//! then, and `verify` knows which tensors were moved and finds every other change to them.

use super::{Folder, number, place, place_windows, refused, run, says, works};
use safetensors::SafeTensors;
use serde_json::Value;

const PRUNE: &str = "--keep 2 --of 4 --tokens tokens.safetensors --permutation ria";

/// The bytes of a tensor, and its shape.
fn tensor(folder: &Folder, model: &str, name: &str) -> (Vec<u8>, Vec<usize>) {
    let bytes = std::fs::read(folder.path(model).join("model.safetensors")).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).expect("it is there");
    (view.data().to_vec(), view.shape().to_vec())
}

#[test]
fn a_folded_permutation_leaves_every_family_what_it_is() {
    let folder = Folder::new();
    place_windows(&folder);
    // Weights that are stored transposed, biases, gates, and names that the file has and the model has not.
    for (family, down, transposed) in [
        ("llama_biases", "model.layers.1.mlp.down_proj.weight", false),
        ("opt_base", "model.decoder.layers.1.fc2.weight", false),
        ("gpt2", "transformer.h.1.mlp.c_proj.weight", true),
        ("gpt_neox", "gpt_neox.layers.1.mlp.dense_4h_to_h.weight", false),
        ("gemma2", "model.layers.1.mlp.down_proj.weight", false),
    ] {
        place(&folder, family, true);
        for method in ["wanda", "sparsegpt"] {
            let score = |name: &str| {
                let eval = format!("eval --model {name} --tokens tokens.safetensors --json {name}.json");
                works(&run(&folder, &eval));
                let found = std::fs::read_to_string(folder.path(format!("{name}.json"))).expect("written");
                number(&found, "perplexity")
            };
            let (plain, folded) = (format!("{family}-{method}"), format!("{family}-{method}-folded"));
            works(&run(
                &folder,
                &format!("prune --model {family} --method {method} {PRUNE} --out {plain}"),
            ));
            let fold = format!("prune --model {family} --method {method} {PRUNE} --fold-permutation --out {folded}");
            works(&run(&folder, &fold));
            for name in [&plain, &folded] {
                works(&run(&folder, &format!("verify {name} --against {family}")));
            }
            let (before, after) = (score(&plain), score(&folded));
            assert!((before / after - 1.0).abs() < 1e-5, "{folded}: {before} and {after}");

            let record = std::fs::read_to_string(folder.path(format!("{folded}/pruning.json"))).expect("written");
            let record: Value = serde_json::from_str(&record).expect("JSON");
            let layers = record["layers"].as_array().expect("a list");
            let marked = layers.iter().filter(|layer| layer["folded"] == true);
            let marked: Vec<&str> = marked.filter_map(|layer| layer["tensor"].as_str()).collect();
            let (_, of_block) = down.split_once(".1.").expect("block 1");
            let second = layers.iter().filter_map(|layer| layer["tensor"].as_str());
            let second: Vec<&str> = second.filter(|name| name.ends_with(of_block)).collect();
            assert!(second.len() > 1, "{folded}: {second:?}");
            assert_eq!(marked, second, "{folded}");

            // Zeros by group of four inputs, as another program finds them in the file.
            let groups = |name: &str| {
                let (bytes, shape) = tensor(&folder, name, down);
                let width = bytes.len() / shape.iter().product::<usize>();
                let zero = |row: usize, column: usize| {
                    let element = if transposed {
                        column * shape[1] + row
                    } else {
                        row * shape[1] + column
                    };
                    bytes[element * width..][..width].iter().all(|byte| *byte == 0)
                };
                let (rows, columns) = if transposed {
                    (shape[1], shape[0])
                } else {
                    (shape[0], shape[1])
                };
                let of_row = move |row| (0..columns / 4).map(move |group| (row, group));
                let all = (0..rows).flat_map(of_row);
                let zeros =
                    |(row, group): (usize, usize)| (0..4).filter(|column| zero(row, 4 * group + column)).count();
                all.map(zeros).min().expect("groups")
            };
            assert!(groups(&folded) >= 2, "{folded}");
            assert!(
                groups(&plain) < 2,
                "{plain}: its permutation moves nothing between groups"
            );
        }
    }
}

#[test]
fn a_folded_model_whose_neurons_were_moved_again_is_not_what_was_written() {
    let folder = Folder::new();
    place_windows(&folder);
    place(&folder, "opt_base", true);
    let fold = format!("prune --model opt_base --method wanda {PRUNE} --fold-permutation --out pruned");
    works(&run(&folder, &fold));
    let intact = std::fs::read(folder.path("pruned/model.safetensors")).expect("written");
    for (name, what) in [
        (
            "model.decoder.layers.0.fc1.weight",
            "weights that stayed are not the original's",
        ),
        (
            "model.decoder.layers.0.fc1.bias",
            "is not prunable, but differs from the original",
        ),
        (
            "model.decoder.layers.0.fc2.weight",
            "weights that stayed are not the original's",
        ),
    ] {
        let mut bytes = intact.clone();
        let file = SafeTensors::deserialize(&intact).expect("a safetensors file");
        let view = file.tensor(name).expect("there");
        let start = view.data().as_ptr() as usize - intact.as_ptr() as usize;
        // Two rows (or two values) change places.
        let piece = view.data().len() / view.shape()[0];
        for byte in 0..piece {
            bytes.swap(start + byte, start + piece + byte);
        }
        std::fs::write(folder.path("pruned/model.safetensors"), bytes).expect("writable");
        let output = run(&folder, "verify pruned --against opt_base");
        assert_ne!(output.status.code(), Some(0), "{name}");
        let expected = format!("{name}: {what}");
        assert!(
            says(&output).contains(&expected),
            "no `{expected}` in {}",
            says(&output)
        );
    }
}

#[test]
fn nothing_is_folded_without_a_permutation() {
    let folder = Folder::new();
    let prune = "prune --model model --method wanda --keep 2 --of 4 --calibration calibration.jsonl --sequences 4 --length 16 --out out";
    refused(&folder, &format!("{prune} --fold-permutation"), 2, &["--permutation"]);
}
