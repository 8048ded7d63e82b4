//! Executes a resolved experiment: runs the cells that have no record yet, and records each.
//!
//! Everything that can be refused is refused before the first cell: missing files, a GPU that is not there or cannot do
//! what a method asks, weights that are not finite, texts too short for their windows. A cell that fails is recorded and
//! the rest go on. A cell with a good record is never run again; a failed one is. One cell is the work of
//! [`cell`](crate::cell).

mod choice;
mod claims;
mod events;
mod expected;
mod options;
mod pace;
mod prospects;
mod recorded;
mod samples;
mod summary;
mod sweep;
mod watched;
mod weights;

pub use options::{Options, Outcome, goes_on};
pub use prospects::{Prospect, State, of_others, prospects};
pub(crate) use samples::copy_samples;
pub use sweep::run;
