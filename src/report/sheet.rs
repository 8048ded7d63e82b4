//! A table as it is laid out, before it becomes Markdown, LaTeX, HTML or text for a terminal.

use crate::stats::Shown;

/// A table with its title and notes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// What is in it.
    pub title: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Cells, row by row; every row has as many as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// What is needed to read it, a sentence or more each.
    pub notes: Vec<String>,
}

/// Sheets that go into one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Chapter {
    /// Name of its files, without folder and ending.
    pub file: &'static str,
    /// Heading in the page.
    pub title: &'static str,
    /// Its tables.
    pub sheets: Vec<Sheet>,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Heading.
    pub title: String,
    /// Whether it holds numbers, which stand to the right.
    pub numbers: bool,
    /// Whether it holds durations, which differ from run to run where nothing else does.
    pub time: bool,
}

impl Column {
    /// A column of words.
    pub fn words(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            numbers: false,
            time: false,
        }
    }

    /// A column of numbers.
    pub fn numbers(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            numbers: true,
            time: false,
        }
    }

    /// A column of durations.
    pub fn time(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            numbers: true,
            time: true,
        }
    }
}

/// What a value is among those beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing that could be said.
    #[default]
    None,
    /// Better than every other it was compared with, after correction.
    Best,
    /// Not told apart from the best.
    Tied,
}

/// A cell; one that has nothing to say is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// What it is among its neighbours.
    pub mark: Mark,
}

impl Cell {
    /// A cell without a mark.
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            mark: Mark::None,
        }
    }
}

/// A number where there is one.
pub fn number(value: Option<f64>, digits: usize) -> Cell {
    Cell::plain(
        value
            .map(|value| format!("{:.digits$}", Shown(value)))
            .unwrap_or_default(),
    )
}
