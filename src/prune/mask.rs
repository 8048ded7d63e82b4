//! Masks, and the selection of the lowest scores.

use crate::error::{Error, Result};
use crate::prune::pattern::{
    COLUMN_BLOCK, Group, Pattern, SHARE_TOLERANCE, Selection, Target, removed, searched_tolerance,
};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Zip, s};
use rayon::prelude::*;

/// Which weights of a layer are removed: true where one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(Array2<bool>);

impl Mask {
    /// A mask that removes nothing.
    pub fn keep_all(dim: (usize, usize)) -> Self {
        Mask(Array2::from_elem(dim, false))
    }

    /// A mask from its entries, true where a weight is removed.
    pub fn from_entries(entries: Array2<bool>) -> Self {
        Mask(entries)
    }

    /// The entries, true where a weight is removed.
    pub fn entries(&self) -> ArrayView2<'_, bool> {
        self.0.view()
    }

    /// The entries as an array that can be changed.
    pub fn entries_mut(&mut self) -> ArrayViewMut2<'_, bool> {
        self.0.view_mut()
    }

    /// The same mask with 32 entries per word.
    pub fn packed(&self) -> PackedMask {
        let (rows, columns) = self.0.dim();
        let mut words = vec![0u32; rows * columns.div_ceil(WORD)];
        words
            .par_chunks_mut(columns.div_ceil(WORD).max(1))
            .zip(self.0.axis_iter(Axis(0)).into_par_iter())
            .for_each(|(words, entries)| {
                for (column, removed) in entries.iter().enumerate() {
                    words[column / WORD] |= u32::from(*removed) << (column % WORD);
                }
            });
        PackedMask { rows, columns, words }
    }

    /// Number of weights that the mask removes.
    pub fn removed(&self) -> usize {
        self.packed().removed()
    }

    /// Sets the removed weights to 0.
    pub fn apply(&self, weight: &mut Array2<f32>) {
        Zip::from(weight).and(&self.0).par_for_each(|weight, removed| {
            if *removed {
                *weight = 0.0;
            }
        });
    }

    /// Checks that every group has as many removed weights as the target demands.
    ///
    /// # Errors
    /// As [`PackedMask::check`].
    pub fn check(&self, target: &Target) -> Result<()> {
        self.packed().check(target)
    }
}

/// Number of entries in a word of a packed mask.
const WORD: usize = u32::BITS as usize;

/// A finished mask with 32 entries per word. A workbench returns it, so that it can be counted and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedMask {
    rows: usize,
    columns: usize,
    /// The bits, row after row, each row beginning with a new word: bit `j mod 32` of word `j / 32` is set if column
    /// `j` is removed.
    words: Vec<u32>,
}

impl PackedMask {
    /// A mask from its words, row after row. The bits of a row beyond its last column are 0.
    ///
    /// # Panics
    /// There are not `rows` times `columns / 32` (rounded up) words.
    pub fn from_words((rows, columns): (usize, usize), words: Vec<u32>) -> Self {
        assert_eq!(words.len(), rows * columns.div_ceil(WORD), "rows of whole words");
        PackedMask { rows, columns, words }
    }

    /// The words, row after row.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether the weight at this row and column is removed.
    pub fn removes(&self, row: usize, column: usize) -> bool {
        self.row(row)[column / WORD] >> (column % WORD) & 1 == 1
    }

    /// The same mask with one entry per weight.
    pub fn unpacked(&self) -> Mask {
        Mask(Array2::from_shape_fn((self.rows, self.columns), |(row, column)| {
            self.removes(row, column)
        }))
    }

