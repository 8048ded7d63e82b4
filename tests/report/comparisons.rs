//! What is compared, what is marked, and what the statistics say.

use crate::made::{DECLARED, plan_of, records_of};
use std::path::Path;
use zprune::eval::to_dense::ToDense;
use zprune::experiment::plan::DENSE;
use zprune::experiment::resolve;
use zprune::experiment::source::Source;
use zprune::prune::pattern::Pattern;
use zprune::record::ToDenseRecord;
use zprune::report::comparison::{ComparisonFamily, Hopeless, TestVerdict};
use zprune::report::results::{Measure, Results, Section};
use zprune::report::sheet::Mark;
use zprune::report::{Report, power, text};

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
    assert!(alike.clone().all(|test| test.hopeless.is_none()));
    // Five seeds that all differ by forty documents do not tell how much seeds differ.
    let apart = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    let forty = apart.families[0]
        .tests
        .iter()
        .find(|test| test.measure.higher_is_better());
    let forty = forty.expect("a comparison");
    assert_eq!((forty.detectable, forty.hopeless), (None, Some(Hopeless::Seeds)));
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
            says: "family `f` has no two methods to compare",
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
            says: "family `f` has no two methods to compare",
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

#[test]
fn what_perplexity_hides_stands_beside_it_with_ranks() {
    let mut plan = plan_of("");
    plan.experiment.evaluations[0].compare_to_dense = true;
    let mut records = records_of(&plan, 0.05, 0);
    for (cell, record) in plan.cell.iter().zip(&mut records) {
        // By perplexity: RIA, Wanda, magnitude. By divergence magnitude is before Wanda.
        let base = match cell.method.as_str() {
            "ria" => 0.1,
            "magnitude" => 0.2,
            "wanda" => 0.4,
            _ => continue,
        };
        let wave = |window: usize| 0.01 * ((window * 7 + cell.seed.unwrap_or(0) as usize) % 5) as f64;
        let kl: Vec<f64> = (0..60).map(|window| base + wave(window)).collect();
        let agreement = kl.iter().map(|kl| 0.9 - kl).collect();
        record.evaluations[0].to_dense = Some(ToDenseRecord::of(ToDense { kl, agreement }));
    }
    let report = Report::new(Results::join(plan.clone(), &records));
    let chapter = report
        .chapters
        .iter()
        .find(|it| it.file == "to_dense")
        .expect("a chapter");
    assert_eq!(chapter.sheets.len(), 2, "one for each model");
    let sheet = &chapter.sheets[0];
    let rows: Vec<Vec<&str>> = sheet
        .rows
        .iter()
        .map(|row| row.iter().map(|cell| cell.text.as_str()).collect())
        .collect();
    let ranks: Vec<[&str; 4]> = rows.iter().map(|row| [row[0], row[2], row[4], row[6]]).collect();
    assert_eq!(
        ranks,
        [
            ["dense", "", "", ""],
            ["magnitude", "3", "2", "2"],
            ["wanda", "2", "3", "3"],
            ["ria", "1", "1", "1"],
        ]
    );
    assert!(
        rows[3][3].starts_with("0.1200 ±") && rows[3][5].starts_with("78.00 ±"),
        "{rows:?}"
    );
    assert_eq!(sheet.rows[3][3].mark, Mark::Best);
    assert!(
        sheet
            .notes
            .iter()
            .any(|note| note.contains("KL divergence 0.33, agreement 0.33")),
        "{:?}",
        sheet.notes
    );

    // Differences are in nats and points, and every pair is compared by every measure.
    let tests = &report.families[0].tests;
    let of = |measure: &Measure| tests.iter().filter(|test| test.measure == *measure).count();
    let evaluation = "text".to_string();
    let (kl, agreement) = (
        Measure::Divergence {
            evaluation: evaluation.clone(),
        },
        Measure::Agreement { evaluation },
    );
    assert_eq!((of(&kl), of(&agreement)), (6, 6));
    let pair = |measure: &Measure| {
        tests
            .iter()
            .find(|it| it.measure == *measure && it.ours == "wanda")
            .expect("a test")
    };
    let (kl, agreement) = (pair(&kl), pair(&agreement));
    assert!((kl.shown(kl.difference.mean) - 0.3).abs() < 1e-9 && kl.verdict(0.95) == TestVerdict::Worse);
    assert!((agreement.shown(agreement.difference.mean) + 30.0).abs() < 1e-7);
    assert_eq!(agreement.verdict(0.95), TestVerdict::Worse);
    let files = report.files().expect("a report");
    let file = |name: &str| {
        let (_, bytes) = files.iter().find(|(path, _)| path == Path::new(name)).expect("a file");
        String::from_utf8(bytes.clone()).expect("text")
    };
    let csv = file("tables/to_dense.csv");
    assert!(csv.starts_with("model,evaluation,measure,method,pattern,"), "{csv}");
    assert_eq!(
        csv.lines()
            .filter(|line| line.starts_with("a,text,kl,wanda,50 %"))
            .count(),
        1,
        "{csv}"
    );
    assert!(file("report.json").contains("\"to_dense\""));
    assert!(file("tables/comparisons.csv").contains(",nats,"));
    assert!(
        files
            .iter()
            .any(|(path, _)| path == Path::new("plots/differences-a-text__KL_.svg"))
    );
}

