//! Claims about reports: they are made of records alone, and the committed ones are what the records say.

use std::path::Path;
use zprune::experiment::plan::DENSE;
use zprune::experiment::plan_file::{PlanFile, PlannedCell};
use zprune::experiment::resolve;
use zprune::experiment::source::Source;
use zprune::prune::pattern::Pattern;
use zprune::record::{EvaluationRecord, Record, TaskRecord};
use zprune::report::comparison::{ComparisonFamily, TestVerdict};
use zprune::report::results::{Measure, Results, Section};
use zprune::report::sheet::Mark;
use zprune::report::{Report, TableChoice, latex, power, terminal, text};

fn quickstart() -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    Report::read(&folder).expect("docs/quickstart is in the repository")
}

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
    assert!(listed.lines().all(|file| file.ends_with(".md")), "{listed}");
}

/// More methods than anybody looks at: `wanda-0`, `wanda-1`, ...
fn many_methods(count: usize) -> String {
    let method = |index| format!("[[method]]\nname = \"wanda-{index}\"\ncriterion = \"wanda\"\n");
    (0..count).map(method).collect()
}

#[test]
fn reports_of_hundreds_of_methods_are_bounded_and_say_what_they_leave_out() {
    let plan = plan_of(&many_methods(297));
    let records = records_of(&plan, 0.05, 0);
    let report = Report::new(Results::join(plan.clone(), &records));
    // 300 methods by two, on two models by two measures.
    assert_eq!(
        (report.families[0].tests.len(), report.families[0].refused),
        (0, 4 * 300 * 299 / 2)
    );
    let files = report.files().expect("drawable");
    let text = |name: &str| {
        let found = files.iter().find(|(path, _)| path.ends_with(name));
        String::from_utf8(found.expect("a file").1.clone()).expect("UTF-8")
    };
    let comparisons = text("comparisons.md");
    assert!(
        comparisons.contains("179400 comparisons, and more than 10000 are not made"),
        "{comparisons}"
    );
    assert_eq!(text("perplexity.md").matches("| wanda-").count(), 297);
    let size: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert!(size < 64 << 20, "{size} bytes");

    let against: Vec<String> = (0..297).map(|index| format!("\"wanda-{index}\"")).collect();
    let declared = format!(
        "{}[[comparison]]\nfamily = \"ria first\"\nours = \"ria\"\nagainst = [{}]\nmodels = [\"a\"]\n",
        many_methods(297),
        against.join(", ")
    );
    let plan = plan_of(&declared);
    let report = Report::new(Results::join(plan, &records));
    assert_eq!(
        (report.families[0].tests.len(), report.families[0].refused),
        (2 * 297, 0)
    );
    let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
    let plot = plots
        .iter()
        .find(|plot| plot.name == "differences-a-text")
        .expect("a plot");
    assert!(
        plot.caption
            .ends_with("Only the first 120 of 297 comparisons of a pattern are drawn; all are in the tables."),
        "{}",
        plot.caption
    );
    for plot in plots {
        let png = zprune::report::plots::raster::png(&plot)
            .expect("there is memory")
            .expect("it is not too large");
        let height = u32::from_be_bytes(png[20..24].try_into().expect("a PNG has a header"));
        assert!(height < 16_000, "{} is {height} pixels high", plot.name);
    }
}

