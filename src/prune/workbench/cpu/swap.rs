//! Swaps of a kept entry for a removed one on the host, in `f64`.
//!
//! With `c = r G`, swapping the kept entry `p` for the removed entry `u` changes a row's `r G r^T` by
//! `d_p + d_u - 2 w_p w_u G_pu`, where `d_p = s_p^2 + 2 w_p c_p`, `d_u = s_u^2 - 2 w_u c_u` and `s_j = |w_j| sqrt(G_jj)`: what
//! each change does alone, and how the two meet. A look at all pairs would read a quarter of G for every swap. But
//! `|w_p w_u G_pu| <= s_p s_u rho`, where `rho` is the largest correlation of column `p` with the block of columns that
//! `u` is in. With it most columns, and most pairs of the others, are known to be worse than the best pair found so far before
//! their entry of G is read, so the best pair of all is found with few looks.

use super::super::Swapping;
use crate::backend::cpu::simd::vectorised;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// Number of columns whose correlations with another column have one bound.
const BLOCK: usize = 32;

/// Largest group in which every pair is looked at: bounds would take longer.
const SMALL: usize = 64;

/// Number of rows that one task takes; it is fixed, so that a result does not depend on the number of threads.
const BAND: usize = 64;

/// Number of rows of G that are widened to `f64` at a time.
const PANEL: usize = 256;

/// Number of values that are compared at once.
const LANES: usize = 8;

/// A swap must lower the form by more than this part of the row's `sum s_j^2`; rounding stays far below it.
const ROUNDING: f64 = 1e-12;

/// The kept entries after all swaps, as ones and zeros, and the number of swaps in each row. All matrices are contiguous
/// and fit each other.
pub fn swapped(
    weight: &Array2<f32>,
    kept: &Array2<f32>,
    gram: &Array2<f32>,
    swapping: Swapping,
) -> (Array2<f32>, Vec<u32>) {
    let (rows, columns) = weight.dim();
    let mut into = kept.clone();
    let mut swaps = vec![0; rows];
    if rows == 0 || columns == 0 {
        return (into, swaps);
    }
    let layer = Layer::new(slice(gram), columns, swapping.width);
    let bands = slice_mut(&mut into).par_chunks_mut(BAND * columns);
    bands
        .zip(slice(weight).par_chunks(BAND * columns))
        .zip(swaps.par_chunks_mut(BAND))
        .for_each(|((kept, weight), swaps)| {
            let pulls = layer.pulls(weight, kept);
            let pulls = pulls.chunks_exact(columns);
            let rows = kept.chunks_exact_mut(columns).zip(weight.chunks_exact(columns));
            for (((kept, weight), pull), swaps) in rows.zip(pulls).zip(swaps) {
                *swaps = Row::new(&layer, weight, kept, pull).improve(swapping.most, kept);
            }
        });
    (into, swaps)
}

fn slice(matrix: &Array2<f32>) -> &[f32] {
    matrix.as_slice().expect("matrices of the workbench are contiguous")
}

fn slice_mut(matrix: &mut Array2<f32>) -> &mut [f32] {
    matrix.as_slice_mut().expect("matrices of the workbench are contiguous")
}

/// What all rows of a layer share.
struct Layer<'a> {
    gram: &'a [f32],
    columns: usize,
    /// Number of columns in a group.
    width: usize,
    /// `sqrt(G_jj)`.
    roots: Vec<f64>,
    /// Bounds of correlations; absent if groups are so small that every pair is looked at.
    bounds: Option<Bounds>,
}

/// Bounds of the magnitudes of correlations, `|G_jk| / sqrt(G_jj G_kk)` for other columns `k`.
struct Bounds {
    /// Number of blocks of columns.
    blocks: usize,
    /// For each column and block of columns, a bound of the column's correlations with it.
    with_block: Vec<f32>,
    /// For each column, a bound of its correlations with all others.
    with_any: Vec<f64>,
}

impl<'a> Layer<'a> {
    fn new(gram: &'a [f32], columns: usize, width: usize) -> Self {
        let width = width.clamp(1, columns);
        let roots: Vec<f64> = (0..columns)
            .map(|j| f64::from(gram[j * columns + j]).max(0.0).sqrt())
            .collect();
        Layer {
            gram,
            columns,
            width,
            bounds: (width > SMALL).then(|| Bounds::new(gram, &roots)),
            roots,
        }
    }

