//! Claim: a printed figure stands beside ours only where model, text, windows, pattern and method are the same; of the rest it is said why.

use crate::made::planned;
use std::path::Path;
use zprune::experiment::plan::DENSE;
use zprune::experiment::plan_file::PlanFile;
use zprune::record::{EvaluationRecord, Record};
use zprune::report::papers::chapter;
use zprune::report::results::Results;

/// What OPT-125M would have scored: the perplexities of the dense model and of each method.
fn scored(method: &str) -> f64 {
    match method {
        DENSE => 27.66,
        "magnitude" => 193.0,
        "wanda" => 39.5,
        "wanda by matrix" => 44.0,
        "sparsegpt" => 36.85 * 1.01,
        _ => 50.0,
    }
}

/// An experiment on `models`, measured as `evaluation` says.
fn plan(models: &str, evaluation: &str) -> PlanFile {
    let methods = "[[method]]\nrecipe = \"sparsegpt\"\nname = \"sparsegpt\"\n[[method]]\nname = \"wanda by matrix\"\ncriterion = \"wanda\"\n\
                   group = \"matrix\"\n[[method]]\nname = \"ria with another power\"\ncriterion = { name = \"ria\", activation_power = 1.0 }\n";
    planned(&format!(
        "name = \"made\"\n{models}[calibration]\ncorpus = \"hub:c4\"\nsampling = \"documents\"\nsequences = 128\nlength = 2048\n\
         [sweep]\nseeds = [0, 1]\npatterns = [0.5, \"2:4\"]\n[[method]]\ncriterion = \"magnitude\"\n[[method]]\ncriterion = \"wanda\"\n{methods}\
         [[evaluation]]\nname = \"wikitext2\"\n{evaluation}\n"
    ))
}

/// Records of a plan's cells, whose windows have `length` tokens; `factor` times what they should be.
fn records(plan: &PlanFile, length: usize, factor: f64) -> Vec<Record> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let like = zprune::record::read(&folder).expect("records").remove(0);
    let evaluation = &plan.experiment.evaluations[0];
    let mut identity = like.cell.clone();
    identity.evaluations.truncate(1);
    identity.evaluations[0].length = length;
    identity.evaluations[0].join = evaluation.join;
    identity.evaluations[0].windows = evaluation.windows;
    identity.evaluations[0].rows = evaluation.rows;
    let record = |method: &str, id: &str| {
        let perplexity = scored(method) * factor;
        Record {
            id: id.to_string(),
            cell: identity.clone(),
            evaluations: vec![EvaluationRecord {
                to_dense: None,
                name: "wikitext2".to_string(),
                perplexity,
                tokens: 2 * length,
                token_digest: "same".to_string(),
                windows: vec![perplexity.ln(); 2],
            }],
            tasks: Vec::new(),
            ..like.clone()
        }
    };
    plan.cell.iter().map(|cell| record(&cell.method, &cell.id)).collect()
}

/// The rows of the two tables: what is compared, and what is not.
fn told(plan: PlanFile, records: &[Record]) -> [Vec<Vec<String>>; 2] {
    let made = chapter(&Results::join(plan, records), records).expect("perplexities");
    let mut tables = [Vec::new(), Vec::new()];
    for sheet in made.sheets {
        let compared = usize::from(sheet.title.starts_with("What cannot"));
        tables[compared] = sheet
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.text).collect())
            .collect();
    }
    tables
}

const OPT: &str = "[[model]]\nname = \"small\"\nhub = \"facebook/opt-125m\"\n";
const WIKITEXT: &str = "corpus = \"hub:wikitext2\"\nlength = 2048";

