//! Made-up experiments and their records.

use std::path::Path;
use zprune::experiment::plan::DENSE;
use zprune::experiment::plan_file::{PlanFile, PlannedCell};
use zprune::experiment::resolve;
use zprune::experiment::source::Source;
use zprune::record::{EvaluationRecord, Record, TaskRecord};

/// An experiment on two models with two methods, three seeds, one pattern and whatever else is said.
pub fn plan_of(more: &str) -> PlanFile {
    plan_seeded("[0, 1, 2, 3, 4]", more)
}

/// The same with other seeds.
pub fn plan_seeded(seeds: &str, more: &str) -> PlanFile {
    let text = format!(
        "name = \"made\"\n\
         [[model]]\nname = \"a\"\npath = \"a\"\n[[model]]\nname = \"b\"\npath = \"b\"\n\
         [calibration]\ncorpus = \"c\"\nsampling = \"packed\"\nsequences = 4\nlength = 64\n\
         [sweep]\nseeds = {seeds}\npatterns = [{{ sparsity = 0.5 }}]\n\
         [[method]]\ncriterion = \"magnitude\"\n[[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"ria\"\n\
         [[evaluation]]\nname = \"text\"\ncorpus = \"t\"\nlength = 64\n[[task]]\nname = \"wnli\"\ndata = \"wnli.jsonl\"\n{more}"
    );
    planned(&text)
}

/// The plan of an experiment file; the ids of its cells are their places.
pub fn planned(text: &str) -> PlanFile {
    let source = Source {
        path: "made.toml".into(),
        text: text.to_string(),
    };
    let experiment = resolve::parse(&source).unwrap_or_else(|error| panic!("{error}"));
    let cells = experiment.cells();
    let cell = cells.iter().enumerate().map(|(index, cell)| PlannedCell {
        id: format!("{index:016x}"),
        model: experiment.models[cell.model].name.clone(),
        method: cell
            .pruning
            .map_or(DENSE.to_string(), |it| experiment.methods[it.method].name.clone()),
        seed: cell.pruning.and_then(|it| it.seed),
        pattern: cell.pruning.map(|it| it.pattern),
    });
    PlanFile {
        zprune: "test".to_string(),
        cell: cell.collect(),
        experiment,
    }
}

/// A made-up but fixed number between -0.5 and 0.5.
fn noise(parts: &[u64]) -> f64 {
    let mut state = 88_172_645_463_325_252u64;
    for part in parts {
        state = (state ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        state ^= state >> 32;
    }
    (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

/// Records in which RIA is better than Wanda by `lead` nats per window and by `documents` of WNLI's size.
pub fn records_of(plan: &PlanFile, lead: f64, documents: usize) -> Vec<Record> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let like = zprune::record::read(&folder).expect("records").remove(0);
    plan.cell
        .iter()
        .map(|cell| {
            let (place, seed) = (u64::from(cell.model == "b"), cell.seed.unwrap_or(9));
            let base = match cell.method.as_str() {
                "ria" => 2.0 - lead,
                "wanda" => 2.0,
                "magnitude" => 2.5,
                _ => 1.5,
            };
            let windows: Vec<f64> = (0..60)
                .map(|it| {
                    let own = base.to_bits();
                    base + noise(&[place, it]) + 0.01 * noise(&[own, place, it, seed]) + 0.002 * noise(&[own, seed])
                })
                .collect();
            let right = if cell.method == "ria" { 30 + documents } else { 30 };
            let correct: String = (0..71).map(|it| if it < right { '1' } else { '0' }).collect();
            Record {
                id: cell.id.clone(),
                evaluations: vec![EvaluationRecord {
                    to_dense: None,
                    name: "text".to_string(),
                    perplexity: (windows.iter().sum::<f64>() / 60.0).exp(),
                    tokens: 60 * 64,
                    token_digest: "same".to_string(),
                    windows,
                }],
                tasks: vec![TaskRecord {
                    name: "wnli".to_string(),
                    version: 1,
                    data_digest: "same".to_string(),
                    documents: 71,
                    metrics: Default::default(),
                    correct,
                    correct_norm: None,
                    sources: None,
                }],
                ..like.clone()
            }
        })
        .collect()
}

/// A family of comparisons with RIA.
pub const DECLARED: &str =
    "[[comparison]]\nfamily = \"ria first\"\nours = \"ria\"\nagainst = [\"wanda\", \"magnitude\"]\n";
