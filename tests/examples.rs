//! The examples do what they say, and what they add works by name in a sweep.

#[path = "../examples/own_allocator.rs"]
mod own_allocator;
#[path = "../examples/own_criterion.rs"]
mod own_criterion;
#[path = "../examples/own_refiner.rs"]
mod own_refiner;
#[path = "../examples/own_solver.rs"]
mod own_solver;
#[path = "../examples/prune_layer.rs"]
mod prune_layer;
#[path = "../examples/score_model.rs"]
mod score_model;

mod gpu;

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Once;
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::adapter::Tier;
use zprune::backend::moments::Needs;
use zprune::error::Result;
use zprune::experiment::inputs::Inputs;
use zprune::experiment::plan::Experiment;
use zprune::experiment::resolve;
use zprune::progress::Silent;
use zprune::prune::compensation::{COMPENSATIONS, Compensation};
use zprune::prune::component::Name;
use zprune::prune::criterion::CRITERIA;
use zprune::prune::pattern::Pattern;
use zprune::prune::permutation::{PERMUTATIONS, Permutation};
use zprune::prune::values::Values;
use zprune::prune::workbench::LayerView;
use zprune::record::{self, Record};
use zprune::run::{self, Options};

#[test]
fn sparsegpt_keeps_more_of_a_layers_output_than_wanda() {
    let [wanda, sparsegpt] = prune_layer::run().expect("prunes");
    assert!(
        0.0 < sparsegpt && sparsegpt < wanda && wanda < 1.0,
        "{sparsegpt} {wanda}"
    );
}

#[test]
fn a_sweep_has_a_row_for_a_criterion_that_the_program_added() {
    let results = tempfile::tempdir().expect("room");
    let table = own_criterion::run(results.path()).expect("runs");
    assert!(table.contains("gentle-wanda"), "{table}");
    assert!(CRITERIA.entries().iter().any(|entry| entry.name == "gentle-wanda"));
    let (records, _) = records(&results.path().join("own_criterion"));
    let written = serde_json::to_value(&records).expect("records are JSON");
    let cells = written.as_array().expect("a list");
    let own = cells
        .iter()
        .find(|cell| cell["cell"]["pruning"]["criterion"]["name"] == "gentle-wanda");
    let criterion = &own.expect("a cell of its own")["cell"]["pruning"]["criterion"];
    assert_eq!(criterion["version"], 1);
    assert_eq!(
        criterion["parameters"]["formula"],
        "abs(w) * power(input_squares, 0.25)"
    );
}

#[test]
fn descent_lowers_the_error_on_every_workbench() {
    let errors: Vec<f64> = [0, 5, 100]
        .map(|steps| own_solver::run(&Cpu, steps).expect("computes"))
        .to_vec();
    assert!(errors[2] < errors[1] && errors[1] < errors[0], "{errors:?}");
    let Some(best) = gpu::best_tier() else { return };
    for tier in [Tier::Base, Tier::Subgroups, Tier::F16, Tier::Cooperative] {
        if tier <= best {
            let found = own_solver::run(&gpu::open(tier, Compute::F32), 5).expect("computes");
            assert!(
                (found / errors[1] - 1.0).abs() < 1e-4,
                "{tier}: {found}, cpu {}",
                errors[1]
            );
        }
    }
}

#[test]
fn a_swap_lowers_the_error_and_keeps_the_pattern() {
    for pattern in [
        Pattern::Unstructured { sparsity: 0.5 },
        Pattern::NofM { keep: 2, of: 4 },
    ] {
        let [wanda, refined] = own_refiner::run(pattern).expect("prunes");
        assert!(refined < wanda, "{pattern}: {refined} {wanda}");
    }
}

#[test]
fn an_allocator_shares_out_by_what_it_measured_of_the_dense_model() {
    let layers = own_allocator::run().expect("prunes");
    let sparsities: Vec<f64> = layers.iter().map(sparsity).collect();
    let spread = |values: &[f64]| {
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        most - values.iter().copied().fold(f64::MAX, f64::min)
    };
    // Shares are rounded to whole weights of rows of 256 and more.
    assert!((spread(&sparsities) - 0.16).abs() <= 2.0 / 256.0, "{sparsities:?}");
    let removed: usize = layers.iter().map(|layer| layer.removed).sum();
    let weights: usize = layers.iter().map(|layer| layer.shape[0] * layer.shape[1]).sum();
    let whole = removed as f64 / weights as f64;
    assert!((whole - 0.5).abs() * weights as f64 <= 64.0, "{whole}");
}

