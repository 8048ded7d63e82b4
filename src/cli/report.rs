//! `zprune report`.

use super::choice::choice;
use super::common::{around, elsewhere};
use super::streams::{print, say, width};
use crate::error::{Error, Result};
use crate::experiment::edited::{Now, edited};
use crate::experiment::plan::Experiment;
use crate::experiment::plan_file::PlanFile;
use crate::experiment::resolve;
use crate::files::names::quoted;
use crate::registry::counted;
use crate::report::changes::{Processes, Since};
use crate::report::sheet::Chapter;
use crate::report::union::{ResultsFolder, RowsBy, declare, union};
use crate::report::{self, Report, Results, TableChoice, changes, csv, latex, papers, power, terminal, with_rows};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Arguments of `zprune report`.
#[derive(Debug, clap::Args)]
pub(super) struct ReportCommand {
    /// Experiment file, or a results folder; several are put into one report, which is printed
    #[arg(required = true, value_name = "EXPERIMENT")]
    experiments: Vec<PathBuf>,
    /// Folder that holds one results folder per experiment
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
    /// What makes a row in a report of several experiments [default: method]
    #[arg(long, value_parser = choice::<RowsBy>(&[
        "Methods that are the same in several experiments are one row, with the seeds of all",
        "Every experiment's methods have rows of their own",
    ]))]
    by: Option<RowsBy>,
    /// File with the comparisons ([[comparison]]) that a report of several experiments makes; without it, every pair of methods is compared
    #[arg(long, value_name = "FILE")]
    families: Option<PathBuf>,
    /// Folder for the files of a report of several experiments
    #[arg(long, value_name = "DIR", conflicts_with_all = ["table", "methods", "columns", "format"])]
    out: Option<PathBuf>,
    /// Print what changed since these results (an experiment file or a results folder); without a value, since those that the same
    /// folder held before the experiment was changed
    #[arg(long, value_name = "EXPERIMENT", num_args = 0..=1, conflicts_with_all = ["table", "methods", "columns", "out", "power"])]
    since: Option<Option<PathBuf>>,
    /// Print whether the published differences that an experiment names were large enough to be seen; needs no records
    #[arg(long, conflicts_with_all = ["table", "methods", "columns", "format"])]
    power: bool,
    /// Print the perplexities of published tables beside those measured, where model, text, windows, pattern and method are the same,
    /// and say why the rest cannot be compared
    #[arg(long, conflicts_with_all = ["table", "methods", "columns", "out", "since", "power"])]
    published: bool,
    /// Print these tables and write no files: perplexity, accuracy, published, comparisons, uncertainty, axes, power; separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    table: Vec<String>,
    /// Print tables with these methods only, in this order, and write no files; `dense` is the unpruned model
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    /// Print tables with these columns only, in this order, behind those that name the rows, and write no files: their headings, as in
    /// "50 %,2:4"
    #[arg(long, value_name = "HEADINGS", value_delimiter = ',')]
    columns: Vec<String>,
    /// Print only rows that contain this text, or whose table's title does, and write no files; `a|b` means one of two texts. May
    /// be repeated; rows must then contain all of them
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["out", "power"])]
    rows: Vec<String>,
    /// Print tables in this layout and write no files
    #[arg(long, value_parser = choice::<TableLayout>(&[
        "As on a terminal",
        "For a file in Markdown",
        "For a paper",
        "For a program; the numbers are as rounded as in the tables, and those with all their digits are in the folder's `tables/*.csv`",
    ]))]
    format: Option<TableLayout>,
}

/// Layouts of printed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TableLayout {
    Text,
    Markdown,
    Latex,
    Csv,
}

