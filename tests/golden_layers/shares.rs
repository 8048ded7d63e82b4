//! What sweeps make of shares: one survey for all cells that ask the same, exact sums in the records, replays, trials.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use zprune::backend::moments::Needs;
use zprune::error::Result;
use zprune::experiment::inputs::Inputs;
use zprune::experiment::plan::Experiment;
use zprune::experiment::resolve;
use zprune::progress::Silent;
use zprune::prune::allocator::{ALLOCATORS, Allocator, PlacedLinear, Question, Survey, Trial};
use zprune::prune::component::Name;
use zprune::prune::pattern::Pattern;
use zprune::prune::shares::falling;
use zprune::prune::workbench::Workpiece;
use zprune::record::{self, Record};
use zprune::run::{self, Options};

/// Blocks of the embedded model.
const BLOCKS: usize = 5;

static MEASURED: AtomicUsize = AtomicUsize::new(0);

/// An allocator that counts the blocks it looks at.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Counting {
    inputs: bool,
    spread: f64,
}

impl Default for Counting {
    fn default() -> Self {
        Counting {
            inputs: true,
            spread: 0.1,
        }
    }
}

impl Allocator for Counting {
    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: "places of blocks".to_string(),
            needs: if self.inputs { Needs::SQUARES } else { Needs::NOTHING },
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        assert!(!self.inputs || block[0].squared_norms().is_ok());
        let place = MEASURED.fetch_add(1, Ordering::SeqCst) % BLOCKS;
        Ok(vec![place as f64; block.len()])
    }

    fn allocate(&self, layers: &[PlacedLinear], _: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        Ok(falling(&survey.by_block(layers)?, self.spread))
    }
}

fn experiment(methods: &str, patterns: &str, seeds: &str) -> Result<Experiment> {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("shares.toml");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (model, corpora) = (root.join("models/tiny-llama"), root.join("corpora"));
    let [calibration, persuasion] = ["austen_calibration.txt", "persuasion.txt"].map(|name| corpora.join(name));
    let text = format!(
        "name = \"shares\"\n[[model]]\npath = {model:?}\n[calibration]\ncorpus = {calibration:?}\n\
         sampling = \"packed\"\nsequences = 4\nlength = 64\n[sweep]\nseeds = {seeds}\npatterns = {patterns}\n{methods}\n\
         [[evaluation]]\nname = \"persuasion\"\ncorpus = {persuasion:?}\nlength = 64\nwindows = 2\n"
    );
    std::fs::write(&path, text).expect("room");
    resolve::read(&path)
}

/// The records of a sweep's pruned cells, in the order of the cells.
fn swept(experiment: &Experiment, results: &Path) -> Vec<Record> {
    let inputs = Inputs::inspect(experiment).expect("the files are there");
    let outcome = run::run(experiment, &inputs, results, &Options::default(), &Silent).expect("runs");
    outcome.check(results).expect("no cell failed");
    let records = record::read(results).expect("good records");
    records.into_iter().filter(|record| !record.layers.is_empty()).collect()
}

fn shares(record: &Record) -> Vec<f64> {
    let patterns = record.layers.iter().map(|layer| layer.pattern.expect("recorded"));
    patterns.map(|pattern| pattern.sparsity()).collect()
}

#[test]
fn one_survey_serves_all_patterns_and_methods_of_the_same_text() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let name = Name {
            name: "counting",
            version: 1,
            summary: "",
        };
        ALLOCATORS
            .register(name, |it: Counting| Box::new(it))
            .expect("a new name");
    });
    let methods = r#"
[[method]]
name = "a"
criterion = "wanda"
allocator = "counting"
[[method]]
name = "b"
criterion = "magnitude"
allocator = { name = "counting", spread = 0.05 }
[[method]]
name = "c"
criterion = "magnitude"
allocator = { name = "counting", inputs = false }
"#;
    let experiment = experiment(methods, "[{ sparsity = 0.5 }, { keep = 4, of = 8 }]", "[0, 1]").expect("resolves");
    let results = tempfile::tempdir().expect("room");
    let records = swept(&experiment, results.path());
    // Two methods that look at activations, for two seeds; one that looks at weights only and has no seeds.
    assert_eq!(records.len(), 2 * 2 * 2 + 2);
    assert_eq!(MEASURED.load(Ordering::SeqCst), 2 * BLOCKS + BLOCKS);
    for record in &records {
        let all: usize = record.layers.iter().map(|layer| layer.shape[0] * layer.shape[1]).sum();
        let removed: usize = record.layers.iter().map(|layer| layer.removed).sum();
        let error = removed as f64 - 0.5 * all as f64;
        assert!(error.abs() <= 64.0, "{:?}: {error} weights too many", record.label);
        let shares = shares(record);
        // Eighths are too coarse for the smaller spread.
        let coarse = record.label.method == "b" && matches!(record.layers[0].pattern, Some(Pattern::NofM { .. }));
        assert!(coarse || shares[0] > shares[shares.len() - 1], "{shares:?}");
    }
}