    /// The mask with its columns in another order: column `j` is column `order[j]` of this one.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        Mask(self.unpacked().0.select(Axis(1), order)).packed()
    }

    /// Number of weights that the mask removes.
    pub fn removed(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn row(&self, row: usize) -> &[u32] {
        let words = self.columns.div_ceil(WORD);
        &self.words[row * words..][..words]
    }

    /// Number of weights removed in a range of columns of a row.
    fn removed_in(&self, row: usize, columns: Span) -> usize {
        let words = self.row(row);
        let mut count = 0;
        let mut start = columns.start;
        while start < columns.end {
            let end = columns.end.min((start / WORD + 1) * WORD);
            let bits = words[start / WORD] >> (start % WORD);
            let wanted = u32::MAX >> (WORD - (end - start));
            count += (bits & wanted).count_ones() as usize;
            start = end;
        }
        count
    }

    /// Checks that every group has as many removed weights as the target demands.
    ///
    /// # Errors
    /// Says which group has how many removed, and how many there should be.
    pub fn check(&self, target: &Target) -> Result<()> {
        let (rows, columns) = (self.rows, self.columns);
        let wrong = match target.pattern {
            Pattern::NofM { keep, of } => (0..rows).into_par_iter().find_map_first(|row| {
                (0..columns.div_ceil(of)).find_map(|group| {
                    let got = self.removed_in(row, group * of..((group + 1) * of).min(columns));
                    let want = of - keep;
                    let message = || format!("row {row}, group {group}: {got} of {of} weights removed, not {want}");
                    (got != want).then(message)
                })
            }),
            Pattern::Unstructured { sparsity } => {
                let groups = groups(target.group, rows, columns);
                groups.into_par_iter().find_map_first(|(name, (in_rows, in_columns))| {
                    let all = in_rows.len() * in_columns.len();
                    // A group may be the whole matrix.
                    let rows = in_rows.into_par_iter().with_min_len(64);
                    let got: usize = rows.map(|row| self.removed_in(row, in_columns.clone())).sum();
                    let told = wrong_count((target, sparsity), columns, got, all)?;
                    Some(format!("{name}: {got} of {all} weights removed, {told}"))
                })
            }
        };
        wrong.map_or(Ok(()), |message| Err(Error::numeric(message)))
    }
}

type Span = std::ops::Range<usize>;

/// What is wrong with the number of weights that a comparison group of `all` weights lost under an unstructured target, if anything;
/// `columns` is that of the layer.
pub fn wrong_count((target, sparsity): (&Target, f64), columns: usize, got: usize, all: usize) -> Option<String> {
    if searched(target) {
        let off = got as f64 / all as f64 - sparsity;
        let tolerance = searched_tolerance(columns);
        return (off.abs() > tolerance).then(|| {
            format!(
                "which is not within {tolerance} of {sparsity}: the released search for the share of a row's scores does not come \
                 closer; use selection = \"exact\""
            )
        });
    }
    let want = removed(all, sparsity);
    match target.selection == Selection::Exact || target.group == Group::Row {
        true => (got != want).then(|| format!("not exactly {want}")),
        false => (got <= want).then(|| format!("not more than {want}")),
    }
}

/// The comparison groups of a matrix, each as a name for messages, its rows and its columns.
fn groups(group: Group, rows: usize, columns: usize) -> Vec<(String, (Span, Span))> {
    match group {
        Group::Matrix | Group::RowShare => vec![("matrix".to_string(), (0..rows, 0..columns))],
        Group::Row => (0..rows)
            .map(|row| (format!("row {row}"), (row..row + 1, 0..columns)))
            .collect(),
        Group::ColumnBlock => (0..columns)
            .step_by(COLUMN_BLOCK)
            .map(|first| {
                let end = (first + COLUMN_BLOCK).min(columns);
                (format!("columns {first} to {}", end - 1), (0..rows, first..end))
            })
            .collect(),
    }
}

