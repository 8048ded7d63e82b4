//! Several results folders in one report, and two versions of one.

use crate::made::{plan_seeded, records_of};
use std::path::Path;
use zprune::eval::matching::Match;
use zprune::experiment::identity::{GenerationIdentity, PruningKind};
use zprune::experiment::plan::{DENSE, GenerationPlan, GenerationSettings};
use zprune::experiment::plan_file::{PlanFile, PlannedCell};
use zprune::experiment::resolve::families;
use zprune::record::{Record, Status};
use zprune::report::Report;
use zprune::report::changes::{self, Processes, Since};
use zprune::report::results::{MethodResult, Results};
use zprune::report::sheet::{Chapter, Sheet};
use zprune::report::union::{ResultsFolder, RowsBy, declare, union};

/// A plan with its records, which know that model `a` and model `b` have other weights, and their patterns and seeds.
fn whole(seeds: &str, more: &str) -> ResultsFolder {
    let plan = plan_seeded(seeds, more);
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    let made = zprune::record::read(&quickstart).expect("records");
    let calibrated = made.iter().filter_map(|record| record.cell.pruning.clone());
    let mut calibrated = calibrated.filter(|pruning| pruning.calibration.is_some());
    let pruning = calibrated.next().expect("a record of a method that calibrates");
    let mut records = records_of(&plan, 0.05, 3);
    for (record, cell) in records.iter_mut().zip(&plan.cell) {
        record.cell.model.config = cell.model.clone();
        record.label.model = cell.model.clone();
        record.label.method = cell.method.clone();
        record.cell.pruning = cell.pattern.map(|pattern| {
            let mut pruning = pruning.clone();
            if let PruningKind::Recipe(recipe) = &mut pruning.kind {
                recipe.pattern = pattern;
            }
            pruning.calibration = pruning.calibration.filter(|_| cell.seed.is_some());
            if let (Some(calibration), Some(seed)) = (&mut pruning.calibration, cell.seed) {
                calibration.seed = seed;
            }
            pruning
        });
    }
    ResultsFolder { plan, records }
}

/// The part of an experiment that has these methods and seeds.
fn part(folder: &ResultsFolder, name: &str, methods: &[&str], seeds: &[u64]) -> ResultsFolder {
    let mut plan = folder.plan.clone();
    let experiment = &mut plan.experiment;
    experiment.name = name.to_string();
    experiment.seeds.retain(|seed| seeds.contains(seed));
    experiment
        .methods
        .retain(|method| methods.contains(&method.name.as_str()));
    let has = |cell: &PlannedCell| {
        let method = cell.method == DENSE || methods.contains(&cell.method.as_str());
        method && cell.seed.is_none_or(|seed| seeds.contains(&seed))
    };
    plan.cell.retain(has);
    let kept = |record: &&Record| plan.cell.iter().any(|cell| cell.id == record.id);
    let records = folder.records.iter().filter(kept).cloned().collect();
    ResultsFolder { plan, records }
}

fn methods(results: &Results) -> Vec<&str> {
    results
        .plan
        .experiment
        .methods
        .iter()
        .map(|method| method.name.as_str())
        .collect()
}

fn entry<'a>(results: &'a Results, method: &str) -> &'a MethodResult {
    let section = &results.sections[0];
    let mut entries = section.entries.iter();
    entries
        .find(|entry| entry.method == method)
        .expect("it is in the table")
}

#[test]
fn parts_of_an_experiment_give_the_tables_of_the_whole() {
    let folder = whole("[0, 1, 2, 3]", "");
    let parts = [
        part(&folder, "first", &["magnitude", "wanda"], &[0, 1]),
        part(&folder, "second", &["wanda", "ria"], &[2, 3]),
        part(&folder, "third", &["ria"], &[0, 1]),
    ];
    let joined = union(&parts, RowsBy::Method).expect("one experiment");
    let complete = Results::join(folder.plan.clone(), &folder.records);
    assert_eq!(joined.sections.len(), 4);
    for (joined, complete) in joined.sections.iter().zip(&complete.sections) {
        assert_eq!((&joined.model, &joined.measure), (&complete.model, &complete.measure));
        assert_eq!(joined.dense, complete.dense);
        for entry in &complete.entries {
            let pattern = entry.pattern.expect("it was pruned");
            let found = joined.entry(&entry.method, pattern).expect("it is there");
            assert_eq!(
                found.summary.as_ref().map(|it| it.mean),
                entry.summary.as_ref().map(|it| it.mean),
                "{}",
                entry.method
            );
            assert_eq!((found.planned, found.failed), (entry.planned, 0), "{}", entry.method);
            let sorted = |entry: &MethodResult| {
                let mut runs = entry.runs.clone();
                runs.sort_by_key(|run| run.seed);
                runs
            };
            assert_eq!(sorted(found), sorted(entry), "{}", entry.method);
        }
    }
    // The family is every pair, over all experiments.
    let tests = zprune::report::comparison::families(&joined);
    assert_eq!((tests.len(), tests[0].tests.len(), tests[0].missing), (1, 3 * 4, 0));
    assert!(joined.plan.experiment.name.contains("first + second + third"));
}

