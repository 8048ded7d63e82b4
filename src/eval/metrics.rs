//! Accuracies of tasks as the harness computes them.

/// Share of outcomes that are true: an accuracy, as a fraction. NaN without outcomes.
pub fn mean(outcomes: &[bool]) -> f64 {
    right(outcomes) / outcomes.len() as f64
}

/// Number of outcomes that are true.
pub fn right(outcomes: &[bool]) -> f64 {
    outcomes.iter().filter(|right| **right).count() as f64
}

/// Standard error of [`mean`]: the sample standard deviation (`n - 1`) over `sqrt(n)`. `None` for fewer than two
/// outcomes.
pub fn standard_error(outcomes: &[bool]) -> Option<f64> {
    let p = mean(outcomes);
    (outcomes.len() > 1).then(|| (p * (1.0 - p) / (outcomes.len() as f64 - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_error_is_the_harness_s() {
        let outcomes: Vec<bool> = (0..71).map(|index| index < 38).collect();
        // lm_eval 0.4.13 on WNLI, 38 of 71 right.
        let error = standard_error(&outcomes).expect("71 outcomes");
        assert!((error - 0.059_613_057_849_722_4).abs() < 1e-12, "{error}");
        assert_eq!(standard_error(&[true]), None);
    }
}
