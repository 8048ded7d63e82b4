//! Many tests at once: Holm's step-down correction (1979), which keeps the probability of any false find in a family below
//! its level whatever the dependence between the tests.

/// Adjusts p-values by Holm's method; the result is in the order of `raw`.
pub fn holm(raw: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..raw.len()).collect();
    order.sort_by(|a, b| raw[*a].total_cmp(&raw[*b]));
    let mut adjusted = vec![0.0; raw.len()];
    let mut largest: f64 = 0.0;
    for (place, index) in order.iter().enumerate() {
        let tests_left = (raw.len() - place) as f64;
        largest = largest.max((raw[*index] * tests_left).min(1.0));
        adjusted[*index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_test_is_not_corrected_and_order_is_kept() {
        assert_eq!(holm(&[0.03]), [0.03]);
        assert_eq!(holm(&[0.04, 0.01, 0.03]), [0.06, 0.03, 0.06]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }
}
