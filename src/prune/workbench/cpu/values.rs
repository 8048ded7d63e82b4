//! Formulas over weights on the host.

use crate::error::{Error, Result};
use crate::prune::compared::Compared;
use crate::prune::formula::program::{Along, LEAVES, Program, Real, Scratch};
use crate::prune::mask::Mask;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Operand, Over, Values};
use ndarray::{Array2, ArrayView2, Axis, Zip};
use rayon::prelude::*;
use std::ops::Range;

/// A formula that is ready to be evaluated: its steps, and the values that they read.
pub struct Evaluator<'a> {
    program: Program<Operand>,
    sources: Vec<Source<'a>>,
    /// Number of columns of the matrix.
    columns: usize,
}

/// Memory in which one thread evaluates a formula.
pub struct Buffers<T> {
    steps: Scratch<T>,
    /// Ones and zeros of a row of the mask.
    kept: Vec<f32>,
}

/// The values that one leaf reads.
enum Source<'a> {
    Weight,
    Kept(ArrayView2<'a, bool>),
    /// Zeros, with a 1 after as many of them as there are rows: row `i` of the identity begins `i` values earlier.
    Identity(Vec<f32>),
    Full(ArrayView2<'a, f32>),
    Rows(&'a [f32]),
    Columns(&'a [f32]),
    One(f32),
}

impl<'a> Evaluator<'a> {
    /// Prepares a formula over a layer of `dim` weights.
    ///
    /// # Errors
    /// An operand is as large as neither the layer nor one of its rows or columns, or there are too many.
    pub fn new(values: &'a Values, dim: (usize, usize), mask: Option<&'a Mask>) -> Result<Self> {
        let program = Program::new(&values.formula);
        if program.leaves().len() > LEAVES {
            let message = format!(
                "a formula of {} different values; there is room for {LEAVES}",
                program.leaves().len()
            );
            return Err(Error::config(message));
        }
        let source = |operand: &Operand| {
            Ok(match *operand {
                Operand::Weight => Source::Weight,
                Operand::Kept => match mask {
                    Some(mask) => Source::Kept(mask.entries()),
                    None => Source::One(1.0),
                },
                Operand::Matrix(index) => matrix(&values.matrices[index], dim)?,
                Operand::Row(index) => Source::Rows(vector(&values.vectors[index], dim.0)?),
                Operand::Column(index) => Source::Columns(vector(&values.vectors[index], dim.1)?),
                Operand::Identity => {
                    let mut ones = vec![0.0; dim.0 + dim.1];
                    ones[dim.0] = 1.0;
                    Source::Identity(ones)
                }
            })
        };
        let sources = program.leaves().iter().map(source).collect::<Result<_>>()?;
        Ok(Evaluator {
            program,
            sources,
            columns: dim.1,
        })
    }

    /// Whether the formula reads the weights, which are passed to [`Evaluator::along`].
    pub fn reads_weight(&self) -> bool {
        self.program.leaves().contains(&Operand::Weight)
    }

    /// Whether the formula reads the mask.
    pub fn reads_mask(&self) -> bool {
        self.program.leaves().contains(&Operand::Kept)
    }

    /// Memory in which one thread can evaluate the formula.
    pub fn scratch<T: Real>(&self) -> Buffers<T> {
        Buffers {
            steps: self.program.scratch(),
            kept: Vec::new(),
        }
    }

    /// The values of a row, beginning with column `first`; `weight` has the row's weights from there on.
    pub fn along<T: Real>(&self, row: usize, first: usize, weight: &[f32], room: &mut Buffers<T>, into: &mut [T]) {
        let columns = first..first + into.len();
        let Buffers { steps, kept } = room;
        for source in &self.sources {
            if let Source::Kept(removed) = source {
                let removed = &along_row(*removed, row)[columns.clone()];
                kept.clear();
                kept.extend(removed.iter().map(|removed| f32::from(u8::from(!removed))));
            }
        }
        let mut leaves = [Along::One(0.0); LEAVES];
        for (leaf, source) in leaves.iter_mut().zip(&self.sources) {
            *leaf = match source {
                Source::Weight => Along::Each(weight),
                Source::Kept(_) => Along::Each(kept.as_slice()),
                Source::Identity(ones) => Along::Each(&ones[ones.len() - self.columns - row..][columns.clone()]),
                Source::Full(matrix) => Along::Each(&along_row(*matrix, row)[columns.clone()]),
                Source::Rows(values) => Along::One(values[row]),
                Source::Columns(values) => Along::Each(&values[columns.clone()]),
                Source::One(value) => Along::One(*value),
            };
        }
        self.program.evaluate(&leaves[..self.sources.len()], steps, into);
    }
}

/// A mask as a matrix of ones (kept) and zeros.
pub fn ones_where_kept(mask: &Mask) -> Array2<f32> {
    Zip::from(mask.entries()).par_map_collect(|removed| f32::from(u8::from(!removed)))
}

fn along_row<T>(matrix: ArrayView2<'_, T>, row: usize) -> &[T] {
    matrix
        .index_axis_move(Axis(0), row)
        .to_slice()
        .expect("rows of a matrix are contiguous")
}

fn matrix(matrix: &Matrix, dim: (usize, usize)) -> Result<Source<'_>> {
    let there: &Array2<f32> = matrix.there()?;
    let contiguous = || there.as_slice().expect("matrices of the workbench are contiguous");
    match matrix.dim() {
        of if of == dim => Ok(Source::Full(there.view())),
        (1, 1) => Ok(Source::One(there[[0, 0]])),
        (rows, 1) if rows == dim.0 => Ok(Source::Rows(contiguous())),
        (1, columns) if columns == dim.1 => Ok(Source::Columns(contiguous())),
        of => Err(Error::numeric(format!(
            "a matrix of {of:?} does not fit one of {dim:?}"
        ))),
    }
}

fn vector(values: &[f32], length: usize) -> Result<&[f32]> {
    if values.len() == length {
        Ok(values)
    } else {
        Err(Error::numeric(format!(
            "a vector of {} values where there should be {length}",
            values.len()
        )))
    }
}

/// The formula's values in `width` columns, beginning with column `first`; `weight` has the weights of these columns.
pub fn mapped(
    evaluation: &Evaluator,
    (rows, width): (usize, usize),
    first: usize,
    weight: Option<ArrayView2<f32>>,
) -> Array2<f32> {
    let mut values = Array2::zeros((rows, width));
    let into = values.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    into.for_each_init(
        || evaluation.scratch(),
        |scratch, (row, mut into)| {
            let into = into.as_slice_mut().expect("a fresh array is contiguous");
            let weight = weight.map_or(&[][..], |weight| along_row(weight, row));
            evaluation.along(row, first, weight, scratch, into);
        },
    );
    values
}

/// The places of the `count` lowest values in each row, compared in `f64`, the lowest first; with two sides also those of the highest,
/// the highest first.
pub fn outermost<const SIDES: usize>(
    evaluation: &Evaluator,
    (rows, columns): (usize, usize),
    weight: Option<ArrayView2<f32>>,
    count: usize,
) -> [Array2<f32>; SIDES] {
    let count = count.min(columns);
    let mut sides = [(); SIDES].map(|()| Array2::zeros((rows, count)));
    if count == 0 {
        return sides;
    }
    let mut into: Vec<[&mut [f32]; SIDES]> = Vec::with_capacity(rows);
    let mut chunks = sides.each_mut().map(|side| {
        let all = side.as_slice_mut().expect("a fresh array is contiguous");
        all.chunks_exact_mut(count)
    });
    for _ in 0..rows {
        into.push(
            chunks
                .each_mut()
                .map(|rows| rows.next().expect("as many chunks as rows")),
        );
    }
    into.into_par_iter().enumerate().for_each_init(
        || (evaluation.scratch::<f64>(), vec![0.0; columns], Vec::new()),
        |(scratch, values, found), (row, sides)| {
            let weight = weight.map_or(&[][..], |weight| along_row(weight, row));
            evaluation.along(row, 0, weight, scratch, values);
            for into in sides {
                lowest_in(values, count, found);
                into.iter_mut()
                    .zip(&*found)
                    .for_each(|(into, (_, place))| *into = *place as f32);
                values.iter_mut().for_each(|value| *value = -*value);
            }
        },
    );
    sides
}

/// The `count` lowest values and their places, NaN before all others, the lowest first, and of equal ones the one that comes first.
/// Most values are only compared with the highest of those found so far.
fn lowest_in(values: &[f64], count: usize, found: &mut Vec<(f64, usize)>) {
    const LANES: usize = 16;
    let compare = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    // What cannot be compared passes, and everything passes a bar that is no number.
    #[expect(
        clippy::neg_cmp_op_on_partial_ord,
        reason = "so that values that are no numbers pass"
    )]
    let passes = |value: f64, bar: f64| !(value >= bar);
    let room = 4 * count.max(LANES);
    let trim = |found: &mut Vec<(f64, usize)>| {
        found.select_nth_unstable_by(count - 1, compare);
        found.truncate(count);
        found[count - 1].0
    };
    found.clear();
    // Nothing is left out before there are as many as are wanted.
    let mut bar = f64::NAN;
    for (chunk, part) in values.chunks(LANES).enumerate() {
        let mut any = false;
        for value in part {
            any |= passes(*value, bar);
        }
        if !any {
            continue;
        }
        for (lane, value) in part.iter().enumerate() {
            if passes(*value, bar) {
                // Adding 0 makes -0 equal to 0, which `total_cmp` alone would tell apart. It has NaN first if its sign is negative.
                let value = if value.is_nan() {
                    f64::NAN.copysign(-1.0)
                } else {
                    value + 0.0
                };
                found.push((value, chunk * LANES + lane));
            }
        }
        if found.len() >= room {
            bar = trim(found);
        }
    }
    trim(found);
    found.sort_unstable_by(compare);
}

