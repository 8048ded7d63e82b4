//! Claim: commands that read folders leave them as they are, and say what they leave out.

use super::{Folder, refused, run, says, tree, works};
use std::path::Path;
use zprune::record::{Part, Record};

#[test]
fn a_report_is_not_written_over_one_it_is_made_of() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    works(&run(&folder, "run experiment.toml --results others"));
    let words = "report results/tiny others/tiny --out";
    for out in ["results/tiny", "others/../others/tiny"] {
        refused(
            &folder,
            &format!("{words} {out}"),
            2,
            &["whose own report would be replaced"],
        );
    }
    works(&run(&folder, &format!("{words} both")));
    assert!(folder.path("both/report.html").exists());
    // What would do nothing, or has nothing to compare with.
    let says = ["--by is for a report of several experiments"];
    refused(&folder, "report results/tiny --by experiment", 2, &says);
    folder.write("others/tiny/runs.jsonl", "");
    let says = ["what `--since` names has no results yet"];
    refused(&folder, "report results/tiny --since others/tiny", 2, &says);
}

#[test]
fn a_merge_says_that_it_left_out_an_unfinished_line() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    let records = std::fs::read(folder.path("results/tiny/runs.jsonl")).expect("records");
    folder.write("results/tiny/runs.jsonl", &records[..records.len() - 50]);
    let told = works(&run(&folder, "merge results/tiny --into merged"));
    assert!(
        told.contains("results/tiny: the last line of runs.jsonl is unfinished"),
        "{told}"
    );
    assert!(told.contains("1 cell has no result yet"), "{told}");
    let told = works(&run(&folder, "merge merged --into again"));
    assert!(!told.contains("unfinished"), "{told}");
}

/// Claim: of cells that two machines computed, those with the same numbers but for their last digits are one record; where numbers differ,
/// the record that was there first stays and the program names the cell; what only one of them has is added.
#[test]
fn folders_of_different_machines_are_merged() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    let here = zprune::record::read(&folder.path("results/tiny")).expect("records");
    let write = |name: &str, records: &[Record]| {
        let lines: Vec<String> = records.iter().map(|record| record.line().expect("a line")).collect();
        std::fs::create_dir_all(folder.path(name)).expect("writable");
        folder.write(format!("{name}/runs.jsonl"), lines.join("\n") + "\n");
        let plan = std::fs::read(folder.path("results/tiny/plan.toml")).expect("a plan");
        folder.write(format!("{name}/plan.toml"), plan);
    };
    let shifted = |record: &Record, by: f64| {
        let mut there = record.clone();
        there.run.machine = "linux x86_64, another processor, 16 cores".to_string();
        for evaluation in &mut there.evaluations {
            evaluation.windows.iter_mut().for_each(|window| *window += by);
            evaluation.perplexity *= by.exp();
        }
        there
    };
    let [first, second, third, others @ ..] = here.as_slice() else {
        panic!("{} records", here.len())
    };
    // The first cell is here alone. The second differs by rounding, the third by more; the others are there alone.
    write("here", &[first.clone(), second.clone(), third.clone()]);
    let there: Vec<Record> = others.iter().map(|record| shifted(record, 0.0)).collect();
    write(
        "there",
        &[vec![shifted(second, 1e-6), shifted(third, 0.01)], there].concat(),
    );
    let output = run(&folder, "merge here there --into both");
    let told = works(&output);
    assert!(
        told.contains(&format!(
            "both: {} records added, 1 were there already; every cell has a result",
            here.len()
        )),
        "{told}"
    );
    let warning = format!("cell {} has other numbers in there; its record was left out", third.id);
    assert!(says(&output).contains(&warning), "{}", says(&output));
    assert_eq!(
        says(&output).matches("has other numbers").count(),
        1,
        "{}",
        says(&output)
    );
    let merged = zprune::record::read(&folder.path("both")).expect("records");
    for record in &here {
        let kept = merged
            .iter()
            .find(|merged| merged.id == record.id)
            .expect("all are there");
        let is_ours = [first, second, third].contains(&record);
        assert_eq!(
            kept.run.machine == record.run.machine,
            is_ours,
            "{}",
            record.label.method
        );
        assert_eq!(kept.evaluations, record.evaluations, "{}", record.label.method);
    }
    // The other way round, the other machine's records were there first.
    let output = run(&folder, "merge there here --into turned");
    assert!(says(&output).contains("has other numbers in here"), "{}", says(&output));
    works(&run(&folder, "report both"));
    // Cells of another backend have other ids: they are another experiment, and a report has both.
    let mut gpu = here.clone();
    for record in &mut gpu {
        record.cell.backend = "gpu".to_string();
        record.id = record.cell.id();
    }
    write("gpu", &gpu);
    let plan = std::fs::read_to_string(folder.path("gpu/plan.toml")).expect("a plan");
    let plan = here
        .iter()
        .zip(&gpu)
        .fold(plan, |plan, (here, gpu)| plan.replace(&here.id, &gpu.id));
    folder.write("gpu/plan.toml", plan);
    refused(
        &folder,
        "merge here gpu --into neither",
        2,
        &[
            "its experiment is another one",
            "puts different experiments into one report",
        ],
    );
    let told = works(&run(&folder, "report results/tiny gpu --out beside"));
    let row = format!("{} (tiny 2)", third.label.method);
    assert!(told.contains(&row), "no `{row}` in {told}");
}

