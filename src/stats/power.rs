//! What could have been seen: the smallest true difference that a two-sided test finds with given probability, and the
//! most that two methods may disagree while a difference of so many documents still counts.

use super::signs::mcnemar;
use super::{normal_probability, normal_quantile, student_quantile};
use crate::threads::lock;
use statrs::function::gamma::ln_gamma;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Probability (power) with which a test finds the minimum detectable difference.
pub const POWER: f64 = 0.8;

/// Number of steps of the integral over the estimated standard deviation; Simpson's rule needs an even number.
const STEPS: usize = 2_000;

/// Probability that a two-sided t-test at level `alpha` rejects if the true mean is `effect` standard errors from 0.
pub fn t_power(effect: f64, freedom: f64, alpha: f64) -> f64 {
    let Some(critical) = student_quantile(1.0 - alpha / 2.0, freedom) else {
        return 0.0;
    };
    // Given the ratio s of estimated to true standard deviation, |estimate| must exceed critical * s.
    let log_scale = 2f64.ln() + freedom / 2.0 * (freedom / 2.0).ln() - ln_gamma(freedom / 2.0);
    let weight = |s: f64| {
        if s <= 0.0 {
            return if freedom == 1.0 { log_scale.exp() } else { 0.0 };
        }
        (log_scale + (freedom - 1.0) * s.ln() - freedom * s * s / 2.0).exp()
    };
    let rejects = |s: f64| normal_probability(effect - critical * s) + normal_probability(-effect - critical * s);
    // Ten standard deviations of s, about 1 / sqrt(2 freedom), to either side of 1.
    let reach = 10.0 / (2.0 * freedom).sqrt();
    let from = (1.0 - reach).max(0.0);
    let step = (1.0 + reach - from) / STEPS as f64;
    let sum: f64 = (0..=STEPS)
        .map(|index| {
            let s = from + index as f64 * step;
            let simpson = match index {
                0 | STEPS => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            simpson * weight(s) * rejects(s)
        })
        .sum();
    (sum * step / 3.0).clamp(0.0, 1.0)
}

/// The smallest true mean that a two-sided t-test at level `alpha` finds with probability `power`, in the units of
/// `standard_error`. `None` without degrees of freedom.
pub fn minimum_detectable(standard_error: f64, freedom: f64, alpha: f64, power: f64) -> Option<f64> {
    // Searched once for each question: a report asks the same of many comparisons.
    static KNOWN: Mutex<BTreeMap<[u64; 3], Option<f64>>> = Mutex::new(BTreeMap::new());
    let question = [freedom, alpha, power].map(f64::to_bits);
    let known = lock(&KNOWN).get(&question).copied();
    let effect = known.unwrap_or_else(|| {
        let found = detectable_effect(freedom, alpha, power);
        lock(&KNOWN).insert(question, found);
        found
    });
    Some(effect? * standard_error)
}

/// [`minimum_detectable`] in standard errors.
fn detectable_effect(freedom: f64, alpha: f64, power: f64) -> Option<f64> {
    student_quantile(0.5, freedom)?;
    let (mut low, mut high) = (0.0, 4.0);
    while t_power(high, freedom, alpha) < power {
        low = high;
        high *= 2.0;
        // With one degree of freedom and a strict level no difference of any use is found.
        if high > 1e6 {
            return None;
        }
    }
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if t_power(middle, freedom, alpha) < power {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// The smallest true difference of two accuracies on the same `n` documents that McNemar's test finds with probability
/// `power`, where the methods disagree on a share `disagreement` of them (Connor, 1987). Never more than
/// `disagreement`; `None` if even that would not be found.
pub fn minimum_detectable_accuracy(disagreement: f64, n: f64, alpha: f64, power: f64) -> Option<f64> {
    let (level, find) = (normal_quantile(1.0 - alpha / 2.0), normal_quantile(power));
    let enough = |difference: f64| {
        level * disagreement.sqrt() + find * (disagreement - difference * difference).max(0.0).sqrt()
            <= difference * n.sqrt()
    };
    if !enough(disagreement) {
        return None;
    }
    let (mut low, mut high) = (0.0, disagreement);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// The share of documents on which two methods disagree if their errors are independent; `first` and `second` are
/// their accuracies, as fractions.
pub fn independent_disagreement(first: f64, second: f64) -> f64 {
    first * (1.0 - second) + second * (1.0 - first)
}

/// The largest number of documents on which two methods may disagree so that a lead of `lead` documents is
/// significant in McNemar's exact test at level `alpha`. `None` if the lead is not significant even if one method
/// wins all of them. More than `most` disagreements are not considered.
pub fn most_disagreement(lead: usize, most: usize, alpha: f64) -> Option<usize> {
    let significant = |wins_both_ways: usize| mcnemar(lead + wins_both_ways, wins_both_ways) <= alpha;
    if lead == 0 || lead > most || !significant(0) {
        return None;
    }
    // The p-value rises with every pair of documents won once by each.
    let (mut low, mut high) = (0, (most - lead) / 2 + 1);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if significant(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(lead + 2 * low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_of_71_can_be_seen_in_no_case() {
        assert_eq!(most_disagreement(2, 71, 0.05), None);
        assert_eq!(most_disagreement(5, 71, 0.05), None);
        assert_eq!(most_disagreement(6, 71, 0.05), Some(6));
    }

    #[test]
    fn the_most_disagreement_is_where_significance_ends() {
        let most = most_disagreement(60, 10_042, 0.05).expect("sixty documents may count");
        let won_by_the_other = (most - 60) / 2;
        assert!(mcnemar(60 + won_by_the_other, won_by_the_other) <= 0.05);
        assert!(mcnemar(61 + won_by_the_other, won_by_the_other + 1) > 0.05);
    }

    #[test]
    fn no_effect_is_found_as_often_as_the_level_says() {
        for freedom in [1.0, 2.0, 4.0, 29.0, 400.0] {
            assert!((t_power(0.0, freedom, 0.05) - 0.05).abs() < 1e-6, "{freedom}");
        }
    }

    #[test]
    fn more_windows_detect_smaller_differences() {
        let of = |freedom| minimum_detectable(1.0, freedom, 0.05, POWER).expect("detectable");
        assert!(of(2.0) > of(4.0) && of(4.0) > of(100.0));
        // The limit is z(0.975) + z(0.8).
        assert!((of(1e6) - 2.8016).abs() < 1e-3, "{}", of(1e6));
    }
}
