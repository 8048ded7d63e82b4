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
//! | which of many differences survive? | [`multiplicity`]: Holm |
//! | could a difference have been seen at all? | [`power`] |
//! | what of an average over tasks? | [`average`] |
//!
//! Distributions come from statrs. Random numbers come from ChaCha streams that depend on a seed and on nothing
//! else, so that results do not depend on the number of threads. `tests/statistics.rs` holds everything here
//! against scipy and statsmodels, `tests/coverage.rs` counts how often intervals hold what they promise.

pub mod average;
pub mod bootstrap;
pub mod multiplicity;
pub mod paired;
pub mod power;
pub mod proportion;
pub mod rank;
pub mod shown;
pub mod signs;
pub mod summary;
pub mod variance;

pub use shown::Shown;
pub use summary::{Interval, Summary};

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Quantile of the standard normal distribution; infinite at 0 and 1.
pub fn normal_quantile(probability: f64) -> f64 {
    if probability <= 0.0 {
        f64::NEG_INFINITY
    } else if probability >= 1.0 {
        f64::INFINITY
    } else {
        Normal::standard().inverse_cdf(probability)
    }
}

/// Distribution function of the standard normal distribution.
pub fn normal_probability(value: f64) -> f64 {
    Normal::standard().cdf(value)
}

/// Quantile of Student's t; `None` without degrees of freedom.
pub fn student_quantile(probability: f64, freedom: f64) -> Option<f64> {
    Some(StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(probability))
}

/// Two-sided p-value of a t statistic; `None` without degrees of freedom.
pub fn student_p(statistic: f64, freedom: f64) -> Option<f64> {
    if statistic.is_nan() {
        return None;
    }
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some((2.0 * student.cdf(-statistic.abs())).min(1.0))
}

/// Arithmetic mean; not a number for an empty sample.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Unbiased variance; `None` for fewer than two values.
pub fn variance_of(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some(squares / (values.len() - 1) as f64)
}
