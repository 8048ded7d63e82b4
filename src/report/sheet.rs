//! A table as it is laid out, before it becomes Markdown, LaTeX, HTML or text for a terminal.

use crate::stats::Shown;

/// A table of a report with its title and notes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// Title above the table.
    pub title: String,
    /// Columns of the table, from left to right.
    pub columns: Vec<Column>,
    /// Cells, row by row; every row has one cell per column.
    pub rows: Vec<Vec<SheetCell>>,
    /// Notes for reading the table, each of one or more sentences.
    pub notes: Vec<String>,
}

/// Tables that go into one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Chapter {
    /// Name of the chapter's files, without folder and ending.
    pub file: &'static str,
    /// Heading above the chapter in the page.
    pub title: &'static str,
    /// Tables of the chapter, in order.
    pub sheets: Vec<Sheet>,
}

impl Sheet {
    /// How many columns name the rows: the first, and the columns of words behind it, without which rows could not be told apart.
    pub fn names(&self) -> usize {
        let words = self
            .columns
            .iter()
            .skip(1)
            .take_while(|column| !column.numbers && !column.aside);
        1 + words.count()
    }

    /// The same table with the columns that name its rows, and the named ones in the order of `wanted`; none if it has none of these.
    pub fn with_columns(&self, wanted: &[String]) -> Option<Sheet> {
        let found = wanted
            .iter()
            .filter_map(|name| self.columns.iter().position(|column| column.title == *name));
        let found: Vec<usize> = found.filter(|place| *place > 0).collect();
        let others = found.iter().copied().filter(|place| *place >= self.names());
        let places: Vec<usize> = (0..self.names()).chain(others).collect();
        let table = || Sheet {
            columns: places.iter().map(|place| self.columns[*place].clone()).collect(),
            rows: self
                .rows
                .iter()
                .map(|row| places.iter().map(|place| row[*place].clone()).collect())
                .collect(),
            ..self.clone()
        };
        (!found.is_empty()).then(table)
    }

    /// Whether there is no row, and a note says why: a heading without rows would look as if something was missing.
    pub fn says_why_empty(&self) -> bool {
        self.rows.is_empty() && !self.notes.is_empty()
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Heading of the column.
    pub title: String,
    /// Whether the column holds numbers, which are aligned to the right.
    pub numbers: bool,
    /// Whether the column holds durations, which differ from run to run when nothing else does.
    pub time: bool,
    /// Whether the table says its point without the column, so that a narrow terminal may leave it out.
    pub aside: bool,
    /// Whether the column means nothing without the one before it.
    pub beside: bool,
    /// Whether its cells do not say what they are, so that the heading stands before them where they have no column.
    pub headed: bool,
}

impl Column {
    /// A column of words, aligned to the left.
    pub fn words(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            numbers: false,
            time: false,
            aside: false,
            beside: false,
            headed: false,
        }
    }

    /// A column of numbers, aligned to the right.
    pub fn numbers(title: impl Into<String>) -> Column {
        Column {
            numbers: true,
            ..Column::words(title)
        }
    }

    /// A column of durations, aligned to the right.
    pub fn time(title: impl Into<String>) -> Column {
        Column {
            time: true,
            ..Column::numbers(title)
        }
    }

    /// The same column, which a narrow terminal may leave out.
    pub fn aside(self) -> Column {
        Column { aside: true, ..self }
    }

    /// The same column, whose cells have the heading before them where they have no column.
    pub fn headed(self) -> Column {
        Column { headed: true, ..self }
    }

    /// The same column, which stays with the one before it.
    pub fn beside(self) -> Column {
        Column { beside: true, ..self }
    }
}

/// How a value compares with others in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing can be said about the value.
    #[default]
    None,
    /// Better than all others it was compared with, after the correction.
    Best,
    /// The difference to the best value is not significant.
    Tied,
}

/// A cell of a table; its text may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SheetCell {
    /// The text that is shown.
    pub text: String,
    /// How the value compares with others in its column.
    pub mark: Mark,
}

impl SheetCell {
    /// A cell with this text and without a mark.
    pub fn plain(text: impl Into<String>) -> SheetCell {
        SheetCell {
            text: text.into(),
            mark: Mark::None,
        }
    }
}

/// A number with `digits` after the point; an empty cell if there is none.
pub fn number(value: Option<f64>, digits: usize) -> SheetCell {
    SheetCell::plain(
        value
            .map(|value| format!("{:.digits$}", Shown(value)))
            .unwrap_or_default(),
    )
}
