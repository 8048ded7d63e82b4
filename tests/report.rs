//! Claims about reports: they are made of records alone, and the committed ones are what the records say.

use std::path::Path;
use zprune::report::{Results, plots, tables};

#[test]
fn committed_tables_and_plots_equal_what_the_committed_records_give() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/quickstart");
    let results = Results::read(&folder).expect("results/quickstart is in the repository");
    let committed = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a committed file");
    assert_eq!(tables::markdown(&results), committed("tables/perplexity.md"));
    assert_eq!(
        tables::csv(&results).expect("a table"),
        committed("tables/perplexity.csv")
    );
    let plot = plots::perplexity(&results.sections[0], results.plan.experiment.confidence).expect("drawable");
    assert_eq!(plot, Some(committed("plots/perplexity-tiny-llama-persuasion.svg")));
}

#[test]
fn the_readme_shows_the_committed_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a committed file");
    let readme = read("README.md");
    let table = read("results/quickstart/tables/perplexity.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 5, "the table has only {} rows", rows.len());
    for row in rows {
        assert!(readme.contains(row), "README.md lacks the row {row}");
    }
}

#[test]
fn a_method_without_calibration_has_one_run_and_no_interval() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/quickstart");
    let results = Results::read(&folder).expect("results/quickstart is in the repository");
    for entry in &results.sections[0].entries {
        let summary = entry.summary.as_ref().expect("every cell is done");
        let seeded = entry.method != "magnitude";
        assert_eq!(entry.values.len(), if seeded { 3 } else { 1 }, "{}", entry.method);
        assert_eq!(summary.interval.is_some(), seeded, "{}", entry.method);
    }
}
