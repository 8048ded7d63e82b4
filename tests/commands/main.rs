//! Claim: `prune`, `eval`, `verify`, `compress` and `expand` do what a sweep does, write directories that
//! are whole or not there, and refuse what cannot be used with a message that says where the fault is.

mod archives;
mod axes;
mod cards;
mod compensations;
mod damage;
mod edited;
mod experiments;
mod folders;
mod forged;
mod formulas;
mod layouts;
mod memory;
mod outside;
mod permutations;
mod pruned_before;
mod quickstart;
mod refinements;
mod screens;
mod shrink;
mod slips;
#[path = "../tiny/mod.rs"]
mod tiny;
mod transforms;
mod units;

use std::path::{Path, PathBuf};
use std::process::Output;
use tiny::{Files, Folder};
use zprune::data::windows::TokenWindows;

const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";

/// Runs the program in the folder with words separated by spaces.
fn run(folder: &Folder, words: &str) -> Output {
    let words: Vec<&str> = words.split_whitespace().collect();
    folder.zprune(&words).output().expect("the program starts")
}

fn says(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn works(output: &Output) -> String {
    assert!(output.status.success(), "{}", says(output));
    says(output)
}

/// The command fails with this code, says all of this, and leaves nothing called `out` or temporary.
fn refused(folder: &Folder, words: &str, code: i32, expect: &[&str]) {
    let output = run(folder, words);
    let text = says(&output);
    assert_eq!(output.status.code(), Some(code), "{words}: {text}");
    for part in expect {
        assert!(text.contains(part), "{words}: does not say `{part}`:\n{text}");
    }
    assert!(!text.contains("panicked"), "{words}: {text}");
    left_nothing(folder, words);
}

fn left_nothing(folder: &Folder, words: &str) {
    assert!(!folder.path("out").exists(), "{words}: left `out`");
    let hidden = std::fs::read_dir(folder.path("."))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with('.'));
    assert_eq!(hidden, None, "{words}: left a temporary folder");
}

/// A model can be measured on the folder's tokens.
fn predicts(folder: &Folder, model: &str) {
    let eval = format!("eval --model {model} --tokens tokens.safetensors --json {model}.json");
    works(&run(folder, &eval));
    let found = std::fs::read_to_string(folder.path(format!("{model}.json"))).expect("written");
    assert!(number(&found, "perplexity") > 1.0, "{model}");
}

/// Puts a tiny checkpoint of a family, from `tests/golden/logits`, into the folder, with a tokenizer; only its configuration if
/// `weights` is false.
fn place(folder: &Folder, family: &str, weights: bool) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/logits")
        .join(family);
    let model = folder.path(family);
    std::fs::create_dir(&model).expect("writable");
    for entry in std::fs::read_dir(from).expect("a golden checkpoint") {
        let path = entry.expect("readable").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !file.starts_with("golden") && (weights || file == "config.json") {
            std::fs::copy(&path, model.join(file)).expect("writable");
        }
    }
    std::fs::copy(folder.path("model/tokenizer.json"), model.join("tokenizer.json")).expect("writable");
}

/// Four windows of 16 tokens that all tiny checkpoints have, as `tokens.safetensors`.
fn place_windows(folder: &Folder) {
    let ids: Vec<u32> = (0..4 * 16).map(|t| t * 37 % 96).collect();
    let windows = TokenWindows::new(ids, 16).expect("whole windows");
    windows.write(&folder.path("tokens.safetensors")).expect("writable");
}

/// Every file of a folder, by its path below it.
fn tree(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("a path below it").to_path_buf();
                files.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// Makes a folder with these files, in place of what was there.
fn lay_out(folder: &Path, files: &Files) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).expect("ours");
    }
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("it is below the folder")).expect("writable");
        std::fs::write(path, content).expect("writable");
    }
}

const PRUNE: &str = "prune --model model --method sparsegpt --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16 --out out";

fn number(text: &str, key: &str) -> f64 {
    let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
    value[key].as_f64().expect("a number")
}

#[test]
fn a_pruned_directory_scores_what_the_sweep_recorded() {
    let folder = Folder::new();
    works(&folder.run());
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    for (method, pattern, label) in [
        ("sparsegpt", "--sparsity 0.5", "{\"sparsity\":0.5}"),
        ("wanda", "--keep 2 --of 4", "{\"keep\":2,\"of\":4}"),
    ] {
        let recorded = records
            .lines()
            .find(|line| {
                line.contains(&format!("\"method\":\"{method}\""))
                    && line.contains(label)
                    && line.contains("\"seed\":1")
            })
            .expect("the sweep has that cell");
        let recorded: serde_json::Value = serde_json::from_str(recorded).expect("a record");
        let command = format!(
            "prune --model model --method {method} {pattern} --calibration calibration.jsonl --sampling documents \
             --sequences 4 --length 16 --seed 1 --out out-{method}"
        );
        works(&run(&folder, &command));
        let eval = format!("eval --model out-{method} --corpus novel.txt --length 16 --windows 4 --json found.json");
        works(&run(&folder, &eval));
        let found = std::fs::read_to_string(folder.path("found.json")).expect("written");
        let wanted = &recorded["evaluations"][0];
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["perplexity"], wanted["perplexity"], "{method}");
        assert_eq!(found["windows"], wanted["windows"], "{method}");
        assert_eq!(found["token_digest"], wanted["token_digest"], "{method}");
        let text = works(&run(&folder, &format!("verify out-{method} --against model")));
        assert!(text.contains("as pruning.json says"), "{text}");
        assert!(text.contains("6 other tensors are those of the original"), "{text}");
    }
}

