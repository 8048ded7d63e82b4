//! Claim: commands that read folders leave them as they are, and say what they leave out.

use super::{Folder, refused, run, says, tree, works};
use std::path::Path;
use zprune::record::Part;

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
    assert!(text.contains("{sed} stands for nothing"), "{text}");
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