#[test]
fn what_is_not_the_same_gets_a_row_of_its_own() {
    let folder = whole("[0, 1]", "");
    let one = part(&folder, "first", &["wanda"], &[0, 1]);
    let names = |parts: &[ResultsFolder], rows| -> Vec<String> {
        let joined = union(parts, rows).expect("they go together");
        methods(&joined).into_iter().map(String::from).collect()
    };

    // The same experiment twice is one row of as many seeds, or two rows.
    let again = ResultsFolder {
        plan: PlanFile {
            zprune: "other".to_string(),
            ..one.plan.clone()
        },
        ..one.clone()
    };
    let twice = [one.clone(), again];
    assert_eq!(names(&twice, RowsBy::Method), ["wanda"]);
    assert_eq!(
        entry(&union(&twice, RowsBy::Method).expect("one"), "wanda").runs.len(),
        2
    );
    assert_eq!(names(&twice, RowsBy::Experiment), ["wanda (first)", "wanda (first 2)"]);

    // Another setting, under the same name.
    let mut other = part(&folder, "second", &["ria"], &[0, 1]);
    other.plan.experiment.methods[0].name = "wanda".to_string();
    other
        .plan
        .cell
        .iter_mut()
        .filter(|cell| cell.method == "ria")
        .for_each(|cell| cell.method = "wanda".to_string());
    let joined = union(&[one.clone(), other], RowsBy::Method).expect("they go together");
    assert_eq!(methods(&joined), ["wanda", "wanda (second)"]);
    let scores = [
        entry(&folder_results(&folder), "wanda").summary.clone(),
        entry(&folder_results(&folder), "ria").summary.clone(),
    ];
    assert_eq!(
        [
            entry(&joined, "wanda").summary.clone(),
            entry(&joined, "wanda (second)").summary.clone()
        ],
        scores
    );

    // The same settings on another machine's backend, on the same cells.
    let mut gpu = part(&folder, "second", &["wanda"], &[0, 1]);
    gpu.records
        .iter_mut()
        .for_each(|record| record.cell.backend = "gpu".to_string());
    assert_eq!(names(&[one.clone(), gpu], RowsBy::Method), ["wanda", "wanda (second)"]);

    // Other weights under the same name, the same weights under another, and another text.
    let mut weights = part(&folder, "second", &["wanda"], &[0, 1]);
    weights
        .records
        .iter_mut()
        .for_each(|record| record.cell.model.config.push('!'));
    let joined = union(&[one.clone(), weights], RowsBy::Method).expect("they go together");
    let models = joined.plan.experiment.models.iter().map(|model| model.name.as_str());
    assert_eq!(models.collect::<Vec<_>>(), ["a", "b", "a (second)", "b (second)"]);
    let mut renamed = part(&folder, "second", &["ria"], &[0, 1]);
    renamed.plan.experiment.models[0].name = "same".to_string();
    renamed
        .plan
        .cell
        .iter_mut()
        .filter(|cell| cell.model == "a")
        .for_each(|cell| cell.model = "same".to_string());
    let joined = union(&[one.clone(), renamed], RowsBy::Method).expect("they go together");
    assert_eq!(joined.plan.experiment.models.len(), 2);
    assert_eq!(entry(&joined, "ria").runs.len(), 2);
    let mut text = part(&folder, "second", &["ria"], &[0, 1]);
    text.records
        .iter_mut()
        .for_each(|record| record.cell.evaluations[0].length += 1);
    let joined = union(&[one, text], RowsBy::Method).expect("they go together");
    let texts = joined.plan.experiment.evaluations.iter().map(|it| it.name.as_str());
    assert_eq!(texts.collect::<Vec<_>>(), ["text", "text (second)"]);
    // A method that was not measured on a text is not missing there.
    assert_eq!((entry(&joined, "ria").planned, entry(&joined, "wanda").planned), (0, 2));
}

