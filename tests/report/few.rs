//! What is said where there is little to go by: one seed, a handful of texts, few calibration tokens.

use crate::made::{plan_of, plan_seeded, planned, records_of};
use crate::quickstart;
use zprune::experiment::plan_file::PlanFile;
use zprune::record::Record;
use zprune::report::comparison::{Hopeless, TestVerdict};
use zprune::report::results::{Measure, Results};
use zprune::report::sheet::{Mark, Sheet, SheetCell};
use zprune::report::{Report, latex, terminal, text};

/// The first table of a chapter.
fn sheet<'a>(report: &'a Report, file: &str) -> &'a Sheet {
    let chapter = report.chapters.iter().find(|it| it.file == file);
    &chapter.unwrap_or_else(|| panic!("no chapter {file}")).sheets[0]
}

/// The cell of a row that begins with this text, in the column with this title.
fn cell<'a>(sheet: &'a Sheet, row: &str, column: &str) -> &'a SheetCell {
    let column = sheet
        .columns
        .iter()
        .position(|it| it.title == column)
        .expect("a column");
    let row = sheet.rows.iter().find(|cells| cells[0].text == row);
    &row.expect("a row")[column]
}

/// Where the notes of a table are printed, all in one text.
fn notes(sheet: &Sheet) -> String {
    sheet.notes.join("\n")
}

/// One model, three methods, of which RIA has these seeds only.
fn with_one_seed(seeds: &str, ria: &str) -> PlanFile {
    planned(&format!(
        "name = \"made\"\n[[model]]\nname = \"a\"\npath = \"a\"\n\
         [calibration]\ncorpus = \"c\"\nsampling = \"packed\"\nsequences = 4\nlength = 64\n\
         [sweep]\nseeds = {seeds}\npatterns = [{{ sparsity = 0.5 }}]\n\
         [[method]]\ncriterion = \"magnitude\"\n[[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"ria\"\n{ria}\
         [[evaluation]]\nname = \"text\"\ncorpus = \"t\"\nlength = 64\n[[task]]\nname = \"wnli\"\ndata = \"wnli.jsonl\"\n"
    ))
}

#[test]
fn a_method_with_one_seed_beside_others_with_three_has_no_star_and_says_why() {
    // Its lead is five hundred times the noise between windows.
    let plan = with_one_seed("[0, 1, 2]", "seed = 1\n");
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    let table = sheet(&report, "perplexity");
    let ria = cell(table, "ria", "50 %");
    assert_eq!(ria.mark, Mark::None);
    assert!(ria.text.ends_with("(one seed)"), "{ria:?}");
    assert!(!cell(table, "wanda", "50 %").text.contains("seed"));
    assert!(
        notes(table).contains("One seed: the method was run with one calibration seed, and others with several"),
        "{}",
        notes(table)
    );
    assert!(
        !notes(table).contains("dense, or a method that uses no calibration"),
        "{}",
        notes(table)
    );

    let compared = sheet(&report, "comparisons");
    let columns = ["comparison", "difference", "p (Holm)", "detectable"];
    let columns = columns.map(|title| {
        compared
            .columns
            .iter()
            .position(|it| it.title == title)
            .expect("a column")
    });
    let mut lone = 0;
    for row in &compared.rows {
        let [pair, difference, holm, detectable] = columns.map(|column| &row[column]);
        if pair.text.contains("ria") {
            lone += 1;
            assert_eq!(
                (difference.mark, holm.text.as_str(), detectable.text.as_str()),
                (Mark::None, "One seed", "")
            );
        } else {
            assert!(
                holm.text.parse::<f64>().is_ok() || holm.text.starts_with('<'),
                "{row:?}"
            );
        }
    }
    assert_eq!(lone, 4);
    assert!(
        notes(compared).contains("One seed: a method of this comparison has one calibration seed"),
        "{}",
        notes(compared)
    );
    let tests = &report.families[0].tests;
    let of_ria = || tests.iter().filter(|test| test.ours == "ria" || test.other == "ria");
    assert!(of_ria().all(|test| test.lone && test.verdict(0.95) == TestVerdict::NotTold));
    // The rest are corrected for themselves: one pair, by two measures.
    assert_eq!(report.families[0].tested(), 2);
    let known = tests
        .iter()
        .find(|test| !test.lone && test.measure.evaluation().is_some())
        .expect("magnitude against wanda");
    assert!(
        (known.adjusted - 2.0 * known.p).abs() < 1e-15,
        "{} {}",
        known.adjusted,
        known.p
    );
    assert!(known.verdict(0.95) != TestVerdict::NotTold);

    let finding = &report.finding;
    assert!(
        finding.contains("This may be chance") && finding.contains("a method with one calibration seed"),
        "{finding}"
    );
    assert!(
        finding.ends_with("One difference between other methods is significant."),
        "{finding}"
    );
    let json = zprune::report::data::json(&report.results, &report.families).expect("numbers");
    assert!(json.contains("\"verdict\": \"one seed\""));

    // A method that is not calibrated has one run and needs no second.
    let magnitude = tests
        .iter()
        .find(|test| test.ours == "magnitude" && test.other == "wanda")
        .expect("a test");
    assert!(!magnitude.one_seed && !magnitude.lone);
}

