//! Swaps of a kept entry for a removed one on the host: candidates in `f32`, decisions in `f64`.
//!
//! With `c = r G`, swapping the kept entry `p` for the removed entry `u` changes a row's `r G r^T` by
//! `d_p + d_u - 2 w_p w_u G_pu`, where `d_p = s_p^2 + 2 w_p c_p`, `d_u = s_u^2 - 2 w_u c_u` and `s_j = |w_j| sqrt(G_jj)`: what
//! each change does alone, and how the two meet. A look at all pairs would read a quarter of G for every swap. But
//! `|w_p w_u G_pu| <= t_p t_u`, where `t_j = s_j sqrt(rho_j)` and `rho_j` is the largest correlation of column `j`, and it is at most
//! `s_p s_u rho`, where `rho` is the largest correlation of column `p` with the block of columns that `u` is in. With these bounds
//! most columns, and most pairs of the others, are known to be worse than a good pair found before, and only for the rest
//! the entry of G is read. The bounds are computed in `f32`, each a little lower than it is, so that the best pair of all is
//! found.

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

/// Number of rows whose `r G` is known at a time, and of those that one product computes; they are fixed, so that a result
/// does not depend on the number of threads.
const SLAB: usize = 1024;
const BAND: usize = 128;

/// Number of rows of G that are widened to `f64` at a time.
const PANEL: usize = 256;

/// Number of values that are compared at once, and of those that are compared before one looks at the result.
const LANES: usize = 8;
const SIFTED: usize = 32;

/// Number of removed entries that are looked at one by one for a kept entry; if there are more, all are looked at in order.
const FEW: usize = 48;

/// What single precision may take away from a change, as a part of the terms that make it up.
const MARGIN: f32 = 4e-6;

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
    let slabs = slice_mut(&mut into).chunks_mut(SLAB * columns);
    let slabs = slabs
        .zip(slice(weight).chunks(SLAB * columns))
        .zip(swaps.chunks_mut(SLAB));
    for ((kept, weight), swaps) in slabs {
        let mut pulls = vec![0.0; kept.len()];
        let bands = pulls.par_chunks_mut(BAND * columns);
        bands
            .zip(weight.par_chunks(BAND * columns))
            .zip(kept.par_chunks(BAND * columns))
            .for_each(|((pulls, weight), kept)| layer.pulls(pulls, weight, kept));
        let rows = kept.par_chunks_mut(columns).zip(weight.par_chunks(columns));
        rows.zip(pulls.par_chunks(columns))
            .zip(swaps)
            .for_each(|(((kept, weight), pull), swaps)| {
                *swaps = Row::new(&layer, weight, kept, pull).improve(swapping.most, kept);
            });
    }
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
    /// Without bounds: for each column, its entries of G with the columns of its group. They lie together here.
    within: Vec<f32>,
}

/// Bounds of the magnitudes of correlations, `|G_jk| / sqrt(G_jj G_kk)` for other columns `k`.
struct Bounds {
    /// Number of blocks of columns.
    blocks: usize,
    /// For each column and block of columns, a bound of the column's correlations with it.
    with_block: Vec<f32>,
    /// For each column, a bound of its correlations with all others.
    with_any: Vec<f32>,
}

impl<'a> Layer<'a> {
    fn new(gram: &'a [f32], columns: usize, width: usize) -> Self {
        let width = width.clamp(1, columns);
        let roots: Vec<f64> = (0..columns)
            .map(|j| f64::from(gram[j * columns + j]).max(0.0).sqrt())
            .collect();
        let mut layer = Layer {
            gram,
            columns,
            width,
            bounds: (width > SMALL).then(|| Bounds::new(gram, &roots)),
            within: Vec::new(),
            roots,
        };
        if layer.bounds.is_none() {
            let groups = layer
                .groups()
                .flat_map(|group| group.clone().map(move |row| (row, group.clone())));
            let mut within = vec![0.0; columns * width];
            for ((row, group), into) in groups.zip(within.chunks_exact_mut(width)) {
                into[..group.len()].copy_from_slice(&layer.gram_row(row)[group]);
            }
            layer.within = within;
        }
        layer
    }