/// Claim: a method that two experiments call by different names is one row, and is not compared with itself.
#[test]
fn one_recipe_under_two_names_is_one_row() {
    let folder = whole("[0, 1, 2, 3]", "");
    let called = |mut part: ResultsFolder, method: &str, name: &str| {
        let mut methods = part.plan.experiment.methods.iter_mut();
        methods.find(|it| it.name == method).expect("it is there").name = name.to_string();
        let cells = part.plan.cell.iter_mut();
        cells
            .filter(|cell| cell.method == method)
            .for_each(|cell| cell.method = name.to_string());
        part
    };
    let first = part(&folder, "first", &["wanda", "ria"], &[0, 1]);
    for seeds in [[0, 1], [2, 3]] {
        let second = called(part(&folder, "second", &["wanda", "magnitude"], &seeds), "wanda", "LS");
        let joined = union(&[first.clone(), second.clone()], RowsBy::Method).expect("they go together");
        assert_eq!(methods(&joined), ["wanda", "ria", "magnitude"]);
        assert_eq!(entry(&joined, "wanda").runs.len(), if seeds == [0, 1] { 2 } else { 4 });
        let tests = zprune::report::comparison::families(&joined);
        let patterns = joined.plan.experiment.patterns.len();
        assert_eq!(tests.len(), 1);
        assert!(
            tests[0]
                .tests
                .iter()
                .all(|test| test.ours != "LS" && test.other != "LS")
        );
        assert_eq!(
            tests[0].tests.len(),
            3 * patterns * joined.sections.len(),
            "three pairs"
        );
        let said = "`LS` of second is in the row of `wanda`, whose recipe it has.";
        let said_of = |results: &Results| results.plan.experiment.description.clone();
        assert!(said_of(&joined).ends_with(said), "{}", said_of(&joined));
        let mut declared = joined.clone();
        declare(&mut declared, Vec::new());
        assert!(said_of(&declared).contains("were declared for this report") && said_of(&declared).ends_with(said));
        // In one experiment they are two rows, and by experiment they stay apart.
        let both = union(&[first.clone(), second.clone()], RowsBy::Experiment).expect("they go together");
        assert_eq!(
            methods(&both),
            ["wanda (first)", "ria (first)", "magnitude (second)", "LS (second)"]
        );
        // Without any record, or on another backend, nothing tells that they are the same.
        let mut unknown = second.clone();
        unknown.records.clear();
        let mut gpu = second;
        gpu.records
            .iter_mut()
            .for_each(|record| record.cell.backend = "gpu".to_string());
        for other in [unknown, gpu] {
            let joined = union(&[first.clone(), other], RowsBy::Method).expect("they go together");
            assert!(methods(&joined).contains(&"LS"), "{:?}", methods(&joined));
            assert!(!said_of(&joined).contains("whose recipe"), "{}", said_of(&joined));
        }
    }
    // Of two methods of one experiment, only one is that of the other.
    let mut twice = part(&folder, "second", &["wanda", "ria"], &[0, 1]);
    let wanda = twice
        .plan
        .experiment
        .methods
        .iter()
        .find(|it| it.name == "wanda")
        .cloned()
        .expect("it is there");
    let mut copy = wanda;
    copy.name = "LS".to_string();
    let cells: Vec<PlannedCell> = twice
        .plan
        .cell
        .iter()
        .filter(|cell| cell.method == "wanda")
        .cloned()
        .collect();
    twice.plan.cell.extend(cells.into_iter().map(|cell| PlannedCell {
        method: "LS".to_string(),
        ..cell
    }));
    twice.plan.experiment.methods.push(copy);
    let joined = union(&[first, twice], RowsBy::Method).expect("they go together");
    assert_eq!(methods(&joined), ["wanda", "ria", "LS"]);
}

