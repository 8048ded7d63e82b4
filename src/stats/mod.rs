//! Statistics of results. Sees numbers and records only, never a model.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A sample reduced to what a table shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Sample size.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Student's t-interval of the mean; `None` for a single value, whose spread is unknown.
    pub interval: Option<Interval>,
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Summary {
    /// Summarises a sample; `None` for an empty one.
    pub fn of(values: &[f64], confidence: f64) -> Option<Summary> {
        if values.is_empty() {
            return None;
        }
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let interval = half_width(values, mean, confidence).map(|half| Interval {
            low: mean - half,
            high: mean + half,
        });
        Some(Summary {
            n,
            mean,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            interval,
        })
    }
}

/// Half the width of the t-interval: `t * s / sqrt(n)` with `n - 1` degrees of freedom.
fn half_width(values: &[f64], mean: f64, confidence: f64) -> Option<f64> {
    let n = values.len() as f64;
    let freedom = n - 1.0;
    // Fails for a single value: no degrees of freedom, no interval.
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom;
    Some(student.inverse_cdf(0.5 + confidence / 2.0) * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_t_interval_equals_scipy() {
        // By hand, with the quantile from scipy.stats.t.ppf(0.975, 2):
        // mean 2.5, s = 1, se = 1/sqrt(3), t(0.975, 2) = 4.302652729911275.
        let summary = Summary::of(&[1.5, 2.5, 3.5], 0.95).expect("three values");
        let interval = summary.interval.expect("three values have a spread");
        let half = 4.302_652_729_911_275 / 3f64.sqrt();
        assert!((interval.low - (2.5 - half)).abs() < 1e-9, "{interval:?}");
        assert!((interval.high - (2.5 + half)).abs() < 1e-9, "{interval:?}");
        assert_eq!((summary.min, summary.max, summary.n), (1.5, 3.5, 3));
    }

    #[test]
    fn one_value_has_no_interval_and_none_has_no_summary() {
        assert_eq!(Summary::of(&[3.0], 0.95).expect("one value").interval, None);
        assert_eq!(Summary::of(&[], 0.95), None);
    }
}
