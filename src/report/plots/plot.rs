//! What every plot has: a name, a caption, a heading, and no more rows and panels than can be seen.

use crate::report::results::Section;

/// Rows of a panel. More are no picture any more, and their pixels take memory without bound; all are in the tables.
pub const ROWS: usize = 120;

/// Panels of a picture that has one per method.
pub const PANELS: usize = 40;

/// What a caption says of a picture that leaves something out.
pub fn cut(shown: usize, all: usize, what: &str) -> String {
    match shown < all {
        true => format!(" Only the first {shown} of {all} {what} are drawn; all are in the tables."),
        false => String::new(),
    }
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// Name of its files, without folder and ending.
    pub name: String,
    /// What it shows, in a sentence: for those who cannot see it, and below it in the page.
    pub caption: String,
    /// Whether it shows durations, which differ from run to run.
    pub time: bool,
    /// The picture.
    pub svg: String,
}

/// A section in the heading of a plot.
pub fn heading(section: &Section) -> String {
    format!("{} on {}", section.model, section.measure.label())
}
