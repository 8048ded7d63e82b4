//! What is printed, written and drawn.

use crate::made::{DECLARED, plan_of, plan_seeded, records_of};
use crate::quickstart;
use std::path::Path;
use zprune::record::Record;
use zprune::report::results::Results;
use zprune::report::sheet::SheetCell;
use zprune::report::{Report, TableChoice, latex, terminal};

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
        comparisons.contains("179400 comparisons, and at most 10000 are made"),
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
            .ends_with("Only the first 120 of 297 comparisons of a panel are drawn; all are in the tables."),
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
    let found = |seeds: &str, more: &str, lead: f64| {
        let declared = "[[comparison]]\nfamily = \"f\"\nours = \"ria\"\nagainst = [\"wanda\"]\nmodels = [\"a\"]\n";
        let plan = plan_seeded(seeds, &format!("{declared}{more}"));
        Report::new(Results::join(plan.clone(), &records_of(&plan, lead, 0))).finding
    };
    let said = |seeds: &str, lead: f64| found(seeds, "", lead);
    // Four combinations of two models and two measures; all methods answer the task alike.
    let clear = said("[0, 1, 2, 3, 4]", 0.05);
    assert!(
        clear.starts_with(
            "There are 4 combinations of model, measure and pattern. The best score is that of ria in 2; of magnitude, wanda and ria \
             (equal) in 2. For example, on a at 50 %, ria has the best perplexity on text: "
        ),
        "{clear}"
    );
    assert!(
        clear.contains("ria against wanda: better in 1 and worse in 0 of 2, significantly better in 1"),
        "{clear}"
    );
    let close = said("[0, 1, 2, 3, 4]", 0.0002);
    assert!(close.contains("no difference is significant"), "{close}");
    assert!(said("[0]", 0.05).ends_with("with other calibration texts."));
    // A single comparison is not "better in all 1".
    for (lead, words) in [
        (0.05, "significantly better."),
        (0.0002, "worse, but not significantly."),
    ] {
        let one = found("[0, 1, 2, 3, 4]", "tasks = []\n", lead);
        assert!(one.contains(&format!("ria against wanda: {words}")), "{one}");
    }

    let report = quickstart();
    assert_eq!(
        report.finding,
        "On tiny-llama, ria has the lowest perplexity on persuasion (dense: 40.52) at 50 % (41.58), 70 % (52.55) and 2:4 (43.87). Of the \
         12 differences between the best and another method, 3 are significant after Holm's correction: to magnitude at 50 %, 70 % and \
         2:4. The others may be chance."
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
        part.starts_with(&format!("So far, 20 of {} cells have results. ", plan.cell.len())),
        "{part}"
    );
    let nothing = Report::new(Results::join(plan, &[])).finding;
    assert_eq!(nothing, "No pruned model has a result yet.");
}

#[test]
fn differences_that_nobody_could_find_are_explained_and_not_printed() {
    let plan = plan_seeded("[0, 1, 2]", "");
    let mut records = records_of(&plan, 0.05, 0);
    // Three seeds that disagree wildly: with two degrees of freedom hardly anything can be found.
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
        all.contains("comparisons can find almost no difference") && all.contains("3 seeds tell too little"),
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
    let forest = plot(&plots, "differences-accuracy-a").expect("the task is compared");
    assert!(!forest.svg.contains("significant") && forest.svg.contains("may be chance"));
    // All tasks of a model are in one picture, and each method has one look in all pictures.
    let tasks = plot(&plots, "accuracy-a").expect("the task has accuracies");
    for part in ["wnli (acc)", "95 % over documents", "dense", "ria"] {
        assert!(tasks.svg.contains(part), "no {part}");
    }
    let section = close
        .results
        .sections
        .iter()
        .find(|it| it.model == "a" && it.measure.label() == "wnli (acc)");
    let section = section.expect("the task has results");
    let found = section.dense.accuracy(0.95).expect("documents");
    let row = format!(
        "wnli (acc),dense,{:?},{:?},{:?}",
        100.0 * found.value,
        100.0 * found.interval.low,
        100.0 * found.interval.high
    );
    assert!(tasks.data.contains(&row), "no `{row}` in:\n{}", tasks.data);
    assert_eq!(
        plots.iter().filter(|it| it.name.starts_with("accuracy-")).count(),
        2,
        "one for each model"
    );
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
        rows: Vec::new(),
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

#[test]
fn rows_are_those_that_have_all_the_texts() {
    let report = quickstart();
    let rows = |texts: &[&str]| {
        let choice = TableChoice {
            tables: vec!["comparisons".to_string()],
            rows: texts.iter().map(|it| it.to_string()).collect(),
            ..TableChoice::default()
        };
        let chapters = report.chosen(&choice).map_err(|error| error.to_string())?;
        let [chapter] = &chapters[..] else { panic!("one table") };
        let words = |row: &Vec<SheetCell>| row.iter().take(3).map(|it| it.text.clone()).collect::<Vec<_>>();
        Ok::<_, String>(chapter.sheets[0].rows.iter().map(words).collect::<Vec<_>>())
    };
    let all = rows(&[]).expect("the whole table");
    let some = rows(&["70 %|2:4", "wanda against"]).expect("some");
    let wanted = |row: &&Vec<String>| row[1] != "50 %" && row[2].starts_with("wanda against");
    assert_eq!(some, all.iter().filter(wanted).cloned().collect::<Vec<_>>());
    assert!(!some.is_empty() && some.len() < all.len());
    // The title of a table counts as words of its rows, numbers do not: there are differences of so many percent.
    assert_eq!(
        rows(&["every pair", "50 %"]).map(|found| found.len()),
        Ok(all.len() / 3)
    );
    assert!(rows(&["no such words"]).is_err_and(|error| error.contains("no such words")));
}