    /// The columns of each group.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.columns.div_ceil(self.width)).map(|index| self.group(index))
    }

    /// The columns of one group.
    fn group(&self, index: usize) -> Range<usize> {
        let first = index * self.width;
        first..self.columns.min(first + self.width)
    }

    fn gram_row(&self, row: usize) -> &'a [f32] {
        &self.gram[row * self.columns..][..self.columns]
    }

    /// `r G` for the removed entries `r` of a band of rows, added to what is there.
    fn pulls(&self, into: &mut [f64], weight: &[f32], kept: &[f32]) {
        let columns = self.columns;
        let rows = weight.len() / columns;
        let removed = weight.iter().zip(kept);
        let removed: Vec<f64> = removed
            .map(|(weight, kept)| if *kept == 0.0 { f64::from(*weight) } else { 0.0 })
            .collect();
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
            let into = MatMut::from_row_major_slice_mut(into, rows, columns);
            matmul(into, Accum::Add, left, right, 1.0, Par::Seq);
        }
    }
}

impl Bounds {
    fn new(gram: &[f32], roots: &[f64]) -> Self {
        // What rounding to single precision could take away.
        const ROUNDED: f32 = 1.0 + 1e-5;
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
                    *into = (found * inverse_of(column, roots)) * ROUNDED;
                }
            });
        let with_any = with_block
            .chunks_exact(blocks)
            .map(|row| row.iter().copied().fold(0.0, f32::max))
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

/// One row whose entries are swapped. Values in `f32` are in units of the row's mean `s_j^2`.
struct Row<'a> {
    layer: &'a Layer<'a>,
    weight: &'a [f32],
    /// `s_j^2`.
    own: Vec<f64>,
    /// 1 for a kept entry, -1 for a removed one.
    side: Vec<f64>,
    /// `2 w_j` for a kept entry, `-2 w_j` for a removed one.
    factor: Vec<f64>,
    /// `c = r G`.
    pull: Vec<f64>,
    /// What swapping the entry out, or back in, does alone.
    change: Vec<f64>,
    /// A bound below `change` for the kept entries; infinite for the removed ones.
    kept_low: Vec<f32>,
    /// A bound below `change` for the removed entries; infinite for the kept ones.
    removed_low: Vec<f32>,
    /// A bound above `s_j`.
    strength: Vec<f32>,
    /// A bound above `t_j = s_j sqrt(rho_j)`; empty without bounds of correlations.
    reach: Vec<f32>,
    /// The largest value of `reach`.
    farthest: f32,
    /// Bounds above `2 w_p w_u G_pu` of the kept and removed entries of each group; empty with bounds of correlations.
    meeting: Vec<f32>,
    /// One over the mean `s_j^2`.
    unit: f64,
    /// How much a swap must gain.
    least: f64,
}

/// The best swap found so far: what it changes, the kept entry and the removed one.
struct Found {
    change: f64,
    pair: Option<(usize, usize)>,
    /// `change` in units of the row, and a little more.
    limit: f32,
    unit: f64,
}

impl Found {
    fn new(change: f64, unit: f64) -> Self {
        let mut found = Found {
            change,
            pair: None,
            limit: 0.0,
            unit,
        };
        found.set_limit();
        found
    }

    fn consider(&mut self, change: f64, pair: (usize, usize)) {
        let tied = change == self.change && self.pair.is_some_and(|known| pair < known);
        if change < self.change || tied {
            (self.change, self.pair) = (change, Some(pair));
            self.set_limit();
        }
    }

    fn set_limit(&mut self) {
        // Changes of swaps that gain are negative.
        self.limit = (self.change * self.unit) as f32 * (1.0 - MARGIN);
    }
}

/// For the kept or the removed entries `j` of a group, a lower bound of `min_j (d_j - 2 y t_j)` for any `y` up to the
/// farthest reach. As a minimum of straight lines in `y` it is concave, so it lies above its chords between a few
/// values of `y`, and these chords are themselves a minimum of lines.
struct Partners {
    /// Offset and slope of each chord.
    chords: [(f32, f32); KNOTS.len() - 1],
}

/// Where [`Partners`] is exact, as fractions of the farthest reach. They come close to zero, since a few loud columns
/// reach much farther than all others.
const KNOTS: [f32; 10] = {
    let mut knots = [0.0; 10];
    let mut index = 9;
    let mut knot = 1.0;
    while index > 0 {
        knots[index] = knot;
        knot *= 0.5;
        index -= 1;
    }
    knots
};