    fn gram_row(&self, row: usize) -> &'a [f32] {
        &self.gram[row * self.columns..][..self.columns]
    }

    /// `r G` for the removed entries `r` of a band of rows.
    fn pulls(&self, weight: &[f32], kept: &[f32]) -> Vec<f64> {
        let columns = self.columns;
        let rows = weight.len() / columns;
        let removed = weight.iter().zip(kept);
        let removed: Vec<f64> = removed
            .map(|(weight, kept)| if *kept == 0.0 { f64::from(*weight) } else { 0.0 })
            .collect();
        let mut pulls = vec![0.0; rows * columns];
        let mut panel = Vec::new();
        for first in (0..columns).step_by(PANEL) {
            let depth = PANEL.min(columns - first);
            panel.clear();
            panel.extend(
                self.gram[first * columns..][..depth * columns]
                    .iter()
                    .map(|value| f64::from(*value)),
            );
            let left = MatRef::from_row_major_slice_with_stride(&removed[first..], rows, depth, columns);
            let right = MatRef::from_row_major_slice(&panel, depth, columns);
            let into = MatMut::from_row_major_slice_mut(&mut pulls, rows, columns);
            matmul(into, Accum::Add, left, right, 1.0, Par::Seq);
        }
        pulls
    }
}

impl Bounds {
    fn new(gram: &[f32], roots: &[f64]) -> Self {
        // What rounding to single precision could take away.
        const MARGIN: f32 = 1.0 + 1e-5;
        let columns = roots.len();
        let blocks = columns.div_ceil(BLOCK);
        // A column that was never active has no correlations.
        let inverse: Vec<f32> = roots
            .iter()
            .map(|root| if *root > 0.0 { (1.0 / root) as f32 } else { 0.0 })
            .collect();
        let mut with_block = vec![0.0f32; columns * blocks];
        with_block
            .par_chunks_mut(blocks)
            .zip(gram.par_chunks(columns))
            .enumerate()
            .for_each(|(column, (into, row))| {
                let blocks = row.chunks(BLOCK).zip(inverse.chunks(BLOCK)).enumerate();
                for (into, (block, (row, inverse))) in into.iter_mut().zip(blocks) {
                    let own = column.checked_sub(block * BLOCK).filter(|place| *place < row.len());
                    let highest = |range: Range<usize>| {
                        let values = row[range.clone()].iter().zip(&inverse[range]);
                        values.fold(0.0f32, |highest, (value, inverse)| {
                            let value = value.abs() * inverse;
                            if value > highest { value } else { highest }
                        })
                    };
                    let found = match own {
                        Some(own) => highest(0..own).max(highest(own + 1..row.len())),
                        None => highest(0..row.len()),
                    };
                    *into = (found * inverse_of(column, roots)) * MARGIN;
                }
            });
        let with_any = with_block
            .chunks_exact(blocks)
            .map(|row| f64::from(row.iter().copied().fold(0.0, f32::max)))
            .collect();
        Bounds {
            blocks,
            with_block,
            with_any,
        }
    }
}

fn inverse_of(column: usize, roots: &[f64]) -> f32 {
    match roots[column] {
        root if root > 0.0 => (1.0 / root) as f32,
        _ => 0.0,
    }
}

/// One row whose entries are swapped.
struct Row<'a> {
    layer: &'a Layer<'a>,
    weight: &'a [f32],
    /// `|w_j| sqrt(G_jj)`.
    strength: Vec<f64>,
    /// `strength` times a bound of the column's correlations; empty without bounds.
    reach: Vec<f64>,
    /// The largest value of `reach`.
    farthest: f64,
    /// 1 for a kept entry, -1 for a removed one.
    side: Vec<f64>,
    /// `c = r G`.
    pull: Vec<f64>,
    /// What swapping the entry out, or back in, does alone.
    change: Vec<f64>,
    /// How much a swap must gain.
    least: f64,
}

/// The best swap found so far: what it changes, the kept entry and the removed one.
struct Found {
    change: f64,
    pair: Option<(usize, usize)>,
}

impl Found {
    fn consider(&mut self, change: f64, pair: (usize, usize)) {
        let tied = change == self.change && self.pair.is_some_and(|known| pair < known);
        if change < self.change || tied {
            (self.change, self.pair) = (change, Some(pair));
        }
    }
}

/// For the kept or the removed entries `j` of a group, a lower bound of `min_j (d_j - 2 y s_j)` for any `y` up to the
/// farthest reach. As a minimum of straight lines in `y` it is concave, so it lies above its chords between a few
/// values of `y`, and these chords are themselves a minimum of lines.
struct Partners {
    /// Value at `y = 0`, which is the lowest change alone.
    lowest: f64,
    /// Offset and slope of each chord.
    chords: [(f64, f64); KNOTS.len() - 1],
}