#[test]
fn a_merge_takes_the_record_that_lacks_least() {
    let folder = Folder::new();
    works(&run(&folder, "experiment.toml"));
    works(&run(&folder, "merge results/tiny --into less --without layers"));
    let size = |name: &str| {
        let path = folder.path(name).join("runs.jsonl");
        std::fs::metadata(path).expect("records").len()
    };
    works(&run(&folder, "merge less results/tiny --into both"));
    assert!(size("less") < size("results/tiny"));
    assert_eq!(size("both"), size("results/tiny"));
}

#[test]
fn a_pruned_model_is_turned_only_if_somebody_says_so() {
    let folder = Folder::new();
    works(&run(
        &folder,
        "prune --model model --method magnitude --sparsity 0.5 --out pruned",
    ));
    let mut turn = super::tiny::Tensors::new();
    let identity = (0..32 * 32).map(|place| f32::from(u8::from(place % 33 == 0)));
    turn.insert("residual".into(), super::tiny::Tensor::new(&[32, 32], identity));
    super::tiny::save(&turn, &folder.path("q.safetensors"));
    let words = "rotate pruned --rotation q.safetensors --out out";
    refused(
        &folder,
        words,
        2,
        &["50.0 % of the prunable weights are 0", "--lose-zeros"],
    );
    let told = works(&run(&folder, &format!("{words} --lose-zeros")));
    assert!(told.contains("50.0 % of the prunable weights were 0"), "{told}");
    assert!(!folder.path("out/pruning.json").exists());
    works(&run(&folder, "rotate model --rotation q.safetensors --out turned"));
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let folder = Folder::new();
    let words = "eval --model model --corpus novel.txt --length 16 --windows 2";
    let text = says(&run(&folder, &format!("{words} --chat")));
    assert!(text.contains("--chat belongs to --generate"), "{text}");
    folder.replace(
        "experiment.toml",
        "name = \"wanda\"\ncriterion = \"wanda\"",
        "name = \"mine\"\nscores = \"scores-{sed}.safetensors\"",
    );
    let text = says(&run(&folder, "plan experiment.toml"));
    assert!(text.contains("{sed} has no meaning here"), "{text}");
    let text = says(&run(&folder, "plan experiment.toml --gpus 0 --backend cpu"));
    assert!(text.contains("contradict each other"), "{text}");
}

