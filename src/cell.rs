//! One cell: a model that is ready and what is done to it become what was found.
//!
//! Sweeps, the commands that work on one model, and users of the library take the same way: a [`Prepared`] model has its
//! weights and every token it will see, [`Opened`] is the backend, which is chosen and opened here only, and a [`Runner`]
//! runs cells of that model on that backend and keeps what they share.

mod amounts;
mod dense;
mod generations;
mod opened;
mod prepared;
mod runner;
pub mod size;
mod tasks;
mod tokens;

pub use amounts::{Amount, Amounts, Seen};
pub use dense::DenseStreams;
pub use generations::PreparedGeneration;
pub use opened::{Opened, Work};
pub use prepared::{Prepared, PreparedText};
pub use runner::{Findings, Runner, Sharing, Treatment};
pub use tasks::{ChoiceSample, PreparedTask, Sample, TaskFindings, WrittenSample};
pub use tokens::{ModelTokens, calibration_windows};