/// Claim: a column of times says so where they were measured on several machines.
#[test]
fn times_of_several_machines_are_told_apart() {
    let mut folder = whole("[0, 1]", "");
    // Only a table of one model has such a column.
    folder.plan.experiment.models.truncate(1);
    folder.plan.cell.retain(|cell| cell.model == "a");
    let notes = |folder: &ResultsFolder| -> Vec<String> {
        let report = Report::new(folder_results(folder));
        let of_scores = report.chapters.iter().filter(|chapter| chapter.file == "perplexity");
        let sheets = of_scores.flat_map(|chapter| &chapter.sheets);
        sheets.flat_map(|sheet| sheet.notes.clone()).collect()
    };
    let said = |folder: &ResultsFolder| notes(folder).into_iter().find(|note| note.starts_with("prune, s: "));
    assert_eq!(said(&folder), None);
    let mut merged = folder.clone();
    for record in &mut merged.records {
        record.run.machine = "linux x86_64, 16 cores".to_string();
        record.run.device = None;
        if record.cell.pruning.is_some() && record.label.method == "wanda" {
            record.run.device = Some("NVIDIA H200, NVIDIA 580.159.04, tier cooperative".to_string());
        }
    }
    let note = said(&merged).expect("a note");
    assert!(
        note.starts_with("prune, s: the times are of 2 machines, so that rows differ in the machine, too. "),
        "{note}"
    );
    for machine in ["NVIDIA H200 (linux x86_64, 16 cores): ", "; linux x86_64, 16 cores: "] {
        assert!(
            note.contains(machine) || note.contains(machine.trim_start_matches("; ")),
            "{note}"
        );
    }
    assert!(!note.contains("580.159"), "the driver is of no interest: {note}");
}

fn folder_results(folder: &ResultsFolder) -> Results {
    Results::join(folder.plan.clone(), &folder.records)
}

#[test]
fn families_of_several_experiments_are_those_that_a_file_declares() {
    let folder = whole("[0, 1]", "");
    let parts = [
        part(&folder, "first", &["ria", "wanda"], &[0, 1]),
        part(&folder, "second", &["magnitude"], &[0, 1]),
    ];
    let mut results = union(&parts, RowsBy::Experiment).expect("they go together");
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("families.toml");
    let entry = |family: &str, ours: &str, against: &str, more: &str| {
        format!("[[comparison]]\nfamily = \"{family}\"\nours = \"{ours}\"\nagainst = [\"{against}\"]\n{more}\n")
    };
    let declared = |text: &str| {
        std::fs::write(&file, text).expect("writable");
        families(&file, &results.plan.experiment)
    };
    let (ria, wanda, magnitude) = ("ria (first)", "wanda (first)", "magnitude (second)");
    let one = entry("between", ria, magnitude, "") + &entry("between", wanda, magnitude, "");
    let two = entry("within", ria, wanda, "tasks = []");
    for (wrong, says) in [
        (entry("a", "ria", wanda, ""), "`ria`"),
        (one.clone() + &entry("between", ria, magnitude, ""), "twice"),
        (
            one.clone() + &entry("between", ria, wanda, "tasks = []"),
            "different names",
        ),
        ("name = \"a\"\n".to_string() + &two, "nothing else"),
        (
            "[[comparison]]\nfamily = \"a\"\naxis = \"criterion\"\nagainst = [\"wanda\"]\n".to_string(),
            "`against`",
        ),
    ] {
        let error = declared(&wrong).expect_err(says).to_string();
        assert!(error.contains(says) && error.contains("families.toml"), "{error}");
    }
    let found = declared(&(one + &two)).expect("families");
    declare(&mut results, found);
    assert!(
        results
            .plan
            .experiment
            .description
            .contains("were declared for this report")
    );
    let report = Report::new(results);
    let names: Vec<&str> = report.families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["between", "within"]);
    assert!(
        report
            .families
            .iter()
            .all(|family| family.declared && family.missing == 0)
    );
    let (sections, texts) = (report.results.sections.len(), 2);
    let patterns = report.results.plan.experiment.patterns.len();
    assert_eq!(report.families[0].tests.len(), 2 * sections * patterns);
    assert_eq!(report.families[1].tests.len(), texts * patterns, "tasks are left out");
    let pair = |test: &zprune::report::comparison::Test| (test.ours.clone(), test.other.clone());
    assert!(
        report.families[1]
            .tests
            .iter()
            .all(|test| pair(test) == (ria.to_string(), wanda.to_string()))
    );
}