#[test]
fn records_without_their_layers_and_samples_say_so_and_stand_for_their_cells() {
    let folder = Folder::new();
    folder.write("model/generation_config.json", "{\"eos_token_id\": 2}");
    folder.write("asked.jsonl", "{\"question\": \"abc\", \"answer\": \"def\"}\n");
    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("a fixture");
    let asked = "\n[[generation]]\nname = \"asked\"\nprompts = \"asked.jsonl\"\ntemplate = \"{question}\"\nmax_tokens = 2\nmatch = \"exact\"\n";
    folder.write("experiment.toml", text + asked);
    works(&run(&folder, "run experiment.toml"));
    works(&run(
        &folder,
        "merge results/tiny --into small/tiny --without layers,samples",
    ));
    let records = |name: &str| zprune::record::read(&folder.path(name)).expect("records");
    let (whole, small) = (records("results/tiny"), records("small/tiny"));
    assert_eq!(whole.len(), small.len());
    let dense = |record: &zprune::record::Record| record.label.method == "dense";
    for (one, other) in whole.iter().zip(&small) {
        assert!(one.without.is_empty() && one.layers.is_empty() == dense(one));
        let lacking = match dense(one) {
            true => vec![Part::Samples],
            false => vec![Part::Layers, Part::Samples],
        };
        assert_eq!((&other.without, other.layers.len()), (&lacking, 0));
        assert!(one.id == other.id && one.agrees(other) && one.run == other.run);
    }
    assert!(folder.path("results/tiny/samples").exists() && !folder.path("small/tiny/samples").exists());

    // Every table is the same; the page says which plots are missing.
    let told = works(&run(&folder, "report small/tiny"));
    let lacking = format!(
        "{} of {} cells have records without layers",
        small.len() - 1,
        small.len()
    );
    assert!(told.contains(&lacking), "{told}");
    let page = std::fs::read_to_string(folder.path("small/tiny/report.html")).expect("written");
    assert!(page.contains(&lacking));
    let whole_page = std::fs::read_to_string(folder.path("results/tiny/report.html")).expect("written");
    assert!(!whole_page.contains("records without layers"));
    let (before, after) = (tree(&folder.path("results/tiny")), tree(&folder.path("small/tiny")));
    let drawn = |name: &Path| name.to_string_lossy().starts_with("plots/layers-");
    let mut gone = 0;
    for (name, content) in before
        .iter()
        .filter(|(name, _)| name.starts_with("tables") || name.starts_with("plots"))
    {
        assert_eq!(after.get(name), (!drawn(name)).then_some(content), "{}", name.display());
        gone += usize::from(drawn(name));
    }
    assert!(gone > 0, "the fixture has plots of layers");
    let table = std::fs::read_to_string(folder.path("small/tiny/tables/perplexity.md")).expect("a table");
    assert!(
        table.contains("Few calibration tokens: 64 calibration tokens are 1.0 for each of the 64 inputs"),
        "{table}"
    );

    // A run goes on with what is missing, and a merge does not take one for the other.
    let lines = std::fs::read_to_string(folder.path("small/tiny/runs.jsonl")).expect("records");
    let kept: Vec<&str> = lines.lines().take(small.len() - 1).collect();
    folder.write("small/tiny/runs.jsonl", kept.join("\n") + "\n");
    let told = works(&run(&folder, "run experiment.toml --results small"));
    assert!(
        told.contains(&format!("1 cell run, {} had results already", small.len() - 1)),
        "{told}"
    );
    assert!(!records("small/tiny")[small.len() - 1].layers.is_empty());
    let told = works(&run(&folder, "merge small/tiny --into results/tiny"));
    assert!(
        told.contains(&format!("0 records added, {} were there already", whole.len())),
        "{told}"
    );
    assert_eq!(records("results/tiny"), whole);

    // A record cannot have what it says it is without.
    let mut both = whole.iter().find(|it| !it.layers.is_empty()).expect("pruned").clone();
    both.without = vec![Part::Layers];
    let error = both.line().expect_err("a contradiction").to_string();
    assert!(error.contains("without its layers"), "{error}");
}
