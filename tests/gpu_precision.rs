//! Claim: half precision on a GPU changes the perplexity of both embedded models, dense and pruned, by less than
//! 0.1 %, and single precision by less than 0.001 %.

mod gpu;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use zprune::backend::gpu::adapter::{Tier, list};

fn zprune(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_zprune"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn perplexity(model: &str, file: &Path, machine: &[&str]) -> f64 {
    let text = root("corpora/persuasion.txt");
    let (text, json) = (text.to_string_lossy(), file.to_string_lossy());
    let mut arguments = vec![
        "eval",
        "--model",
        model,
        "--corpus",
        &text,
        "--length",
        "128",
        "--windows",
        "8",
    ];
    arguments.extend(["--json", &json]);
    arguments.extend(machine);
    zprune(&arguments);
    let found: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("written")).expect("JSON");
    found["perplexity"].as_f64().expect("a number")
}

#[test]
fn half_precision_hardly_changes_perplexity() {
    let Some(best) = gpu::best_tier() else { return };
    let adapters = list();
    let adapter = &adapters
        .iter()
        .min_by_key(|adapter| adapter.software)
        .expect("one")
        .name;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in ["tiny-llama", "tiny-opt"] {
        let dense = root("models").join(model);
        let pruned = folder.path().join(model);
        let calibration = root("corpora/austen_calibration.txt");
        let [dense, pruned, calibration] = [&dense, &pruned, &calibration].map(|path| path.to_string_lossy());
        zprune(&[
            "prune",
            "--model",
            &dense,
            "--method",
            "wanda",
            "--sparsity",
            "0.5",
            "--calibration",
            &calibration,
            "--sampling",
            "packed",
            "--sequences",
            "8",
            "--length",
            "128",
            "--out",
            &pruned,
        ]);
        for (label, path) in [("dense", &dense), ("pruned", &pruned)] {
            let file = folder.path().join("found.json");
            let cpu = perplexity(path, &file, &["--backend", "cpu"]);
            for (compute, tolerance) in [("f32", 1e-5), ("f16", 1e-3)] {
                if compute == "f16" && best < Tier::F16 {
                    println!("skipped: {adapter} has no half precision");
                    continue;
                }
                let gpu = perplexity(path, &file, &["--adapter", adapter, "--compute", compute]);
                let apart = gpu / cpu - 1.0;
                println!("{model}, {label}, {compute}: {gpu:.5}, {cpu:.5} on the CPU, {apart:+.1e}");
                assert!(apart.abs() < tolerance, "{model}, {label}, {compute}: {gpu}, not {cpu}");
            }
        }
    }
}