#[test]
fn seeds_that_have_not_run_yet_are_no_reason_for_a_star() {
    let plan = with_one_seed("[0, 1, 2]", "");
    let mut records = records_of(&plan, 0.05, 40);
    let late = |record: &Record| {
        plan.cell
            .iter()
            .any(|cell| cell.id == record.id && cell.method == "ria" && cell.seed > Some(0))
    };
    records.retain(|record| !late(record));
    let part = Report::new(Results::join(plan.clone(), &records));
    let ria = cell(sheet(&part, "perplexity"), "ria", "50 %");
    assert_eq!(ria.mark, Mark::None);
    assert!(ria.text.ends_with("(1 of 3)"), "{ria:?}");
    assert!(
        part.families[0]
            .tests
            .iter()
            .filter(|test| test.ours == "ria" || test.other == "ria")
            .all(|test| test.lone)
    );
    let whole = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    assert_eq!(cell(sheet(&whole, "perplexity"), "ria", "50 %").mark, Mark::Best);

    // If no method has more than one seed so far, they are tested, and a note says what the tests do not cover.
    let mut records = records_of(&plan, 0.05, 40);
    let first = |record: &Record| {
        plan.cell
            .iter()
            .any(|cell| cell.id == record.id && cell.seed.is_none_or(|seed| seed == 0))
    };
    records.retain(first);
    let begun = Report::new(Results::join(plan, &records));
    let table = sheet(&begun, "perplexity");
    let ria = cell(table, "ria", "50 %");
    assert_eq!(ria.mark, Mark::Best);
    assert!(ria.text.ends_with("(1 of 3)"), "{ria:?}");
    assert!(begun.families[0].tests.iter().all(|test| !test.lone));
    assert!(
        notes(table).contains("The comparisons have one calibration seed"),
        "{}",
        notes(table)
    );
}

#[test]
fn where_all_have_one_seed_marks_stay_and_say_what_they_do_not_cover() {
    let plan = with_one_seed("[0]", "");
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 40)));
    let table = sheet(&report, "perplexity");
    assert_eq!(cell(table, "ria", "50 %").mark, Mark::Best);
    assert!(!cell(table, "ria", "50 %").text.contains("seed"));
    assert!(
        notes(table).contains("not what other calibration texts could"),
        "{}",
        notes(table)
    );
    assert!(
        notes(sheet(&report, "comparisons"))
            .contains("intervals and p-values say what other evaluation texts could change")
    );
    assert!(notes(sheet(&report, "comparisons")).contains("The interval is a t-interval over texts."));
    assert!(report.families[0].tests.iter().all(|test| !test.lone));
    let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
    let forest = plots
        .iter()
        .find(|plot| plot.name == "differences-a-text")
        .expect("a plot");
    assert!(
        forest.caption.contains("intervals are over texts only"),
        "{}",
        forest.caption
    );
    assert!(forest.svg.contains("95 % over texts") && !forest.svg.contains("texts and seeds"));
}

