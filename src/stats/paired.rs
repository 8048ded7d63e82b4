//! The mean of values over texts, above all of paired differences: as if texts were independent, and with a standard error
//! that allows for windows that resemble their neighbours and documents that share a source.

use super::bootstrap::{Units, block_length};
use super::proportion::clustered_standard_error;
use super::{Interval, mean, student_p, student_quantile, variance_of};

/// How the texts of a sample depend on each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Texts<'a> {
    /// Windows of one token stream, in the order of the stream. Neighbours are correlated.
    Stream,
    /// Documents that do not depend on each other.
    Independent,
    /// Documents that may share a source (a passage, a video): the number of each document's source.
    Sources(&'a [u32]),
}

impl Texts<'_> {
    /// Number of neighbouring texts that are resampled together, for a sample of `n` texts.
    pub fn block(&self, n: usize) -> usize {
        match self {
            Texts::Stream => block_length(n).min(n / 2).max(1),
            Texts::Independent | Texts::Sources(_) => 1,
        }
    }

    /// The units that a bootstrap resamples, made from one value per text.
    pub fn units(&self, values: &[f64]) -> Units {
        match self {
            Texts::Sources(sources) => Units::clustered(values, sources),
            Texts::Stream | Texts::Independent => Units::single(values),
        }
    }
}

/// The mean of one value per text, with standard errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextMean {
    /// Number of texts.
    pub n: usize,
    /// Mean over the texts.
    pub mean: f64,
    /// `sd / sqrt(n)`, which is right if texts are independent.
    pub standard_error: f64,
    /// Standard error that allows for correlation: from means of blocks of neighbouring windows, or from sums over
    /// sources. It is never less than [`Self::standard_error`], since a smaller one would rest on a chance negative
    /// correlation.
    pub robust_standard_error: f64,
    /// Degrees of freedom of the robust standard error.
    pub robust_freedom: f64,
}

impl TextMean {
    /// Computes the mean of one value per text. `None` for fewer than two texts, or fewer than two sources.
    pub fn of(values: &[f64], texts: Texts) -> Option<TextMean> {
        let n = values.len();
        let standard_error = (variance_of(values)? / n as f64).sqrt();
        let (robust, robust_freedom) = match texts {
            Texts::Independent => (standard_error, n as f64 - 1.0),
            Texts::Stream => {
                let block = texts.block(n);
                (
                    block_standard_error(values, block),
                    block_freedom(n as f64, block as f64),
                )
            }
            Texts::Sources(sources) => {
                let clusters = texts.units(values).count() as f64;
                let correction = (clusters / (clusters - 1.0)).sqrt();
                (clustered_standard_error(values, sources) * correction, clusters - 1.0)
            }
        };
        (robust_freedom > 0.0).then(|| TextMean {
            n,
            mean: mean(values),
            standard_error,
            robust_standard_error: robust.max(standard_error),
            robust_freedom,
        })
    }

    /// Student's t-interval of the mean, computed as if texts were independent.
    pub fn t_interval(&self, confidence: f64) -> Option<Interval> {
        let quantile = student_quantile(0.5 + confidence / 2.0, self.n as f64 - 1.0)?;
        Some(Interval::around(self.mean, quantile * self.standard_error))
    }

    /// Two-sided p-value of the mean being 0, as if texts were independent.
    pub fn t_p(&self) -> Option<f64> {
        no_difference(self.mean, self.standard_error, self.n as f64 - 1.0)
    }

    /// Student's t-interval of the mean with the robust standard error.
    pub fn robust_interval(&self, confidence: f64) -> Option<Interval> {
        let quantile = student_quantile(0.5 + confidence / 2.0, self.robust_freedom)?;
        Some(Interval::around(self.mean, quantile * self.robust_standard_error))
    }
}

/// Degrees of freedom of a standard error from blocks. Overlapping blocks weight the covariances of neighbours as
/// Bartlett's window does, so their variance is worth `3 b n / (2 b^2 + 1)` squares, which is `n` for blocks of one.
fn block_freedom(n: f64, block: f64) -> f64 {
    3.0 * block * n / (2.0 * block * block + 1.0) - 1.0
}

/// Two-sided p-value for a mean of 0. If all differences are 0, p is 1.
pub fn no_difference(mean: f64, standard_error: f64, freedom: f64) -> Option<f64> {
    if mean == 0.0 && standard_error == 0.0 {
        return Some(1.0);
    }
    student_p(mean / standard_error, freedom)
}

/// Standard error of a mean from all circular blocks of `block` neighbours: the circular block bootstrap's variance in
/// closed form, times `n / (n - block)`. For blocks of one it is `sd / sqrt(n)`.
fn block_standard_error(values: &[f64], block: usize) -> f64 {
    let n = values.len();
    let centre = mean(values);
    let mut sum: f64 = values[..block].iter().map(|value| value - centre).sum();
    let mut squares = 0.0;
    for start in 0..n {
        squares += (sum / block as f64).powi(2);
        sum += values[(start + block) % n] - values[start];
    }
    let variance_of_block_means = squares / n as f64;
    (variance_of_block_means * block as f64 / (n - block) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_give_the_ordinary_standard_error() {
        let values = [0.3, -0.1, 0.8, 0.2, 0.5, -0.4];
        let ordinary = (variance_of(&values).expect("six values") / 6.0).sqrt();
        assert!((block_standard_error(&values, 1) - ordinary).abs() < 1e-15);
    }

    #[test]
    fn neighbours_that_agree_widen_the_standard_error() {
        let values: Vec<f64> = (0..120).map(|index| f64::from((index / 6) % 2)).collect();
        let mean = TextMean::of(&values, Texts::Stream).expect("a sample");
        // Blocks of 5 hold 0 to 5 ones, by where in the wave of 6 zeros and 6 ones they start: variance 35/12.
        let want = (35.0 / 12.0 / 25.0 * 5.0 / 115.0_f64).sqrt();
        assert!((mean.robust_standard_error - want).abs() < 1e-12, "{mean:?}");
        assert!(mean.robust_standard_error > 1.5 * mean.standard_error, "{mean:?}");
    }

    #[test]
    fn identical_methods_do_not_differ() {
        let mean = TextMean::of(&[0.0; 12], Texts::Stream).expect("a sample");
        assert_eq!(mean.t_p(), Some(1.0));
    }

    #[test]
    fn a_difference_without_any_spread_is_certain() {
        let mean = TextMean::of(&[0.5; 12], Texts::Stream).expect("a sample");
        assert_eq!(mean.t_p(), Some(0.0));
    }

    #[test]
    fn documents_of_one_source_widen_the_standard_error_and_cost_degrees_of_freedom() {
        let values: Vec<f64> = (0..120).map(|index| f64::from((index / 6) % 2)).collect();
        let sources: Vec<u32> = (0..120).map(|index| index / 6).collect();
        let mean = TextMean::of(&values, Texts::Sources(&sources)).expect("a sample");
        assert_eq!(mean.robust_freedom, 19.0);
        assert!(mean.robust_standard_error > 2.4 * mean.standard_error, "{mean:?}");
        assert_eq!(TextMean::of(&values, Texts::Sources(&[0; 120])), None);
    }
}
