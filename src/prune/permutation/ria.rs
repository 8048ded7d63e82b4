//! RIA's channel permutation (Zhang et al., ICLR 2024; reference:
//! biomedical-cybernetics/Relative-importance-and-activation-pruning, `lib/prune.py`, `--reallocation` and `--lsa`).
//!
//! *Allocation*: columns are sorted by the sum of their scores, smallest first, and divided into as many runs as a group
//! has places. Run `c` goes to place `c` of the groups, every second run backwards, so that each group has columns of all
//! sizes.
//!
//! *Assignment*: for each place of a group in turn, the columns at that place are given to the groups anew, so that the
//! scores that the pattern keeps are largest in sum, with all other places held. If the other columns of a group keep
//! `T` with one weight less in a row, and the last of them that would be kept is `c`, a candidate `x` makes it
//! `T + max(c, x)`. The assignment problem is solved exactly.
//!
//! Deviations: the scores are the recipe's criterion, whatever it is; the sum of scores is the only sorting key (the
//! reference has two more); the assignment is never divided into blocks of columns (`--fast`).

use super::assignment;
use super::step::Permutation;
use crate::backend::cpu::simd::vectorised;
use crate::error::Result;
use crate::prune::values::Values;
use crate::prune::workbench::LayerView;
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The permutation and its parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ria {
    /// Whether assignment follows allocation, as in the paper's best rows.
    pub assignment: bool,
}

impl Default for Ria {
    fn default() -> Self {
        Ria { assignment: true }
    }
}

impl Permutation for Ria {
    fn order(&self, layer: &dyn LayerView, score: &Values, keep: usize, of: usize) -> Result<Vec<usize>> {
        let scores = layer.read(&layer.map(layer.dim(), score)?)?;
        let columns = Columns::new(&scores);
        let mut order = allocated(&columns, of);
        if self.assignment && keep < of {
            for place in 0..of {
                assign(&columns, &mut order, place, keep, of);
            }
        }
        Ok(order)
    }
}

/// Scores, column after column.
struct Columns {
    rows: usize,
    scores: Vec<f32>,
}

impl Columns {
    fn new(scores: &Array2<f32>) -> Self {
        let scores = scores.t();
        Columns {
            rows: scores.ncols(),
            scores: scores.as_standard_layout().iter().copied().collect(),
        }
    }

    fn count(&self) -> usize {
        self.scores.len() / self.rows
    }

    fn at(&self, column: usize) -> &[f32] {
        &self.scores[column * self.rows..][..self.rows]
    }
}

/// The order in which every group has columns of all sizes.
fn allocated(columns: &Columns, of: usize) -> Vec<usize> {
    let sum = |column: usize| -> f64 { columns.at(column).iter().map(|score| f64::from(*score)).sum() };
    let sums: Vec<f64> = (0..columns.count()).into_par_iter().map(sum).collect();
    let mut sorted: Vec<usize> = (0..sums.len()).collect();
    sorted.sort_by(|a, b| sums[*a].total_cmp(&sums[*b]));
    let groups = sums.len() / of;
    let mut order = vec![0; sums.len()];
    for (place, run) in sorted.chunks(groups).enumerate() {
        for (index, column) in run.iter().enumerate() {
            let group = if place % 2 == 1 { groups - 1 - index } else { index };
            order[group * of + place] = *column;
        }
    }
    order
}

/// Gives the columns at one place of the groups to the groups anew, so that the kept scores are largest in sum.
fn assign(columns: &Columns, order: &mut [usize], place: usize, keep: usize, of: usize) {
    let groups = order.len() / of;
    let candidates: Vec<usize> = (0..groups).map(|group| order[group * of + place]).collect();
    let kept = |group: usize| {
        let others = (0..of).filter(|other| *other != place);
        let others: Vec<&[f32]> = others.map(|other| columns.at(order[group * of + other])).collect();
        let (last, rest) = without_one(&others, keep, columns.rows);
        let gain = |candidate: &usize| rest + largest_sum(&last, columns.at(*candidate));
        candidates.iter().map(gain).collect::<Vec<f64>>()
    };
    let gains: Vec<f64> = (0..groups).into_par_iter().flat_map_iter(kept).collect();
    let gains = Array2::from_shape_vec((groups, groups), gains).expect("a gain for each group and candidate");
    let given = assignment::best(gains.view());
    for (group, candidate) in given.into_iter().enumerate() {
        order[group * of + place] = candidates[candidate];
    }
}

