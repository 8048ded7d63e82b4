//! The mean of paired differences over windows: Student's t as if windows were independent, and a standard error
//! that allows for neighbours that resemble each other.

use super::bootstrap::block_length;
use super::{Interval, mean, student_p, student_quantile, variance_of};

/// A mean over windows that are neighbours in one stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowMean {
    /// Number of windows.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// `sd / sqrt(n)`: right where windows are independent.
    pub standard_error: f64,
    /// From means of blocks of neighbouring windows; never less than [`Self::standard_error`], since a smaller one
    /// would rest on a chance negative correlation.
    pub block_standard_error: f64,
    /// Windows per block.
    pub block: usize,
}

impl WindowMean {
    /// Of values in the order of the stream; `None` for fewer than two.
    pub fn of(values: &[f64]) -> Option<WindowMean> {
        let n = values.len();
        let standard_error = (variance_of(values)? / n as f64).sqrt();
        let block = block_length(n).min(n / 2);
        Some(WindowMean {
            n,
            mean: mean(values),
            standard_error,
            block_standard_error: block_standard_error(values, block).max(standard_error),
            block,
        })
    }

    /// Degrees of freedom where windows are independent.
    pub fn freedom(&self) -> f64 {
        self.n as f64 - 1.0
    }

    /// Degrees of freedom of the block standard error. Blocks that overlap weigh the covariances of neighbours as
    /// Bartlett's window does, so a variance from them is worth `3 b n / (2 b^2 + 1)` squares, `n` for blocks of one.
    pub fn block_freedom(&self) -> f64 {
        let (n, block) = (self.n as f64, self.block as f64);
        3.0 * block * n / (2.0 * block * block + 1.0) - 1.0
    }

    /// Student's t-interval as if windows were independent.
    pub fn t_interval(&self, confidence: f64) -> Option<Interval> {
        let quantile = student_quantile(0.5 + confidence / 2.0, self.freedom())?;
        Some(Interval::around(self.mean, quantile * self.standard_error))
    }

    /// Two-sided p-value of the mean being 0, as if windows were independent.
    pub fn t_p(&self) -> Option<f64> {
        no_difference(self.mean, self.standard_error, self.freedom())
    }

    /// t-interval from blocks.
    pub fn block_interval(&self, confidence: f64) -> Option<Interval> {
        let quantile = student_quantile(0.5 + confidence / 2.0, self.block_freedom())?;
        Some(Interval::around(self.mean, quantile * self.block_standard_error))
    }
}

/// Two-sided p-value of a mean being 0. Differences that are all 0 are no difference, with p = 1.
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
        let mean = WindowMean::of(&values).expect("a sample");
        assert!(mean.block_standard_error > 1.7 * mean.standard_error, "{mean:?}");
    }

    #[test]
    fn identical_methods_do_not_differ() {
        let mean = WindowMean::of(&[0.0; 12]).expect("a sample");
        assert_eq!(mean.t_p(), Some(1.0));
    }

    #[test]
    fn a_difference_without_any_spread_is_certain() {
        let mean = WindowMean::of(&[0.5; 12]).expect("a sample");
        assert_eq!(mean.t_p(), Some(0.0));
    }
}