/// Selects the weights with the lowest scores in every group. Scores must be finite and not negative,
/// which a workbench checks before it selects.
///
/// # Errors
/// The pattern does not fit the number of columns.
pub fn select(scores: ArrayView2<f32>, target: &Target) -> Result<Mask> {
    let (rows, columns) = scores.dim();
    let mut mask = Mask::keep_all((rows, columns));
    match (target.pattern, target.group) {
        (pattern @ Pattern::NofM { keep, of }, _) => {
            pattern.fits(columns)?;
            mask.0
                .axis_iter_mut(Axis(0))
                .into_par_iter()
                .zip(scores.axis_iter(Axis(0)))
                .for_each(|(mut entries, scores)| {
                    let scores = scores.to_vec();
                    let entries = entries.as_slice_mut().expect("a fresh array is contiguous");
                    match of {
                        4 => mark_groups::<4>(&scores, entries, of - keep),
                        8 => mark_groups::<8>(&scores, entries, of - keep),
                        _ => {
                            for (entries, scores) in entries.chunks_mut(of).zip(scores.chunks(of)) {
                                for column in lowest_of(scores, of - keep) {
                                    entries[column] = true;
                                }
                            }
                        }
                    }
                });
        }
        (Pattern::Unstructured { sparsity }, Group::Row) => {
            let count = removed(columns, sparsity);
            mask.0
                .axis_iter_mut(Axis(0))
                .into_par_iter()
                .zip(scores.axis_iter(Axis(0)))
                .for_each(|(entries, scores)| {
                    lowest(scores.insert_axis(Axis(0)), count, entries.insert_axis(Axis(0)));
                });
        }
        (Pattern::Unstructured { sparsity }, Group::RowShare) => {
            let shares = shares_of_rows(scores);
            match target.selection {
                // Scores of 0 would be removed with any share.
                Selection::Reference if sparsity == 0.0 => {}
                Selection::Exact => lowest(shares.view(), removed(shares.len(), sparsity), mask.0.view_mut()),
                Selection::Reference => {
                    let share = searched_share(shares.view(), sparsity);
                    Zip::from(&mut mask.0)
                        .and(&shares)
                        .par_for_each(|entry, below| *entry = *below <= share);
                }
            }
        }
        (Pattern::Unstructured { sparsity }, group) => {
            for (_, (part_rows, part_columns)) in groups(group, rows, columns) {
                let part = s![part_rows, part_columns];
                let scores = scores.slice(&part);
                let count = removed(scores.len(), sparsity);
                let entries = mask.0.slice_mut(&part);
                match target.selection {
                    Selection::Exact => lowest(scores, count, entries),
                    Selection::Reference => not_above(scores, count, entries),
                }
            }
        }
    }
    Ok(mask)
}

/// Whether a target's count is the result of a search and not known beforehand.
fn searched(target: &Target) -> bool {
    target.group == Group::RowShare && target.selection == Selection::Reference
}

/// For each score, which share of its row's sum is removed once it is removed itself, with everything below it: the row's
/// scores are added up from the lowest to this one. Equal scores have the share of the first of them, because they are removed
/// together; the shares of a row without scores are 0.
fn shares_of_rows(scores: ArrayView2<f32>) -> Array2<f32> {
    let mut shares = Array2::zeros(scores.dim());
    let rows = shares.axis_iter_mut(Axis(0)).into_par_iter();
    rows.zip(scores.axis_iter(Axis(0))).for_each(|(mut shares, scores)| {
        // Scores before columns, both in one number.
        let both = scores.iter().enumerate();
        let both = both.map(|(column, score)| u64::from(key(*score)) << 32 | column as u64);
        let mut order: Vec<u64> = both.collect();
        order.sort_unstable();
        let all: f64 = scores.iter().map(|score| f64::from(*score)).sum();
        let (mut sum, mut before, mut share) = (0.0, None, 0.0);
        for both in order {
            let score = (both >> 32) as u32;
            sum += f64::from(f32::from_bits(score));
            if before != Some(score) {
                share = if all > 0.0 { sum / all } else { 0.0 };
                before = Some(score);
            }
            shares[both as u32 as usize] = share as f32;
        }
    });
    shares
}