#[test]
fn two_names_of_the_same_cells_are_no_comparison_and_their_comparisons_count_once() {
    let twins = |more: &str| {
        let mut plan = plan_of(more);
        let ids: Vec<(String, Option<u64>, String)> = plan
            .cell
            .iter()
            .filter(|cell| cell.method == "wanda")
            .map(|cell| (cell.model.clone(), cell.seed, cell.id.clone()))
            .collect();
        let records = records_of(&plan, 0.05, 0);
        for cell in plan.cell.iter_mut().filter(|cell| cell.method == "ria") {
            let twin = ids
                .iter()
                .find(|(model, seed, _)| (model, seed) == (&cell.model, &cell.seed));
            cell.id = twin.expect("the same seeds").2.clone();
        }
        Report::new(Results::join(plan, &records)).families.remove(0)
    };
    // Magnitude against Wanda, by two measures on two models; RIA's are the same, and Wanda against RIA is nothing.
    let every = twins("");
    assert_eq!(
        (every.tests.len(), every.tested(), every.same, every.missing),
        (8, 4, 4, 0)
    );
    for pair in every.tests.chunks(2) {
        let [first, second] = pair else { panic!("pairs") };
        assert_eq!((first.other.as_str(), second.other.as_str()), ("wanda", "ria"));
        assert!(!first.repeated && second.repeated);
        assert_eq!(first.adjusted, second.adjusted);
    }
    let smallest = every.tests.iter().map(|test| test.p).fold(1.0, f64::min);
    let adjusted = every.tests.iter().map(|test| test.adjusted).fold(1.0, f64::min);
    assert!(
        (adjusted - (4.0 * smallest).min(1.0)).abs() < 1e-12,
        "{adjusted} from {smallest}"
    );
    let declared = twins(DECLARED);
    assert_eq!((declared.tests.len(), declared.same), (4, 4));
}

#[test]
fn a_method_that_is_alone_so_far_is_not_the_best() {
    let plan = plan_of("");
    let mut records = records_of(&plan, 0.05, 0);
    // Two methods have run on one model, a third one alone on the other.
    let kept = |id: &str| {
        let cell = plan.cell.iter().find(|cell| cell.id == id).expect("planned");
        match cell.model.as_str() {
            "a" => cell.method != "magnitude",
            _ => cell.method == "magnitude",
        }
    };
    records.retain(|record| kept(&record.id));
    let said = zprune::report::finding::sentence(
        &Results::join(plan.clone(), &records),
        &Report::new(Results::join(plan.clone(), &records)).families,
    );
    assert!(said.contains("ria") && !said.contains("magnitude"), "{said}");
    records.retain(|record| {
        plan.cell
            .iter()
            .any(|cell| cell.id == record.id && cell.method == "magnitude")
    });
    let report = Report::new(Results::join(plan, &records));
    let said = zprune::report::finding::sentence(&report.results, &report.families);
    assert!(
        said.contains("pruned with magnitude") && said.contains("No other method has results to compare it with"),
        "{said}"
    );
}