/// Where [`Partners`] is exact, as fractions of the farthest reach.
const KNOTS: [f64; 4] = [0.0, 1.0 / 16.0, 0.25, 1.0];

impl Partners {
    /// `None` if there are no such entries.
    fn new(values: [f64; KNOTS.len()], farthest: f64) -> Option<Self> {
        if values[0] == f64::INFINITY {
            return None;
        }
        let chord = |index: usize| {
            let (from, to) = (KNOTS[index] * farthest, KNOTS[index + 1] * farthest);
            let slope = (values[index + 1] - values[index]) / (to - from);
            (values[index] - slope * from, slope)
        };
        Some(Partners {
            lowest: values[0],
            chords: std::array::from_fn(chord),
        })
    }

    #[inline(always)]
    fn at(&self, reach: f64) -> f64 {
        let mut least = f64::INFINITY;
        for (offset, slope) in self.chords {
            let value = offset + slope * reach;
            least = if value < least { value } else { least };
        }
        least
    }
}

/// Entries that may be part of the best swap.
#[derive(Default)]
struct Candidates {
    place: Vec<usize>,
    change: Vec<f64>,
    strength: Vec<f64>,
}

impl Candidates {
    fn clear(&mut self) {
        self.place.clear();
        self.change.clear();
        self.strength.clear();
    }

    fn push(&mut self, row: &Row, place: usize) {
        self.place.push(place);
        self.change.push(row.change[place]);
        self.strength.push(row.strength[place]);
    }
}

impl<'a> Row<'a> {
    fn new(layer: &'a Layer<'a>, weight: &'a [f32], kept: &[f32], pull: &[f64]) -> Self {
        let strength = weight.iter().zip(&layer.roots);
        let strength: Vec<f64> = strength.map(|(weight, root)| f64::from(weight.abs()) * root).collect();
        let bounds = layer.bounds.as_ref();
        let reach: Vec<f64> = bounds.map_or(Vec::new(), |bounds| {
            strength.iter().zip(&bounds.with_any).map(|(s, rho)| s * rho).collect()
        });
        // Without correlations the chords are level, and any end will do.
        let farthest = match reach.iter().copied().fold(0.0, f64::max) {
            0.0 => 1.0,
            farthest => farthest,
        };
        let mut row = Row {
            layer,
            weight,
            farthest,
            reach,
            side: kept.iter().map(|kept| if *kept == 0.0 { -1.0 } else { 1.0 }).collect(),
            pull: pull.to_vec(),
            change: vec![0.0; weight.len()],
            least: -ROUNDING * strength.iter().map(|s| s * s).sum::<f64>(),
            strength,
        };
        row.shift((0, 0.0), (0, 0.0));
        row
    }

    /// Swaps entries while that pays, at most `most` times; returns how often.
    fn improve(mut self, most: usize, kept: &mut [f32]) -> u32 {
        let (mut out, mut back, mut bound) = (Candidates::default(), Candidates::default(), Vec::new());
        let mut swaps = 0;
        while (swaps as usize) < most {
            let mut found = Found {
                change: self.least,
                pair: None,
            };
            for first in (0..self.layer.columns).step_by(self.layer.width) {
                let group = first..self.layer.columns.min(first + self.layer.width);
                match &self.layer.bounds {
                    None => self.look_at_all(group, &mut found),
                    Some(bounds) => {
                        self.bounds_of(group.clone(), &mut found, &mut bound);
                        self.collect(group, &found, &bound, &mut out, &mut back);
                        self.look_at(bounds, &out, &back, &mut found);
                    }
                }
            }
            let Some((gone, restored)) = found.pair else { break };
            (kept[gone], kept[restored]) = (0.0, 1.0);
            (self.side[gone], self.side[restored]) = (-1.0, 1.0);
            let factor = |place: usize| f64::from(self.weight[place]);
            self.shift((gone, factor(gone)), (restored, -factor(restored)));
            swaps += 1;
        }
        swaps
    }