impl Partners {
    /// `None` if there are no such entries.
    fn new(low: &[f32], reach: &[f32], farthest: f32) -> Option<Self> {
        let knots = KNOTS.map(|knot| 2.0 * knot * farthest);
        let values = vectorised(
            #[inline(always)]
            || lowest_at(&knots, low, reach),
        );
        if values[0] == f32::INFINITY {
            return None;
        }
        let chord = |index: usize| {
            let (from, to) = (KNOTS[index] * farthest, KNOTS[index + 1] * farthest);
            let slope = (values[index + 1] - values[index]) / (to - from);
            (values[index] - slope * from, slope)
        };
        Some(Partners {
            chords: std::array::from_fn(chord),
        })
    }

    #[inline(always)]
    fn at(&self, reach: f32) -> f32 {
        let mut least = f32::INFINITY;
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
    /// The least that a swap with the entry can change.
    bound: Vec<f32>,
    low: Vec<f32>,
    strength: Vec<f32>,
    reach: Vec<f32>,
}

impl Candidates {
    fn clear(&mut self) {
        self.place.clear();
        self.bound.clear();
        self.low.clear();
        self.strength.clear();
        self.reach.clear();
    }
}

/// Lists that are used again for every swap.
#[derive(Default)]
struct Lists {
    out: Candidates,
    back: Candidates,
    order: Vec<usize>,
    near: Vec<usize>,
    bound: Vec<f32>,
}

impl<'a> Row<'a> {
    fn new(layer: &'a Layer<'a>, weight: &'a [f32], kept: &[f32], pull: &[f64]) -> Self {
        let columns = weight.len();
        let own = weight.iter().zip(&layer.roots);
        let own: Vec<f64> = own.map(|(weight, root)| (f64::from(*weight) * root).powi(2)).collect();
        let sum: f64 = own.iter().sum();
        // Without anything to swap, any unit will do.
        let unit = if sum > 0.0 { columns as f64 / sum } else { 1.0 };
        let strength: Vec<f32> = own
            .iter()
            .map(|own| (own * unit).sqrt() as f32 * (1.0 + MARGIN))
            .collect();
        let reach: Vec<f32> = layer.bounds.as_ref().map_or(Vec::new(), |bounds| {
            strength
                .iter()
                .zip(&bounds.with_any)
                .map(|(s, rho)| s * rho.sqrt())
                .collect()
        });
        // Without correlations the chords are level, and any end will do.
        let farthest = match reach.iter().copied().fold(0.0, f32::max) {
            0.0 => 1.0,
            farthest => farthest,
        };
        let mut row = Row {
            layer,
            weight,
            own,
            factor: std::iter::zip(weight, kept)
                .map(|(weight, kept)| f64::from(*weight) * if *kept == 0.0 { -2.0 } else { 2.0 })
                .collect(),
            side: kept.iter().map(|kept| if *kept == 0.0 { -1.0 } else { 1.0 }).collect(),
            pull: pull.to_vec(),
            change: vec![0.0; columns],
            kept_low: vec![0.0; columns],
            removed_low: vec![0.0; columns],
            strength,
            reach,
            farthest,
            meeting: Vec::new(),
            unit,
            least: -ROUNDING * sum,
        };
        row.shift((0, 0.0), (0, 0.0));
        if layer.bounds.is_none() {
            row.meeting = layer.groups().map(|group| row.meeting(group)).collect();
        }
        row
    }

    /// Swaps entries while that pays, at most `most` times; returns how often.
    fn improve(mut self, most: usize, kept: &mut [f32]) -> u32 {
        let mut lists = Lists::default();
        let mut swaps = 0;
        while (swaps as usize) < most {
            let mut found = Found::new(self.least, self.unit);
            match &self.layer.bounds {
                None => self.search_small(&mut lists.bound, &mut found),
                Some(bounds) => {
                    for group in self.layer.groups() {
                        self.search_large(bounds, group, &mut lists, &mut found);
                    }
                }
            }
            let Some((gone, restored)) = found.pair else {
                break;
            };
            (kept[gone], kept[restored]) = (0.0, 1.0);
            (self.side[gone], self.side[restored]) = (-1.0, 1.0);
            for place in [gone, restored] {
                self.factor[place] = -self.factor[place];
            }
            let group = gone / self.layer.width;
            if self.layer.bounds.is_none() {
                self.meeting[group] = self.meeting(self.layer.group(group));
            }
            let weight = |place: usize| f64::from(self.weight[place]);
            self.shift((gone, weight(gone)), (restored, -weight(restored)));
            swaps += 1;
        }
        swaps
    }