#[test]
fn labels_are_texts_in_every_format_and_no_formulas_tags_or_commands() {
    let methods = "[[method]]\nname = \"=1+1|<b>x</b>\"\ncriterion = \"wanda\"\n\
                   [[method]]\nname = \"@cmd [z](http://y) \\\\input{x} & $y$\"\ncriterion = \"wanda\"\n";
    let mut plan = plan_of(methods);
    plan.experiment.description = "first\n<script>second</script>".to_string();
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let files = report.files().expect("drawable");
    let all_of = |ending: &str| -> Vec<String> {
        let own = files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|it| it == ending));
        own.map(|(_, content)| String::from_utf8(content.clone()).expect("UTF-8"))
            .collect()
    };
    for table in all_of("csv") {
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        for row in reader.records() {
            for field in row.expect("as many fields as heads").iter() {
                let number = field.parse::<f64>().is_ok();
                assert!(number || !field.starts_with(['=', '+', '-', '@']), "{field}");
            }
        }
    }
    let tables = all_of("csv");
    assert!(
        tables.iter().any(|table| table.contains("'=1+1|<b>x</b>,")),
        "{tables:?}"
    );
    for label in [
        "\u{a0}=1+1",
        "  +1",
        "＝1+1",
        "\u{3000}＠x",
        "－1",
        "﹢1",
        "−1",
        "\t=1",
        "\u{feff}@x",
    ] {
        let mut plan = plan.clone();
        plan.experiment.methods[0].name = label.to_string();
        let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
        let files = report.files().expect("drawable");
        let table = files.iter().find(|(path, _)| path.ends_with("perplexity.csv"));
        let table = String::from_utf8_lossy(&table.expect("a table").1).into_owned();
        assert!(table.contains(&format!("'{label}")), "{label:?}: {table}");
    }
    // Negative numbers stay numbers.
    let negative = quickstart().files().expect("drawable");
    let negative = negative.iter().filter(|(path, _)| path.ends_with("comparisons.csv"));
    let lines: Vec<String> = negative
        .map(|(_, content)| String::from_utf8_lossy(content).into_owned())
        .collect();
    assert!(
        lines.iter().any(|table| table.contains(",-") && !table.contains(",'-")),
        "{lines:?}"
    );
    for table in all_of("md") {
        let bars = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut expected = 0;
        for line in table.lines() {
            let found = bars(line);
            assert!(!line.starts_with('|') || expected == 0 || found == expected, "{line}");
            expected = if line.starts_with('|') { found } else { 0 };
        }
        let live = table.replace("\\<", "");
        let tags = live.contains("<b>") || live.contains("<script>");
        assert!(!tags && !live.contains("[z](http"), "{table}");
    }
    let page = &all_of("html")[0];
    assert!(page.contains("&lt;b&gt;x&lt;/b&gt;") && !page.contains("<b>") && !page.contains("<script"));
    for table in all_of("tex") {
        assert!(
            !table.contains("\\input{x}") && !table.contains("$y$") && !table.contains(" & \\$y"),
            "{table}"
        );
    }
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

/// An experiment on two models with two methods, three seeds, one pattern and whatever else is said.
fn plan_of(more: &str) -> PlanFile {
    plan_seeded("[0, 1, 2, 3, 4]", more)
}

/// The same with other seeds.
fn plan_seeded(seeds: &str, more: &str) -> PlanFile {
    let text = format!(
        "name = \"made\"\n\
         [[model]]\nname = \"a\"\npath = \"a\"\n[[model]]\nname = \"b\"\npath = \"b\"\n\
         [calibration]\ncorpus = \"c\"\nsampling = \"packed\"\nsequences = 4\nlength = 64\n\
         [sweep]\nseeds = {seeds}\npatterns = [{{ sparsity = 0.5 }}]\n\
         [[method]]\ncriterion = \"magnitude\"\n[[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"ria\"\n\
         [[evaluation]]\nname = \"text\"\ncorpus = \"t\"\nlength = 64\n[[task]]\nname = \"wnli\"\ndata = \"wnli.jsonl\"\n{more}"
    );
    let source = Source {
        path: "made.toml".into(),
        text,
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
fn records_of(plan: &PlanFile, lead: f64, documents: usize) -> Vec<Record> {
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

const DECLARED: &str = "[[comparison]]\nfamily = \"ria first\"\nours = \"ria\"\nagainst = [\"wanda\", \"magnitude\"]\n";

fn mark(report: &Report, file: &str, method: &str, column: &str) -> Mark {
    let chapter = report.chapters.iter().find(|it| it.file == file).expect("a chapter");
    let sheet = &chapter.sheets[0];
    let column = sheet
        .columns
        .iter()
        .position(|it| it.title == column)
        .expect("a column");
    let row = sheet.rows.iter().find(|row| row[0].text == method).expect("a row");
    row[column].mark
}

#[test]
fn what_survives_correction_is_bold_and_what_does_not_is_tied() {
    let plan = plan_of(DECLARED);
    let clear = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    assert_eq!(mark(&clear, "perplexity", "ria", "a"), Mark::Best);
    assert_eq!(mark(&clear, "perplexity", "wanda", "a"), Mark::None);
    assert_eq!(mark(&clear, "perplexity", DENSE, "a"), Mark::None);
    let close = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.0002, 0)));
    assert_eq!(mark(&close, "perplexity", "ria", "a"), Mark::Tied);
    assert_eq!(mark(&close, "perplexity", "wanda", "a"), Mark::Tied);
}

