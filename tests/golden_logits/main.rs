//! Claim: logits of every family and option equal transformers' float32 logits.
//!
//! The checkpoints and logits under `tests/golden/logits` were made by `tools/make_golden_logits.py`;
//! its README there names the versions. Tolerance: 1e-5 of the largest logit of the case.

#[path = "../gpu/mod.rs"]
mod gpu;

mod configurations;
mod folded;
mod generation;
mod rotations;
mod stored;
mod uneven;

use ndarray::{Array2, ArrayView2};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use zprune::backend::cpu::Cpu;
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::export::{class_of, emitted};
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends, Hidden};
use zprune::model::source::WeightSource;

const TOLERANCE: f32 = 1e-5;

/// Fewer cases than this means the golden files are not there, not that all is well.
const CASES: usize = 32;

#[test]
fn logits_equal_transformers() {
    hold("logits", CASES);
}

/// The class that zprune writes for models whose blocks differ (`tools/make_golden_own_sizes.py`).
#[test]
fn logits_equal_those_of_the_class_for_blocks_of_different_sizes() {
    let root = hold("own_sizes", 8);
    for entry in std::fs::read_dir(root).expect("golden files are in the repository") {
        let case = entry.expect("readable folder").path();
        let text = std::fs::read_to_string(case.join("config.json")).expect("there");
        let spec = read_spec(&case).expect("supported");
        let blocks: Vec<usize> = (0..spec.blocks).collect();
        let ours = emitted(&text, &spec, &blocks).expect("sayable");
        let [before, ours] = [&text, &ours].map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
        assert_eq!(ours["auto_map"], before["auto_map"], "{}", case.display());
        let class = class_of(&spec).expect("blocks differ");
        let family = before["model_type"].as_str().expect("a family");
        assert!(class.contains(&format!("CONFIG_MAPPING[\"{family}\"]")), "{family}");
    }
}

/// Compares the cases in a folder of golden values, which are at least so many.
fn hold(folder: &str, least: usize) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&root)
        .expect("golden files are in the repository")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= least, "only {} golden cases", cases.len());
    let failures: Vec<String> = cases.iter().filter_map(|case| compare(case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    root
}

fn compare(case: &Path) -> std::result::Result<(), String> {
    let name = case
        .file_name()
        .expect("a case has a name")
        .to_string_lossy()
        .to_string();
    let bytes = std::fs::read(case.join("golden.safetensors")).expect("every case has golden logits");
    let golden = SafeTensors::deserialize(&bytes).expect("golden files are valid");
    let ids = golden.tensor("input_ids").expect("golden files hold input_ids");
    let length = ids.shape()[1];
    let ids: Vec<u32> = ids
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| i64::from_le_bytes(*b) as u32)
        .collect();
    let wanted = golden.tensor("logits").expect("golden files hold logits");
    let vocabulary = wanted.shape()[2];
    let wanted: Vec<f32> = wanted
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let wanted = ArrayView2::from_shape((ids.len(), vocabulary), &wanted).expect("one row per token");

    let got = logits(case, ids, length).map_err(|error| format!("{name}: {error}"))?;
    let largest = wanted.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let error = got
        .iter()
        .zip(wanted)
        .map(|(got, want)| (got - want).abs())
        .fold(0.0f32, |worst, error| {
            if error.is_nan() {
                f32::INFINITY
            } else {
                worst.max(error)
            }
        });
    println!("{name}: {:.1e} of the largest logit {largest:.2}", error / largest);
    if error <= TOLERANCE * largest {
        Ok(())
    } else {
        Err(format!(
            "{name}: differs by {:.1e} of the largest logit",
            error / largest
        ))
    }
}

/// The folder of a golden case.
fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/logits")
        .join(case)
}

fn logits(case: &Path, ids: Vec<u32>, length: usize) -> Result<Array2<f32>> {
    let checkpoint = Checkpoint::open(case, read_spec(case)?)?;
    checkpoint.check_finite()?;
    logits_of(&checkpoint, &TokenWindows::new(ids, length)?)
}

/// The logits of a model at every token of some windows.
fn logits_of(model: &dyn WeightSource, windows: &TokenWindows) -> Result<Array2<f32>> {
    let (spec, ends) = (model.spec(), Ends::upload(&Cpu, model)?);
    let mut hidden = Hidden::embed(&Cpu, spec, &ends, windows)?;
    for index in 0..spec.blocks {
        let block = Block::load(&Cpu, model, index)?;
        hidden.advance(&Cpu, spec, &block, |_, _| Ok(()))?;
    }
    hidden.logits(&Cpu, &ends)
}