    /// Adds rows of G, times factors, to the pull, and computes the changes anew.
    fn shift(&mut self, (gone, plus): (usize, f64), (restored, minus): (usize, f64)) {
        let (a, b) = (self.layer.gram_row(gone), self.layer.gram_row(restored));
        vectorised(
            #[inline(always)]
            || {
                add_rows(&mut self.pull, (plus, a), (minus, b));
                changes(&mut self.change, &self.own, &self.factor, &self.pull);
                let into = (&mut self.kept_low[..], &mut self.removed_low[..]);
                lows(into, &self.change, &self.own, &self.side, self.unit);
            },
        );
    }

    /// Looks at all pairs of the groups in which any could be better than the best found, first of the most promising.
    fn search_small(&self, bound: &mut Vec<f32>, found: &mut Found) {
        let width = self.layer.width;
        let groups = self.kept_low.chunks(width).zip(self.removed_low.chunks(width));
        let lowest = |values: &[f32]| values.iter().fold(f32::INFINITY, |a, b| if *b < a { *b } else { a });
        bound.clear();
        bound.extend(
            groups
                .zip(&self.meeting)
                .map(|((kept, removed), meeting)| lowest(kept) + lowest(removed) - meeting),
        );
        let promising = least(bound);
        if let Some(index) = bound.iter().position(|bound| *bound == promising) {
            self.look_at_all(self.layer.group(index), found);
        }
        let limit = found.limit;
        let look = |index: usize, _| {
            self.look_at_all(self.layer.group(index), found);
            found.limit
        };
        vectorised(
            #[inline(always)]
            || sift([&bound[..]], |[bound]| bound, limit, look),
        );
    }

    /// A bound above `2 w_p w_u G_pu` of the kept and removed entries of a small group.
    fn meeting(&self, group: Range<usize>) -> f32 {
        let mut highest = f64::NEG_INFINITY;
        self.pairs(group, |_, _, meeting| {
            highest = if meeting > highest { meeting } else { highest }
        });
        let highest = (highest * self.unit) as f32;
        highest + MARGIN * highest.abs()
    }

    fn look_at_all(&self, group: Range<usize>, found: &mut Found) {
        self.pairs(group, |gone, back, meeting| {
            found.consider(self.change[gone] + self.change[back] - meeting, (gone, back));
        });
    }

    /// All pairs of a kept and a removed entry of a small group, with `2 w_p w_u G_pu`.
    #[inline(always)]
    fn pairs(&self, group: Range<usize>, mut visit: impl FnMut(usize, usize, f64)) {
        let (first, width) = (group.start, self.layer.width);
        for gone in group.clone().filter(|place| self.side[*place] > 0.0) {
            let gram = &self.layer.within[gone * width..][..width];
            let twice = 2.0 * f64::from(self.weight[gone]);
            for back in group.clone().filter(|place| self.side[*place] < 0.0) {
                visit(
                    gone,
                    back,
                    twice * f64::from(self.weight[back]) * f64::from(gram[back - first]),
                );
            }
        }
    }

    /// Finds the best pair of a group if it is better than the best found.
    fn search_large(&self, bounds: &Bounds, group: Range<usize>, lists: &mut Lists, found: &mut Found) {
        let reach = &self.reach[group.clone()];
        let of_removed = Partners::new(&self.kept_low[group.clone()], reach, self.farthest);
        let of_kept = Partners::new(&self.removed_low[group.clone()], reach, self.farthest);
        let (Some(of_removed), Some(of_kept)) = (of_removed, of_kept) else {
            return;
        };
        self.start(group.clone(), found);
        self.collect(group.clone(), &self.kept_low, &of_kept, found.limit, &mut lists.out);
        self.collect(
            group.clone(),
            &self.removed_low,
            &of_removed,
            found.limit,
            &mut lists.back,
        );
        self.look_at(bounds, group, lists, found);
    }