#[test]
fn equal_scores_are_equally_marked_and_methods_without_any_difference_have_no_detectable_one() {
    let plan = plan_of(DECLARED);
    // All methods answer all documents of the task alike, and only RIA is compared.
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let chapter = report
        .chapters
        .iter()
        .find(|it| it.file == "accuracy")
        .expect("a chapter");
    let sheet = &chapter.sheets[0];
    for row in sheet.rows.iter().filter(|row| row[0].text != DENSE) {
        assert_eq!(row[1].mark, Mark::Tied, "{row:?}");
    }
    assert!(
        sheet
            .notes
            .iter()
            .any(|note| note.contains("No mark: worse than the best, or not compared"))
    );
    assert!(
        !sheet.notes.iter().any(|note| note.contains("detectable")),
        "{:?}",
        sheet.notes
    );
    let alike = report.families[0]
        .tests
        .iter()
        .filter(|test| test.measure.higher_is_better());
    assert!(alike.clone().count() == 4 && alike.clone().all(|test| test.detectable.is_none()));
    let apart = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    let forty = apart.families[0]
        .tests
        .iter()
        .find(|test| test.measure.higher_is_better());
    assert!(forty.expect("a comparison").detectable.is_some());
}

#[test]
fn two_documents_of_71_tell_nothing_apart_and_forty_do() {
    let plan = plan_of(DECLARED);
    let verdict = |documents| {
        let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, documents)));
        let tests = &report.families[0].tests;
        let wnli = tests
            .iter()
            .find(|it| it.measure.higher_is_better() && it.other == "wanda");
        let test = wnli.expect("the task is compared");
        (test.p, test.verdict(0.95))
    };
    let (p, two) = verdict(2);
    assert_eq!(two, TestVerdict::NotTold);
    // All five seeds agree on both documents, so flipping each decides as a coin thrown twice.
    assert!((p - 0.5).abs() < 1e-12, "{p}");
    assert_eq!(verdict(40).1, TestVerdict::Better);
}

#[test]
fn a_family_is_what_was_declared_and_its_size_is_what_is_corrected_for() {
    let plan = plan_of(&format!("{DECLARED}models = [\"a\"]\n"));
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let [
        ComparisonFamily {
            tests, declared: true, ..
        },
    ] = &report.families[..]
    else {
        panic!("one declared family");
    };
    // One model, two others, one perplexity and one task.
    assert_eq!(tests.len(), 4);
    assert!(tests.iter().all(|test| test.model == "a" && test.ours == "ria"));
    let smallest = tests.iter().map(|test| test.p).fold(1.0, f64::min);
    let adjusted = tests.iter().map(|test| test.adjusted).fold(1.0, f64::min);
    assert!((adjusted - 4.0 * smallest).abs() < 1e-12);
    for (only, measured) in [("tasks = []", false), ("evaluations = []", true)] {
        let plan = plan_of(&format!("{DECLARED}models = [\"a\"]\n{only}\n"));
        let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
        let tests = &report.families[0].tests;
        assert_eq!(tests.len(), 2, "{only}");
        assert!(
            tests.iter().all(|test| test.measure.higher_is_better() == measured),
            "{only}"
        );
    }
    let every = plan_of("");
    let report = Report::new(Results::join(every.clone(), &records_of(&every, 0.05, 0)));
    assert!(!report.families[0].declared);
    assert_eq!(report.families[0].tests.len(), 2 * 2 * 3);
}

