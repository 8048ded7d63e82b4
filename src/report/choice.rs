//! Some tables of a report, with some methods and columns: what somebody wants in a paper.

use super::comparison::ComparisonFamily;
use super::layout;
use super::results::Results;
use super::sheet::{Chapter, Sheet};
use crate::error::{Error, Result};
use crate::experiment::plan::DENSE;
use crate::experiment::single;
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
    /// Headings of columns in the wanted order; those that name the rows are always there, before them.
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
        let wanted = whole(&self.methods, &methods);
        known("method", &wanted, &methods)?;
        let mut chapters = match wanted.is_empty() {
            true => all.to_vec(),
            false => layout::chapters(results, families, Some(&wanted)),
        };
        let tables: Vec<&str> = chapters.iter().map(|chapter| chapter.file).collect();
        if let Some(name) = self.tables.iter().find(|name| !tables.contains(&name.as_str())) {
            return Err(absent(name, &tables));
        }
        let (all, chosen) = (chapters.clone(), &self.tables);
        chapters.retain(|chapter| is_chosen(chosen, chapter.file));
        let chapters = with_rows(chapters, &self.rows).map_err(|error| {
            let others = all.into_iter().filter(|chapter| !is_chosen(chosen, chapter.file));
            let others = with_rows(others.collect(), &self.rows).unwrap_or_default();
            let others: Vec<String> = others
                .iter()
                .map(|chapter| format!("--table {}", chapter.file))
                .collect();
            match others.is_empty() {
                true => error,
                false => Error::config(format!("{error}; other tables have such rows: {}", others.join(", "))),
            }
        })?;
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
        let columns = whole(&self.columns, &titles);
        let columns: Vec<String> = columns.iter().map(|typed| title(typed, &titles)).collect();
        known("column", &columns, &titles)?;
        let chosen = |chapter: &Chapter| Chapter {
            sheets: chapter
                .sheets
                .iter()
                .filter_map(|sheet| sheet.with_columns(&columns))
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

/// Whether a table is one of those that were asked for; without any, those of scores are.
fn is_chosen(tables: &[String], file: &str) -> bool {
    match tables.is_empty() {
        true => SCORES.contains(&file),
        false => tables.iter().any(|table| table == file),
    }
}

/// Tables that a report may have, and why it may lack one.
const LACKING: [(&str, &str); 9] = [
    ("perplexity", "no text is measured ([[evaluation]])"),
    (
        "axes",
        "nothing asks for it, as `tables = [[\"criterion\", \"solver\"]]` in [report] does",
    ),
    ("accuracy", "no task is scored ([[task]])"),
    ("to_dense", "no [[evaluation]] has `compare_to_dense = true`"),
    ("sizes", "no method with results removes whole units"),
    ("published", "the experiment cites no published values ([[reference]])"),
    ("comparisons", "no two methods have results that are compared"),
    ("uncertainty", "no method has results of several seeds or texts"),
    (
        "power",
        "the experiment cites no published values ([[reference]]), or --methods leaves it out",
    ),
];

/// The error of a table that a report does not have.
fn absent(name: &str, there: &[&str]) -> Error {
    match LACKING.iter().find(|(table, _)| *table == name) {
        None => unknown("table", name, there),
        Some((_, why)) => {
            let there: Vec<String> = there.iter().map(|table| format!("`{table}`")).collect();
            Error::config(format!(
                "there is no table `{name}` here: {why}; there {} {}",
                if there.len() == 1 { "is" } else { "are" },
                there.join(", ")
            ))
        }
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
    let there = what_there_is(&chapters, texts);
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
            "no row of these tables has {} in its words or in its table's title{there}",
            texts.join(" and ")
        ))),
    }
}

/// What may be asked for instead of rows with these texts: the column of one, or the words that rows begin with.
fn what_there_is(chapters: &[Chapter], texts: &[String]) -> String {
    /// Most words that are listed.
    const MOST: usize = 12;
    let sheets = || chapters.iter().flat_map(|chapter| &chapter.sheets);
    let asked: Vec<&str> = texts.iter().flat_map(|text| text.split('|')).collect();
    let mut columns = sheets()
        .flat_map(|sheet| &sheet.columns)
        .map(|column| column.title.as_str());
    if let Some(column) = columns.find(|title| asked.iter().any(|text| !text.is_empty() && title.contains(text))) {
        return format!("; `{column}` is a column: --columns \"{column}\"");
    }
    let mut words: Vec<&str> = Vec::new();
    for row in sheets().flat_map(|sheet| &sheet.rows) {
        let first = row.first().map_or("", |cell| cell.text.as_str());
        if !first.is_empty() && !words.contains(&first) {
            words.push(first);
        }
    }
    let more = if words.len() > MOST { ", ..." } else { "" };
    words.truncate(MOST);
    match words.is_empty() {
        true => String::new(),
        false => format!("; rows begin with {}{more}", words.join(", ")),
    }
}

/// Names that were written in one list with commas between them, where names have commas, too: what makes up a known name is put together
/// again.
fn whole(parts: &[String], known: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = parts;
    while !rest.is_empty() {
        let joined = |count: &usize| known.contains(&rest[..*count].join(",").trim());
        let count = (1..=rest.len()).rev().find(joined).unwrap_or(1);
        let name = rest[..count].join(",");
        names.push(if count > 1 { name.trim().to_string() } else { name });
        rest = &rest[count..];
    }
    names
}

/// The heading that is meant: a sparsity may be written as in an experiment, `0.5` or `50%` for `50 %`, and with spaces around it.
fn title(typed: &str, titles: &[&str]) -> String {
    let typed = typed.trim();
    let pattern = single::pattern(typed).ok().filter(|_| !titles.contains(&typed));
    pattern.map_or(typed.to_string(), |pattern: Pattern| pattern.to_string())
}

fn known(kind: &str, wanted: &[String], there: &[&str]) -> Result<()> {
    match wanted.iter().find(|name| !there.contains(&name.as_str())) {
        Some(name) => Err(unknown(kind, name, there)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn names_with_commas_are_found_in_a_list() {
        let known = ["wanda", "alps (owl, m 7.0)", "prune, s", "prune"];
        let parts = |list: &str| -> Vec<String> { list.split(',').map(str::to_string).collect() };
        for (typed, names) in [
            ("wanda,alps (owl, m 7.0)", vec!["wanda", "alps (owl, m 7.0)"]),
            ("prune, s,wanda", vec!["prune, s", "wanda"]),
            ("prune,wanda", vec!["prune", "wanda"]),
            ("wnada,prune", vec!["wnada", "prune"]),
        ] {
            assert_eq!(whole(&parts(typed), &known), names);
        }
    }
}