    /// Finds a good pair, so that there is something to beat: from the entry of either side whose change alone is lowest to
    /// its best partner, from there to that one's best partner, and so on as long as it gets better.
    fn start(&self, group: Range<usize>, found: &mut Found) {
        for low in [&self.kept_low, &self.removed_low] {
            let low = &low[group.clone()];
            let lowest = vectorised(
                #[inline(always)]
                || least(low),
            );
            let mut place = low
                .iter()
                .position(|value| *value == lowest)
                .map(|place| group.start + place);
            while let Some(from) = place {
                let before = found.pair;
                self.look_along(from, group.clone(), found);
                place = found
                    .pair
                    .filter(|_| found.pair != before)
                    .map(|(gone, back)| if gone == from { back } else { gone });
            }
        }
    }

    /// Looks at all pairs of an entry.
    fn look_along(&self, place: usize, group: Range<usize>, found: &mut Found) {
        let kept = self.side[place] > 0.0;
        let (low, own) = match kept {
            true => (&self.removed_low, self.kept_low[place]),
            false => (&self.kept_low, self.removed_low[place]),
        };
        let (low, weight) = (&low[group.clone()], &self.weight[group.clone()]);
        let gram = &self.layer.gram_row(place)[group.clone()];
        let twice = (2.0 * f64::from(self.weight[place]) * self.unit) as f32;
        let limit = found.limit;
        let look = |other: usize, _| {
            let other = group.start + other;
            match kept {
                true => self.look(place, other, found),
                false => self.look(other, place, found),
            }
            found.limit
        };
        let change = |[low, weight, gram]: [f32; 3]| own + low - twice * (weight * gram);
        vectorised(
            #[inline(always)]
            || sift([low, weight, gram], change, limit, look),
        );
    }

    /// Takes the entries of a group whose swaps could be better than the best found; `low` are the bounds of one side.
    fn collect(&self, group: Range<usize>, low: &[f32], partners: &Partners, limit: f32, into: &mut Candidates) {
        into.clear();
        let first = group.start;
        let (low, reach) = (&low[group.clone()], &self.reach[group.clone()]);
        let strength = &self.strength[group];
        let push = |place: usize, bound: f32| {
            into.place.push(first + place);
            into.bound.push(bound);
            into.low.push(low[place]);
            into.strength.push(strength[place]);
            into.reach.push(reach[place]);
            limit
        };
        vectorised(
            #[inline(always)]
            || sift([low, reach], |[low, reach]| low + partners.at(reach), limit, push),
        );
    }