fn sparsity(layer: &zprune::prune::layer::LayerRecord) -> f64 {
    match layer.pattern {
        Some(Pattern::Unstructured { sparsity }) => sparsity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_is_scored() {
    let (model, text) = (Path::new("models/tiny-llama"), Path::new("corpora/persuasion.txt"));
    let perplexity = score_model::run(model, text, 4).expect("scores");
    assert!((1.0..1000.0).contains(&perplexity), "{perplexity}");
}

/// A permutation that reverses the columns.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reversed {}

impl Permutation for Reversed {
    fn order(&self, layer: &dyn LayerView, _score: &Values, _keep: usize, _of: usize) -> Result<Vec<usize>> {
        Ok((0..layer.dim().1).rev().collect())
    }
}

/// A compensation that changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Idle {}

impl Compensation for Idle {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn wanted(&self, layer: &dyn LayerView) -> Result<Vec<f64>> {
        Ok(vec![0.0; layer.dim().0])
    }

    fn given(&self, layer: &dyn LayerView) -> Result<Vec<f64>> {
        self.wanted(layer)
    }
}

const IDLE: Name = Name {
    name: "idle",
    version: 7,
    summary: "changes nothing",
};

/// Adds everything that is added by name here, once.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        own_solver::register().expect("a new name");
        own_refiner::register().expect("a new name");
        own_allocator::register().expect("a new name");
        let name = Name {
            name: "reversed",
            ..IDLE
        };
        PERMUTATIONS
            .register(name, |it: Reversed| Box::new(it))
            .expect("a new name");
        COMPENSATIONS
            .register(IDLE, |it: Idle| Box::new(it))
            .expect("a new name");
    });
}

/// The tests' sweep, with these lines in its method.
fn experiment(method: &str) -> Result<Experiment> {
    experiment_of("{ sparsity = 0.5 }", method)
}

fn experiment_of(pattern: &str, method: &str) -> Result<Experiment> {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("own.toml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (model, corpora) = (root.join("models/tiny-llama"), root.join("corpora"));
    let [calibration, persuasion] = ["austen_calibration.txt", "persuasion.txt"].map(|name| corpora.join(name));
    let text = format!(
        r#"
name = "own"
description = ""
[[model]]
path = {model:?}
[calibration]
corpus = {calibration:?}
sampling = "packed"
sequences = 4
length = 64
[sweep]
seeds = [0]
patterns = [{pattern}]
[[method]]
name = "own"
{method}
[[evaluation]]
name = "persuasion"
corpus = {persuasion:?}
length = 64
windows = 2
"#
    );
    std::fs::write(&path, text).expect("room");
    resolve::read(&path)
}

fn records(folder: &Path) -> (Vec<Record>, String) {
    let text = std::fs::read_to_string(folder.join("runs.jsonl")).expect("records");
    (record::read(folder).expect("good records"), text)
}

#[test]
fn every_kind_of_step_that_a_program_adds_works_by_name_in_a_sweep() {
    register();
    let method = r#"
criterion = "magnitude"
solver = { name = "descent", steps = 3 }
refine = "one-swap"
compensate = "idle"
allocator = { name = "outliers", spread = 0.05 }
"#;
    let experiment = experiment(method).expect("all names are known");
    let results = tempfile::tempdir().expect("room");
    let inputs = Inputs::inspect(&experiment).expect("the files are there");
    let outcome = run::run(&experiment, &inputs, results.path(), &Options::default(), &Silent).expect("runs");
    outcome.check(results.path()).expect("no cell failed");
    let (records, text) = records(results.path());
    assert_eq!(records.len(), 2, "the dense model and the method");
    for part in [
        r#""solver":{"name":"descent","version":1,"parameters":{"steps":3}}"#,
        r#""refine":{"name":"one-swap","version":1,"parameters":{}}"#,
        r#""compensate":{"name":"idle","version":7,"parameters":{}}"#,
        r#""allocator":{"name":"outliers","version":1,"parameters":{"above":5.0,"spread":0.05}}"#,
        r#""criterion":{"name":"magnitude","parameters":{}}"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // Done is done, also for components that the program added.
    let again = run::run(&experiment, &inputs, results.path(), &Options::default(), &Silent).expect("runs");
    assert_eq!((again.ran, again.skipped), (0, 2));
}

#[test]
fn a_permutation_that_a_program_adds_is_in_the_record_and_decides_the_groups() {
    register();
    let results = tempfile::tempdir().expect("room");
    let method = "criterion = \"wanda\"\npermutation = \"reversed\"";
    let experiment = experiment_of("{ keep = 1, of = 4 }", method).expect("all names are known");
    let inputs = Inputs::inspect(&experiment).expect("the files are there");
    let outcome = run::run(&experiment, &inputs, results.path(), &Options::default(), &Silent).expect("runs");
    outcome.check(results.path()).expect("no cell failed");
    let (records, text) = records(results.path());
    assert!(text.contains(r#""permutation":{"name":"reversed","version":7,"parameters":{}}"#));
    for layer in &records[1].layers {
        let order = layer.permutation.as_ref().expect("the columns were reordered");
        assert!(order.iter().copied().eq((0..layer.shape[1]).rev()), "{}", layer.tensor);
    }
}

#[test]
fn unknown_names_and_parameters_are_refused_with_what_was_added() {
    register();
    let message = |method: &str| experiment(method).expect_err("refused").to_string();
    let unknown = message("criterion = \"wanda\"\nsolver = \"decent\"");
    assert!(unknown.contains("did you mean `descent`?"), "{unknown}");
    let unknown = message("criterion = \"wanda\"\nrefine = \"swaps\"");
    assert!(unknown.contains("`one-swap`)"), "{unknown}");
    let outside = message("criterion = \"wanda\"\nallocator = { name = \"outliers\", spread = 2.0 }");
    assert!(
        outside.contains("allocator `outliers`: `above` is positive"),
        "{outside}"
    );
    let unknown = message("criterion = \"wanda\"\nsolver = { name = \"descent\", stepps = 2 }");
    assert!(unknown.contains("did you mean `steps`?"), "{unknown}");
}
