//! Circular block bootstrap of a mean, with bias-corrected and accelerated (BCa) intervals.
//!
//! Windows of one token stream are neighbours and resemble each other, so they are drawn in blocks of consecutive
//! windows, the last followed by the first (Politis and Romano, 1992); documents that share a source are drawn
//! together. BCa is Efron's (1987), as scipy.stats.bootstrap computes it; the acceleration comes from leaving
//! out one block at a time, every block once.
//!
//! Two corrections for small samples, both without effect on large ones: resampled means are spread out by
//! `sqrt(n / (n - b))`, since drawing from `n` units in blocks of `b` makes their variance too small by that
//! factor, and tails are those of Student's t with one degree of freedom less than there are blocks (Hesterberg,
//! 2015, "What Teachers Should Know About the Bootstrap"). Without them a nominal 95 % interval of 40 windows
//! covers 90 to 92 %.
//!
//! Sums of blocks come from running sums, so a block costs the same whatever its length.

use super::{Interval, normal_probability, normal_quantile, student_quantile};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Number of resamples behind every interval in a report.
pub const RESAMPLES: usize = 10_000;

/// Seed of every bootstrap in a report, so that all comparisons see the same draws.
pub const SEED: u64 = 20_250_815;

/// Resamples per random stream. Streams are numbered, so it does not matter which thread draws from which.
const CHUNK: usize = 250;

/// What is resampled: windows, documents, or groups of documents, in the order in which they are neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    /// Sum of the values in each unit.
    sums: Vec<f64>,
    /// Number of values in each unit; empty where every unit is one value.
    sizes: Vec<f64>,
}

impl Units {
    /// Makes one unit of every value.
    pub fn single(values: &[f64]) -> Units {
        Units {
            sums: values.to_vec(),
            sizes: Vec::new(),
        }
    }

    /// Makes one unit of all values that share a source; `sources` has one number per value.
    pub fn clustered(values: &[f64], sources: &[u32]) -> Units {
        let mut clusters: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for (value, source) in values.iter().zip(sources) {
            let cluster = clusters.entry(*source).or_default();
            cluster.0 += value;
            cluster.1 += 1.0;
        }
        let (sums, sizes) = clusters.into_values().unzip();
        Units { sums, sizes }
    }

    /// Number of units that are resampled.
    pub fn count(&self) -> usize {
        self.sums.len()
    }

    /// Mean over all values, whatever unit they belong to.
    pub fn mean(&self) -> f64 {
        let values = match self.sizes.is_empty() {
            true => self.sums.len() as f64,
            false => self.sizes.iter().sum(),
        };
        self.sums.iter().sum::<f64>() / values
    }
}

/// Number of neighbouring windows in a block, for `n` windows: the cube root of `n`, which is the best rate for
/// estimating a variance (Künsch, 1989).
pub fn block_length(n: usize) -> usize {
    (n as f64).cbrt().round().max(1.0) as usize
}

/// Resampled means of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// Mean of the sample itself.
    pub estimate: f64,
    /// Means of the resamples, in ascending order.
    means: Vec<f64>,
    acceleration: f64,
    /// Degrees of freedom: the number of blocks minus one.
    freedom: f64,
}

/// Running sums over the units, which are gone through twice so that a block may continue at the first unit.
struct Running {
    sums: Vec<f64>,
    sizes: Vec<f64>,
}

impl Running {
    fn new(units: &Units, centre: f64) -> Running {
        let around = |values: &mut dyn Iterator<Item = f64>| {
            let mut total = 0.0;
            let mut running = vec![0.0];
            running.extend(values.map(|value| {
                total += value;
                total
            }));
            running
        };
        let n = units.count();
        // Centred, so that differences of running sums lose no digits.
        let unit = |index: usize| match units.sizes.get(index % n) {
            Some(size) => units.sums[index % n] - centre * size,
            None => units.sums[index % n] - centre,
        };
        Running {
            sums: around(&mut (0..2 * n).map(unit)),
            sizes: match units.sizes.is_empty() {
                true => Vec::new(),
                false => around(&mut (0..2 * n).map(|index| units.sizes[index % n])),
            },
        }
    }

    fn sum(&self, start: usize, length: usize) -> f64 {
        self.sums[start + length] - self.sums[start]
    }

    fn size(&self, start: usize, length: usize) -> f64 {
        match self.sizes.is_empty() {
            true => length as f64,
            false => self.sizes[start + length] - self.sizes[start],
        }
    }
}

impl Bootstrap {
    /// Draws `resamples` resamples in blocks of `block` neighbouring units. `None` for fewer than two blocks, whose
    /// spread is unknown.
    pub fn new(units: &Units, block: usize, resamples: usize, seed: u64) -> Option<Bootstrap> {
        let n = units.count();
        let block = block.max(1);
        if n < 2 * block || resamples == 0 {
            return None;
        }
        let estimate = units.mean();
        let running = Running::new(units, estimate);
        let spread = (n as f64 / (n - block) as f64).sqrt();
        let mut means = vec![0.0; resamples];
        means.par_chunks_mut(CHUNK).enumerate().for_each(|(stream, means)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream as u64);
            for mean in means {
                *mean = estimate + spread * resampled(&running, n, block, &mut random);
            }
        });
        means.par_sort_unstable_by(f64::total_cmp);
        Some(Bootstrap {
            estimate,
            means,
            acceleration: acceleration(&running, n, block),
            freedom: n as f64 / block as f64 - 1.0,
        })
    }

    /// The BCa interval of the mean at level `confidence`, with the tails of Student's t. `None` if [`bca`] has none: as a rule for
    /// fewer than five blocks.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let tail = 0.5 - confidence / 2.0;
        // There is a quantile: `new` refuses samples without degrees of freedom.
        let tail = student_quantile(tail, self.freedom).map_or(tail, normal_probability);
        bca(&self.means, self.estimate, self.acceleration, tail)
    }
}

