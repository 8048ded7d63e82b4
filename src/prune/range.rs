//! Checks of the parameters that components have.

use crate::error::{Error, Result};
use std::ops::RangeInclusive;

/// Checks that a parameter is a number in a range.
///
/// # Errors
/// Names the parameter and the range.
pub(in crate::prune) fn within(name: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Error::config(format!(
            "parameter `{name}` = {value} must be between {} and {}",
            range.start(),
            range.end()
        ))),
    }
}

/// Checks that a parameter is a finite number of at least `least`.
///
/// # Errors
/// Names the parameter and the smallest number.
pub(in crate::prune) fn at_least(name: &str, value: f64, least: f64) -> Result<()> {
    match value.is_finite() && value >= least {
        true => Ok(()),
        false => Err(Error::config(format!(
            "parameter `{name}` = {value} must be a number of at least {least}"
        ))),
    }
}
