//! Rows of named values as CSV, to compute with: all digits, and no text that a spreadsheet takes for a formula.

use super::sheet::Chapter;
use crate::error::{Error, Result};
use crate::files::names;
use serde_json::Value;
use std::fmt::Display;
use std::path::Path;

/// A row as pairs of column name and value; null is an empty field. All rows of a table have the same columns.
pub type CsvRow = Vec<(&'static str, Value)>;

/// The rows as text; nothing without rows. `file` is the file's name, for errors.
///
/// # Errors
/// Never for in-memory output.
pub fn csv(rows: &[CsvRow], file: &str) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if let Some(first) = rows.first() {
        let heads = first.iter().map(|(key, _)| *key);
        writer.write_record(heads).map_err(|error| fail(file, &error))?;
    }
    for row in rows {
        let fields = row.iter().map(|(_, value)| match value {
            Value::Null => String::new(),
            Value::String(text) => inert(text),
            other => other.to_string(),
        });
        writer.write_record(fields).map_err(|error| fail(file, &error))?;
    }
    let bytes = writer.into_inner().map_err(|error| fail(file, &error))?;
    String::from_utf8(bytes).map_err(|error| fail(file, &error))
}

/// Tables as they are shown, one below the other; the first column has the title of each. Tables with the same headings share them. Marks
/// and notes are left out.
///
/// # Errors
/// Never for in-memory output.
pub fn shown(chapters: &[Chapter]) -> Result<String> {
    const WHAT: &str = "the tables";
    let mut text = String::new();
    let mut last: Option<Vec<&str>> = None;
    for sheet in chapters.iter().flat_map(|chapter| &chapter.sheets) {
        if sheet.rows.is_empty() {
            continue;
        }
        let titles = sheet.columns.iter().map(|column| column.title.as_str());
        let heads: Vec<&str> = std::iter::once("table").chain(titles).collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        if last.as_ref() != Some(&heads) {
            text.push_str(if last.is_some() { "\n" } else { "" });
            let inert = heads.iter().map(|head| inert(head));
            writer.write_record(inert).map_err(|error| fail(WHAT, &error))?;
            last = Some(heads);
        }
        for row in &sheet.rows {
            // A number may begin with its sign.
            let cells = row
                .iter()
                .zip(&sheet.columns)
                .map(|(cell, column)| match column.numbers {
                    true => cell.text.clone(),
                    false => inert(&cell.text),
                });
            let cells = std::iter::once(inert(&sheet.title)).chain(cells);
            writer.write_record(cells).map_err(|error| fail(WHAT, &error))?;
        }
        let bytes = writer.into_inner().map_err(|error| fail(WHAT, &error))?;
        text.push_str(&String::from_utf8(bytes).map_err(|error| fail(WHAT, &error))?);
    }
    Ok(text)
}

fn fail(file: &str, error: &dyn Display) -> Error {
    Error::output(Path::new(file), error)
}

/// Characters that begin a formula in spreadsheets, also in the wide and small forms that some spreadsheets treat
/// alike.
const FORMULA: [char; 13] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫', '−'];

/// A text that a spreadsheet shows and does not compute. Numbers are passed as numbers, so negative ones are not
/// changed. Some spreadsheets skip invisible characters before a formula, so they are skipped here, too.
fn inert(text: &str) -> String {
    let blank = |c: char| c.is_whitespace() || names::is_hidden(c);
    match text.trim_start_matches(blank).starts_with(FORMULA) || text.starts_with(['\t', '\r', '\n']) {
        true => format!("'{text}"),
        false => text.to_string(),
    }
}