/// The share up to which weights are removed, as Wanda's code searches for it: 0.4 first, then halves of what is left of 0 to
/// 0.8, until the sparsity is within [`SHARE_TOLERANCE`] or what is left is shorter than that.
fn searched_share(shares: ArrayView2<f32>, sparsity: f64) -> f32 {
    let (mut share, mut low, mut high) = (0.4, 0.0, 0.8);
    loop {
        let rows = shares.axis_iter(Axis(0)).into_par_iter();
        let removed: usize = rows
            .map(|shares| shares.iter().filter(|below| **below <= share as f32).count())
            .sum();
        let found = removed as f64 / shares.len() as f64;
        if (found - sparsity).abs() <= SHARE_TOLERANCE || high - low < SHARE_TOLERANCE {
            return share as f32;
        }
        if found > sparsity {
            high = share;
        } else {
            low = share;
        }
        share = 0.5 * (low + high);
    }
}

/// Indices of the `count` lowest scores of a few; of equal scores the one with the lower index comes first.
pub fn lowest_of(scores: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Adding 0 makes -0 equal to 0, which `total_cmp` alone would tell apart.
    order.sort_by(|a, b| (scores[*a] + 0.0).total_cmp(&(scores[*b] + 0.0)));
    order.truncate(count);
    order
}

/// Marks the `count` lowest of every `OF` scores by rank: a score is marked if fewer than `count` scores of its group
/// come before it. Small groups of known size need no sorting and no branches.
fn mark_groups<const OF: usize>(scores: &[f32], entries: &mut [bool], count: usize) {
    let (groups, _) = scores.as_chunks::<OF>();
    let (marks, _) = entries.as_chunks_mut::<OF>();
    for (scores, marks) in groups.iter().zip(marks) {
        for (index, mark) in marks.iter_mut().enumerate() {
            let mut before = 0;
            for (other, score) in scores.iter().enumerate() {
                let first = *score < scores[index] || (*score == scores[index] && other < index);
                before += usize::from(first);
            }
            *mark = before < count;
        }
    }
}

/// The bits of a score that is not negative; they are in the same order as the scores. Adding 0 turns -0 into 0.
fn key(score: f32) -> u32 {
    (score + 0.0).to_bits()
}

/// Number of low bits that the first look at the keys ignores: 2048 bins, eight in each power of 2.
const FINE: u32 = 20;

/// The `count`-th lowest key (from 1), and how many keys are below it.
fn threshold(scores: ArrayView2<f32>, count: usize) -> (u32, usize) {
    const BINS: usize = 1 << (u32::BITS - 1 - FINE);
    let rows = || scores.axis_iter(Axis(0)).into_par_iter();
    let none = || vec![0usize; BINS];
    let histogram = rows().fold(none, |mut bins, row| {
        row.iter().for_each(|score| bins[(key(*score) >> FINE) as usize] += 1);
        bins
    });
    let histogram = histogram.reduce(none, |mut bins, more| {
        bins.iter_mut().zip(more).for_each(|(bin, more)| *bin += more);
        bins
    });
    let mut below = 0;
    let full = |size: &usize| {
        below += size;
        below >= count
    };
    let bin = histogram
        .iter()
        .position(full)
        .expect("there are at least `count` keys");
    let mut below = below - histogram[bin];
    let mut keys: Vec<u32> = rows()
        .flat_map_iter(|row| row.into_iter().map(|score| key(*score)))
        .filter(|key| (key >> FINE) as usize == bin)
        .collect();
    let (lower, found, _) = keys.select_nth_unstable(count - below - 1);
    let found = *found;
    below += lower.iter().filter(|key| **key < found).count();
    (found, below)
}

/// Marks exactly `count` of the lowest scores. Of equal scores the one in the lower column is marked first, then the
/// one in the lower row.
fn lowest(scores: ArrayView2<f32>, count: usize, mut entries: ArrayViewMut2<bool>) {
    if count == 0 {
        return;
    }
    let (threshold, below) = threshold(scores, count);
    Zip::from(&mut entries)
        .and(scores)
        .par_for_each(|entry, score| *entry = key(*score) < threshold);
    let tied = |(place, score): ((usize, usize), &f32)| (key(*score) == threshold).then_some(place);
    let mut ties: Vec<(usize, usize)> = scores.indexed_iter().filter_map(tied).collect();
    let wanted = count - below;
    if wanted < ties.len() {
        ties.select_nth_unstable_by_key(wanted, |(row, column)| (*column, *row));
    }
    for place in &ties[..wanted] {
        entries[*place] = true;
    }
}