/// The scores of consecutive columns. `weight` has their current values, and `first` is the index of the first one in
/// the layer.
///
/// # Errors
/// A score is NaN, infinite or negative; names the row and the column.
pub fn scores(evaluation: &Evaluator, weight: ArrayView2<f32>, first: usize) -> Result<Array2<f32>> {
    let scores = mapped(evaluation, weight.dim(), first, Some(weight));
    refuse_unusable(&scores, first)?;
    Ok(scores)
}

/// Whether two scores of a comparison group differ. Rows are looked at until some do, as a rule the first one.
pub fn tells_apart(evaluation: &Evaluator, weight: ArrayView2<f32>, compared: Compared) -> bool {
    let mut scratch = evaluation.scratch();
    let mut scores = vec![0.0; weight.ncols()];
    let mut first_row = Vec::new();
    for row in 0..weight.nrows() {
        evaluation.along(row, 0, along_row(weight, row), &mut scratch, &mut scores);
        if compared.over_rows && row == 0 {
            first_row.clone_from(&scores);
        }
        if compared.apart_in(&scores, &first_row) {
            return true;
        }
    }
    false
}

/// Refuses a score that cannot be ordered.
///
/// # Errors
/// The score is NaN, infinite or negative.
pub fn usable(value: f32, row: usize, column: usize) -> Result<f32> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        let fix = match value < 0.0 {
            true => {
                "; scores must not be negative: the lowest are removed. In a formula, abs(...) makes a size of a value with a sign, and a \
                 constant can be added"
            }
            false if value.is_nan() => {
                "; a formula is NaN where it divides 0 by 0 or takes a root or a power of a negative value: use abs(...)"
            }
            false => {
                "; a formula is infinite where it divides by 0 or grows too large: add a small constant to what it divides by"
            }
        };
        let message = format!("the score at row {row}, column {column} is {value}{fix}");
        Err(Error::numeric(message))
    }
}