#[test]
fn a_model_that_was_not_measured_on_a_text_has_no_table_there_and_cells_count_once() {
    let folder = whole("[0, 1]", "");
    let on = |name: &str, model: &str, text: &str| {
        let mut part = part(&folder, name, &["wanda", "ria"], &[0, 1]);
        part.plan.cell.retain(|cell| cell.model == model);
        part.plan.experiment.models.retain(|plan| plan.name == model);
        part.plan.experiment.evaluations[0].name = text.to_string();
        for record in &mut part.records {
            record.cell.evaluations[0].length += usize::from(text != "text");
        }
        part
    };
    let mut parts = [on("first", "a", "text"), on("second", "b", "other")];
    // One cell of the second experiment has not run, and one failed.
    let second = &mut parts[1];
    let [.., failed, last] = second.plan.cell.as_slice() else {
        panic!("five cells")
    };
    second.records.retain(|record| record.id != last.id);
    let record = second
        .records
        .iter_mut()
        .find(|record| record.id == failed.id)
        .expect("a record");
    (record.status, record.error) = (Status::Failed, Some("no memory".to_string()));
    let joined = union(&parts, RowsBy::Method).expect("they go together");
    let sections: Vec<(&str, String)> = joined
        .sections
        .iter()
        .filter(|section| section.measure.evaluation().is_some())
        .map(|section| (section.model.as_str(), section.measure.label()))
        .collect();
    assert_eq!(sections, [("a", "text".to_string()), ("b", "other".to_string())]);
    assert_eq!((joined.done, joined.failed, joined.planned), (8, 1, 10));
    let finding = Report::new(joined).finding;
    assert!(
        finding.starts_with("So far, 8 of 10 cells have results, and 1 failed. "),
        "{finding}"
    );

    // With all cells run, the report is not on its way any more.
    let mut run = parts.clone();
    let made = on("second", "b", "other");
    run[1].records.extend(made.records.last().cloned());
    let finding = Report::new(union(&run, RowsBy::Method).expect("they go together")).finding;
    assert!(finding.starts_with("Of 10 cells, 1 failed. "), "{finding}");

    // Each experiment's table says how many seeds it has itself.
    let mut fewer = parts.clone();
    fewer[1] = on("second", "b", "other");
    fewer[1].plan.cell.retain(|cell| cell.seed != Some(1));
    fewer[1].plan.experiment.seeds = vec![0];
    let report = Report::new(union(&fewer, RowsBy::Method).expect("they go together"));
    let sheets = report.chapters.iter().filter(|chapter| chapter.file == "perplexity");
    let seeds: Vec<&str> = sheets
        .flat_map(|chapter| &chapter.sheets)
        .map(|sheet| sheet.notes[0].as_str())
        .collect();
    assert!(seeds[0].starts_with("60 windows, 2 calibration seeds."), "{seeds:?}");
    assert!(seeds[1].starts_with("60 windows, one calibration seed."), "{seeds:?}");

    // The same experiment twice has no more cells than once.
    let twice = union(&[parts[0].clone(), parts[0].clone()], RowsBy::Method).expect("they go together");
    assert_eq!((twice.done, twice.planned), (5, 5));

    // A method without results has an empty place for its number of seeds, and not 0 seeds.
    let mut nothing = parts[0].clone();
    nothing.records.truncate(1);
    let report = Report::new(folder_results(&nothing));
    let sheet = &report.chapters[0].sheets[0];
    let seeds = sheet
        .columns
        .iter()
        .position(|column| column.title == "seeds")
        .expect("a column");
    assert!(
        sheet.rows.iter().all(|row| row[seeds].text.is_empty()),
        "{:?}",
        sheet.rows
    );
}

