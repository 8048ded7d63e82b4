//! The committed example: its tables, plots and page are what its records give, and what the README's first command makes.

use crate::quickstart;
use std::path::Path;
use zprune::experiment::plan::DENSE;
use zprune::experiment::plan_file::{PlanFile, PlannedCell};
use zprune::report::Report;
use zprune::report::results::Results;

#[test]
fn committed_tables_plots_and_page_equal_what_the_committed_records_give() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let mut compared = 0;
    for (path, content) in quickstart().files().expect("drawable") {
        // Pixels may differ in their last bit on another processor; that they are there is enough.
        let committed = std::fs::read(folder.join(&path));
        if path.extension().is_some_and(|extension| extension == "png") {
            assert!(content.starts_with(b"\x89PNG"), "{}", path.display());
            continue;
        }
        let committed = committed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let same = committed == content;
        assert!(
            same,
            "{} is not what the records give: zprune report docs/quickstart",
            path.display()
        );
        compared += 1;
    }
    assert!(compared >= 14, "only {compared} files");
}

#[test]
fn the_example_is_what_the_readmes_first_command_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let example = root.join("docs/quickstart");
    let plan = PlanFile::read(&example).expect("a plan");
    let kept = zprune::record::read(&example).expect("records");
    let good: Vec<&str> = kept
        .iter()
        .filter(|it| it.error.is_none())
        .map(|it| it.id.as_str())
        .collect();
    assert_eq!(plan.cell.len(), 40);
    assert!(
        plan.cell.iter().all(|cell| good.contains(&cell.id.as_str())),
        "a cell has no record"
    );
    // The dense model and magnitude pruning, whose numbers depend on no near-tie.
    let cells: Vec<&PlannedCell> = plan.cell.iter().filter(|cell| cell.seed.is_none()).take(2).collect();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_zprune"));
    command
        .current_dir(root)
        .args(["run", "experiments/quickstart.toml", "--results"])
        .arg(folder.path());
    for cell in &cells {
        command.args(["--cell", &cell.id]);
    }
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let made = folder.path().join("quickstart");
    let text = |folder: &Path| std::fs::read_to_string(folder.join("plan.toml")).expect("a plan");
    assert_eq!(
        text(&made),
        text(&example),
        "docs/quickstart is not what the command makes any more; CONTRIBUTING.md says how to make it"
    );
    let records = zprune::record::read(&made).expect("records");
    assert_eq!(records.len(), 2);
    for record in &records {
        let old = kept.iter().find(|it| it.id == record.id).expect("the ids are the same");
        let (now, then) = (record.evaluations[0].perplexity, old.evaluations[0].perplexity);
        assert!(
            (now - then).abs() <= 1e-5 * then,
            "{}: {now} is not {then}",
            record.label.method
        );
    }
}

#[test]
fn no_results_are_committed_where_a_run_looks_for_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = std::process::Command::new("git")
        .current_dir(root)
        .args(["ls-files", "results"])
        .output();
    // A package from a registry is no repository, and has no results at all.
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    // The study's records are in a folder that a run is told to look in, so that it goes on with them.
    let kept = |file: &str| file.ends_with(".md") || file.starts_with("results/study/");
    assert!(listed.lines().all(kept), "{listed}");
}

#[test]
fn the_readme_shows_the_committed_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a committed file");
    let readme = read("README.md");
    let table = read("docs/quickstart/tables/perplexity.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 5, "the table has only {} rows", rows.len());
    for row in rows {
        assert!(readme.contains(row), "README.md lacks the row {row}");
    }
}

#[test]
fn a_method_without_calibration_has_one_run_and_no_spread_over_seeds() {
    let report = quickstart();
    let section = &report.results.sections[0];
    for entry in section.entries.iter().chain([&section.dense]) {
        let summary = entry.summary.as_ref().expect("every cell is done");
        let seeded = !["magnitude", DENSE].contains(&entry.method.as_str());
        assert_eq!(entry.runs.len(), if seeded { 3 } else { 1 }, "{}", entry.method);
        assert_eq!(summary.interval.is_some(), seeded, "{}", entry.method);
        let components = entry.components(&section.measure).expect("forty windows");
        assert_eq!(components.seed_component.is_some(), seeded, "{}", entry.method);
    }
}

#[test]
fn a_report_made_again_is_the_same_to_the_byte_in_whatever_order_cells_ran() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let plan = PlanFile::read(&folder).expect("a plan");
    let mut records = zprune::record::read(&folder).expect("records");
    let first = quickstart().files().expect("drawable");
    records.reverse();
    assert_eq!(
        Report::new(Results::join(plan, &records)).files().expect("drawable"),
        first
    );
}

#[test]
fn only_times_differ_when_the_same_cells_run_again_elsewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let plan = PlanFile::read(&folder).expect("a plan");
    let mut records = zprune::record::read(&folder).expect("records");
    for (index, record) in records.iter_mut().enumerate() {
        record.run.finished = "2030-01-01T00:00:00Z".to_string();
        record.run.machine = "another".to_string();
        record.run.calibrate_seconds *= 3.0 + index as f64;
        record.run.total_seconds += 7.0;
    }
    let again = Report::new(Results::join(plan, &records)).files().expect("drawable");
    for ((path, before), (_, after)) in quickstart().files().expect("drawable").iter().zip(&again) {
        let name = path.display().to_string();
        let timed = ["report.", "tables/perplexity.", "plots/time-"]
            .iter()
            .any(|part| name.starts_with(part));
        assert_eq!(before != after, timed, "{name}");
    }
}

#[test]
fn the_page_needs_no_network_and_no_script() {
    let files = quickstart().files().expect("drawable");
    let (_, page) = files
        .iter()
        .find(|(path, _)| path.ends_with("report.html"))
        .expect("a page");
    let page = String::from_utf8(page.clone()).expect("UTF-8");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for mark in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(!outside.contains(mark), "{mark}");
    }
    assert!(page.matches("<svg").count() >= 5);
}