#[test]
fn methods_by_models_and_published_values_stand_side_by_side() {
    let reference = "[[reference]]\nsource = \"a paper\"\nprotocol = \"theirs\"\nmodel = \"b\"\npattern = { sparsity = 0.5 }\n\
                     evaluation = \"text\"\nvalues = { wanda = 7.0, dense = 4.0 }\ndeviations = { wanda = 0.1 }\n";
    let plan = plan_of(reference);
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let sheet = &report.chapters[0].sheets[0];
    let titles: Vec<&str> = sheet.columns.iter().map(|it| it.title.as_str()).collect();
    assert_eq!(titles, ["method", "group", "a", "b", "published", "seeds"]);
    let published = report
        .chapters
        .iter()
        .find(|it| it.file == "published")
        .expect("a chapter");
    let rows = &published.sheets[0].rows;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1][5].text, "7 (sd 0.1)");
    assert!(
        rows[1][6].text.starts_with(['+', '-']) && rows[1][6].text.ends_with('%'),
        "{:?}",
        rows[1]
    );
}

#[test]
fn what_has_not_run_is_an_empty_cell_and_never_a_zero() {
    let plan = plan_of(DECLARED);
    let mut records = records_of(&plan, 0.05, 0);
    let ria = |id: &str| plan.cell.iter().any(|cell| cell.id == id && cell.method == "ria");
    records.retain(|record| !ria(&record.id));
    let report = Report::new(Results::join(plan.clone(), &records));
    let sheet = &report.chapters[0].sheets[0];
    let row = sheet.rows.iter().find(|row| row[0].text == "ria").expect("a row");
    assert_eq!((row[2].text.as_str(), row[3].text.as_str()), ("", ""));
    assert_eq!(report.families[0].missing, 8);
    let csv = zprune::report::data::perplexity_csv(&report.results).expect("a table");
    let line = csv.lines().find(|line| line.contains(",ria,")).expect("a line");
    assert!(line.contains(",5,0,0,,,,"), "{line}");
    // Nothing at all has a report, too.
    let nothing = Report::new(Results::join(plan, &[]));
    nothing.files().expect("drawable");
}

#[test]
fn runs_on_other_texts_are_not_compared() {
    let plan = plan_of(DECLARED);
    let mut records = records_of(&plan, 0.05, 0);
    for (record, cell) in records.iter_mut().zip(&plan.cell) {
        if cell.method == "ria" {
            record.evaluations[0].token_digest = "other".to_string();
            record.tasks[0].data_digest = "other".to_string();
        }
    }
    let report = Report::new(Results::join(plan, &records));
    assert_eq!((report.families[0].tests.len(), report.families[0].missing), (0, 8));
}

#[test]
fn accuracies_of_small_tasks_have_exact_intervals() {
    let plan = plan_of("");
    let results = Results::join(plan.clone(), &records_of(&plan, 0.05, 1));
    let wnli = |section: &&Section| matches!(section.measure, Measure::Accuracy { .. });
    let section = results.sections.iter().find(wnli).expect("the task");
    let entry = section
        .entry("ria", Pattern::Unstructured { sparsity: 0.5 })
        .expect("done");
    let accuracy = entry.accuracy(0.95).expect("documents");
    assert!(accuracy.exact);
    // statsmodels: proportion_confint(31, 71, 0.05, "beta"), in tests/golden/statistics.json.
    assert!((accuracy.interval.low - 0.319149941526).abs() < 1e-8, "{accuracy:?}");
}

#[test]
fn z_pruners_table_says_which_of_its_differences_could_have_been_seen() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/zpruner_table.toml");
    let experiment = resolve::read(&path).unwrap_or_else(|error| panic!("{error}"));
    let said = text::markdown(&power::chapter(&experiment), "");
    let row = |start: &str, task: &str| {
        let found = said
            .lines()
            .find(|line| line.starts_with(&format!("| {start}")) && line.contains(task));
        found
            .unwrap_or_else(|| panic!("no row {start} {task} in {said}"))
            .to_string()
    };
    let wnli = row("z-pruner against sparsegpt", "wnli");
    assert!(
        wnli.contains("31 to 29 (+2)") && wnli.contains("0.500") && wnli.contains("in no case"),
        "{wnli}"
    );
    let hellaswag = row("z-pruner against sparsegpt", "hellaswag");
    assert!(
        hellaswag.contains("(+4)") && hellaswag.contains("in no case"),
        "{hellaswag}"
    );
    assert!(
        said.contains("magnitude's 38.45 on wnli is the share of no whole number of 71 documents"),
        "{said}"
    );
    assert!(
        said.contains("Without wnli sparsegpt leads z-pruner by 59.28 to 58.92."),
        "{said}"
    );
    assert!(row("wnli", "71").contains("5.89"), "{said}");
}