/// The mean of one resample minus the mean of the sample.
fn resampled(running: &Running, n: usize, block: usize, random: &mut ChaCha8Rng) -> f64 {
    let (mut sum, mut size, mut left) = (0.0, 0.0, n);
    while left > 0 {
        // A multiplication in place of a division; the bias is below n / 2^32.
        let start = ((u64::from(random.next_u32()) * n as u64) >> 32) as usize;
        let length = block.min(left);
        sum += running.sum(start, length);
        size += running.size(start, length);
        left -= length;
    }
    sum / size
}

/// The acceleration of BCa, found by leaving out each block of neighbouring units in turn. The `n` blocks overlap:
/// each unit is in `block` of them, which the square root corrects for. With blocks of one unit this is the usual
/// jackknife acceleration.
fn acceleration(running: &Running, n: usize, block: usize) -> f64 {
    let (sums, sizes) = (running.sum(0, n), running.size(0, n));
    let left_out: Vec<f64> = (0..n)
        .map(|start| (sums - running.sum(start, block)) / (sizes - running.size(start, block)))
        .collect();
    let centre = super::mean(&left_out);
    let (squares, cubes) = left_out.iter().fold((0.0, 0.0), |(squares, cubes), value| {
        let deviation = centre - value;
        (squares + deviation * deviation, cubes + deviation.powi(3))
    });
    if squares > 0.0 {
        (block as f64).sqrt() * cubes / (6.0 * f64::powf(squares, 1.5))
    } else {
        0.0
    }
}

/// Efron's BCa interval from resampled values in ascending order; `tail` is the nominal probability in each tail.
///
/// `None` where the resamples cannot tell where an end is. In small samples it would be the most extreme resample, however much farther the
/// truth may be, and the acceleration of a skewed sample can turn an end round to the other side.
pub fn bca(ascending: &[f64], estimate: f64, acceleration: f64, tail: f64) -> Option<Interval> {
    let (least, most) = (*ascending.first()?, *ascending.last()?);
    if least == most {
        return Some(Interval { low: least, high: most });
    }
    let below = ascending.partition_point(|value| *value < estimate);
    let not_above = ascending.partition_point(|value| *value <= estimate);
    let share = (below + not_above) as f64 / (2 * ascending.len()) as f64;
    let bias = normal_quantile(share);
    let end = |z: f64| {
        let moved = bias + z;
        let accelerated = 1.0 - acceleration * moved;
        let probability = normal_probability(bias + moved / accelerated);
        let found = percentile(ascending, probability);
        let within = probability.is_finite() && least < found && found < most;
        (accelerated > 0.0 && within).then_some(found)
    };
    // The upper quantile is the lower one with the other sign: `1 - tail` would lose a small tail to rounding.
    let z = normal_quantile(tail);
    Some(Interval {
        low: end(z)?,
        high: end(-z)?,
    })
}

/// Percentile of ascending values, with linear interpolation as in NumPy.
fn percentile(ascending: &[f64], probability: f64) -> f64 {
    let place = probability.clamp(0.0, 1.0) * (ascending.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(ascending.len() - 1);
    ascending[below] + (place - below as f64) * (ascending[above] - ascending[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<f64> {
        (0..57)
            .map(|index| f64::from((index * 37) % 11) * 0.3 + f64::from(index % 5).powi(2))
            .collect()
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let units = Units::single(&sample());
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads");
            pool.install(|| Bootstrap::new(&units, 4, 3_001, 7))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn another_seed_moves_the_ends_only_a_little() {
        let units = Units::single(&sample());
        let of = |seed| {
            Bootstrap::new(&units, 1, RESAMPLES, seed)
                .expect("a sample")
                .interval(0.95)
                .expect("fourteen blocks and more")
        };
        let (one, other) = (of(1), of(2));
        assert_ne!(one, other);
        let width = one.high - one.low;
        assert!((one.low - other.low).abs() < 0.03 * width, "{one:?} {other:?}");
        assert!((one.high - other.high).abs() < 0.03 * width, "{one:?} {other:?}");
    }

    #[test]
    fn a_cluster_is_drawn_as_a_whole() {
        // Four documents of each source agree: with 12 sources the interval is that of 12 values, not of 48.
        let values: Vec<f64> = (0..48).map(|index| f64::from((index / 4) % 2)).collect();
        let sources: Vec<u32> = (0..48).map(|index| index / 4).collect();
        let of = |units: &Units| {
            let bootstrap = Bootstrap::new(units, 1, RESAMPLES, 1).expect("a sample");
            bootstrap.interval(0.95).expect("twelve blocks and more")
        };
        let clustered = of(&Units::clustered(&values, &sources));
        let single = of(&Units::single(&values));
        let twelve = of(&Units::single(&[0.0, 1.0].repeat(6)));
        assert!((clustered.high - twelve.high).abs() < 0.03, "{clustered:?} {twelve:?}");
        assert!(clustered.high - clustered.low > 1.8 * (single.high - single.low));
    }

    #[test]
    fn constant_values_have_an_interval_of_no_width() {
        let bootstrap = Bootstrap::new(&Units::single(&[2.5; 20]), 2, 500, 1).expect("a sample");
        assert_eq!(bootstrap.interval(0.95), Some(Interval { low: 2.5, high: 2.5 }));
    }

    #[test]
    fn less_than_two_blocks_have_no_interval() {
        assert_eq!(Bootstrap::new(&Units::single(&[1.0]), 1, 100, 1), None);
        assert_eq!(Bootstrap::new(&Units::single(&[1.0, 2.0, 3.0]), 2, 100, 1), None);
    }
}