/// Marks every score that is not above the one at sorted index `count`, which is the papers' threshold rule.
fn not_above(scores: ArrayView2<f32>, count: usize, mut entries: ArrayViewMut2<bool>) {
    let mut values: Vec<f32> = scores.iter().copied().collect();
    let count = count.min(values.len() - 1);
    let (_, threshold, _) = values.select_nth_unstable_by(count, f32::total_cmp);
    let threshold = *threshold;
    entries.zip_mut_with(&scores, |entry, score| *entry = *score <= threshold);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn target(sparsity: f64, group: Group, selection: Selection) -> Target {
        Target {
            pattern: Pattern::Unstructured { sparsity },
            group,
            selection,
        }
    }

    #[test]
    fn ties_remove_the_lower_column_first_then_the_lower_row() {
        let scores = Array2::from_elem((2, 4), 1.0f32);
        let mask = select(scores.view(), &target(0.375, Group::Matrix, Selection::Exact)).expect("fits");
        assert_eq!(
            mask.entries(),
            array![[true, true, false, false], [true, false, false, false]]
        );
        let mask = select(scores.view(), &target(0.5, Group::Row, Selection::Exact)).expect("fits");
        assert_eq!(
            mask.entries(),
            array![[true, true, false, false], [true, true, false, false]]
        );
    }

    #[test]
    fn the_reference_rule_removes_one_more_and_all_ties() {
        let scores = array![[0.0f32, 1.0, 2.0, 2.0, 2.0, 5.0, 6.0, 7.0]];
        let mask = select(scores.view(), &target(0.25, Group::Matrix, Selection::Reference)).expect("fits");
        assert_eq!(mask.removed(), 5);
        let mask = select(scores.view(), &target(0.25, Group::Matrix, Selection::Exact)).expect("fits");
        assert_eq!(mask.removed(), 2);
    }

    #[test]
    fn packed_masks_count_any_columns() {
        let entries = Array2::from_shape_fn((3, 77), |(row, column)| (row * 31 + column * 7) % 5 < 2);
        let mask = Mask::from_entries(entries.clone());
        let packed = mask.packed();
        assert_eq!(packed.unpacked(), mask);
        assert_eq!(packed.removed(), entries.iter().filter(|removed| **removed).count());
        for start in 0..77 {
            for end in start..=77 {
                let want = entries
                    .slice(s![1, start..end])
                    .iter()
                    .filter(|removed| **removed)
                    .count();
                assert_eq!(packed.removed_in(1, start..end), want, "{start}..{end}");
            }
        }
    }

    #[test]
    fn the_released_search_ends_within_a_weight_of_every_row() {
        let distinct = Array2::from_shape_fn((16, 40), |(row, column)| 1.0 + ((row * 40 + column) * 277 % 641) as f32);
        for sparsity in [0.1, 0.3, 0.5, 0.7] {
            let target = target(sparsity, Group::RowShare, Selection::Reference);
            let mask = select(distinct.view(), &target).expect("any width fits");
            mask.check(&target).expect("within a weight of every row");
        }
        let zeros = Array2::zeros((4, 8));
        let nothing = target(0.0, Group::RowShare, Selection::Reference);
        select(zeros.view(), &nothing)
            .expect("fits")
            .check(&nothing)
            .expect("a share of 0 removes nothing");
    }

    #[test]
    fn a_wrong_mask_is_noticed() {
        let mut mask = Mask::keep_all((2, 8));
        let exact = target(0.5, Group::Row, Selection::Exact);
        assert!(mask.check(&exact).is_err());
        mask.entries_mut().slice_mut(s![.., ..4]).fill(true);
        assert!(mask.check(&exact).is_ok());
        let structured = Target {
            pattern: Pattern::NofM { keep: 2, of: 4 },
            ..exact
        };
        let error = mask.check(&structured).expect_err("four of the first four are removed");
        assert_eq!(error.to_string(), "row 0, group 0: 4 of 4 weights removed, not 2");
    }
}