#[test]
fn families_and_references_that_cannot_be_meant_are_refused_with_their_place_and_what_is_known() {
    struct Case {
        more: &'static str,
        says: &'static str,
    }
    let reference = "[[reference]]\nsource = \"s\"\nmodel = \"a\"\npattern = { sparsity = 0.5 }\n";
    let cases = [
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wandaa\"]\n",
            says: "there is no method `wandaa`; did you mean `wanda`?",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"ria\"]\n",
            says: "`ria` is compared with itself",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = []\n",
            says: "family `f` compares nothing",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\npatterns = [{ sparsity = 0.6 }]\n",
            says: "pattern 60 % is none of the sweep's",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\nevaluation = [\"text\"]\n",
            says: "did you mean `evaluations`?",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\ntasks = [\"wnli\"]\n",
            says: "there is no task `wnli`",
        },
        Case {
            more: "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\nevaluations = []\n",
            says: "family `f` compares nothing",
        },
        Case {
            more: "task = \"wnly\"\ndocuments = 71\nvalues = { wanda = 42.25 }\n",
            says: "unknown task `wnly`; did you mean `wnli`?",
        },
        Case {
            more: "evaluation = \"txet\"\nvalues = { wanda = 7.0 }\n",
            says: "there is no evaluation `txet`; did you mean `text`?",
        },
        Case {
            more: "task = \"wnli\"\nvalues = { wanda = 42.25 }\n",
            says: "`documents` is missing",
        },
        Case {
            more: "task = \"wnli\"\ndocuments = 71\nvalues = { wanda = 142.25 }\n",
            says: "values.wanda = 142.25 is not an accuracy in percent",
        },
        Case {
            more: "evaluation = \"text\"\ntask = \"wnli\"\nvalues = { wanda = 7.0 }\n",
            says: "either `evaluation` (perplexities) or `task`",
        },
        Case {
            more: "evaluation = \"text\"\nvalues = { wanda = 7.0 }\ndeviations = { ria = 0.1 }\n",
            says: "deviations.ria",
        },
    ];
    for case in cases {
        let head = if case.more.starts_with('[') { "" } else { reference };
        let text = format!(
            "name = \"made\"\n[[model]]\nname = \"a\"\npath = \"a\"\n\
             [calibration]\ncorpus = \"c\"\nsampling = \"packed\"\nsequences = 4\nlength = 64\n\
             [sweep]\nseeds = [0]\npatterns = [{{ sparsity = 0.5 }}]\n\
             [[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"ria\"\n\
             [[evaluation]]\nname = \"text\"\ncorpus = \"t\"\nlength = 64\n{head}{}",
            case.more
        );
        let source = Source {
            path: "made.toml".into(),
            text,
        };
        let said = resolve::parse(&source)
            .err()
            .unwrap_or_else(|| panic!("{}", case.more))
            .to_string();
        assert!(said.contains(case.says) && said.starts_with("made.toml:"), "{said}");
    }
}

/// The content of a report's file as text.
fn file_of(report: &Report, name: &str) -> Option<String> {
    let files = report.files().expect("drawable");
    let found = files.into_iter().find(|(path, _)| path.ends_with(name));
    found.map(|(_, content)| String::from_utf8(content).expect("UTF-8"))
}

#[test]
fn what_is_printed_fits_the_terminal_and_is_what_is_committed() {
    let reference = |model: &str| {
        format!(
            "[[reference]]\nsource = \"a paper\"\nprotocol = \"theirs\"\nmodel = \"{model}\"\npattern = {{ sparsity = 0.5 }}\n\
             evaluation = \"text\"\nvalues = {{ wanda = 7.0, dense = 4.0 }}\n"
        )
    };
    let plan = plan_of(&format!("{DECLARED}{}{}", reference("a"), reference("b")));
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    let quickstart = quickstart();
    let whole = report.terminal(None);
    for width in [80, 100, 140] {
        for report in [&report, &quickstart] {
            let text = report.terminal(Some(width));
            for line in text.lines() {
                assert!(line.chars().count() <= width, "wider than {width}: {line}");
            }
            for method in &report.results.plan.experiment.methods {
                assert!(
                    text.contains(&format!("\n {} ", method.name)),
                    "{width}: {}",
                    method.name
                );
            }
        }
        let text = report.terminal(Some(width));
        // Nothing is lost but what is said to be.
        for number in whole
            .split_whitespace()
            .filter(|word| word.parse::<f64>().is_ok() && word.contains('.'))
        {
            assert!(text.contains(number), "{width}: {number} is not in {text}");
        }
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/terminal/{width}.txt"));
        if std::fs::read_to_string(&committed).ok().as_deref() != Some(text.as_str()) {
            let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{width}.txt"));
            std::fs::write(&made, &text).expect("writable");
            panic!(
                "{} is not what is printed now: {}\n{text}",
                committed.display(),
                made.display()
            );
        }
    }
}

#[test]
fn the_finding_claims_no_more_than_the_comparisons() {
    let said = |seeds: &str, lead: f64| {
        let plan = plan_seeded(
            seeds,
            "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\nmodels = [\"a\"]\n",
        );
        Report::new(Results::join(plan.clone(), &records_of(&plan, lead, 0))).finding
    };
    // Four combinations of two models and two measures; all methods answer the task alike.
    let clear = said("[0, 1, 2, 3, 4]", 0.05);
    assert!(
        clear.starts_with(
            "Of 4 combinations of model, measure and pattern, the best score is that of ria in 2 and magnitude in 2;"
        ),
        "{clear}"
    );
    assert!(
        clear.contains("1 is significant") && clear.contains("were not compared"),
        "{clear}"
    );
    let close = said("[0, 1, 2, 3, 4]", 0.0002);
    assert!(
        close.contains("may be chance") && !close.contains("significant"),
        "{close}"
    );
    assert!(said("[0]", 0.05).ends_with("what another draw of calibration texts would change."));

    let report = quickstart();
    assert_eq!(
        report.finding.matches(". ").count(),
        0,
        "one sentence: {}",
        report.finding
    );
    let best = &report.results.sections[0];
    let least = best
        .entries
        .iter()
        .filter(|entry| entry.pattern == best.entries[0].pattern);
    let least = least.min_by(|a, b| {
        a.summary
            .as_ref()
            .map(|it| it.mean)
            .partial_cmp(&b.summary.as_ref().map(|it| it.mean))
            .expect("numbers")
    });
    assert!(
        report.finding.contains(&least.expect("results").method),
        "{}",
        report.finding
    );
    let page = file_of(&report, "report.html").expect("a page");
    let (before, _) = page.split_once("<nav>").expect("links");
    assert!(before.contains("<p class=\"finding\">"), "{before}");
    assert!(report.terminal(Some(80)).starts_with(&report.finding[..30]));

    let plan = plan_of("");
    let mut records = records_of(&plan, 0.05, 0);
    records.truncate(20);
    let part = Report::new(Results::join(plan.clone(), &records)).finding;
    assert!(
        part.starts_with(&format!("So far, with results of 20 of {} cells: ", plan.cell.len())),
        "{part}"
    );
    let nothing = Report::new(Results::join(plan, &[])).finding;
    assert_eq!(nothing, "No pruned model has a result yet.");
}

#[test]
fn differences_that_nobody_could_find_are_explained_and_not_printed() {
    let plan = plan_seeded("[0, 1]", "");
    let mut records = records_of(&plan, 0.05, 0);
    // Two seeds that disagree wildly: with one degree of freedom hardly anything can be found.
    for (record, cell) in records.iter_mut().zip(&plan.cell) {
        if cell.method == "wanda" && cell.seed == Some(1) {
            record.evaluations[0].windows.iter_mut().for_each(|it| *it += 1.0);
            record.evaluations[0].perplexity *= 1f64.exp();
        }
    }
    let report = Report::new(Results::join(plan, &records));
    let markdown: Vec<String> = report.chapters.iter().map(|it| report.markdown(it)).collect();
    let all = markdown.join("\n");
    assert!(
        all.contains("comparisons could hardly show anything") && all.contains("2 seeds tell too little"),
        "{all}"
    );
    let perplexity = &report.chapters[0].sheets[0];
    for note in &perplexity.notes {
        let numbers = note.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        assert!(numbers.into_iter().all(|number| number <= 100.0), "{note}");
    }
    assert!(all.contains("over 100 %"), "{all}");
}

#[test]
fn labels_have_the_parameters_that_tell_methods_apart() {
    let plan = plan_of(
        "[[method]]\nname = \"soft\"\ncriterion = { name = \"ria\", activation_power = 0.25 }\n\
         [[method]]\nname = \"hard 0.75\"\ncriterion = { name = \"ria\", activation_power = 0.75 }\n",
    );
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let sheet = &report.chapters[0].sheets[0];
    let names: Vec<&str> = sheet.rows.iter().map(|row| row[0].text.as_str()).collect();
    assert_eq!(
        names,
        [
            "dense",
            "magnitude",
            "wanda",
            "ria (activation power 0.5)",
            "soft (activation power 0.25)",
            "hard 0.75"
        ]
    );
    // Programs find methods by their names.
    let csv = file_of(&report, "perplexity.csv").expect("a table");
    assert!(csv.contains(",soft,") && !csv.contains("activation"), "{csv}");
    let plot = file_of(&report, "perplexity-a-text.svg").expect("a plot");
    assert!(plot.contains("soft (activation power 0.25)"));
}

#[test]
fn plots_show_nothing_that_is_not_there() {
    let report = quickstart();
    let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
    let plot =
        |plots: &[zprune::report::plots::Plot], kind: &str| plots.iter().find(|it| it.name.starts_with(kind)).cloned();
    assert!(
        plot(&plots, "layers-sparsity").is_none(),
        "every layer has the same sparsity"
    );
    let seeds = plot(&plots, "seeds").expect("three seeds");
    assert_eq!(
        seeds.svg.contains("without calibration"),
        report.results.plan.experiment.methods.iter().any(|it| !it.calibrated)
    );

    // One layer of one method loses more than the others.
    let mut results = report.results.clone();
    for entry in results.sections.iter_mut().flat_map(|section| &mut section.entries) {
        if entry.method == "wanda"
            && let Some(layer) = entry.layers.first_mut()
        {
            layer.removed /= 2;
        }
    }
    let changed = zprune::report::plots::all(&results, &report.families).expect("drawable");
    let map = plot(&changed, "layers-sparsity").expect("a layer differs");
    assert!(
        map.svg.contains("wanda") && !map.svg.contains("sparsegpt"),
        "a panel for the method that varies"
    );
    assert!(map.caption.contains("not drawn: "), "{}", map.caption);

    let plan = plan_of(DECLARED);
    let records: Vec<Record> = records_of(&plan, 0.0, 0);
    let close = Report::new(Results::join(plan.clone(), &records));
    let plots = zprune::report::plots::all(&close.results, &close.families).expect("drawable");
    let forest = plot(&plots, "differences-a-wnli").expect("the task is compared");
    assert!(!forest.svg.contains("survives") && forest.svg.contains("may be chance"));
    let mut seeded = plan_of("");
    seeded.experiment.methods.retain(|method| method.calibrated);
    seeded.cell.retain(|cell| cell.method != "magnitude");
    let report = Report::new(Results::join(seeded.clone(), &records_of(&seeded, 0.05, 0)));
    let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
    assert!(
        !plot(&plots, "seeds")
            .expect("five seeds")
            .svg
            .contains("without calibration")
    );
}

#[test]
fn every_plot_has_its_numbers_as_csv() {
    let report = quickstart();
    let files = report.files().expect("drawable");
    let plots: Vec<String> = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "svg"))
        .map(|(path, _)| path.with_extension("csv").display().to_string())
        .collect();
    assert!(plots.len() >= 4);
    for plot in &plots {
        let data = file_of(&report, plot).unwrap_or_else(|| panic!("no {plot}"));
        let mut reader = csv::Reader::from_reader(data.as_bytes());
        assert!(reader.records().filter(|row| row.is_ok()).count() > 1, "{plot}: {data}");
    }
    let section = &report.results.sections[0];
    let curve = plots
        .iter()
        .find(|plot| plot.contains("/perplexity-"))
        .expect("a curve");
    let curve = file_of(&report, curve).expect("numbers");
    for entry in section.entries.iter().chain([&section.dense]) {
        let mean = entry.summary.as_ref().expect("every cell is done").mean;
        let row = curve.lines().find(|row| row.contains(&format!(",{mean},")));
        assert!(
            row.is_some_and(|row| row.starts_with(&entry.method)),
            "{mean} in {curve}"
        );
    }
}