fn refuse_unusable(scores: &Array2<f32>, first: usize) -> Result<()> {
    let unusable = |value: &f32| !(value.is_finite() && *value >= 0.0);
    let rows = scores.axis_iter(Axis(0)).into_par_iter().enumerate();
    let worst = rows.find_map_first(|(row, scores)| {
        // Counted, not searched: a loop without a way out is vectorised.
        let count: usize = scores.iter().map(|value| usize::from(unusable(value))).sum();
        let place = || Some((row, scores.iter().position(unusable)?));
        (count > 0).then(place).flatten()
    });
    match worst {
        None => Ok(()),
        Some((row, column)) => usable(scores[[row, column]], row, first + column).map(drop),
    }
}

/// Number of rows that are added up together. It is fixed, so that a result does not depend on the number of threads.
const ROWS: usize = 64;
/// Number of rows that are added up side by side, since the sum of one row is a long chain of additions.
const TOGETHER: usize = 8;
/// Number of columns for which the values of [`TOGETHER`] rows fit in the first cache.
const CHUNK: usize = 256;

/// Sums of formulas over the rows or columns of a matrix of `dim`, in `f64`. Each sum goes from the first value to
/// the last, for columns in bands of rows. `weight` is given if a formula reads it.
///
/// # Errors
/// An operand does not fit.
pub fn sums(
    (rows, columns): (usize, usize),
    weight: Option<ArrayView2<f32>>,
    mask: Option<&Mask>,
    wanted: &[(Over, &Values)],
) -> Result<Vec<Vec<f64>>> {
    // A formula whose sums are wanted along both axes is evaluated once.
    let mut formulas: Vec<(&Values, Option<usize>, Option<usize>)> = Vec::new();
    for (place, &(over, values)) in wanted.iter().enumerate() {
        let same = |known: &Values| known.formula == values.formula && known.vectors == values.vectors;
        let known = formulas
            .iter()
            .position(|(known, ..)| known.matrices.is_empty() && values.matrices.is_empty() && same(known));
        let index = known.unwrap_or_else(|| {
            formulas.push((values, None, None));
            formulas.len() - 1
        });
        match over {
            Over::Row => formulas[index].1 = Some(place),
            _ => formulas[index].2 = Some(place),
        }
    }
    let evaluations: Vec<Evaluator> = formulas
        .iter()
        .map(|(values, ..)| Evaluator::new(values, (rows, columns), mask))
        .collect::<Result<_>>()?;
    let bands = (0..rows.div_ceil(ROWS))
        .into_par_iter()
        .map(|band| band * ROWS..rows.min((band + 1) * ROWS));
    let parts: Vec<Vec<(Vec<f64>, Vec<f64>)>> = bands
        .map(|band| {
            let each = evaluations.iter().zip(&formulas);
            each.map(|(evaluation, (_, by_row, by_column))| {
                let asked = (by_row.is_some(), by_column.is_some());
                band_sums(evaluation, weight, band.clone(), columns, asked)
            })
            .collect()
        })
        .collect();
    let mut sums: Vec<Vec<f64>> = wanted
        .iter()
        .map(|(over, _)| match over {
            Over::Row => Vec::with_capacity(rows),
            _ => vec![0.0; columns],
        })
        .collect();
    for part in parts {
        for ((of_rows, of_columns), (_, by_row, by_column)) in part.into_iter().zip(&formulas) {
            if let Some(place) = by_row {
                sums[*place].extend(of_rows);
            }
            if let Some(place) = by_column {
                sums[*place]
                    .iter_mut()
                    .zip(of_columns)
                    .for_each(|(sum, part)| *sum += part);
            }
        }
    }
    Ok(sums)
}

