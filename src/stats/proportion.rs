//! Accuracies: intervals of one proportion, and what sharing a source costs.
//!
//! Wilson (1927) for many documents, Clopper and Pearson (1934) for fewer than [`FEW`], where approximations
//! by a normal distribution are too narrow (Bowyer et al., arXiv 2503.01747). Documents that share a source count
//! for less: the clustered standard error of Miller (arXiv 2411.00640) gives the number of independent documents that
//! would be as good.

use super::{Interval, mean, normal_quantile};
use statrs::distribution::{Beta, ContinuousCDF};
use std::collections::BTreeMap;

/// Below this number of documents, intervals are the exact ones.
pub const FEW: f64 = 300.0;

/// An accuracy with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Share of documents answered right, as a fraction.
    pub value: f64,
    /// Number of documents.
    pub documents: usize,
    /// Number of independent documents that would give the same precision; less than `documents` if documents share
    /// sources.
    pub effective: f64,
    /// Standard error of `value`, clustered by source if documents have sources.
    pub standard_error: f64,
    /// Wilson's interval, or Clopper and Pearson's if there are few documents.
    pub interval: Interval,
    /// Whether `interval` is the exact one of Clopper and Pearson.
    pub exact: bool,
}

impl Accuracy {
    /// Computes the accuracy from one character per document, as records have them: `1` if the answer was right. `None` if
    /// there are no documents.
    pub fn of_marks(marks: &str, sources: Option<&[u32]>, confidence: f64) -> Option<Accuracy> {
        let right = marks.bytes().map(|mark| f64::from(u8::from(mark == b'1')));
        Accuracy::of(&right.collect::<Vec<_>>(), sources, confidence)
    }

    /// Computes the accuracy from one value between 0 and 1 per document: right or wrong, or the share of seeds that
    /// were right. For shares the interval is that of a single run, which is too wide if seeds disagree. `None` if
    /// there are no documents.
    pub fn of(values: &[f64], sources: Option<&[u32]>, confidence: f64) -> Option<Accuracy> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let value = mean(values);
        let plain = (value * (1.0 - value) / n as f64).sqrt();
        let clustered = sources.map(|sources| clustered_standard_error(values, sources));
        let design = match clustered {
            // A design effect below 1 is chance.
            Some(error) if plain > 0.0 => (error / plain).powi(2).max(1.0),
            _ => 1.0,
        };
        let effective = n as f64 / design;
        let exact = effective < FEW;
        let right = value * effective;
        let interval = match exact {
            true => clopper_pearson(right, effective, confidence),
            false => wilson(right, effective, confidence),
        };
        Some(Accuracy {
            value,
            documents: n,
            effective,
            standard_error: plain * design.sqrt(),
            interval,
            exact,
        })
    }
}

/// Wilson's interval of a proportion of `right` among `n`.
pub fn wilson(right: f64, n: f64, confidence: f64) -> Interval {
    let z = normal_quantile(0.5 + confidence / 2.0);
    let share = right / n;
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

/// Clopper and Pearson's exact interval of a proportion of `right` among `n`.
pub fn clopper_pearson(right: f64, n: f64, confidence: f64) -> Interval {
    let tail = 0.5 - confidence / 2.0;
    // A beta distribution without one of its parameters is the end of the range itself.
    let quantile = |a: f64, b: f64, probability: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(probability));
    Interval {
        low: quantile(right, n - right + 1.0, tail).unwrap_or(0.0),
        high: quantile(right + 1.0, n - right, 1.0 - tail).unwrap_or(1.0),
    }
}

/// The largest share of a population that `n` draws miss with probability `tail / 2`: what may be there although none was seen.
pub fn unseen_share(n: usize, tail: f64) -> f64 {
    1.0 - (tail / 2.0).powf(1.0 / n.max(1) as f64)
}

/// Standard error of a mean whose values come in clusters: the residuals of each cluster are added up before they are
/// squared. If every value is its own cluster, it is `sqrt(sum of squares) / n`.
pub fn clustered_standard_error(values: &[f64], sources: &[u32]) -> f64 {
    let centre = mean(values);
    let mut clusters: BTreeMap<u32, f64> = BTreeMap::new();
    for (value, source) in values.iter().zip(sources) {
        *clusters.entry(*source).or_default() += value - centre;
    }
    clusters.values().map(|sum| sum * sum).sum::<f64>().sqrt() / values.len() as f64
}

/// Whether a printed percentage can be `k / n` for a whole number `k`, rounded to the `digits` shown after the point.
pub fn is_possible(percent: f64, digits: i32, n: usize) -> bool {
    let nearest = (percent / 100.0 * n as f64).round();
    let half = 0.5 * 10f64.powi(-digits);
    // A little more than half a unit, for numbers that were rounded up or down at a tie.
    (100.0 * nearest / n as f64 - percent).abs() <= half * 1.000_001
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_none_of_n_draws_showed_may_still_be_there() {
        // Of a share of 16.8 % nothing is seen in 20 draws with probability 2.5 %.
        let share = unseen_share(20, 0.05);
        assert!(((1.0 - share).powi(20) - 0.025).abs() < 1e-12, "{share}");
        assert!((share - 0.1684).abs() < 1e-4, "{share}");
    }

    #[test]
    fn nothing_right_and_everything_right_have_one_open_end() {
        for interval in [clopper_pearson, wilson] {
            assert!(interval(0.0, 71.0, 0.95).low.abs() < 1e-12);
            assert!((interval(71.0, 71.0, 0.95).high - 1.0).abs() < 1e-12);
            assert!(interval(0.0, 71.0, 0.95).high > 0.04);
        }
    }

    #[test]
    fn few_documents_have_exact_intervals_and_many_have_wilsons() {
        let right: Vec<f64> = (0..71).map(|index| f64::from(u8::from(index < 31))).collect();
        let few = Accuracy::of(&right, None, 0.95).expect("documents");
        assert!(few.exact);
        assert_eq!(few.interval, clopper_pearson(few.value * 71.0, 71.0, 0.95));
        let many = Accuracy::of(&right.repeat(10), None, 0.95).expect("documents");
        assert!(!many.exact);
        assert!(many.interval.high - many.interval.low < 0.4 * (few.interval.high - few.interval.low));
    }

    #[test]
    fn documents_that_share_a_source_count_for_less() {
        let right: Vec<f64> = (0..1200).map(|index| f64::from((index / 3) % 2)).collect();
        let sources: Vec<u32> = (0..1200).map(|index| index / 3).collect();
        let accuracy = Accuracy::of(&right, Some(&sources), 0.95).expect("documents");
        assert!((accuracy.effective - 400.0).abs() < 1e-6, "{accuracy:?}");
        let alone = Accuracy::of(&right, None, 0.95).expect("documents");
        assert!((accuracy.standard_error / alone.standard_error - 3f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_percentage_that_no_count_gives_is_found() {
        assert!(is_possible(43.66, 2, 71));
        assert!(is_possible(40.85, 2, 71));
        assert!(!is_possible(38.45, 2, 71));
    }
}