/// Carries out the command `zprune report`.
pub(super) fn run(arguments: &ReportCommand) -> Result<()> {
    let [path] = arguments.experiments.as_slice() else {
        return several(arguments);
    };
    if arguments.power {
        return show_power(path);
    }
    for (option, given, what) in [
        (
            "--out",
            arguments.out.is_some(),
            "that of one is written into its results folder",
        ),
        (
            "--families",
            arguments.families.is_some(),
            "one experiment declares its own",
        ),
        ("--by", arguments.by.is_some(), "a row of one is a method"),
    ] {
        if given {
            let message = format!("{option} is for a report of several experiments; {what}");
            return Err(Error::config(message));
        }
    }
    let Opened { folder, read, settled } = open(arguments, path)?;
    if let Some(since) = &arguments.since {
        let changed = match since {
            Some(path) => changes::chapter(Since::Folder(&open(arguments, path)?.read), &read)?,
            None => changes::chapter(Since::Before(&Processes::read(&folder)), &read)?,
        };
        let chapters = with_rows(vec![changed], &arguments.rows)?;
        return print(&printed(&chapters, arguments.format, &read.plan.experiment.name)?);
    }
    if arguments.published {
        let name = read.plan.experiment.name.clone();
        let results = Results::join(read.plan, &read.records);
        let chapters = with_rows(vec![papers::chapter(&results, &read.records)?], &arguments.rows)?;
        return print(&printed(&chapters, arguments.format, &name)?);
    }
    let report = Report::new(Results::join(read.plan, &read.records));
    if let Some(tables) = tables(&report, arguments)? {
        return print(&tables);
    }
    if settled {
        // What a run would write that has nothing to compute, so that the folder's report is the same as the file's.
        report::check(&report.results.plan.experiment, &folder)?;
        report.results.plan.write(&folder)?;
    }
    report::write(&report, &folder)?;
    let (done, failed, planned) = report.results.progress(&read.records);
    let page = folder.join("report.html");
    let everything = format!(
        "{planned} cells: {done} done, {failed} failed; everything is in {}",
        page.display()
    );
    let lacking = report
        .lacking()
        .map_or(String::new(), |text| terminal::paragraph(&text, width()));
    print(&format!("{}\n{lacking}{everything}", report.terminal(width())))
}

/// Several experiments in one report. It belongs to none of their folders, so it is written only where `--out` says.
fn several(arguments: &ReportCommand) -> Result<()> {
    let alone = [
        ("--power", arguments.power),
        ("--since", arguments.since.is_some()),
        ("--published", arguments.published),
    ];
    if let Some((option, _)) = alone.into_iter().find(|(_, asked)| *asked) {
        let message = format!(
            "{option} asks about one experiment, and there are {}",
            arguments.experiments.len()
        );
        return Err(Error::config(message));
    }
    let folders = arguments.experiments.iter().map(|path| Ok(open(arguments, path)?.read));
    let folders = folders.collect::<Result<Vec<ResultsFolder>>>()?;
    if let Some(out) = &arguments.out {
        apart(arguments, out)?;
    }
    let mut results = union(&folders, arguments.by.unwrap_or_default())?;
    if let Some(file) = &arguments.families {
        let declared = resolve::families(file, &results.plan.experiment)?;
        declare(&mut results, declared);
    }
    let report = Report::new(results);
    if let Some(tables) = tables(&report, arguments)? {
        return print(&tables);
    }
    let mut text = report.terminal(width());
    text.extend(report.lacking().map(|it| terminal::paragraph(&it, width())));
    if let Some(folder) = &arguments.out {
        report::check(&report.results.plan.experiment, folder)?;
        report::write(&report, folder)?;
        text.push_str(&format!("\neverything is in {}", folder.join("report.html").display()));
    }
    print(&text)
}

/// Refuses a folder for the files of a report that is one of those it is made of: they would replace that one's own.
fn apart(arguments: &ReportCommand, out: &Path) -> Result<()> {
    let Ok(whole) = out.canonicalize() else {
        return Ok(());
    };
    for path in &arguments.experiments {
        let (folder, _) = named(arguments, path)?;
        if folder.canonicalize().is_ok_and(|folder| folder == whole) {
            let message = format!(
                "--out is the results folder of {}, whose own report would be replaced; name another folder",
                path.display()
            );
            return Err(Error::config(message).at(out.display()));
        }
    }
    Ok(())
}

/// The results folder of an experiment, and what its file says, if the file was named.
fn named(arguments: &ReportCommand, path: &Path) -> Result<(PathBuf, Option<Experiment>)> {
    // Somebody who names a file of a results folder means the folder.
    let inside = path
        .parent()
        .filter(|folder| path.is_file() && folder.join("runs.jsonl").exists());
    if let Some(folder) =
        inside.filter(|_| path.extension().is_none_or(|ending| ending != "toml") || path.ends_with("plan.toml"))
    {
        return Ok((folder.to_path_buf(), None));
    }
    if !path.is_dir() {
        let experiment = reported(path)?;
        let results = around(&arguments.results, &experiment.name);
        let folder = results.join(&experiment.name);
        if !folder.join("runs.jsonl").exists() {
            let message = match elsewhere(path, &results, &experiment.name) {
                Some(there) => format!(
                    "there are no results; {} has some: add --results {}",
                    there.join(&experiment.name).display(),
                    quoted(&there)
                ),
                None => format!("there are no results yet; run it first: zprune run {}", quoted(path)),
            };
            return Err(Error::input(message).at(folder.display()));
        }
        return Ok((folder, Some(experiment)));
    }
    if !path.join("runs.jsonl").exists() {
        let message = format!(
            "has no runs.jsonl, so it is not a results folder; give one, such as {}",
            within(path)
        );
        return Err(Error::input(message).at(path.display()));
    }
    Ok((path.to_path_buf(), None))
}