#[test]
fn a_note_explains_a_mark_only_where_the_table_has_it() {
    let plan = plan_of("");
    for (lead, best, tied) in [(0.05, true, false), (0.0, false, true)] {
        let report = Report::new(Results::join(plan.clone(), &records_of(&plan, lead, 0)));
        let table = sheet(&report, "perplexity");
        let marks = |mark| table.rows.iter().flatten().any(|cell| cell.mark == mark);
        assert_eq!((marks(Mark::Best), marks(Mark::Tied)), (best, tied));
        let said = notes(table);
        assert_eq!((said.contains("Bold"), said.contains('≈')), (best, tied), "{said}");
        let chapter = &report.chapters[0];
        let printed = terminal::chapter(chapter, Some(100));
        assert_eq!(printed.contains('*'), best, "{printed}");
        assert_eq!(latex::latex(chapter, "made").contains("Bold"), best);
        assert_eq!(text::markdown(chapter, "").contains("Bold"), best);
    }
    // Comparisons without a significant one say that there is none.
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.0, 0)));
    let mut close = report.results;
    for section in &mut close.sections {
        section.entries.retain(|entry| entry.method != "magnitude");
    }
    let close = Report::new(close);
    let said = notes(sheet(&close, "comparisons"));
    assert!(
        said.contains("No difference is significant after Holm's correction over the 4 comparisons"),
        "{said}"
    );
    assert!(!said.contains("Bold"), "{said}");
}

#[test]
fn too_few_calibration_tokens_for_a_hessian_are_named_with_their_numbers() {
    let said = |tokens: usize| {
        let mut results = quickstart().results;
        for entry in results.sections.iter_mut().flat_map(|section| &mut section.entries) {
            entry.calibration_tokens = entry.calibration_tokens.map(|_| tokens);
        }
        notes(sheet(&Report::new(results), "perplexity"))
    };
    let entries = &quickstart().results.sections[0].entries;
    let layers = entries.iter().flat_map(|entry| &entry.layers);
    let widest = layers.map(|layer| layer.shape[1]).max().expect("layers");
    let few = said(widest - 1);
    assert!(
        few.contains(&format!(
            "Few calibration tokens: {} calibration tokens are fewer than the {widest} inputs of the widest layer",
            widest - 1
        )) && few.contains("(sparsegpt)"),
        "{few}"
    );
    let some = said(3 * widest);
    assert!(
        some.contains(&format!("are 3.0 for each of the {widest} inputs")),
        "{some}"
    );
    assert!(!said(4 * widest).contains("Few calibration tokens"));
    // The committed records know how many there were.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let records = zprune::record::read(&folder).expect("records");
    let mut calibrations = records
        .iter()
        .filter_map(|record| record.cell.pruning.as_ref()?.calibration.as_ref());
    let calibration = calibrations.next().expect("a method that calibrates");
    let tokens = |method: &str| {
        entries
            .iter()
            .find(|entry| entry.method == method)
            .expect("a method")
            .calibration_tokens
    };
    assert_eq!(tokens("sparsegpt"), Some(calibration.sequences * calibration.length));
    assert_eq!(tokens("magnitude"), None);
}

#[test]
fn few_calibration_tokens_are_named_once_for_a_model_with_tasks() {
    let plan = with_one_seed(
        "[0]",
        "[[method]]\nname = \"sparsegpt\"\ncriterion = \"obs\"\nsolver = \"obs\"\n",
    );
    let mut results = Results::join(plan.clone(), &records_of(&plan, 0.05, 0));
    for entry in results.sections.iter_mut().flat_map(|section| &mut section.entries) {
        (entry.widest_inputs, entry.calibration_tokens) = (Some(64), Some(10));
    }
    let report = Report::new(results);
    assert!(notes(sheet(&report, "perplexity")).contains("(sparsegpt)"));
    assert!(!notes(sheet(&report, "accuracy")).contains("Few calibration tokens"));
}

/// Records whose task has these answers of RIA and Wanda, seed by seed.
fn answered(plan: &PlanFile, answers: impl Fn(&str, u64) -> String) -> Vec<Record> {
    let mut records = records_of(plan, 0.05, 0);
    for (record, cell) in records.iter_mut().zip(&plan.cell) {
        let task = &mut record.tasks[0];
        task.correct = answers(&cell.method, cell.seed.unwrap_or(0));
        task.documents = task.correct.len();
    }
    records
}

