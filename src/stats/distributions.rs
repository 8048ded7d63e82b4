//! The distributions and moments that every statistic is made of.

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
