//! What every plot has: a name, a caption, a heading, its numbers, and no more rows and panels than can be seen.

use super::look::Looks;
use crate::report::csv::CsvRow;
use crate::report::labels::Labels;
use crate::report::results::Section;

/// Most rows of a panel. A picture with more is hard to read, and its pixels take much memory; the tables have all
/// rows.
pub const ROWS: usize = 120;

/// Most panels of a picture that has one panel per method.
pub const PANELS: usize = 40;

/// The sentence in the caption of a picture that leaves something out.
pub fn cut(shown: usize, all: usize, what: &str) -> String {
    match shown < all {
        true => format!(" Only the first {shown} of {all} {what} are drawn; all are in the tables."),
        false => String::new(),
    }
}

/// A picture of a report with its caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// Name of the picture's files, without folder and ending.
    pub name: String,
    /// A sentence that says what the picture shows; it stands below the picture and is read to those who cannot see
    /// it.
    pub caption: String,
    /// Whether it shows durations, which differ from run to run.
    pub time: bool,
    /// The picture as the text of an SVG file.
    pub svg: String,
    /// The numbers of the picture as CSV.
    pub data: String,
}

/// What a kind of plot makes of results, before it has a name.
pub struct Drawn {
    /// The caption; see [`Plot::caption`].
    pub caption: String,
    /// The picture as the text of an SVG file.
    pub svg: String,
    /// The numbers of the picture, also those that were left out of it.
    pub data: Vec<CsvRow>,
}

/// The methods of an experiment as plots show them.
pub struct Cast<'a> {
    /// Names of the methods, in the experiment's order.
    pub methods: Vec<&'a str>,
    /// What they are called.
    pub labels: Labels,
    /// Their colours and markers.
    pub looks: Looks,
}

/// The heading of a plot for a section: its model and measure.
pub fn heading(section: &Section) -> String {
    format!("{} on {}", section.model, section.measure.label())
}
