//! Checks of the parameters that components have.

use crate::error::{Error, Result};
use std::ops::RangeInclusive;

/// Refuses a parameter that is not a number in a range.
///
/// # Errors
/// Names the parameter and the range.
pub(in crate::prune) fn in_range(name: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let message = format!("{name} = {value} is not between {least} and {most}");
    Err(Error::config(message))
}