/// The sums over each row and each column of a band of rows.
fn band_sums(
    evaluation: &Evaluator,
    weight: Option<ArrayView2<f32>>,
    band: Range<usize>,
    columns: usize,
    (by_row, by_column): (bool, bool),
) -> (Vec<f64>, Vec<f64>) {
    let rows = band.len();
    let mut scratch = evaluation.scratch::<f64>();
    let mut values = vec![0.0f64; TOGETHER * CHUNK];
    let mut of_rows = vec![0.0; rows];
    let mut of_columns = vec![0.0; if by_column { columns } else { 0 }];
    for (group, sums) in of_rows.chunks_mut(TOGETHER).enumerate() {
        for start in (0..columns).step_by(CHUNK) {
            let width = CHUNK.min(columns - start);
            for row in 0..sums.len() {
                let inside = group * TOGETHER + row;
                let part = weight.map_or(&[][..], |weight| {
                    &along_row(weight, band.start + inside)[start..start + width]
                });
                let into = &mut values[row * CHUNK..][..width];
                evaluation.along(band.start + inside, start, part, &mut scratch, into);
                if by_column {
                    let sums = of_columns[start..start + width].iter_mut();
                    sums.zip(&*into).for_each(|(sum, value)| *sum += value);
                }
            }
            if by_row && sums.len() == TOGETHER {
                let mut chains = [0.0; TOGETHER];
                chains.copy_from_slice(sums);
                for column in 0..width {
                    for (row, chain) in chains.iter_mut().enumerate() {
                        *chain += values[row * CHUNK + column];
                    }
                }
                sums.copy_from_slice(&chains);
            } else if by_row {
                for (sum, values) in sums.iter_mut().zip(values.chunks(CHUNK)) {
                    *sum = values[..width].iter().fold(*sum, |sum, value| sum + value);
                }
            }
        }
    }
    (of_rows, of_columns)
}