    /// Looks at the pairs of candidates that may be better than the best swap found.
    fn look_at(&self, bounds: &Bounds, group: Range<usize>, lists: &mut Lists, found: &mut Found) {
        let Lists {
            out, back, order, near, ..
        } = lists;
        // The most promising first, so that the best is found early and the others need no look.
        order.clear();
        order.extend(0..out.place.len());
        order.sort_unstable_by(|a, b| out.bound[*a].total_cmp(&out.bound[*b]));
        for index in order.iter().copied() {
            if out.bound[index] > found.limit {
                break;
            }
            let gone = out.place[index];
            let with_block = &bounds.with_block[gone * bounds.blocks..][..bounds.blocks];
            let (low, strength, reach) = (out.low[index], 2.0 * out.strength[index], 2.0 * out.reach[index]);
            let limit = found.limit;
            near.clear();
            let consider = |other: usize, _| {
                let place = back.place[other];
                let meeting = strength * back.strength[other] * with_block[place / BLOCK];
                if low + back.low[other] - meeting <= limit {
                    near.push(place);
                }
                limit
            };
            let change = |[its, other]: [f32; 2]| low + its - reach * other;
            vectorised(
                #[inline(always)]
                || sift([&back.low, &back.reach], change, limit, consider),
            );
            if near.len() > FEW {
                self.look_along(gone, group.clone(), found);
            } else {
                near.iter().for_each(|back| self.look(gone, *back, found));
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

/// Calls `visit` with the place and the value of each entry whose value is not above a limit, from left to right; it returns the
/// limit for those that follow. Values are computed from the entries of a few slices of equal length.
#[inline(always)]
fn sift<const SLICES: usize>(
    slices: [&[f32]; SLICES],
    value: impl Fn([f32; SLICES]) -> f32,
    mut limit: f32,
    mut visit: impl FnMut(usize, f32) -> f32,
) {
    let chunks = slices.map(|slice| slice.as_chunks::<SIFTED>());
    let whole = chunks[0].0.len();
    for chunk in 0..whole {
        let parts: [&[f32; SIFTED]; SLICES] = std::array::from_fn(|slice| &chunks[slice].0[chunk]);
        let values: [f32; SIFTED] = std::array::from_fn(|lane| value(parts.map(|part| part[lane])));
        let parts = values.as_chunks::<LANES>().0;
        let mut lowest = [f32::INFINITY; LANES];
        for values in parts {
            for (lowest, value) in lowest.iter_mut().zip(values) {
                *lowest = if *value < *lowest { *value } else { *lowest };
            }
        }
        if !any_within(&lowest, limit) {
            continue;
        }
        for (part, values) in parts.iter().enumerate() {
            if any_within(values, limit) {
                for (lane, value) in values.iter().enumerate() {
                    if *value <= limit {
                        limit = visit(chunk * SIFTED + part * LANES + lane, *value);
                    }
                }
            }
        }
    }
    for lane in 0..chunks[0].1.len() {
        let value = value(chunks.map(|(_, rest)| rest[lane]));
        if value <= limit {
            limit = visit(whole * SIFTED + lane, value);
        }
    }
}

#[inline(always)]
fn any_within(values: &[f32; LANES], limit: f32) -> bool {
    values.iter().fold(false, |any, value| any | (*value <= limit))
}

/// Adds multiples of two rows to a sum.
#[inline(always)]
fn add_rows(sum: &mut [f64], (plus, a): (f64, &[f32]), (minus, b): (f64, &[f32])) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum += plus * f64::from(*a) + minus * f64::from(*b);
    }
}

/// What swapping entries alone changes.
#[inline(always)]
fn changes(into: &mut [f64], own: &[f64], factor: &[f64], pull: &[f64]) {
    for (((into, own), factor), pull) in into.iter_mut().zip(own).zip(factor).zip(pull) {
        *into = own + factor * pull;
    }
}

/// Bounds below the changes of the kept entries, and of the removed ones.
#[inline(always)]
fn lows((kept, removed): (&mut [f32], &mut [f32]), change: &[f64], own: &[f64], side: &[f64], unit: f64) {
    let entries = change.iter().zip(own).zip(side);
    for ((kept, removed), ((change, own), side)) in kept.iter_mut().zip(removed).zip(entries) {
        let margin = f64::from(MARGIN) * (change.abs() + own);
        let low = ((change - margin) * unit) as f32;
        *kept = if *side > 0.0 { low } else { f32::INFINITY };
        *removed = if *side > 0.0 { f32::INFINITY } else { low };
    }
}

/// The lowest of some values.
#[inline(always)]
fn least(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut parts = [f32::INFINITY; LANES];
    for chunk in whole {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part = if *value < *part { *value } else { *part };
        }
    }
    parts.iter().chain(rest).copied().fold(f32::INFINITY, f32::min)
}

/// The lowest `low - knot reach` for each knot.
#[inline(always)]
fn lowest_at(knots: &[f32; KNOTS.len()], low: &[f32], reach: &[f32]) -> [f32; KNOTS.len()] {
    let mut lowest = [[f32::INFINITY; LANES]; KNOTS.len()];
    let (lows, low_left) = low.as_chunks::<LANES>();
    let (reaches, reach_left) = reach.as_chunks::<LANES>();
    for (low, reach) in lows.iter().zip(reaches) {
        for (knot, lowest) in knots.iter().zip(&mut lowest) {
            for lane in 0..LANES {
                let value = low[lane] - knot * reach[lane];
                lowest[lane] = if value < lowest[lane] { value } else { lowest[lane] };
            }
        }
    }
    for (low, reach) in low_left.iter().zip(reach_left) {
        for (knot, lowest) in knots.iter().zip(&mut lowest) {
            lowest[0] = lowest[0].min(low - knot * reach);
        }
    }
    lowest.map(|lanes| lanes.into_iter().fold(f32::INFINITY, f32::min))
}