/// The results folders in a folder, for a message; an example if there is none.
fn within(folder: &Path) -> String {
    /// Most that are named.
    const MOST: usize = 8;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<String> = paths
        .filter(|path| path.join("runs.jsonl").is_file())
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found.truncate(MOST);
    match found.is_empty() {
        true => "results/NAME".to_string(),
        false => found.join(", "),
    }
}

/// A results folder that is read.
struct Opened {
    folder: PathBuf,
    /// The plan, with what the experiment's file says now if it was named, and the records.
    read: ResultsFolder,
    /// Whether the plan is another one than the folder's, and no cell of it needs a run.
    settled: bool,
}

/// Reads the results of an experiment. Where its file was edited since the last run, says what the edits change.
fn open(arguments: &ReportCommand, path: &Path) -> Result<Opened> {
    let (folder, experiment) = named(arguments, path)?;
    let mut read = ResultsFolder::read(&folder)?;
    let mut settled = false;
    let file = path.display();
    let again = format!("`zprune run {}`", quoted(path));
    match experiment.map(|experiment| edited(&read.plan, &experiment)) {
        None => {}
        Some(Now::Other(parts)) => say(&format!(
            "note: {file} was edited since its last run ({}), and none of its cells has a result with the settings that it has now. This \
             report shows the last run, as {} has it; {again} computes the cells of the file",
            parts.join(", "),
            folder.join("plan.toml").display()
        )),
        Some(Now::Plan { plan, new, gone }) => {
            if new > 0 {
                say(&format!(
                    "note: {file} was edited since its last run, and {} no result with the settings that the file has now; {again} \
                     computes {}. `zprune report {}` shows the last run",
                    have(new),
                    if new == 1 { "it" } else { "them" },
                    quoted(&folder)
                ));
            }
            if gone > 0 {
                say(&format!(
                    "note: {} of the last run {} not in {file} any more, and left out here; the records keep {}",
                    counted(gone, "cell"),
                    if gone == 1 { "is" } else { "are" },
                    if gone == 1 { "it" } else { "them" },
                ));
            }
            settled = new == 0 && *plan != read.plan;
            read.plan = *plan;
        }
    }
    Ok(Opened { folder, read, settled })
}

/// So many cells, with the verb.
fn have(count: usize) -> String {
    format!("{} {}", counted(count, "cell"), if count == 1 { "has" } else { "have" })
}

/// The tables that the arguments choose; none if they choose nothing.
fn tables(report: &Report, arguments: &ReportCommand) -> Result<Option<String>> {
    let choice = TableChoice {
        tables: arguments.table.clone(),
        methods: arguments.methods.clone(),
        columns: arguments.columns.clone(),
        rows: arguments.rows.clone(),
    };
    if choice == TableChoice::default() && arguments.format.is_none() {
        return Ok(None);
    }
    let name = &report.results.plan.experiment.name;
    printed(&report.chosen(&choice)?, arguments.format, name).map(Some)
}

/// Tables as they are printed.
fn printed(chapters: &[Chapter], layout: Option<TableLayout>, name: &str) -> Result<String> {
    let text: &dyn Fn(&Chapter) -> String = match layout.unwrap_or(TableLayout::Text) {
        TableLayout::Text => &|chapter| terminal::chapter(chapter, width()),
        TableLayout::Markdown => &|chapter| report::text::markdown(chapter, ""),
        TableLayout::Latex => &|chapter| latex::latex(chapter, name),
        TableLayout::Csv => return csv::shown(chapters),
    };
    Ok(chapters.iter().map(text).collect::<Vec<_>>().join("\n"))
}

/// The experiment that a report is asked for by its file.
fn reported(path: &Path) -> Result<Experiment> {
    resolve::read(path).map_err(|error| match path.extension().is_some_and(|ending| ending == "toml") {
        true => error,
        false => Error::new(
            error.kind(),
            format!(
                "{error}\na report is made of a results folder, such as results/NAME, or of an experiment file (.toml)"
            ),
        ),
    })
}

fn show_power(path: &Path) -> Result<()> {
    let experiment = match path.is_dir() {
        true => PlanFile::read(path)?.experiment,
        false => reported(path)?,
    };
    if experiment.references.is_empty() {
        let message = "it names no published values: add a [[reference]] (experiments/README.md)";
        return Err(Error::config(message).at(path.display()));
    }
    print(&terminal::chapter(&power::chapter(&experiment), width()))
}
