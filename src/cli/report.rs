//! `zprune report`.

use super::choice::choice;
use super::streams::{print, width};
use crate::error::{Error, Result};
use crate::experiment::plan::Experiment;
use crate::experiment::plan_file::PlanFile;
use crate::experiment::resolve;
use crate::record;
use crate::report::{self, Results, TableChoice, latex, power, terminal};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Arguments of `zprune report`.
#[derive(Debug, clap::Args)]
pub(super) struct ReportCommand {
    /// Experiment file, or a results folder
    experiment: PathBuf,
    /// Folder that holds one results folder per experiment
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
    /// Ask instead whether the differences that an experiment cites could have been seen; needs no records
    #[arg(long, conflicts_with_all = ["table", "methods", "columns", "format"])]
    power: bool,
    /// Print this table and write no files (perplexity, accuracy, published, comparisons, uncertainty, axes, power); may be repeated
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Print tables with these methods only, in this order, and write no files; `dense` is the unpruned model
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    /// Print tables with these columns only, in this order, and write no files: their headings, as in "50 %,2:4"
    #[arg(long, value_name = "HEADINGS", value_delimiter = ',')]
    columns: Vec<String>,
    /// Print tables in this layout and write no files
    #[arg(long, value_parser = choice::<TableLayout>(&["As on a terminal", "For a file in Markdown", "For a paper"]))]
    format: Option<TableLayout>,
}

/// Layouts of printed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TableLayout {
    Text,
    Markdown,
    Latex,
}

/// Carries out the command `zprune report`.
pub(super) fn run(arguments: &ReportCommand) -> Result<()> {
    if arguments.power {
        return show_power(&arguments.experiment);
    }
    let path = &arguments.experiment;
    let folder = if path.is_dir() {
        path.clone()
    } else {
        arguments.results.join(reported(path)?.name)
    };
    if path.is_dir() && !folder.join("runs.jsonl").exists() {
        let message = "has no runs.jsonl, so it is no results folder; give one, such as results/NAME";
        return Err(Error::input(message).at(folder.display()));
    }
    let records = record::read(&folder)?;
    let report = report::Report::new(Results::join(PlanFile::read(&folder)?, &records));
    let choice = TableChoice {
        tables: arguments.table.clone(),
        methods: arguments.methods.clone(),
        columns: arguments.columns.clone(),
    };
    if choice != TableChoice::default() || arguments.format.is_some() {
        return print(&chosen(
            &report,
            &choice,
            arguments.format.unwrap_or(TableLayout::Text),
        )?);
    }
    report::write(&report, &folder)?;
    let (done, failed, planned) = report.results.progress(&records);
    let page = folder.join("report.html");
    let everything = format!(
        "{planned} cells: {done} done, {failed} failed; everything is in {}",
        page.display()
    );
    print(&format!("{}\n{everything}", report.terminal(width())))
}

/// The chosen tables as they are printed.
fn chosen(report: &report::Report, choice: &TableChoice, layout: TableLayout) -> Result<String> {
    let name = &report.results.plan.experiment.name;
    let chapters = report.chosen(choice)?;
    let texts = chapters.iter().map(|chapter| match layout {
        TableLayout::Text => terminal::chapter(chapter, width()),
        TableLayout::Markdown => report::text::markdown(chapter, ""),
        TableLayout::Latex => latex::latex(chapter, name),
    });
    Ok(texts.collect::<Vec<_>>().join("\n"))
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
        let message = "it cites no published values: add a [[reference]] (experiments/README.md)";
        return Err(Error::config(message).at(path.display()));
    }
    print(&terminal::chapter(&power::chapter(&experiment), width()))
}