#[test]
fn settings_are_words() {
    let page = file_of(&quickstart(), "report.html").expect("a page");
    let (_, settings) = page.split_once("<section id=\"settings\">").expect("settings");
    assert!(!settings.contains('{') && !settings.contains("criterion"), "{settings}");
    assert!(settings.contains("removes the weights with the lowest scores by magnitude among all weights of a matrix"));
    assert!(
        settings.contains("row weight 0.7"),
        "parameters have names that people read"
    );
}

#[test]
fn no_sentence_begins_with_a_small_letter() {
    let plan = plan_seeded("[0]", DECLARED);
    let one = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 0)));
    let nothing = Report::new(Results::join(plan, &[]));
    for report in [&one, &nothing, &quickstart()] {
        let notes = report
            .chapters
            .iter()
            .flat_map(|it| &it.sheets)
            .flat_map(|it| it.notes.clone());
        let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
        let captions = plots.into_iter().map(|plot| plot.caption);
        for text in notes.chain(captions).chain([report.finding.clone()]) {
            let begins = std::iter::once(0).chain(text.match_indices(". ").map(|(at, _)| at + 2));
            for at in begins {
                let small = text[at..].starts_with(|c: char| c.is_ascii_lowercase());
                assert!(!small, "{}", &text[at..]);
            }
        }
    }
}