/// For the other columns of a group: in each row the last score that is kept if `keep` of them are, and the sum over all
/// rows of the scores before it.
fn without_one(others: &[&[f32]], keep: usize, rows: usize) -> (Vec<f32>, f64) {
    let mut sorted = vec![0.0; others.len()];
    let mut rest = 0.0;
    let last = (0..rows).map(|row| {
        sorted
            .iter_mut()
            .zip(others)
            .for_each(|(score, column)| *score = column[row]);
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        rest += sorted[..keep - 1].iter().map(|score| f64::from(*score)).sum::<f64>();
        sorted[keep - 1]
    });
    let last = last.collect();
    (last, rest)
}

/// The sum of the larger of two values each, in runs of single precision that are short enough for six digits.
fn largest_sum(a: &[f32], b: &[f32]) -> f64 {
    const RUN: usize = 256;
    const LANES: usize = 16;
    let runs = a.chunks(RUN).zip(b.chunks(RUN));
    runs.map(|(a, b)| {
        let mut sums = [0.0f32; LANES];
        vectorised(
            #[inline(always)]
            || {
                let (a, a_rest) = a.as_chunks::<LANES>();
                let (b, b_rest) = b.as_chunks::<LANES>();
                for (a, b) in a.iter().zip(b) {
                    for lane in 0..LANES {
                        sums[lane] += a[lane].max(b[lane]);
                    }
                }
                for (a, b) in a_rest.iter().zip(b_rest) {
                    sums[0] += a.max(*b);
                }
            },
        );
        sums.iter().map(|sum| f64::from(*sum)).sum::<f64>()
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The scores that a pattern keeps in the groups of an order.
    fn kept(scores: &Array2<f32>, order: &[usize], keep: usize, of: usize) -> f64 {
        let mut sum = 0.0;
        for row in scores.axis_iter(Axis(0)) {
            for group in order.chunks(of) {
                let mut group: Vec<f32> = group.iter().map(|column| row[*column]).collect();
                group.sort_unstable_by(|a, b| b.total_cmp(a));
                sum += group[..keep].iter().map(|score| f64::from(*score)).sum::<f64>();
            }
        }
        sum
    }

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Columns of very different sizes.
        let size: Vec<f32> = (0..columns).map(|_| random.random::<f32>().powi(3)).collect();
        Array2::from_shape_fn((rows, columns), |(_, column)| size[column] * random.random::<f32>())
    }

    #[test]
    fn runs_of_sorted_columns_go_to_places_of_groups() {
        let scores = Array2::from_shape_fn((1, 6), |(_, column)| [5.0, 1.0, 4.0, 0.0, 3.0, 2.0][column]);
        // Sorted: 3 1 | 5 4 | 2 0; the second run goes backwards.
        assert_eq!(allocated(&Columns::new(&scores), 3), [3, 4, 2, 1, 5, 0]);
    }

    #[test]
    fn assignment_never_keeps_less_and_finds_the_best_of_small_cases() {
        for seed in 0..20 {
            let scores = random(7, 12, seed);
            let columns = Columns::new(&scores);
            let before = allocated(&columns, 4);
            let mut after = before.clone();
            let mut sums = vec![kept(&scores, &before, 2, 4)];
            for place in 0..4 {
                // All ways to give three candidates to three groups.
                let best = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(|given| {
                    let mut order = after.clone();
                    for (group, candidate) in given.into_iter().enumerate() {
                        order[group * 4 + place] = after[candidate * 4 + place];
                    }
                    kept(&scores, &order, 2, 4)
                });
                let best = best.into_iter().fold(0.0f64, f64::max);
                assign(&columns, &mut after, place, 2, 4);
                let now = kept(&scores, &after, 2, 4);
                assert!(
                    (now - best).abs() <= 1e-6 * best,
                    "seed {seed}, place {place}: {now}, not {best}"
                );
                sums.push(now);
            }
            assert!(sums.is_sorted_by(|a, b| *a <= b * (1.0 + 1e-9)), "{sums:?}");
            let mut sorted = after;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..12));
        }
    }
}
