//! Who goes on: the methods with the least loss.

/// Positions of the `count` least scores, the least first; of equal ones, the first. Without a score, or with one that is not finite,
/// nobody goes on.
pub fn best(scores: &[Option<f64>], count: usize) -> Vec<usize> {
    let scored = scores.iter().enumerate();
    let mut scored: Vec<(usize, f64)> = scored
        .filter_map(|(place, score)| Some((place, score.filter(|score| score.is_finite())?)))
        .collect();
    scored.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    scored.truncate(count);
    scored.into_iter().map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_go_on_and_failures_do_not() {
        let scores = [Some(3.0), None, Some(1.0), Some(f64::NAN), Some(2.0), Some(1.0)];
        assert_eq!(best(&scores, 3), [2, 5, 4]);
        assert_eq!(best(&scores, 9), [2, 5, 4, 0]);
        assert!(best(&[None, Some(f64::INFINITY)], 1).is_empty());
    }
}