#[test]
fn tables_for_a_paper_have_the_chosen_methods_and_columns_and_a_label() {
    let report = quickstart();
    let names = |list: &[&str]| list.iter().map(|it| it.to_string()).collect::<Vec<_>>();
    let patterns: Vec<String> = report
        .results
        .plan
        .experiment
        .patterns
        .iter()
        .map(|it| it.to_string())
        .collect();
    let choice = TableChoice {
        tables: names(&["perplexity"]),
        methods: names(&["wanda", "dense"]),
        columns: vec![patterns[2].clone(), patterns[0].clone()],
    };
    let chapters = report.chosen(&choice).expect("they are there");
    let [chapter] = &chapters[..] else { panic!("one table") };
    let sheet = &chapter.sheets[0];
    let titles: Vec<&str> = sheet.columns.iter().map(|it| it.title.as_str()).collect();
    assert_eq!(titles, ["method", &patterns[2], &patterns[0]]);
    let rows: Vec<&str> = sheet.rows.iter().map(|row| row[0].text.as_str()).collect();
    assert_eq!(rows, ["wanda", "dense"]);
    // Marks are those of the whole table, and the table says so.
    let whole = &report.chapters[0].sheets[0];
    let wanda = whole.rows.iter().find(|row| row[0].text == "wanda").expect("a row");
    assert_eq!((&sheet.rows[0][1], &sheet.rows[0][2]), (&wanda[4], &wanda[2]));
    assert!(sheet.notes[0].contains("those of all"), "{:?}", sheet.notes);
    let tex = latex::latex(chapter, "quick start");
    assert!(
        tex.contains("\\label{tab:quick-start-perplexity}") && tex.contains("\\begin{tabular}{lrr}"),
        "{tex}"
    );
    let printed = terminal::chapter(chapter, Some(80));
    assert!(printed.contains("wanda") && !printed.contains("sparsegpt"), "{printed}");
    for (wrong, says) in [
        (
            TableChoice {
                methods: names(&["wandaa"]),
                ..TableChoice::default()
            },
            "unknown method `wandaa`; did you mean `wanda`?",
        ),
        (
            TableChoice {
                tables: names(&["perplexities"]),
                ..TableChoice::default()
            },
            "unknown table `perplexities`",
        ),
        (
            TableChoice {
                columns: names(&["51 %"]),
                ..TableChoice::default()
            },
            "unknown column `51 %`",
        ),
    ] {
        let error = report.chosen(&wrong).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}