    /// Adds rows of G, times factors, to the pull, and computes the changes anew.
    fn shift(&mut self, (gone, plus): (usize, f64), (restored, minus): (usize, f64)) {
        let (a, b) = (self.layer.gram_row(gone), self.layer.gram_row(restored));
        let Row {
            weight,
            strength,
            side,
            pull,
            change,
            ..
        } = self;
        let columns = weight.len();
        let (weight, strength, side) = (&weight[..columns], &strength[..columns], &side[..columns]);
        let (pull, change) = (&mut pull[..columns], &mut change[..columns]);
        let (a, b) = (&a[..columns], &b[..columns]);
        vectorised(
            #[inline(always)]
            || {
                for j in 0..columns {
                    pull[j] += plus * f64::from(a[j]) + minus * f64::from(b[j]);
                    change[j] = strength[j] * strength[j] + 2.0 * side[j] * f64::from(weight[j]) * pull[j];
                }
            },
        );
    }

    fn look_at_all(&self, group: Range<usize>, found: &mut Found) {
        for gone in group.clone().filter(|place| self.side[*place] > 0.0) {
            let gram = self.layer.gram_row(gone);
            let twice = 2.0 * f64::from(self.weight[gone]);
            for back in group.clone().filter(|place| self.side[*place] < 0.0) {
                let meeting = twice * f64::from(self.weight[back]) * f64::from(gram[back]);
                found.consider(self.change[gone] + self.change[back] - meeting, (gone, back));
            }
        }
    }

    /// The partners of the removed and of the kept entries of a group.
    fn partners(&self, group: Range<usize>) -> Option<[Partners; 2]> {
        let (change, strength, side) = (
            &self.change[group.clone()],
            &self.strength[group.clone()],
            &self.side[group],
        );
        let knots = KNOTS.map(|knot| 2.0 * knot * self.farthest);
        let lowest = vectorised(
            #[inline(always)]
            || lowest_at(&knots, change, strength, side),
        );
        let [kept, removed] = lowest.map(|values| Partners::new(values, self.farthest));
        Some([removed?, kept?])
    }

    /// For each entry of a group, the least that a swap with it can change. Before that a good pair is found, so that there is
    /// something to beat: from the entry whose change alone is lowest on either side to its best partner, from there to that one's
    /// best partner, and so on as long as it gets better.
    fn bounds_of(&self, group: Range<usize>, found: &mut Found, bound: &mut Vec<f64>) {
        bound.clear();
        let Some([of_kept, of_removed]) = self.partners(group.clone()) else {
            return;
        };
        let place = |side: f64, lowest: f64| {
            let mut places = group.clone();
            places.find(|place| self.change[*place] == lowest && self.side[*place] == side)
        };
        if let (Some(gone), Some(back)) = (place(1.0, of_removed.lowest), place(-1.0, of_kept.lowest)) {
            for start in [gone, back] {
                let mut place = start;
                while let Some(partner) = self.best_partner(place, group.clone(), found, bound) {
                    place = partner;
                }
            }
        }
        bound.clear();
        let (change, reach, side) = (
            &self.change[group.clone()],
            &self.reach[group.clone()],
            &self.side[group],
        );
        bound.resize(change.len(), 0.0);
        vectorised(
            #[inline(always)]
            || {
                let entries = change.iter().zip(reach).zip(side);
                for (bound, ((change, reach), side)) in bound.iter_mut().zip(entries) {
                    let (kept, removed) = (of_kept.at(*reach), of_removed.at(*reach));
                    *bound = change + if *side > 0.0 { kept } else { removed };
                }
            },
        );
    }

    /// Looks at all pairs of an entry; its partner if one of them is better than the best swap found.
    fn best_partner(
        &self,
        place: usize,
        group: Range<usize>,
        found: &mut Found,
        values: &mut Vec<f64>,
    ) -> Option<usize> {
        let first = group.start;
        let gram = &self.layer.gram_row(place)[group.clone()];
        let (weight, change, side) = (
            &self.weight[group.clone()],
            &self.change[group.clone()],
            &self.side[group],
        );
        let (alone, twice, own) = (
            self.change[place],
            2.0 * f64::from(self.weight[place]),
            self.side[place],
        );
        values.clear();
        values.resize(change.len(), 0.0);
        let lowest = vectorised(
            #[inline(always)]
            || {
                let entries = change.iter().zip(weight).zip(gram).zip(side);
                for (value, (((change, weight), gram), side)) in values.iter_mut().zip(entries) {
                    let together = alone + change - twice * f64::from(*weight) * f64::from(*gram);
                    *value = if *side == own { f64::INFINITY } else { together };
                }
                least(values)
            },
        );
        if lowest >= found.change {
            return None;
        }
        let partner = first + values.iter().position(|value| *value == lowest)?;
        let pair = if own > 0.0 { (place, partner) } else { (partner, place) };
        self.look(pair.0, pair.1, found);
        Some(partner)
    }

