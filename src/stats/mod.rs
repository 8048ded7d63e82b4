//! Statistics of results. Sees numbers only, never a model or a record.
//!
//! Two sources of chance are kept apart throughout: *which texts* a model is measured on (windows of a stream,
//! documents of a task) and *which texts* it was calibrated on (seeds). Methods are compared on the same windows
//! and documents, so everything about a comparison starts from paired differences.
//!
//! | question | answer |
//! |---|---|
//! | how uncertain is a mean over windows? | [`paired`]: t and block standard errors; [`bootstrap`]: BCa over circular blocks |
//! | how uncertain is an accuracy? | [`proportion`]: Wilson, exact for few documents, clustered |
//! | do two methods differ on documents? | [`signs`]: exact McNemar and its extension to seeds and clusters |
//! | how much comes from seeds, how much from texts? | [`variance`] |
//! | do seeds agree on a direction? | [`rank`]: Wilcoxon's signed ranks |
//! | do two measures order methods alike? | [`rank`]: Kendall's tau |
//! | which of many differences survive? | [`multiplicity`]: Holm |
//! | could a difference have been seen at all? | [`power`] |
//! | what of an average over tasks? | [`average`] |
//!
//! Distributions come from statrs. Random numbers come from ChaCha streams that depend on a seed and on nothing
//! else, so that results do not depend on the number of threads. `tests/statistics.rs` holds everything here
//! against scipy and statsmodels, `tests/coverage.rs` counts how often intervals hold what they promise.

pub mod average;
pub mod bootstrap;
mod distributions;
pub mod multiplicity;
pub mod paired;
pub mod power;
pub mod proportion;
pub mod rank;
pub mod shown;
pub mod signs;
pub mod summary;
pub mod variance;

pub use distributions::{mean, normal_probability, normal_quantile, student_p, student_quantile, variance_of};
pub use shown::Shown;
pub use summary::{Interval, Summary};
