//! A sample reduced to what a table shows.

use super::distributions::{mean, student_quantile, variance_of};

/// What a table shows of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of values in the sample.
    pub n: usize,
    /// Arithmetic mean of the values.
    pub mean: f64,
    /// Smallest value of the sample.
    pub min: f64,
    /// Largest value of the sample.
    pub max: f64,
    /// Student's t-interval of the mean; `None` for a single value, whose spread is unknown.
    pub interval: Option<Interval>,
}

/// A confidence interval, in the unit of the value that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Interval {
    /// The interval `centre - half` to `centre + half`.
    pub fn around(centre: f64, half: f64) -> Interval {
        Interval {
            low: centre - half,
            high: centre + half,
        }
    }

    /// Whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The interval between the values that an increasing function has at both ends.
    pub fn map(&self, increasing: impl Fn(f64) -> f64) -> Interval {
        Interval {
            low: increasing(self.low),
            high: increasing(self.high),
        }
    }
}

impl Summary {
    /// Summarises a sample; `None` for an empty one.
    pub fn of(values: &[f64], confidence: f64) -> Option<Summary> {
        if values.is_empty() {
            return None;
        }
        let n = values.len();
        let mean = mean(values);
        let half = variance_of(values).and_then(|variance| {
            let quantile = student_quantile(0.5 + confidence / 2.0, n as f64 - 1.0)?;
            Some(quantile * (variance / n as f64).sqrt())
        });
        Some(Summary {
            n,
            mean,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            interval: half.map(|half| Interval::around(mean, half)),
        })
    }
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
