//! What is asked of ranks alone.
//!
//! Wilcoxon's signed-rank test, exact: do seeds agree on a direction, whatever the sizes of their differences? With five seeds that all
//! agree the p-value is 1/16 and cannot be smaller; the test is for saying so. Kendall's tau: do two measures order methods alike?

use super::signs::sign_flip;

/// Two-sided exact p-value of Wilcoxon's signed-rank test on paired differences. Differences of 0 are left out; equal
/// sizes share their mean rank. `None` if no difference is left.
pub fn wilcoxon(differences: &[f64]) -> Option<f64> {
    let mut sizes: Vec<f64> = differences.iter().copied().filter(|it| *it != 0.0).collect();
    if sizes.is_empty() || sizes.iter().any(|it| it.is_nan()) {
        return None;
    }
    sizes.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let mut ranks = Vec::with_capacity(sizes.len());
    for group in sizes.chunk_by(|a, b| a.abs() == b.abs()) {
        // Twice the mean of the ranks first..=last, so that it is a whole number.
        let twice = (2 * ranks.len() + group.len() + 1) as i64;
        ranks.extend(group.iter().map(|it| if *it < 0.0 { -twice } else { twice }));
    }
    Some(sign_flip(&ranks))
}

/// Kendall's tau-b of two lists of equal length: 1 if they order their elements alike, -1 if oppositely. `None` for fewer than two
/// elements, and where all values of a list are equal, so that there is no order.
pub fn kendall(first: &[f64], second: &[f64]) -> Option<f64> {
    let sign = |values: &[f64], a: usize, b: usize| {
        let order = values[a].total_cmp(&values[b]);
        if values[a] == values[b] { 0 } else { order as i64 }
    };
    let (mut both, mut in_first, mut in_second) = (0i64, 0i64, 0i64);
    for a in 0..first.len().min(second.len()) {
        for b in 0..a {
            let (one, other) = (sign(first, a, b), sign(second, a, b));
            both += one * other;
            in_first += one * one;
            in_second += other * other;
        }
    }
    (in_first > 0 && in_second > 0).then(|| both as f64 / ((in_first * in_second) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seeds_that_agree_reach_one_sixteenth() {
        assert_eq!(wilcoxon(&[0.1, 0.2, 0.3, 0.25, 0.4]), Some(0.0625));
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
    }

    #[test]
    fn kendalls_tau_is_of_orders() {
        let close = |tau: Option<f64>, want: f64| tau.is_some_and(|tau| (tau - want).abs() < 1e-15);
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[-1.0, -2.0, -30.0]), Some(-1.0));
        // Of six pairs five have an order in the first list; all of these agree.
        assert!(close(
            kendall(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0]),
            5.0 / 30f64.sqrt()
        ));
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0], &[1.0]), None);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Signed ranks 1.5, -1.5, 3, 4: sums at least 7 of 10 in absolute value by counting.
        assert_eq!(wilcoxon(&[1.0, -1.0, 2.0, 3.0]), Some(0.375));
    }
}