    /// Takes the entries of a group whose bound is not above the best swap found.
    fn collect(&self, group: Range<usize>, found: &Found, bound: &[f64], out: &mut Candidates, back: &mut Candidates) {
        out.clear();
        back.clear();
        for (place, bound) in group.zip(bound) {
            if *bound <= found.change {
                let side = if self.side[place] > 0.0 { &mut *out } else { &mut *back };
                side.push(self, place);
            }
        }
    }

    /// Looks at the pairs of candidates that may be better than the best swap found.
    fn look_at(&self, bounds: &Bounds, out: &Candidates, back: &Candidates, found: &mut Found) {
        // The lowest first, so that the best is found early.
        let mut order: Vec<usize> = (0..out.place.len()).collect();
        order.sort_unstable_by(|a, b| out.change[*a].total_cmp(&out.change[*b]));
        for index in order {
            let (gone, change) = (out.place[index], out.change[index]);
            let with_block = &bounds.with_block[gone * bounds.blocks..][..bounds.blocks];
            let (twice, widest) = (2.0 * out.strength[index], 2.0 * self.reach[gone]);
            for first in (0..back.place.len()).step_by(LANES) {
                let some = first..back.place.len().min(first + LANES);
                let mut lowest = f64::INFINITY;
                for (change, strength) in back.change[some.clone()].iter().zip(&back.strength[some.clone()]) {
                    let value = change - widest * strength;
                    lowest = if value < lowest { value } else { lowest };
                }
                if change + lowest > found.change {
                    continue;
                }
                for index in some {
                    let place = back.place[index];
                    let meeting = twice * back.strength[index] * f64::from(with_block[place / BLOCK]);
                    if change + back.change[index] - meeting <= found.change {
                        self.look(gone, place, found);
                    }
                }
            }
        }
    }

    /// Looks at one pair.
    fn look(&self, gone: usize, back: usize, found: &mut Found) {
        let meeting = 2.0 * f64::from(self.weight[gone]) * f64::from(self.weight[back]);
        let meeting = meeting * f64::from(self.layer.gram[gone * self.layer.columns + back]);
        found.consider(self.change[gone] + self.change[back] - meeting, (gone, back));
    }
}

/// The lowest of some values.
#[inline(always)]
fn least(values: &[f64]) -> f64 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut parts = [f64::INFINITY; LANES];
    for chunk in whole {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part = if *value < *part { *value } else { *part };
        }
    }
    parts.iter().chain(rest).copied().fold(f64::INFINITY, f64::min)
}

/// The lowest `change - knot strength` of the kept entries and of the removed ones, for each knot; infinite where there are
/// none.
#[inline(always)]
fn lowest_at(knots: &[f64; KNOTS.len()], change: &[f64], strength: &[f64], side: &[f64]) -> [[f64; KNOTS.len()]; 2] {
    let none = [[f64::INFINITY; LANES]; KNOTS.len()];
    let (mut kept, mut removed) = (none, none);
    let (changes, changes_left) = change.as_chunks::<LANES>();
    let (strengths, strengths_left) = strength.as_chunks::<LANES>();
    let (sides, sides_left) = side.as_chunks::<LANES>();
    for ((change, strength), side) in changes.iter().zip(strengths).zip(sides) {
        for (knot, (kept, removed)) in knots.iter().zip(kept.iter_mut().zip(&mut removed)) {
            for lane in 0..LANES {
                let value = change[lane] - knot * strength[lane];
                let of_kept = if side[lane] > 0.0 { value } else { f64::INFINITY };
                let of_removed = if side[lane] > 0.0 { f64::INFINITY } else { value };
                kept[lane] = if of_kept < kept[lane] { of_kept } else { kept[lane] };
                removed[lane] = if of_removed < removed[lane] {
                    of_removed
                } else {
                    removed[lane]
                };
            }
        }
    }
    for ((change, strength), side) in changes_left.iter().zip(strengths_left).zip(sides_left) {
        for (knot, (kept, removed)) in knots.iter().zip(kept.iter_mut().zip(&mut removed)) {
            let into = if *side > 0.0 { kept } else { removed };
            into[0] = into[0].min(change - knot * strength);
        }
    }
    [kept, removed].map(|side| side.map(|lanes| lanes.into_iter().fold(f64::INFINITY, f64::min)))
}
