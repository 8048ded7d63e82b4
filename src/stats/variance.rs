//! Two sources of chance at once: calibration seeds x texts measured on, every seed on the same texts.
//!
//! A two-way analysis of variance with both factors random and one value in each place. Its components say how
//! much of the uncertainty would go away with more seeds and how much with more text; its standard error of the grand mean
//! allows for both.

use super::paired::{TextMean, Texts, no_difference};
use super::power::minimum_detectable;
use super::{Interval, mean, student_quantile};

/// The variance of values by seed (rows) and window (columns), split by source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceComponents {
    /// Number of seeds; 1 where there is no second run to compare with.
    pub seeds: usize,
    /// Mean over all seeds and windows.
    pub mean: f64,
    /// The mean over the seeds of each window: how uncertain the mean is because of the texts, for the given seeds.
    pub texts: TextMean,
    /// Standard deviation of a seed's mean over all windows; `None` for one seed.
    pub seed_deviation: Option<f64>,
    /// Variance that seeds add to the value of a single window; `None` for one seed. Never negative.
    pub seed_component: Option<f64>,
    /// Variance that windows add to that value; for one seed it contains all other variance, too.
    pub text_component: f64,
    /// Variance that neither seeds nor windows explain; `None` for one seed.
    pub rest_component: Option<f64>,
    /// Standard error of the grand mean: from windows alone for one seed, otherwise from windows and seeds.
    pub standard_error: f64,
    /// Degrees of freedom of `standard_error` (Satterthwaite, 1946).
    pub freedom: f64,
}

impl VarianceComponents {
    /// Splits the variance of one row per seed. All rows have the same length and the order of the stream. `None` for
    /// fewer than two windows or without a seed.
    pub fn of(rows: &[Vec<f64>], texts: Texts) -> Option<VarianceComponents> {
        let seeds = rows.len();
        let count = rows.first()?.len();
        if rows.iter().any(|row| row.len() != count) {
            return None;
        }
        let of_text: Vec<f64> = (0..count)
            .map(|text| rows.iter().map(|row| row[text]).sum::<f64>() / seeds as f64)
            .collect();
        let means = TextMean::of(&of_text, texts)?;
        let n = count as f64;
        let text_variance = means.standard_error.powi(2) * n;
        if seeds == 1 {
            return Some(VarianceComponents {
                seeds,
                mean: means.mean,
                texts: means,
                seed_deviation: None,
                seed_component: None,
                text_component: text_variance,
                rest_component: None,
                standard_error: means.robust_standard_error,
                freedom: means.robust_freedom,
            });
        }
        let s = seeds as f64;
        let of_seed: Vec<f64> = rows.iter().map(|row| mean(row)).collect();
        // Rounding of the mean would give equal seeds a spread.
        let equal = of_seed.iter().all(|seed| *seed == of_seed[0]);
        let seed_variance = super::variance_of(&of_seed)?;
        let seed_variance = if equal { 0.0 } else { seed_variance };
        let rest: f64 = rows
            .iter()
            .zip(&of_seed)
            .flat_map(|(row, seed)| {
                row.iter()
                    .zip(&of_text)
                    .map(move |(value, window)| value - seed - window + means.mean)
            })
            .map(|residual| residual * residual)
            .sum();
        let rest = rest / ((s - 1.0) * (n - 1.0));
        // Variances of the grand mean that each mean square gives; windows are allowed to resemble their neighbours.
        let parts = [
            (seed_variance / s, s - 1.0),
            (means.robust_standard_error.powi(2), means.robust_freedom),
            (-rest / (s * n), (s - 1.0) * (n - 1.0)),
        ];
        let variance: f64 = parts.iter().map(|(part, _)| part).sum();
        // Either source alone is a lower bound; the difference of mean squares may fall below it by chance.
        let least = parts[0].0.max(parts[1].0);
        let squares: f64 = parts.iter().map(|(part, freedom)| part * part / freedom).sum();
        let variance = variance.max(least);
        let freedom = variance * variance / squares;
        Some(VarianceComponents {
            seeds,
            mean: means.mean,
            texts: means,
            seed_deviation: Some(seed_variance.sqrt()),
            seed_component: Some((seed_variance - rest / n).max(0.0)),
            text_component: (text_variance - rest / s).max(0.0),
            rest_component: Some(rest),
            standard_error: variance.sqrt(),
            // Without any spread the degrees do not matter; the bounds are those of one source deciding alone and of both.
            freedom: match freedom.is_nan() {
                true => parts[0].1,
                false => freedom.clamp(parts[0].1.min(parts[1].1), parts[0].1 + parts[1].1),
            },
        })
    }

    /// Standard errors with their degrees of freedom: of both sources together, and of each alone. Three seeds tell
    /// little about their own variance. If they happen to agree, the error of both together is too small.
    fn spreads(&self) -> impl Iterator<Item = (f64, f64)> {
        let seeds = self.seeds as f64;
        let of_seeds = self
            .seed_deviation
            .map(|deviation| (deviation / seeds.sqrt(), seeds - 1.0));
        let of_texts = (self.texts.robust_standard_error, self.texts.robust_freedom);
        [(self.standard_error, self.freedom), of_texts]
            .into_iter()
            .chain(of_seeds)
    }

