//! Reports of an experiment whose file was edited since its last run, and results that lie in another folder.

use super::{refused, run, says, works};
use crate::tiny::Folder;

fn text(folder: &Folder, file: &str) -> String {
    std::fs::read_to_string(folder.path(file)).expect("written")
}

/// The tables and plots of the folder's report.
fn drawn(folder: &Folder) -> Vec<String> {
    let files = folder.results().into_keys();
    let files = files.map(|file| file.to_string_lossy().replace('\\', "/"));
    files
        .filter(|file| file.contains("/tables/") || file.contains("/plots/"))
        .collect()
}

#[test]
fn edits_of_an_experiment_take_effect_in_its_report_without_a_run() {
    let folder = Folder::new();
    works(&folder.run());
    let before = folder.results();
    let told = works(&run(&folder, "report experiment.toml"));
    assert!(!told.contains("edited"), "{told}");
    assert!(folder.results() == before, "nothing was edited, so nothing is written");

    // Comparisons and confidence.
    let whole = text(&folder, "experiment.toml");
    let added = "\n[report]\nconfidence = 0.9\n[[comparison]]\nfamily = \"the question\"\nours = \"sparsegpt\"\nagainst = [\"wanda\"]\n";
    folder.write("experiment.toml", format!("{whole}{added}"));
    let told = works(&run(&folder, "report experiment.toml --table comparisons"));
    assert!(told.contains("Family: the question") && told.contains("90 %"), "{told}");
    assert!(!told.contains("note:"), "{told}");
    assert!(folder.results() == before, "tables were printed");
    works(&run(&folder, "report experiment.toml"));
    let page = text(&folder, "results/tiny/report.html");
    assert!(page.contains("the question"));
    // The folder has the same report.
    let edited = folder.results();
    works(&run(&folder, "report results/tiny"));
    assert!(folder.results() == edited);

    // Another pattern, and one that is gone.
    folder.write(
        "experiment.toml",
        whole.replace("{ sparsity = 0.5 }", "{ sparsity = 0.3 }"),
    );
    let output = run(&folder, "report experiment.toml");
    let told = works(&output);
    for part in [
        "have no result with the settings that the file has now; `zprune run experiment.toml` computes them",
        "of the last run are not in experiment.toml any more",
        "So far,",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("50 %"), "{told}");
    assert!(text(&folder, "results/tiny/plan.toml").contains("sparsity = 0.5"));
    let told = works(&run(&folder, "report results/tiny"));
    assert!(told.contains("50 %") && told.contains("the question"), "{told}");
    let told = works(&folder.run());
    assert!(
        told.contains(" of other settings, which tables and plots will leave out"),
        "{told}"
    );
    assert_eq!(told.matches("of other settings").count(), 1, "{told}");

    // Other texts: nothing of the file has a result.
    folder.write("experiment.toml", whole.replace("windows = 4", "windows = 3"));
    let told = works(&run(&folder, "report experiment.toml"));
    let part = "was edited since its last run ([[evaluation]]), and none of its cells has a result";
    assert!(told.contains(part) && told.contains("30 %"), "{told}");
}

#[test]
fn tables_and_plots_of_what_an_experiment_does_not_have_any_more_are_removed() {
    let folder = Folder::new();
    works(&folder.run());
    folder.write("results/tiny/plots/mine.svg", "mine");
    let before = drawn(&folder);
    let whole = text(&folder, "experiment.toml");
    folder.write("experiment.toml", whole.replace("name = \"novel\"", "name = \"other\""));
    works(&run(&folder, "report experiment.toml"));
    let after = drawn(&folder);
    assert!(before.iter().any(|file| file.contains("-novel")) && after.iter().any(|file| file.contains("-other")));
    assert!(!after.iter().any(|file| file.contains("-novel")), "{after:?}");
    assert_eq!(after.len(), before.len());
    assert!(after.contains(&"results/tiny/plots/mine.svg".to_string()), "{after:?}");
}

#[test]
fn results_that_lie_elsewhere_are_named_and_a_results_folder_may_be_named_itself() {
    let folder = Folder::new();
    works(&folder.run());
    std::fs::create_dir(folder.path("elsewhere")).expect("writable");
    let there = |words: &[&str]| {
        let mut command = folder.zprune(words);
        command.current_dir(folder.path("elsewhere"));
        command.output().expect("the program starts")
    };
    let told = works(&there(&["plan", "../experiment.toml"]));
    assert!(
        told.contains("note: ../results/tiny has results of an experiment with this name"),
        "{told}"
    );
    assert!(told.contains("add --results ../results to go on"), "{told}");
    let output = there(&["report", "../experiment.toml"]);
    let told = says(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("../results/tiny has some: add --results ../results"),
        "{told}"
    );
    for results in ["../results", "../results/tiny"] {
        let told = works(&there(&["plan", "../experiment.toml", "--results", results]));
        assert!(
            told.contains(" 0 to do; results in ../results/tiny\n"),
            "{results}: {told}"
        );
        let told = works(&there(&["run", "../experiment.toml", "--results", results]));
        assert!(told.contains("nothing was run"), "{results}: {told}");
        let told = works(&there(&["report", "../experiment.toml", "--results", results]));
        assert!(!told.contains("note:"), "{told}");
    }
    assert!(!folder.path("elsewhere/results").exists());
    refused(&folder, "report elsewhere", 2, &["has no runs.jsonl"]);
}

#[test]
fn what_a_run_computed_before_the_experiment_was_changed_was_there_before() {
    let folder = Folder::new();
    works(&folder.run());
    refused(
        &folder,
        "report results/tiny --since",
        2,
        &["its experiment still has every cell that was computed"],
    );
    // The records of 2:4 stand behind those of 50 %: in the order of the records alone, the last of them would be new.
    let whole = text(&folder, "experiment.toml");
    let fewer = whole.replace("{ sparsity = 0.5 }, ", "");
    assert_ne!(fewer, whole);
    let other = "\n[[method]]\ncriterion = \"magnitude\"\n";
    folder.write("experiment.toml", format!("{fewer}{other}"));
    works(&folder.run());
    let told = works(&run(&folder, "report results/tiny --since"));
    let (_, new) = told
        .split_once("Cells that were not there before")
        .expect("magnitude is new");
    assert!(
        new.contains("magnitude") && !new.contains("wanda") && !new.contains("sparsegpt"),
        "{told}"
    );
    assert!(
        told.contains("No number changed in the 5 cells that are in both; ")
            && told.contains("The numbers of 5 cells in both are the same"),
        "{told}"
    );
    let told = works(&run(&folder, "report results/tiny --since --format markdown"));
    assert!(!told.contains("| largest |"), "a table without rows: {told}");
    // Without the log, nobody knows when a cell was computed.
    std::fs::remove_file(folder.path("results/tiny/events.jsonl")).expect("it is there");
    let told = works(&run(&folder, "report results/tiny --since"));
    assert!(
        told.contains("events.jsonl does not tell when they were computed"),
        "{told}"
    );
}