#[test]
fn with_four_questions_no_comparison_can_show_anything_and_all_are_counted() {
    let plan = plan_seeded("[0, 1, 2]", "");
    let records = answered(&plan, |method, _| match method {
        "ria" => "1111".to_string(),
        "wanda" => "0000".to_string(),
        _ => "0011".to_string(),
    });
    let report = Report::new(Results::join(plan, &records));
    let tasks = report.families[0]
        .tests
        .iter()
        .filter(|test| test.measure.evaluation().is_none());
    for test in tasks {
        // Sixteen ways to exchange answers: even four wins of four have a p-value of 1/8.
        assert!(
            test.hopeless == Some(Hopeless::Documents) && test.detectable.is_none() && test.p >= 0.125,
            "{test:?}"
        );
    }
    let said = notes(sheet(&report, "accuracy"));
    assert!(
        said.contains("Each of the 3 comparisons can find almost no difference")
            && said.contains("because 4 documents are too few"),
        "{said}"
    );
    assert!(!said.contains("Minimum detectable"), "{said}");
}

#[test]
fn comparisons_without_any_difference_are_counted_by_themselves() {
    let plan = plan_seeded("[0, 1]", "");
    let records = answered(&plan, |method, seed| match (method, seed) {
        ("wanda", 0) => "1".repeat(60) + &"0".repeat(40),
        ("wanda", _) => "1".repeat(10) + &"0".repeat(90),
        _ => "1".repeat(50) + &"0".repeat(50),
    });
    let report = Report::new(Results::join(plan, &records));
    let said = notes(sheet(&report, "accuracy"));
    assert!(
        said.contains("2 of 3 comparisons can find almost no difference"),
        "{said}"
    );
    assert!(
        said.contains("In 1 comparison the methods do not differ in any text, so it is not known what it could show"),
        "{said}"
    );
}

#[test]
fn equal_seeds_and_two_seeds_have_no_detectable_difference_and_the_note_says_why() {
    let more = "[[method]]\nname = \"second\"\ncriterion = \"wanda\"\ngroup = \"matrix\"\n\
                [[method]]\nname = \"third\"\ncriterion = \"ria\"\ngroup = \"matrix\"\n";
    // All methods but RIA have the same number of right answers with every seed, so six of ten pairs have no spread over seeds.
    let right = |count: usize| "1".repeat(count) + &"0".repeat(100 - count);
    let with = |seeds: &str| {
        let plan = plan_seeded(seeds, more);
        let records = answered(&plan, |method, seed| match method {
            "ria" => right(80 + 2 * seed as usize),
            "wanda" => right(60),
            "second" => right(40),
            "third" => right(30),
            _ => right(50),
        });
        Report::new(Results::join(plan, &records))
    };
    let report = with("[0, 1, 2]");
    let tests = report.families[0].tests.iter();
    for test in tests.filter(|test| test.measure.evaluation().is_none()) {
        let of_ria = test.ours == "ria" || test.other == "ria";
        assert_eq!(test.detectable.is_some(), of_ria, "{test:?}");
        let want = (!of_ria).then_some(Hopeless::Seeds);
        assert_eq!(test.hopeless, want, "{test:?}");
    }
    let said = notes(sheet(&report, "accuracy"));
    let (most, others) = said
        .split_once("Minimum detectable difference of 4 others at 80 % power: ")
        .unwrap_or_else(|| panic!("{said}"));
    assert!(
        most.contains(
            "6 of 10 comparisons can find almost no difference: it is not known how much seeds differ, because all seeds happen to have \
             the same difference (use more seeds)."
        ),
        "{said}"
    );
    assert!(others.contains("percentage points"), "{said}");
    let table = sheet(&report, "comparisons");
    let column = |title: &str| table.columns.iter().position(|it| it.title == title).expect("a column");
    let (measure, pair, detectable) = (column("measure"), column("comparison"), column("detectable"));
    for row in table.rows.iter().filter(|row| row[measure].text.starts_with("wnli")) {
        assert_eq!(
            row[detectable].text.is_empty(),
            !row[pair].text.contains("ria"),
            "{row:?}"
        );
    }
    let said = notes(table);
    assert!(
        said.contains("Empty: nothing is known of it, since ")
            && said.contains(
                "since two seeds, or seeds that all have the same difference, do not tell how much seeds differ."
            ),
        "{said}"
    );

    // Of two seeds that differ, nothing is said either, of perplexities as of accuracies.
    let report = with("[0, 1]");
    for file in ["perplexity", "accuracy"] {
        let said = notes(sheet(&report, file));
        let want = "comparisons can find almost no difference: it is not known how much seeds differ, because there are only two seeds \
                    (use three or more).";
        assert!(said.contains(want) && !said.contains("Minimum detectable"), "{said}");
    }
}

