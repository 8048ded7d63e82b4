//! Reports: records become tables, plots and a page. Sees plans, records and statistics, never a model.
//!
//! [`Results`] joins a results folder's plan with its records, [`union`] several folders, and [`changes`] compares two; [`comparison`] says which differences are real, [`finding`] what
//! they amount to; [`layout`] says what the tables hold. [`terminal`], [`text`], [`latex`], [`data`], [`html`] and [`plots`] turn that into text, and only
//! [`write()`] touches the disk, and no file there that zprune did not write. A report is a function of plan and records: made again, it is the same to the byte.

pub mod changes;
mod choice;
pub mod comparison;
pub mod csv;
pub mod data;
mod earlier;
pub mod finding;
pub mod format;
pub mod found;
pub mod html;
pub mod labels;
pub mod latex;
pub mod layout;
pub mod measure;
pub mod papers;
pub mod plots;
pub mod power;
pub mod published;
mod renamed;
pub mod results;
pub mod settings;
pub mod sheet;
pub mod tasks;
pub mod terminal;
pub mod text;
pub mod union;
mod version;
mod written;

pub use choice::{TableChoice, with_rows};
pub use results::Results;
pub use written::check;

use crate::error::Result;
use choice::SCORES;
use comparison::{ComparisonFamily, families};
use sheet::Chapter;
use std::path::{Path, PathBuf};

/// The content of a report, from which all its files are made.
pub struct Report {
    /// Scores of all methods, with the plan that they belong to.
    pub results: Results,
    /// Comparisons between methods, by family.
    pub families: Vec<ComparisonFamily>,
    /// What was found, in one sentence.
    pub finding: String,
    /// Tables, grouped by the file they go into.
    pub chapters: Vec<Chapter>,
}

impl Report {
    /// Makes the comparisons and the tables from the results.
    pub fn new(results: Results) -> Report {
        let families = families(&results);
        let mut chapters = layout::chapters(&results, &families, None);
        let experiment = &results.plan.experiment;
        if !experiment.references.is_empty() {
            chapters.push(power::chapter(experiment));
        }
        Report {
            finding: finding::sentence(&results, &families),
            results,
            families,
            chapters,
        }
    }

    /// Reads the plan and the records of a results folder.
    ///
    /// # Errors
    /// The plan or the records are missing or damaged.
    pub fn read(folder: &Path) -> Result<Report> {
        Ok(Report::new(Results::read(folder)?))
    }

    /// The tables that were asked for.
    ///
    /// # Errors
    /// There is no such table, method or column; names those there are.
    pub fn chosen(&self, choice: &TableChoice) -> Result<Vec<Chapter>> {
        choice.of(&self.results, &self.families, &self.chapters)
    }

    /// What was found, the scores, and the notes for reading them, for a terminal of this width; as wide as they are if it is
    /// not known.
    pub fn terminal(&self, width: Option<usize>) -> String {
        let scores = self.chapters.iter().filter(|it| SCORES.contains(&it.file));
        let scores = scores.map(|it| terminal::chapter(it, width));
        let finding = terminal::paragraph(&self.finding, width);
        std::iter::once(finding).chain(scores).collect::<Vec<_>>().join("\n")
    }

    /// Which plots cannot be drawn, and why, if records lack what they show.
    pub fn lacking(&self) -> Option<String> {
        let (count, all) = (self.results.without_layers, self.results.plan.cell.len());
        (count > 0).then(|| {
            format!(
                "{count} of {all} cells have records without layers (`zprune merge --without layers`), so no plot shows the layers of \
                 these."
            )
        })
    }

    /// A chapter as a Markdown file.
    pub fn markdown(&self, chapter: &Chapter) -> String {
        let experiment = &self.results.plan.experiment;
        let mut before = format!("# {}\n\n", text::escaped(&experiment.name));
        if !experiment.description.is_empty() {
            let lines: Vec<String> = experiment.description.lines().map(text::escaped).collect();
            before.push_str(&format!("{}\n\n", lines.join("\n")));
        }
        text::markdown(chapter, &before)
    }

    /// The content of all files, with paths relative to the results folder.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let experiment = &self.results.plan.experiment;
        let confidence = experiment.confidence;
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let plots = plots::all(&self.results, &self.families)?;
        let lacking = self.lacking();
        let page = html::page(
            &self.results.plan,
            &self.finding,
            &self.chapters,
            &plots,
            lacking.as_deref(),
        );
        files.push(("report.html".into(), page.into_bytes()));
        let json = data::json(&self.results, &self.families)?;
        files.push(("report.json".into(), json.into_bytes()));
        for chapter in &self.chapters {
            let table = |ending: &str| PathBuf::from(format!("tables/{}.{ending}", chapter.file));
            files.push((table("md"), self.markdown(chapter).into_bytes()));
            files.push((table("tex"), latex::latex(chapter, &experiment.name).into_bytes()));
            let csv = match chapter.file {
                "perplexity" => data::perplexity_csv(&self.results)?,
                "accuracy" => data::accuracy_csv(&self.results)?,
                "to_dense" => data::to_dense_csv(&self.results)?,
                "published" => data::published_csv(&self.results)?,
                "comparisons" => data::comparisons_csv(&self.families, confidence)?,
                // Its numbers are columns of perplexity.csv.
                _ => continue,
            };
            files.push((table("csv"), csv.into_bytes()));
        }
        for plot in plots {
            let png = plots::raster::png(&plot)?;
            files.push((format!("plots/{}.svg", plot.name).into(), plot.svg.into_bytes()));
            files.push((format!("plots/{}.csv", plot.name).into(), plot.data.into_bytes()));
            files.extend(png.map(|png| (format!("plots/{}.png", plot.name).into(), png)));
        }
        Ok(files)
    }
}

/// Writes all tables, plots and the page of a results folder; returns the paths, relative to it. Tables and plots of an earlier report that
/// this one does not have are removed, unless they were changed since.
///
/// # Errors
/// The folder cannot be written to, or holds a file with one of the names that zprune did not write.
pub fn write(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    let files = report.files()?;
    written::write(&files, folder, &report.results.plan.experiment.name)?;
    written::remove_others(&files, folder)?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Writes files of a search, with paths relative to its folder, which is named `name`; a file that zprune did not write stays.
///
/// # Errors
/// As [`write()`].
pub fn write_files(files: &[(PathBuf, Vec<u8>)], folder: &Path, name: &str) -> Result<()> {
    written::write(files, folder, name)
}

/// Checks that [`write_files`] may write files with these names.
///
/// # Errors
/// One of them belongs to somebody else.
pub fn check_files(files: &[&str], folder: &Path, name: &str) -> Result<()> {
    written::check_files(files, folder, name)
}
