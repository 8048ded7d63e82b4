//! Wilcoxon's signed-rank test, exact: do seeds agree on a direction, whatever the sizes of their differences?
//!
//! With five seeds that all agree the p-value is 1/16 and cannot be smaller; the test is for saying so.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seeds_that_agree_reach_one_sixteenth() {
        assert_eq!(wilcoxon(&[0.1, 0.2, 0.3, 0.25, 0.4]), Some(0.0625));
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Signed ranks 1.5, -1.5, 3, 4: sums at least 7 of 10 in absolute value by counting.
        assert_eq!(wilcoxon(&[1.0, -1.0, 2.0, 3.0]), Some(0.375));
    }
}
