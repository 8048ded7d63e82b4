//! Claim: a model whose biases make up for what was removed is written so that every loader reads them, `verify` knows what changed
//! and why, and a model that cannot have such biases is refused before anything is loaded.

use super::tiny::{self, Tensors};
use super::{Folder, number, place, place_windows, predicts, refused, run, says, works};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

const PRUNE: &str = "prune --model model --method wanda --sparsity 0.5 --calibration calibration.jsonl --sampling documents \
                     --sequences 4 --length 16 --seed 1 --compensate bias";

/// The names and values of the tensors of a file.
fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let all = file.tensors().into_iter();
    let mut all: Vec<_> = all.map(|(name, view)| (name, values(view.data()))).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("JSON")
}

/// Changes a byte of a tensor of a model.
fn flip(folder: &Folder, model: &str, tensor: &str) {
    let path = folder.path(model).join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let place = file.tensor(tensor).expect("there").data().as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[place] ^= 1;
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn biases_are_in_the_checkpoint_and_verify_knows_them() {
    let folder = Folder::new();
    let done = works(&run(&folder, &format!("{PRUNE} --out out")));
    assert!(done.contains("wanda+bias"), "{done}");
    let config = json(&folder.path("out/config.json"));
    assert_eq!(
        (&config["attention_bias"], &config["mlp_bias"]),
        (&true.into(), &true.into())
    );
    let pruning = json(&folder.path("out/pruning.json"));
    let written = tensors(&folder.path("out/model.safetensors"));
    let layers = pruning["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 14);
    for layer in layers {
        let name = layer["tensor"].as_str().expect("a name").replace(".weight", ".bias");
        let (_, bias) = written
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a bias of every layer");
        let square = bias.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / bias.len() as f64;
        let recorded = layer["compensated"].as_f64().expect("recorded");
        assert!(
            recorded > 0.0 && (square.sqrt() / recorded - 1.0).abs() < 1e-6,
            "{name}: {recorded}"
        );
    }
    let verified = works(&run(&folder, "verify out --against model"));
    assert!(
        verified.contains("biases against the original's: `bias` changes them on purpose"),
        "{verified}"
    );
    assert!(
        verified.contains("6 other tensors are those of the original"),
        "{verified}"
    );

    // What is evaluated is what is saved.
    let method = "criterion = \"wanda\"\ncompensate = \"bias\"";
    folder.replace("experiment.toml", "criterion = \"wanda\"", method);
    works(&folder.run());
    works(&run(
        &folder,
        "eval --model out --corpus novel.txt --length 16 --windows 4 --json found.json",
    ));
    let found = std::fs::read_to_string(folder.path("found.json")).expect("written");
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    let cell = |line: &&str| {
        let parts = ["\"method\":\"wanda\"", "{\"sparsity\":0.5}", "\"seed\":1"];
        parts.iter().all(|part| line.contains(part))
    };
    let record: Value = serde_json::from_str(records.lines().find(cell).expect("that cell")).expect("JSON");
    assert_eq!(record["evaluations"][0]["perplexity"], number(&found, "perplexity"));
    assert!(record["layers"][0]["compensated"].as_f64().expect("recorded") > 0.0);

    // Archives and what they restore have them, too.
    works(&run(&folder, "compress out --out packed"));
    works(&run(&folder, "expand packed --out again"));
    works(&run(&folder, "verify again --against model"));

    flip(&folder, "out", "model.layers.1.mlp.down_proj.bias");
    for against in ["", " --against model"] {
        let output = run(&folder, &format!("verify out{against}"));
        assert!(
            says(&output).contains("model.safetensors: is not what zprune wrote"),
            "{}",
            says(&output)
        );
        assert!(!output.status.success());
    }
}

#[test]
fn biases_that_only_the_configuration_asks_for_are_zeros() {
    let folder = Folder::new();
    works(&run(
        &folder,
        &format!("{PRUNE} --set compensate.layers=outputs --out out"),
    ));
    works(&run(&folder, "verify out --against model"));
    let written = tensors(&folder.path("out/model.safetensors"));
    let biases: Vec<_> = written.iter().filter(|(name, _)| name.ends_with(".bias")).collect();
    assert_eq!(biases.len(), 14);
    for (name, bias) in biases {
        let output = name.contains("o_proj") || name.contains("down_proj");
        assert_eq!(bias.iter().any(|value| *value != 0.0), output, "{name}");
    }
    let record = json(&folder.path("out/pruning.json"));
    let layers = record["layers"].as_array().expect("a list");
    assert_eq!(layers.iter().filter(|layer| layer["compensated"].is_null()).count(), 10);
    flip(&folder, "out", "model.layers.0.self_attn.q_proj.bias");
    let output = run(&folder, "verify out --against model");
    let fault = "model.layers.0.self_attn.q_proj.bias: was added beside a bias and should be 0";
    assert!(says(&output).contains(fault), "{}", says(&output));
}

/// As a checkpoint of two files, in each of which there are layers.
fn in_two_files(folder: &Folder) {
    let (first, second): (Tensors, Tensors) = tiny::weights()
        .into_iter()
        .partition(|(name, _)| name.contains("layers.0"));
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", &first), ("b.safetensors", &second)] {
        tiny::save(part, &folder.path("model").join(file));
        map.extend(part.keys().map(|name| (name.clone(), file.into())));
    }
    std::fs::remove_file(folder.path("model/model.safetensors")).expect("there");
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    folder.write("model/model.safetensors.index.json", index.to_string());
}

#[test]
fn the_index_of_several_files_names_the_biases() {
    let folder = Folder::new();
    in_two_files(&folder);
    works(&run(&folder, &format!("{PRUNE} --out out")));
    let index = json(&folder.path("out/model.safetensors.index.json"));
    assert_eq!(
        index["weight_map"]["model.layers.0.self_attn.q_proj.bias"],
        "a.safetensors"
    );
    assert_eq!(index["weight_map"]["model.layers.1.mlp.up_proj.bias"], "b.safetensors");
    works(&run(&folder, "verify out --against model"));
    // An index that says something else is no longer what was written, and what it should say is known.
    let text = std::fs::read_to_string(folder.path("out/model.safetensors.index.json")).expect("written");
    folder.write(
        "out/model.safetensors.index.json",
        text.replace("total_size", "all_sizes"),
    );
    let output = run(&folder, "verify out --against model");
    let fault = "model.safetensors.index.json: differs from the original's in more than the biases that were added";
    assert!(says(&output).contains(fault), "{}", says(&output));
}

/// Every family's tiny checkpoint: with biases at all layers where it can have them, else refused before anything is loaded.
#[test]
fn every_family_has_the_biases_that_it_can_have() {
    let folder = Folder::new();
    place_windows(&folder);
    let refused_at = "mlp.down_proj, mlp.gate_proj, mlp.up_proj";
    for (name, missing) in [
        ("llama_sharded", ""),
        ("llama_biases", ""),
        ("llama_bf16", ""),
        ("opt_base", ""),
        ("opt_no_bias", ""),
        ("opt_proj_pre_norm", ""),
        ("gpt_neox", ""),
        ("gpt2", ""),
        ("gemma2", refused_at),
        ("gemma3", refused_at),
        ("qwen3", refused_at),
        ("qwen2", "mlp.down_proj, mlp.gate_proj, mlp.up_proj, self_attn.o_proj"),
        (
            "mistral",
            "self_attn.k_proj, self_attn.o_proj, self_attn.q_proj, self_attn.v_proj",
        ),
    ] {
        // Nothing else may be read of a model that is refused.
        place(&folder, name, missing.is_empty());
        let prune = format!(
            "prune --model {name} --method wanda --keep 2 --of 4 --tokens tokens.safetensors --compensate bias"
        );
        if !missing.is_empty() {
            let says = [
                name,
                &format!("{missing} cannot have a bias"),
                "the compensation changes biases",
            ];
            refused(&folder, &format!("{prune} --out out"), 2, &says);
            continue;
        }
        works(&run(&folder, &format!("{prune} --out {name}-out")));
        works(&run(&folder, &format!("verify {name}-out --against {name}")));
        predicts(&folder, &format!("{name}-out"));
    }
}

#[test]
fn a_model_with_biases_at_some_layers_may_have_only_these_changed() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/qwen2");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(root.join(name), folder.path("model").join(name)).expect("writable");
    }
    place_windows(&folder);
    let prune = "prune --model model --method wanda --sparsity 0.5 --tokens tokens.safetensors --compensate bias \
                 --set compensate.layers=biased --out out";
    works(&run(&folder, prune));
    works(&run(&folder, "verify out --against model"));
    let [before, after] =
        ["model", "out"].map(|model| std::fs::read(folder.path(model).join("config.json")).expect("there"));
    assert!(before == after, "nothing was added");
    let [before, after] = ["model", "out"].map(|model| tensors(&folder.path(model).join("model.safetensors")));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let changed = name.contains("layers") && (name.contains("_proj.weight") || name.contains("_proj.bias"));
        assert_eq!(before != after, changed, "{name}");
    }
}

#[test]
fn what_cannot_be_combined_is_refused_before_the_model_is_looked_at() {
    let folder = Folder::new();
    std::fs::remove_dir_all(folder.path("model")).expect("it is there");
    let prune =
        "prune --model model --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16 --out out";
    for solver in ["least-squares", "row-scale"] {
        let words = format!("{prune} --method wanda+{solver} --set solver.centred=true");
        refused(
            &folder,
            &words,
            2,
            &["add compensate = \"bias\", or leave `centred` out"],
        );
        let words = format!("{words} --compensate bias");
        refused(&folder, &words, 2, &["model: `model` is not there"]);
    }
    let words = format!("{prune} --method wanda --compensate bias --target dense");
    refused(&folder, &words, 2, &["target"]);
}