    /// Student's t-interval of the grand mean: the widest of the intervals from both sources together and from each
    /// alone.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let halves = self
            .spreads()
            .map(|(error, freedom)| student_quantile(0.5 + confidence / 2.0, freedom).map(|quantile| quantile * error));
        Some(Interval::around(self.mean, largest(halves)?))
    }

    /// Two-sided p-value for a grand mean of 0, consistent with [`Self::interval`].
    pub fn p(&self) -> Option<f64> {
        largest(
            self.spreads()
                .map(|(error, freedom)| no_difference(self.mean, error, freedom)),
        )
    }

    /// Whether there are several seeds, but they do not tell how much seeds differ: there are only two, or all have the
    /// same mean. Accuracies are counts, so a few seeds may have the same mean by chance.
    pub fn seeds_tell_nothing(&self) -> bool {
        self.seeds == 2 || self.seed_deviation == Some(0.0)
    }

    /// The smallest true mean that would be found at level `alpha` with probability `power`. `None` also if the
    /// values have no spread, or if seeds tell nothing of theirs, since this does not tell how large the spread usually is.
    pub fn minimum_detectable(&self, alpha: f64, power: f64) -> Option<f64> {
        if self.standard_error == 0.0 || self.seeds_tell_nothing() {
            return None;
        }
        largest(
            self.spreads()
                .map(|(error, freedom)| minimum_detectable(error, freedom, alpha, power)),
        )
    }
}

/// The largest of some values; `None` if one of them is missing.
fn largest(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.reduce(|a, b| Some(a?.max(b?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(seed: &[f64], window: &[f64]) -> Vec<Vec<f64>> {
        let row = |seed: &f64| window.iter().map(|window| seed + window).collect();
        seed.iter().map(row).collect()
    }

    #[test]
    fn what_seeds_and_windows_add_is_told_apart() {
        let windows: Vec<f64> = (0..60).map(|index| f64::from((index * 17) % 7)).collect();
        let components = VarianceComponents::of(&grid(&[0.0, 1.0, 5.0], &windows), Texts::Stream).expect("a grid");
        let rest = components.rest_component.expect("three seeds");
        assert!(rest.abs() < 1e-20, "{components:?}");
        let seeds = components.seed_component.expect("three seeds");
        assert!((seeds - 7.0).abs() < 1e-12, "{components:?}");
        let windows = super::super::variance_of(&windows).expect("a sample");
        assert!((components.text_component - windows).abs() < 1e-12);
    }

    #[test]
    fn one_seed_shows_no_seed_variance() {
        let components = VarianceComponents::of(&[vec![1.0, 2.0, 4.0, 3.0]], Texts::Stream).expect("a row");
        assert_eq!((components.seed_deviation, components.seed_component), (None, None));
        assert_eq!(components.standard_error, components.texts.robust_standard_error);
    }

    #[test]
    fn seeds_that_disagree_decide_the_degrees_of_freedom() {
        let windows: Vec<f64> = (0..60).map(|index| 0.001 * f64::from((index * 17) % 7)).collect();
        let components = VarianceComponents::of(&grid(&[0.0, 1.0, 5.0], &windows), Texts::Stream).expect("a grid");
        assert!((components.freedom - 2.0).abs() < 0.01, "{components:?}");
        assert!((components.standard_error - (7f64 / 3.0).sqrt()).abs() < 1e-3);
    }

    #[test]
    fn two_seeds_and_equal_seeds_tell_nothing_of_how_much_seeds_differ() {
        let windows: Vec<f64> = (0..60).map(|index| f64::from((index * 17) % 7)).collect();
        let of = |seeds: &[f64]| VarianceComponents::of(&grid(seeds, &windows), Texts::Stream).expect("a grid");
        let detectable = |seeds: &[f64]| of(seeds).minimum_detectable(0.05, 0.8);
        assert_eq!(detectable(&[0.0, 0.1]), None);
        // 0.1 cannot be written in binary, so the mean of equal seeds is rounded.
        for seeds in 2..12 {
            let equal = vec![0.1; seeds];
            assert_eq!(of(&equal).seed_deviation, Some(0.0), "{seeds}");
            assert_eq!(detectable(&equal), None, "{seeds}");
        }
        // One seed is compared over texts alone, and three that differ tell something.
        assert!(detectable(&[0.1]).is_some() && detectable(&[0.0, 0.1, 0.3]).is_some());
    }

    #[test]
    fn rows_of_different_lengths_have_no_answer() {
        assert_eq!(
            VarianceComponents::of(&[vec![1.0, 2.0], vec![1.0]], Texts::Stream),
            None
        );
        assert_eq!(VarianceComponents::of(&[], Texts::Stream), None);
    }
}
