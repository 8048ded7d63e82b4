//! Some tables of a report, with some methods and columns: what somebody wants in a paper.

use super::comparison::ComparisonFamily;
use super::layout;
use super::results::Results;
use super::sheet::{Chapter, Sheet};
use crate::error::{Error, Result};
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::registry::unknown;

/// The chapters that say what the methods scored.
pub(super) const SCORES: [&str; 4] = ["perplexity", "accuracy", "to_dense", "published"];

/// Which tables of a report are wanted, and what of them. An empty list asks for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChoice {
    /// Names of tables, as their files are called: `perplexity`, `comparisons`; those of scores if there are none.
    pub tables: Vec<String>,
    /// Names of methods in the wanted order, `dense` among them where it is wanted.
    pub methods: Vec<String>,
    /// Headings of columns in the wanted order; the first column is always there.
    pub columns: Vec<String>,
    /// What a row must have, as in [`with_rows`].
    pub rows: Vec<String>,
}

impl TableChoice {
    /// The chosen tables of a report, all of whose chapters are `all`. A table that has none of the wanted columns is left out.
    ///
    /// # Errors
    /// There is no such table, method or column.
    pub(super) fn of(&self, results: &Results, families: &[ComparisonFamily], all: &[Chapter]) -> Result<Vec<Chapter>> {
        let experiment = &results.plan.experiment;
        let methods: Vec<&str> = std::iter::once(DENSE)
            .chain(experiment.methods.iter().map(|method| method.name.as_str()))
            .collect();
        known("method", &self.methods, &methods)?;
        let mut chapters = match self.methods.is_empty() {
            true => all.to_vec(),
            false => layout::chapters(results, families, Some(&self.methods)),
        };
        let tables: Vec<&str> = chapters.iter().map(|chapter| chapter.file).collect();
        known("table", &self.tables, &tables)?;
        chapters.retain(|chapter| match self.tables.is_empty() {
            true => SCORES.contains(&chapter.file),
            false => self.tables.iter().any(|table| table == chapter.file),
        });
        let chapters = with_rows(chapters, &self.rows)?;
        if self.columns.is_empty() {
            return Ok(chapters);
        }
        let mut titles: Vec<&str> = Vec::new();
        for column in chapters
            .iter()
            .flat_map(|chapter| &chapter.sheets)
            .flat_map(|sheet| &sheet.columns)
        {
            if !titles.contains(&column.title.as_str()) {
                titles.push(&column.title);
            }
        }
        let columns: Vec<String> = self.columns.iter().map(|typed| title(typed, &titles)).collect();
        known("column", &columns, &titles)?;
        let chosen = |chapter: &Chapter| Chapter {
            sheets: chapter
                .sheets
                .iter()
                .map(|sheet| sheet.with_columns(&columns))
                .filter(|sheet| sheet.columns.len() > 1)
                .collect(),
            ..chapter.clone()
        };
        Ok(chapters
            .iter()
            .map(chosen)
            .filter(|chapter| !chapter.sheets.is_empty())
            .collect())
    }
}

/// Tables with those of their rows that have each of these texts in their words or in the title of their table. `a|b` is either text.
/// Tables without such rows are left out.
///
/// # Errors
/// There is no such row.
pub fn with_rows(mut chapters: Vec<Chapter>, texts: &[String]) -> Result<Vec<Chapter>> {
    if texts.is_empty() {
        return Ok(chapters);
    }
    for chapter in &mut chapters {
        for sheet in &mut chapter.sheets {
            let Sheet {
                title, columns, rows, ..
            } = sheet;
            rows.retain(|row| {
                let cells = row.iter().zip(columns.iter()).filter(|(_, column)| !column.numbers);
                let words: Vec<&str> = cells
                    .map(|(cell, _)| cell.text.as_str())
                    .chain([title.as_str()])
                    .collect();
                let has = |text: &str| words.iter().any(|it| it.contains(text));
                texts.iter().all(|text| text.split('|').any(has))
            });
        }
        chapter.sheets.retain(|sheet| !sheet.rows.is_empty());
    }
    chapters.retain(|chapter| !chapter.sheets.is_empty());
    match chapters.is_empty() {
        false => Ok(chapters),
        true => Err(Error::config(format!(
            "no row of these tables has {} in its words or in its table's title",
            texts.join(" and ")
        ))),
    }
}

/// The heading that is meant: a sparsity may be written as in an experiment, `0.5` for `50 %`.
fn title(typed: &str, titles: &[&str]) -> String {
    let sparsity = typed.parse::<f64>().ok().filter(|_| !titles.contains(&typed));
    sparsity.map_or(typed.to_string(), |sparsity| {
        Pattern::Unstructured { sparsity }.to_string()
    })
}

fn known(kind: &str, wanted: &[String], there: &[&str]) -> Result<()> {
    match wanted.iter().find(|name| !there.contains(&name.as_str())) {
        Some(name) => Err(unknown(kind, name, there)),
        None => Ok(()),
    }
}