#[test]
fn experiments_that_no_table_can_show_are_refused() {
    let folder = whole("[0, 1]", "");
    let one = part(&folder, "first", &["wanda"], &[0, 1]);
    let refused = |other: ResultsFolder, says: &str| {
        let error = union(&[one.clone(), other], RowsBy::Method)
            .expect_err(says)
            .to_string();
        assert!(error.contains(says) && error.contains("`second`"), "{error}");
    };
    let mut other = part(&folder, "second", &["ria"], &[0, 1]);
    other.plan.experiment.confidence = 0.9;
    refused(other, "have confidence 0.95");
    let task = |limit| zprune::experiment::identity::TaskIdentity {
        name: "wnli".to_string(),
        version: 1,
        data: "data".to_string(),
        limit,
        harness: Default::default(),
    };
    let scored = |mut folder: ResultsFolder, limit| {
        folder
            .records
            .iter_mut()
            .for_each(|record| record.cell.tasks = vec![task(limit)]);
        folder
    };
    let other = scored(part(&folder, "second", &["ria"], &[0, 1]), Some(3));
    let error = union(&[scored(one.clone(), None), other], RowsBy::Method).expect_err("other documents");
    assert!(
        error.to_string().contains("`second` scores wnli on other documents"),
        "{error}"
    );
    // Prompts that are the same, behind other examples, or with another end of an answer.
    let prompts = GenerationIdentity {
        name: "sums".to_string(),
        prompts: "prompts".to_string(),
        examples: Some("examples".to_string()),
        settings: GenerationSettings {
            shots: None,
            template: "{prompt}".to_string(),
            chat: false,
            max_tokens: 4,
            stop: Vec::new(),
            matching: Match::Exact,
            limit: None,
        },
        chat_template: None,
        ends: vec![2],
    };
    let answered = |mut folder: ResultsFolder, prompts: &GenerationIdentity| {
        folder.plan.experiment.generations = vec![GenerationPlan {
            name: prompts.name.clone(),
            prompts: "prompts.jsonl".into(),
            examples: Some("examples.jsonl".into()),
            obtain: None,
            settings: prompts.settings.clone(),
        }];
        for record in &mut folder.records {
            record.cell.generations = vec![prompts.clone()];
        }
        folder
    };
    let second = |prompts: &GenerationIdentity| answered(part(&folder, "second", &["ria"], &[0, 1]), prompts);
    let joined = union(&[answered(one.clone(), &prompts), second(&prompts)], RowsBy::Method).expect("the same prompts");
    assert_eq!(joined.plan.experiment.generations.len(), 1);
    for change in [
        (|it| it.prompts = "others".to_string()) as fn(&mut GenerationIdentity),
        |it| it.examples = Some("others".to_string()),
        |it| it.examples = None,
        |it| it.settings.max_tokens = 5,
        |it| it.ends = vec![3],
    ] {
        let mut others = prompts.clone();
        change(&mut others);
        let error = union(&[answered(one.clone(), &prompts), second(&others)], RowsBy::Method);
        let error = error.expect_err("other prompts").to_string();
        assert!(error.contains("the prompts `sums` of `second`"), "{error}");
    }
    let error = union(&[], RowsBy::Method).expect_err("nothing").to_string();
    assert!(error.contains("at least one"), "{error}");
}

/// The rows of the sheet with this title, as text.
fn rows(chapter: &Chapter, title: &str) -> Vec<Vec<String>> {
    let sheet = chapter.sheets.iter().find(|sheet| sheet.title == title);
    let rows = sheet.map(|sheet: &Sheet| sheet.rows.as_slice()).unwrap_or_default();
    rows.iter()
        .map(|row| row.iter().map(|cell| cell.text.clone()).collect())
        .collect()
}

