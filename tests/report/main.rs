//! Claims about reports: they are made of records alone, and the committed ones are what the records say.

mod committed;
mod comparisons;
mod few;
mod made;
mod papers;
mod printed;
mod several;
mod study;

use std::path::Path;
use zprune::report::Report;

/// The report of the committed example.
fn quickstart() -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart");
    Report::read(&folder).expect("docs/quickstart is in the repository")
}