#[test]
fn an_interval_beyond_what_shares_can_be_is_not_printed_and_drawn_only_to_the_end() {
    let plan = plan_seeded("[0, 1]", "");
    let records = answered(&plan, |method, seed| match (method, seed) {
        ("wanda", 0) => "1".repeat(100),
        ("wanda", _) => "1".repeat(10) + &"0".repeat(90),
        _ => "1".repeat(50) + &"0".repeat(50),
    });
    let report = Report::new(Results::join(plan, &records));
    let table = sheet(&report, "comparisons");
    let column = |title: &str| table.columns.iter().position(|it| it.title == title).expect("a column");
    let (measure, interval) = (column("measure"), column("95 %"));
    let mut beyond = 0;
    for row in table.rows.iter().filter(|row| row[measure].text.starts_with("wnli")) {
        match row[interval].text.as_str() {
            "Beyond ±100" => beyond += 1,
            ends => {
                let ends = ends.split(" to ").map(|end| end.parse::<f64>().expect("a number"));
                assert!(ends.into_iter().all(|end| end.abs() <= 100.0), "{row:?}");
            }
        }
    }
    assert_eq!(beyond, 4, "wanda against two others on two models");
    assert!(
        notes(table).contains("Beyond ±100: the interval is wider than any possible difference"),
        "{}",
        notes(table)
    );
    let plots = zprune::report::plots::all(&report.results, &report.families).expect("drawable");
    let forest = plots
        .iter()
        .find(|plot| plot.name == "differences-accuracy-a")
        .expect("a plot");
    assert!(forest.caption.contains("farther than 100 points"), "{}", forest.caption);
    // The numbers for programs are as they were computed.
    let csv = zprune::report::data::comparisons_csv(&report.families, 0.95).expect("numbers");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let place = reader
        .headers()
        .expect("heads")
        .iter()
        .position(|head| head == "both_high")
        .expect("a column");
    let ends = reader
        .records()
        .map(|row| row.expect("a row")[place].parse::<f64>().expect("a number"));
    assert!(ends.fold(0.0, f64::max) > 100.0);
}

#[test]
fn where_interval_and_p_value_are_of_different_tests_the_table_says_so() {
    let plan = plan_of("");
    let report = Report::new(Results::join(plan.clone(), &records_of(&plan, 0.05, 3)));
    let both = notes(sheet(&report, "comparisons"));
    assert!(both.contains("The p-value is that of the same t-test."), "{both}");
    assert!(
        both.contains("For accuracies, interval and p-value come from different tests"),
        "{both}"
    );
    let quickstart = quickstart();
    let windows = notes(sheet(&quickstart, "comparisons"));
    assert!(!windows.contains("accurac"), "no task was measured: {windows}");
}

#[test]
fn a_handful_of_windows_has_an_interval_over_texts_that_is_not_resampled() {
    let plan = plan_of("");
    let with = |windows: usize| {
        let mut records = records_of(&plan, 0.05, 0);
        for record in &mut records {
            record.evaluations[0].windows.truncate(windows);
        }
        Report::new(Results::join(plan.clone(), &records))
    };
    for windows in 2..=6 {
        let report = with(windows);
        let tests = report.families[0].tests.iter();
        for test in tests.filter(|test| matches!(test.measure, Measure::Perplexity { .. })) {
            let (over, mean) = (test.over_texts, test.difference.mean);
            assert!(
                !test.resampled && over.low < mean && mean < over.high,
                "{windows}: {over:?} {mean}"
            );
            assert_eq!(Some(over), test.difference.texts.robust_interval(0.95));
        }
    }
    let many = with(60);
    assert!(many.families[0].tests.iter().any(|test| test.resampled));
    let csv = zprune::report::data::comparisons_csv(&with(4).families, 0.95).expect("numbers");
    assert!(csv.contains(",not resampled,") && !csv.contains(",BCa,"), "{csv}");
}