#[test]
fn figures_stand_beside_what_was_measured_in_the_same_way() {
    let plan = plan(OPT, WIKITEXT);
    let records = records(&plan, 2048, 1.0);
    let [compared, not] = told(plan, &records);
    let row = |method: &str, pattern: &str| -> Vec<&Vec<String>> {
        let rows = compared.iter();
        rows.filter(|row| row[2] == method && row[1] == pattern).collect()
    };
    // SparseGPT's table and Sparsity Induction's.
    assert_eq!(row(DENSE, "").len(), 2, "{compared:?}");
    let magnitude = row("magnitude", "50 %");
    assert_eq!(magnitude.len(), 2, "{compared:?}");
    assert_eq!(magnitude[0][3..7], ["193.0", "1", "193", "1.000"], "{magnitude:?}");
    let sparsegpt = row("sparsegpt", "50 %");
    assert_eq!(
        sparsegpt[0][3..8],
        ["37.22", "2", "36.85", "1.010", "as printed"],
        "{sparsegpt:?}"
    );
    // Groups decide what Wanda is; under an N:M pattern they do not.
    assert_eq!(row("wanda", "50 %").len(), 1, "{compared:?}");
    assert_eq!(row("wanda by matrix", "50 %").len(), 0, "{compared:?}");
    assert_eq!(row("wanda by matrix", "2:4").len(), 1, "{compared:?}");
    assert!(row("ria with another power", "50 %").is_empty(), "{compared:?}");
    let why = |what: &str| {
        not.iter()
            .find(|row| row[2].starts_with(what))
            .map(|row| row[3].as_str())
    };
    for what in ["wanda by matrix 50 %", "ria with another power 50 %, 2:4"] {
        assert!(
            why(what).is_some_and(|why| why.contains("has this method")),
            "{what}: {not:?}"
        );
    }
    assert_eq!(not.len(), 2, "{not:?}");
}

#[test]
fn what_is_unlike_is_not_compared_and_it_is_said_why() {
    let llama = OPT.replace("facebook/opt-125m", "meta-llama/Llama-2-7b-hf");
    for (models, evaluation, length, factor, says) in [
        (
            &OPT.replace("opt-125m", "opt-2"),
            WIKITEXT,
            2048,
            1.0,
            "no table has a model of this name",
        ),
        (
            &OPT.to_string(),
            WIKITEXT,
            1024,
            1.0,
            "windows have 1024 tokens, and those of the tables 2048",
        ),
        (&llama, WIKITEXT, 512, 1.0, "those of the tables 2048 or 4096"),
        (
            &OPT.to_string(),
            WIKITEXT,
            2048,
            1.02,
            "the dense model has 28.21 here and 27.66 in SparseGPT",
        ),
        (
            &OPT.to_string(),
            "corpus = \"hub:ptb\"\nlength = 2048",
            2048,
            1.0,
            "its text is hub:ptb:test",
        ),
        (
            &OPT.to_string(),
            "corpus = \"a.txt\"\nlength = 2048",
            2048,
            1.0,
            "its text is a.txt",
        ),
        (
            &OPT.to_string(),
            "corpus = \"hub:wikitext2\"\njoin = \"lines\"\nlength = 2048",
            2048,
            1.0,
            "`join = \"wikitext\"`",
        ),
        (
            &OPT.to_string(),
            "corpus = \"hub:wikitext2\"\nwindows = 2\nlength = 2048",
            2048,
            1.0,
            "a part of the text",
        ),
    ] {
        let plan = plan(models, evaluation);
        let records = records(&plan, length, factor);
        let [compared, not] = told(plan, &records);
        assert!(compared.is_empty(), "{says}: {compared:?}");
        assert!(not.len() == 1 && not[0][3].contains(says), "no `{says}` in {not:?}");
    }
    let plan = plan(OPT, WIKITEXT);
    let [compared, not] = told(plan, &[]);
    assert!(compared.is_empty() && not[0][3].contains("no result yet"), "{not:?}");
}

#[test]
fn the_kept_examples_have_no_model_of_the_tables() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["docs/quickstart", "results/study/arithmetic_f16"] {
        let folder = root.join(folder);
        let records = zprune::record::read(&folder).expect("records");
        let plan = PlanFile::read(&folder).expect("a plan");
        let [compared, not] = told(plan, &records);
        assert!(compared.is_empty(), "{compared:?}");
        assert!(not[0][3].contains("no table has a model of this name"), "{not:?}");
    }
}