#[test]
fn a_record_and_a_pruned_model_replay_with_another_criterion() {
    let owl = "[[method]]\ncriterion = \"wanda\"\nallocator = { name = \"owl\", m = 3.0 }\n";
    let first = tempfile::tempdir().expect("room");
    let patterns = "[{ sparsity = 0.7 }, { keep = 3, of = 8 }]";
    let records = swept(&experiment(owl, patterns, "[0]").expect("resolves"), first.path());
    for (record, pattern) in records.iter().zip(["[{ sparsity = 0.7 }]", "[{ keep = 3, of = 8 }]"]) {
        let method = format!(
            "[[method]]\ncriterion = \"ria\"\ngroup = \"row\"\nallocator = {{ name = \"file\", path = {:?}, cell = \"{}\" }}\n",
            first.path().join("runs.jsonl"),
            record.id
        );
        let replayed = experiment(&method, pattern, "[0]").expect("resolves");
        // The shares are part of what decides the cell, and the file is needed no more.
        let plan = serde_json::to_value(&replayed.methods[0].recipe().expect("a recipe").allocator).expect("JSON");
        assert_eq!(
            plan["parameters"]["shares"].as_object().map(|shares| shares.len()),
            Some(35)
        );
        let second = tempfile::tempdir().expect("room");
        let again = &swept(&replayed, second.path())[0];
        assert_eq!(again.layers.len(), record.layers.len());
        for (again, before) in again.layers.iter().zip(&record.layers) {
            assert_eq!((&again.tensor, again.removed), (&before.tensor, before.removed));
        }
    }
    let method =
        |path: &str| format!("[[method]]\ncriterion = \"ria\"\nallocator = {{ name = \"file\", path = {path:?} }}\n");
    let refused = |path: &Path| {
        let error = experiment(&method(path.to_str().expect("plain")), patterns, "[0]").expect_err("refused");
        error.to_string()
    };
    assert!(refused(&first.path().join("runs.jsonl")).contains("name one: cell = "));
    assert!(refused(&first.path().join("nowhere.jsonl")).contains("no such file"));
}

#[test]
fn a_table_decides_what_it_names_and_the_others_make_up_for_it() {
    let method = "[[method]]\ncriterion = \"wanda\"\nallocator = { name = \"table\", shares = { \"mlp.*\" = 0.6, \"0\" = 0.25 } }\n";
    let results = tempfile::tempdir().expect("room");
    let records = swept(
        &experiment(method, "[{ sparsity = 0.5 }]", "[0]").expect("resolves"),
        results.path(),
    );
    for layer in &records[0].layers {
        let Some(Pattern::Unstructured { sparsity }) = layer.pattern else {
            panic!("{layer:?}")
        };
        let want = match (layer.tensor.contains("layers.0."), layer.tensor.contains("mlp")) {
            (true, _) => 0.25,
            (false, true) => 0.6,
            // 5 blocks lose 2.5; the first 0.25, the MLPs of four 0.6 of three quarters each.
            (false, false) => 2.5 - 0.25 - 4.0 * 0.6 * 0.75,
        };
        assert!(
            (sparsity - want).abs() <= 1.0 / 256.0,
            "{}: {sparsity}, not {want}",
            layer.tensor
        );
    }
}

#[test]
fn trials_choose_on_held_out_windows_and_not_on_statistics_of_all() {
    let method = "[[method]]\ncriterion = \"wanda\"\nallocator = { name = \"atp\", trials = 2 }\n";
    let results = tempfile::tempdir().expect("room");
    let records = swept(
        &experiment(method, "[{ sparsity = 0.6 }]", "[0]").expect("resolves"),
        results.path(),
    );
    let shares = shares(&records[0]);
    let (first, last) = (shares[0], shares[shares.len() - 1]);
    // Two steps are possible: half of the largest, and the largest.
    let beta = (last - first) / (BLOCKS - 1) as f64;
    let most = 2.0 * 0.4 / (BLOCKS - 1) as f64;
    assert!(
        [0.5 * most, most]
            .iter()
            .any(|candidate| (beta - candidate).abs() < 0.01),
        "beta is {beta}, at most {most}"
    );

    let dense = method.replace("criterion", "stage = \"dense\"\ncriterion");
    let refused = experiment(&dense, "[{ sparsity = 0.6 }]", "[0]").expect_err("refused");
    let refused = refused.to_string();
    assert!(refused.contains("holds out"), "{refused}");
}