#[test]
fn what_changed_is_counted_cell_by_cell() {
    let now = whole("[0, 1]", "");
    let unchanged = changes::chapter(Since::Folder(&now), &now).expect("two versions");
    assert_eq!(unchanged.sheets[0].title, "No number changed");
    assert!(unchanged.sheets[0].rows.is_empty());
    assert!(
        unchanged.sheets[0].notes[0].starts_with("The numbers of 12 cells"),
        "{:?}",
        unchanged.sheets[0].notes
    );
    assert_eq!(unchanged.sheets.len(), 1);

    // One seed of one method scored twice the perplexity before, by another version of zprune.
    let mut before = now.clone();
    let place = before
        .plan
        .cell
        .iter()
        .position(|cell| cell.method == "wanda" && cell.seed == Some(1));
    let place = place.expect("planned");
    let record = &mut before.records[place];
    record.evaluations[0]
        .windows
        .iter_mut()
        .for_each(|window| *window += 2f64.ln());
    record.evaluations[0].perplexity *= 2.0;
    record.cell.numbers += 1;
    record.id = "earlier".to_string();
    before.plan.cell[place].id = "earlier".to_string();
    let seeds = |id: &str| now.records.iter().find(|it| it.id == id).expect("there").evaluations[0].perplexity;
    let ids: Vec<&str> = [0, 1]
        .map(|seed| {
            let mut cells = now.plan.cell.iter();
            let own = cells.find(|cell| cell.model == "a" && cell.method == "wanda" && cell.seed == Some(seed));
            own.expect("planned").id.as_str()
        })
        .to_vec();
    let (first, second) = (seeds(ids[0]), seeds(ids[1]));
    let (old, new) = ((first + 2.0 * second) / 2.0, (first + second) / 2.0);
    let expect = [
        "a".to_string(),
        "text".to_string(),
        "wanda".to_string(),
        "50 %".to_string(),
        "2".to_string(),
        format!("{old:.2}"),
        format!("{new:.2}"),
        format!("{:+.3} %", 100.0 * (new / old - 1.0)),
        "-50.000 %".to_string(),
    ];
    let chapter = changes::chapter(Since::Folder(&before), &now).expect("two versions");
    assert_eq!(rows(&chapter, "Numbers that changed"), [expect.to_vec()]);
    assert!(
        chapter.sheets[0].notes[0].starts_with("The numbers of 11 of 12 cells"),
        "{:?}",
        chapter.sheets[0].notes
    );
    let settings = rows(&chapter, "Settings and inputs that differ");
    let numbers = now.records[0].cell.numbers;
    assert_eq!(
        settings,
        [[
            "numbers".to_string(),
            (numbers + 1).to_string(),
            numbers.to_string(),
            "1".to_string()
        ]]
    );

    // In one folder: the records of both, and a plan that has the new one only. No log tells when they were made.
    let log = Processes::default();
    let mut both = now.clone();
    let earlier = before.records[place].clone();
    both.records.insert(0, earlier);
    let same = changes::chapter(Since::Before(&log), &both).expect("two versions");
    assert_eq!(rows(&same, "Numbers that changed")[0][8], "-50.000 %");
    let new = rows(&same, "Cells that were not there before");
    let cells = new.iter().map(|row| row[3].parse::<usize>().expect("a number"));
    assert_eq!(cells.sum::<usize>(), 11);
    let new = same
        .sheets
        .iter()
        .find(|it| it.title == "Cells that were not there before");
    assert!(new.expect("there").notes[0].contains("events.jsonl does not tell"));

    // Cells that were recorded before what was replaced were there before, too.
    let last = both.records.remove(0);
    let error = changes::chapter(Since::Before(&log), &both)
        .map(|_| ())
        .expect_err("one version");
    assert!(
        error.to_string().contains("nothing was replaced or left out"),
        "{error}"
    );
    both.records.push(last);
    let same = changes::chapter(Since::Before(&log), &both).expect("two versions");
    assert!(rows(&same, "Cells that were not there before").is_empty());
    assert!(
        same.sheets[0].notes[0].starts_with("The numbers of 11 of 12 cells"),
        "{:?}",
        same.sheets[0].notes
    );

    // Nothing is the same, and the note does not say that 0 cells are.
    let mut others = now.clone();
    for record in &mut others.records {
        record.evaluations[0].windows[0] += 1e-9;
    }
    let chapter = changes::chapter(Since::Folder(&others), &now).expect("two versions");
    let note = &chapter.sheets[0].notes[0];
    assert_eq!(note, "None of the 12 cells in both has the same numbers.");

    // What is measured only now changes no number that was there before.
    let mut more = now.clone();
    more.plan.experiment.evaluations.push({
        let mut other = more.plan.experiment.evaluations[0].clone();
        other.name = "other".to_string();
        other
    });
    for record in &mut more.records {
        let evaluation = record.evaluations[0].clone();
        record.evaluations.push(evaluation);
    }
    for (before, after, when) in [
        (&now, &more, "now, and not before"),
        (&more, &now, "before, and not now"),
    ] {
        let notes = &changes::chapter(Since::Folder(before), after)
            .expect("two versions")
            .sheets[0]
            .notes;
        assert!(
            notes[0].starts_with("The numbers of 12 cells in both are the same"),
            "{notes:?}"
        );
        assert_eq!(notes[1], format!("Measured {when}: other."));
    }

    let fewer = part(&now, "made", &["wanda"], &[0, 1]);
    let chapter = changes::chapter(Since::Folder(&now), &fewer).expect("two versions");
    let gone = rows(&chapter, "Cells that are there no more");
    assert_eq!(gone[0], ["a", "magnitude", "50 %", "1"].map(String::from));
    assert_eq!(gone.len(), 4);
}