#[test]
fn windows_are_by_default_no_longer_than_the_model_was_made_for() {
    let folder = Folder::new();
    folder.write("long.txt", tiny::text(7, 600));
    let told = works(&run(&folder, "eval --model model --corpus long.txt"));
    assert!(told.contains(" windows of 64 tokens"), "{told}");
    assert!(
        told.contains("since the model was made for at most so many") && !told.contains("exceed"),
        "{told}"
    );
    let told = works(&run(&folder, "eval --model model --corpus long.txt --length 64"));
    assert!(
        told.contains(" windows of 64 tokens") && !told.contains("no more"),
        "{told}"
    );
    let done = works(&run(
        &folder,
        "prune --model model --method wanda --sparsity 0.5 --calibration long.txt --sampling packed --sequences 3 --out out",
    ));
    assert!(done.contains("on 3 windows of 64 tokens"), "{done}");
}

#[test]
fn parameters_reach_the_method() {
    let folder = Folder::new();
    let ria =
        "prune --model model --method ria --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16";
    works(&run(&folder, &format!("{ria} --out default")));
    works(&run(
        &folder,
        &format!("{ria} --set activation_power=0.0 --out without"),
    ));
    let read = |name: &str| std::fs::read(folder.path(name).join("model.safetensors")).expect("written");
    assert_ne!(read("default"), read("without"));
    let pruning = std::fs::read_to_string(folder.path("without/pruning.json")).expect("written");
    assert!(pruning.contains("\"activation_power\": 0.0"), "{pruning}");
    refused(
        &folder,
        &format!("{ria} --set activation_pover=1 --out out"),
        2,
        &["activation_pover", "did you mean `activation_power`?"],
    );
    refused(
        &folder,
        &format!("{ria} --set activation_power --out out"),
        2,
        &["key=value"],
    );
    refused(
        &folder,
        &format!("{ria} --set slover.damping=0.1 --out out"),
        2,
        &["unknown step in --set `slover`; did you mean `solver`?"],
    );
    refused(
        &folder,
        "prune --model model --method wandas --sparsity 0.5 --out out",
        2,
        &["unknown method `wandas`; did you mean `wanda`?"],
    );
    refused(
        &folder,
        "prune --model model --method wanda --sparsity 0.5 --out out",
        2,
        &["give --calibration FILE, or --tokens FILE"],
    );
    refused(
        &folder,
        "prune --model model --method wanda --protocol ria --group row --sparsity 0.5 --calibration calibration.jsonl --out out",
        2,
        &["protocol `ria` sets group = \"matrix\", but here it is \"row\""],
    );
}

/// Every family's tiny checkpoint, pruned on given tokens by a method that updates weights.
#[test]
fn every_family_prunes_and_verifies() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits");
    place_windows(&folder);
    let mut families: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("golden files are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_dir())
        .collect();
    families.sort();
    assert!(families.len() >= 32, "only {} golden checkpoints", families.len());
    for source in families {
        let name = source.file_name().expect("a name").to_string_lossy().into_owned();
        // The tokens are given; a tokenizer has only to be there, as in every model directory.
        place(&folder, &name, true);
        works(&run(
            &folder,
            &format!(
                "prune --model {name} --method sparsegpt --keep 2 --of 4 --tokens tokens.safetensors --out {name}-pruned"
            ),
        ));
        let text = works(&run(&folder, &format!("verify {name}-pruned --against {name}")));
        assert!(
            text.contains("50.000 % of the prunable weights are zero"),
            "{name}: {text}"
        );
        predicts(&folder, &format!("{name}-pruned"));
    }
}

