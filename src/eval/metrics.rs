//! Accuracies and perplexities of tasks, with their uncertainty over documents.

/// Quantile of the normal distribution for two-sided 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Mean of outcomes, `1` where right: an accuracy, as a fraction. NaN without outcomes.
pub fn mean(outcomes: &[bool]) -> f64 {
    count(outcomes) / outcomes.len() as f64
}

/// Standard error of [`mean`] as the harness computes it: the sample standard deviation (`n - 1`) over `sqrt(n)`.
/// `None` for fewer than two outcomes.
pub fn standard_error(outcomes: &[bool]) -> Option<f64> {
    let n = outcomes.len() as f64;
    let p = mean(outcomes);
    (outcomes.len() > 1).then(|| (p * (1.0 - p) / (n - 1.0)).sqrt())
}

/// Wilson's 95 % interval of an accuracy (1927), which stays between 0 and 1 and is right at both ends.
pub fn wilson(outcomes: &[bool]) -> [f64; 2] {
    let n = outcomes.len() as f64;
    let p = mean(outcomes);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

fn count(outcomes: &[bool]) -> f64 {
    outcomes.iter().filter(|right| **right).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_errors_are_those_of_the_formulas() {
        let outcomes: Vec<bool> = (0..71).map(|index| index < 38).collect();
        // lm_eval 0.4.13 on WNLI, 38 of 71 right.
        assert!((standard_error(&outcomes).expect("71 outcomes") - 0.059_613_057_849_722_4).abs() < 1e-12);
        // statsmodels 0.15.0, proportion_confint(38, 71, method="wilson").
        let [low, high] = wilson(&outcomes);
        let want = [0.420_392_369_145_158_4, 0.646_415_521_545_201_3];
        assert!(
            (low - want[0]).abs() < 1e-12 && (high - want[1]).abs() < 1e-12,
            "{low} {high}"
        );
        let [low, high] = wilson(&[true; 5]);
        assert!(low > 0.5 && high == 1.0, "all right is no proof of perfection");
        assert_eq!(standard_error(&[true]), None);
    }
}