/// The same results before the parameters of a method were changed: it was called `name`, and its perplexities were twice as high.
fn with_other_parameters(now: &ResultsFolder, method: &str, name: &str) -> ResultsFolder {
    let mut before = now.clone();
    for (record, cell) in before.records.iter_mut().zip(&mut before.plan.cell) {
        if cell.method != method {
            continue;
        }
        cell.method = name.to_string();
        cell.id = format!("before {}", cell.id);
        record.id = cell.id.clone();
        record.label.method = name.to_string();
        let pruning = record.cell.pruning.as_mut().expect("a pruned model");
        let PruningKind::Recipe(recipe) = &mut pruning.kind else {
            panic!("no recipe")
        };
        recipe.criterion.parameters =
            serde_json::json!({ "expression": "abs(w) * sqrt(x2) * sqrt(fan_in) * sqrt(fan_out)" });
        record.evaluations[0].windows.iter_mut().for_each(|it| *it += 2f64.ln());
        record.evaluations[0].perplexity *= 2.0;
    }
    before
}

#[test]
fn a_method_that_is_called_after_its_parameters_stands_beside_what_it_was_before() {
    let mut now = whole("[0, 1]", "");
    for record in &mut now.records {
        if let Some(pruning) = &mut record.cell.pruning
            && let PruningKind::Recipe(recipe) = &mut pruning.kind
        {
            recipe.criterion.parameters =
                serde_json::json!({ "expression": "abs(w) * x2 ^ 0.25 * sqrt(fan_in) * sqrt(fan_out)" });
        }
    }
    let before = with_other_parameters(&now, "wanda", "wanda (power 2)");
    // In one folder, the names of before are those that the records have.
    let mut both = now.clone();
    let gone = before.records.iter().filter(|record| record.id.starts_with("before"));
    let (new, kept): (Vec<Record>, Vec<Record>) = now
        .records
        .iter()
        .cloned()
        .partition(|record| record.label.method == "wanda");
    both.records = kept.into_iter().chain(gone.cloned()).chain(new).collect();
    let log = Processes::default();
    for since in [Since::Folder(&before), Since::Before(&log)] {
        let chapter = changes::chapter(since, &both).expect("two versions");
        let changed = rows(&chapter, "Numbers that changed");
        assert_eq!(changed.len(), 2, "one for each model: {changed:?}");
        assert!(
            changed.iter().all(|row| row[2] == "wanda" && row[7] == "-50.000 %"),
            "{changed:?}"
        );
        let notes = &chapter.sheets[0].notes;
        assert!(
            notes
                .iter()
                .any(|note| note
                    == "`wanda` is compared with `wanda (power 2)` of before: they differ in parameters only."),
            "{notes:?}"
        );
        assert!(rows(&chapter, "Cells that are there no more").is_empty());
        assert!(rows(&chapter, "Cells that were not there before").is_empty());
        // What stands below each other on a narrow terminal says what it is.
        let settings = chapter
            .sheets
            .iter()
            .find(|sheet| sheet.title == "Settings and inputs that differ");
        let printed = zprune::report::terminal::sheet(settings.expect("a parameter differs"), Some(80));
        assert!(
            printed.contains(
                "pruning.criterion.parameters.expression\nbefore: abs(w) * sqrt(x2) * sqrt(fan_in) * sqrt(fan_out)\nnow: abs(w) * x2 ^ \
                 0.25 * sqrt(fan_in) * sqrt(fan_out)\n"
            ),
            "{printed}"
        );
    }

    // A new name alone changes no number.
    let mut renamed = now.clone();
    for cell in renamed.plan.cell.iter_mut().filter(|cell| cell.method == "wanda") {
        cell.method = "other".to_string();
    }
    let chapter = changes::chapter(Since::Folder(&now), &renamed).expect("two versions");
    assert_eq!(chapter.sheets[0].title, "No number changed");
    assert_eq!(chapter.sheets[0].notes[1], "`other` was called `wanda` before.");
    assert_eq!(chapter.sheets.len(), 1);

    // Where two methods may have become either of two others, or a component differs, nothing is guessed.
    let two = with_other_parameters(&before, "ria", "ria (power 2)");
    let mut another = before.clone();
    for record in another
        .records
        .iter_mut()
        .filter(|record| record.id.starts_with("before"))
    {
        if let Some(PruningKind::Recipe(recipe)) = record.cell.pruning.as_mut().map(|it| &mut it.kind) {
            recipe.criterion.name = "magnitude".to_string();
        }
    }
    for (before, title) in [
        (
            &two,
            "No number changed in the 4 cells that are in both; 8 are new, 8 are gone",
        ),
        (
            &another,
            "No number changed in the 8 cells that are in both; 4 are new, 4 are gone",
        ),
    ] {
        let chapter = changes::chapter(Since::Folder(before), &now).expect("two versions");
        assert_eq!(chapter.sheets[0].title, title);
    }
}