#[test]
fn damaged_models_are_refused_by_every_command() {
    type Damage = fn(&Folder);
    let cases: &[(&str, Damage, &str)] = &[
        (
            "a truncated file",
            |folder| {
                let path = folder.path("model/model.safetensors");
                let bytes = std::fs::read(&path).expect("readable");
                std::fs::write(path, &bytes[..bytes.len() - 100]).expect("writable");
            },
            "model/model.safetensors: truncated or corrupt safetensors file",
        ),
        (
            "a wrong magic",
            |folder| folder.write("model/model.safetensors", b"GGUF\x03\0\0\0 not what the name says"),
            "model/model.safetensors: truncated or corrupt safetensors file",
        ),
        (
            "a wrong shape",
            |folder| {
                let mut tensors = tiny::weights();
                tensors.get_mut(QUERY).expect("there").shape = vec![16, 64];
                tiny::save(&tensors, &folder.path("model/model.safetensors"));
            },
            "has shape [16, 64], but config.json implies [32, 32]",
        ),
        (
            "a NaN",
            |folder| {
                let mut tensors = tiny::weights();
                tensors.get_mut(QUERY).expect("there").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                tiny::save(&tensors, &folder.path("model/model.safetensors"));
            },
            "model.layers.1.self_attn.q_proj.weight`: element 0 is NaN",
        ),
        (
            "a missing shard",
            |folder| {
                std::fs::remove_file(folder.path("model/model.safetensors")).expect("there");
                let index = r#"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#;
                folder.write("model/model.safetensors.index.json", index);
            },
            "shard `model-00001-of-00002.safetensors`, which holds 1 of the tensors, is not there",
        ),
    ];
    let commands = [
        PRUNE,
        "eval --model model --corpus novel.txt --length 16 --json out",
        "verify model",
    ];
    for (name, damage, expect) in cases {
        for command in commands {
            let folder = Folder::new();
            damage(&folder);
            println!("{name}: {command}");
            refused(&folder, command, 2, &[expect]);
            assert!(folder.results().is_empty(), "{name}: {command} wrote results");
        }
    }
    for command in &commands[..2] {
        let folder = Folder::new();
        std::fs::remove_file(folder.path("model/tokenizer.json")).expect("there");
        refused(&folder, command, 2, &["model/tokenizer.json` is not there"]);
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("taken")).expect("writable");
    folder.write("taken/file", "x");
    let output = run(&folder, &PRUNE.replace("--out out", "--out taken"));
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));
    assert!(
        says(&output).contains("taken: cannot write: it exists already"),
        "{}",
        says(&output)
    );
    refused(
        &folder,
        &PRUNE.replace("--out out", "--out novel.txt/out"),
        3,
        &["cannot write"],
    );

    // A disk that fills up: files may have 20 blocks of 512 bytes, and the weights need 100 kB.
    #[cfg(unix)]
    for (command, file) in [
        (PRUNE, "out/model.safetensors"),
        ("compress model --out out", "out/model.safetensors.zprune"),
    ] {
        let program = env!("CARGO_BIN_EXE_zprune");
        let script = format!("trap '' XFSZ; ulimit -f 20; exec '{program}' {command}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder.path("."))
            .output()
            .expect("a shell");
        assert_eq!(output.status.code(), Some(3), "{}", says(&output));
        assert!(
            says(&output).contains(&format!("{file}: cannot write: ")),
            "{}",
            says(&output)
        );
        left_nothing(&folder, command);
    }
}

#[test]
fn a_dense_perplexity_that_is_off_stops_the_sweep() {
    let folder = Folder::new();
    let dense = |folder: &Folder| {
        let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
        assert_eq!(records.lines().count(), 1, "only the dense model was measured");
        let record: serde_json::Value = serde_json::from_str(&records).expect("a record");
        record["evaluations"][0]["perplexity"].as_f64().expect("a perplexity")
    };
    let expecting =
        |value: f64| format!("obtain = \"train it\"\nexpected.novel = {{ perplexity = {value}, tolerance = 0.001 }}");
    folder.replace("experiment.toml", "obtain = \"train it\"", &expecting(250.0));
    for _ in 0..2 {
        // The second time the record is there already.
        let output = folder.run();
        assert_eq!(output.status.code(), Some(1), "{}", says(&output));
        let text = says(&output);
        assert!(text.contains("but 250.0000 is expected, within 0.1 %"), "{text}");
    }
    let found = dense(&folder);
    folder.replace("experiment.toml", &expecting(250.0), &expecting(found * 1.0005));
    works(&folder.run());
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    assert_eq!(records.lines().count(), 9);
}

#[test]
fn a_protocol_sets_what_is_left_out_and_is_recorded() {
    let folder = Folder::new();
    // The model was made for 64 positions, and the documents are longer than that.
    folder.replace(
        "experiment.toml",
        "name = \"tiny\"",
        "name = \"tiny\"\nprotocol = \"wanda\"",
    );
    folder.replace(
        "experiment.toml",
        "sampling = \"documents\"\nsequences = 4\nlength = 16\n",
        "sequences = 4\n",
    );
    folder.replace("experiment.toml", "length = 16\nwindows = 4", "windows = 4");
    works(&folder.run());
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    for line in records.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record");
        assert_eq!(record["label"]["protocol"], "wanda");
        assert_eq!(record["cell"]["evaluations"][0]["length"], 64);
        assert_eq!(record["cell"]["evaluations"][0]["join"], "wikitext");
        if let Some(pruning) = record["cell"].get("pruning") {
            assert_eq!(pruning["selection"], "reference");
            assert_eq!(pruning["calibration"]["length"], 64);
            assert_eq!(pruning["calibration"]["sampling"], "documents");
        }
    }
}
