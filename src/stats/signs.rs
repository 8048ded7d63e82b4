//! Exact tests of paired differences by flipping signs: had the two methods been exchanged on any document, the
//! difference there would have had the other sign.
//!
//! With one run of each method a difference is -1, 0 or 1 and the test is McNemar's exact one. With several seeds the
//! differences of a document are added up first, with several documents of one source those of the source: what is flipped
//! together is what is not independent. The distribution of the sum is counted out, not sampled.

/// Two-sided p-value of the exact sign-flip test on paired differences that are whole numbers. Zeros change nothing;
/// if all differences are 0, p is 1.
pub fn sign_flip(differences: &[i64]) -> f64 {
    let sizes: Vec<usize> = differences.iter().map(|it| it.unsigned_abs() as usize).collect();
    // A difference that all sizes share is counted in its multiples.
    let unit = sizes.iter().fold(0, |a, b| greatest_common_divisor(a, *b));
    if unit == 0 {
        return 1.0;
    }
    let observed = differences.iter().sum::<i64>().unsigned_abs() as usize / unit;
    let sizes: Vec<usize> = sizes.iter().map(|size| size / unit).filter(|size| *size > 0).collect();
    let total: usize = sizes.iter().sum();
    // The sum of signed sizes is twice the sum of those with a plus, less the total: count sums of subsets.
    let mut probability = vec![0.0f64; total + 1];
    probability[0] = 1.0;
    let mut reached = 0;
    for size in sizes {
        reached += size;
        for sum in (0..=reached).rev() {
            let with = if sum >= size { probability[sum - size] } else { 0.0 };
            probability[sum] = 0.5 * (probability[sum] + with);
        }
    }
    // |2 plus - total| >= observed, by symmetry twice the lower tail.
    let lower: f64 = probability[..=(total - observed) / 2].iter().sum();
    (2.0 * lower).min(1.0)
}

/// Two-sided p-value of McNemar's exact test: only the first method got `first` documents right, only the second
/// method got `second` documents right.
pub fn mcnemar(first: usize, second: usize) -> f64 {
    let mut differences = vec![1; first];
    differences.resize(first + second, -1);
    sign_flip(&differences)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_one_way_are_a_coin_thrown_twice() {
        assert!((mcnemar(2, 0) - 0.5).abs() < 1e-15);
        assert!((mcnemar(0, 4) - 0.125).abs() < 1e-15);
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(5, 5), 1.0);
    }

    #[test]
    fn sizes_decide_as_counting_all_flips_does() {
        let differences = [3, -1, 2, 2, -2, 1, 0, 5];
        let observed: i64 = differences.iter().sum();
        let mut extreme = 0;
        for flips in 0..256u32 {
            let sum: i64 = differences
                .iter()
                .enumerate()
                .map(|(index, it)| if flips >> index & 1 == 1 { -it } else { *it })
                .sum();
            extreme += u32::from(sum.abs() >= observed.abs());
        }
        assert!((sign_flip(&differences) - f64::from(extreme) / 256.0).abs() < 1e-14);
    }

    #[test]
    fn common_factors_and_zeros_change_nothing() {
        let plain = sign_flip(&[1, 1, 1, -1, 1, 1]);
        assert_eq!(plain, sign_flip(&[3, 3, 0, 3, -3, 3, 3, 0]));
    }
}
