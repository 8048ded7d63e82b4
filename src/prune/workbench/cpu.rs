//! Pruning on the host, in plain ndarray: the reference that other workbenches are held against.

use super::{AxisSums, Finished, LayerView, WeightSums, Workbench, Workpiece};
use crate::backend::cpu::Products;
use crate::backend::cpu::simd::vectorised;
use crate::backend::moments::Moments;
use crate::calibrate::statistics::LayerStatistics;
use crate::error::Result;
use crate::linalg::Provider;
use crate::prune::Layer;
use crate::prune::criterion::Criterion;
use crate::prune::mask::{Mask, lowest_of, select};
use crate::prune::pattern::{COLUMN_BLOCK, Pattern, Target};
use crate::prune::score::Score;
use crate::prune::solver::{Solution, Solver};
use crate::tensor::StorageType;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

impl<P: Products> Workbench for P {
    type Statistics = LayerStatistics;

    fn statistics(&self, moments: &Moments, sequences: usize, provider: Provider) -> Result<LayerStatistics> {
        moments.check_finite()?;
        Ok(LayerStatistics::new(moments, sequences, provider))
    }

    fn no_statistics(&self, inputs: usize) -> LayerStatistics {
        LayerStatistics::none(inputs)
    }

    fn workpiece<'a>(
        &'a self,
        weight: &'a mut Array2<f32>,
        storage: StorageType,
        statistics: &'a LayerStatistics,
    ) -> Box<dyn Workpiece + 'a> {
        Box::new(Piece::new(weight, storage, statistics))
    }
}

/// Prunes one layer on the host, without rounding its weights.
///
/// # Errors
/// A score is unusable or a factorisation fails.
pub fn solve(layer: &Layer, solver: &dyn Solver, criterion: &dyn Criterion, target: &Target) -> Result<Solution> {
    let mut weight = layer.weight.to_owned();
    let mut piece = Piece::new(&mut weight, StorageType::F32, layer.statistics);
    let damping = solver.solve(&mut piece, criterion, target)?;
    let mask = piece.mask;
    Ok(Solution { weight, mask, damping })
}

impl LayerView for Layer<'_> {
    fn dim(&self) -> (usize, usize) {
        self.weight.dim()
    }

    fn squared_norms(&self) -> &[f64] {
        self.statistics.squared_norms()
    }

    fn sums(&self) -> Result<WeightSums> {
        Ok(sums(self.weight))
    }

    fn count_below(&self, bound: f64) -> Result<usize> {
        let below = |weight: &&f32| f64::from(weight.abs()) < bound;
        Ok(self.weight.iter().filter(below).count())
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        let factor = self.statistics.inverse_factor()?;
        let pivots = factor.upper.diag().into_iter().zip(&factor.dead);
        Ok(pivots.map(|(pivot, dead)| (!dead).then_some(*pivot)).collect())
    }
}

/// The sums of both axes in one pass over the weights.
fn sums(weight: ArrayView2<f32>) -> WeightSums {
    /// Rows added up together. Fixed, so that a result does not depend on the number of threads.
    const ROWS: usize = 64;
    let columns = weight.ncols();
    let bands = weight.axis_chunks_iter(Axis(0), ROWS).into_par_iter();
    let parts: Vec<(AxisSums, AxisSums)> = bands
        .map(|band| {
            let (mut by_row, mut by_column) = (AxisSums::zeros(0), AxisSums::zeros(columns));
            for row in band.rows() {
                let (mut value, mut magnitude, mut square) = (0.0, 0.0, 0.0);
                for (column, weight) in row.iter().enumerate() {
                    let wide = f64::from(*weight);
                    value += wide;
                    magnitude += wide.abs();
                    square += wide * wide;
                    by_column.value[column] += wide;
                    by_column.magnitude[column] += wide.abs();
                    by_column.square[column] += wide * wide;
                }
                by_row.value.push(value);
                by_row.magnitude.push(magnitude);
                by_row.square.push(square);
            }
            (by_row, by_column)
        })
        .collect();
    let (mut by_row, mut by_column) = (AxisSums::zeros(0), AxisSums::zeros(columns));
    let add = |sums: &mut [f64], part: &[f64]| sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    for (rows, part) in parts {
        by_row.value.extend(rows.value);
        by_row.magnitude.extend(rows.magnitude);
        by_row.square.extend(rows.square);
        add(&mut by_column.value, &part.value);
        add(&mut by_column.magnitude, &part.magnitude);
        add(&mut by_column.square, &part.square);
    }
    WeightSums {
        rows: by_row,
        columns: by_column,
    }
}

/// A layer on the host.
struct Piece<'a> {
    weight: &'a mut Array2<f32>,
    mask: Mask,
    storage: StorageType,
    statistics: &'a LayerStatistics,
}

impl<'a> Piece<'a> {
    fn new(weight: &'a mut Array2<f32>, storage: StorageType, statistics: &'a LayerStatistics) -> Self {
        Piece {
            mask: Mask::keep_all(weight.dim()),
            weight,
            storage,
            statistics,
        }
    }

    fn view(&self) -> Layer<'_> {
        Layer {
            weight: self.weight.view(),
            statistics: self.statistics,
        }
    }
}

impl LayerView for Piece<'_> {
    fn dim(&self) -> (usize, usize) {
        self.weight.dim()
    }

    fn squared_norms(&self) -> &[f64] {
        self.statistics.squared_norms()
    }

    fn sums(&self) -> Result<WeightSums> {
        self.view().sums()
    }

    fn count_below(&self, bound: f64) -> Result<usize> {
        self.view().count_below(bound)
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        self.view().pivots()
    }
}

impl Workpiece for Piece<'_> {
    fn select(&mut self, score: &Score, target: &Target) -> Result<()> {
        self.mask = select(score.evaluate(self.weight.view())?.view(), target)?;
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.mask.apply(self.weight);
        Ok(())
    }

    fn reconstruct(&mut self, follow: Option<&Score>, target: &Target) -> Result<f64> {
        let factor = self.statistics.inverse_factor()?;
        let upper = factor.upper.mapv(|value| value as f32);
        let Piece { weight, mask, .. } = self;
        for (mut column, dead) in weight.columns_mut().into_iter().zip(&factor.dead) {
            if *dead {
                column.fill(0.0);
            }
        }
        let columns = weight.ncols();
        let width = block_width(target.pattern);
        for first in (0..columns).step_by(width) {
            let block = first..(first + width).min(columns);
            let groups = match (follow, target.pattern) {
                (None, _) => None,
                (Some(score), Pattern::Structured { keep, of }) => Some((score, keep, of)),
                (Some(score), Pattern::Unstructured { .. }) => {
                    let current = weight.slice(s![.., block.clone()]);
                    let chosen = select(score.evaluate_columns(current, first)?.view(), target)?;
                    let mut entries = mask.entries_mut();
                    entries.slice_mut(s![.., block.clone()]).assign(&chosen.entries());
                    None
                }
            };
            let errors = update_block(weight, mask, &upper, block.clone(), groups)?;
            propagate(&errors, &upper, block, weight);
        }
        Ok(factor.damping)
    }

    fn finish(&mut self) -> Result<Finished> {
        let storage = self.storage;
        let rows = self.weight.axis_iter_mut(Axis(0)).into_par_iter();
        let checked: Vec<(usize, Option<usize>)> = rows
            .zip(self.mask.entries().axis_iter(Axis(0)))
            .map(|(mut weights, mask)| {
                if storage != StorageType::F32 {
                    weights.mapv_inplace(|weight| storage.round(weight));
                }
                let fault = |(weight, removed): (&f32, &bool)| !weight.is_finite() || (*removed && *weight != 0.0);
                let zeros = weights.iter().map(|weight| usize::from(*weight == 0.0)).sum();
                (zeros, weights.iter().zip(mask).position(fault))
            })
            .collect();
        let fault = checked.iter().enumerate().find_map(|(row, (_, column))| {
            let place = (row, (*column)?);
            Some((place, self.weight[place]))
        });
        Ok(Finished {
            zeros: checked.iter().map(|(zeros, _)| zeros).sum(),
            fault,
            mask: self.mask.packed(),
        })
    }
}

/// SparseGPT's block, made a whole number of N:M groups.
fn block_width(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Unstructured { .. } => COLUMN_BLOCK,
        Pattern::Structured { of, .. } => (COLUMN_BLOCK / of).max(1) * of,
    }
}

/// Visits the columns of a block, row by row (rows do not depend on each other); returns the errors.
/// With groups `(score, keep, of)`, the mask of each N:M group is chosen when the row reaches it.
fn update_block(
    weight: &mut Array2<f32>,
    mask: &mut Mask,
    upper: &Array2<f32>,
    block: Range<usize>,
    groups: Option<(&Score, usize, usize)>,
) -> Result<Array2<f32>> {
    let mut errors = Array2::zeros((weight.nrows(), block.len()));
    let mut entries = mask.entries_mut();
    weight
        .slice_mut(s![.., block.clone()])
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(entries.slice_mut(s![.., block.clone()]).axis_iter_mut(Axis(0)))
        .zip(errors.axis_iter_mut(Axis(0)))
        .enumerate()
        .try_for_each(|(row, ((mut weight, mut mask), mut errors))| {
            for (column, global) in block.clone().enumerate() {
                if let Some((score, keep, of)) = groups
                    && column.is_multiple_of(of)
                {
                    choose_group(score, row, global, of - keep, &weight, column..column + of, &mut mask)?;
                }
                let current = weight[column];
                let kept = if mask[column] { 0.0 } else { current };
                let error = (current - kept) / upper[[global, global]];
                errors[column] = error;
                if error != 0.0 {
                    let pull = upper.slice(s![global, global..block.end]);
                    let pull = pull.as_slice().expect("rows of a factor are contiguous");
                    let weight = weight.as_slice_mut().expect("rows of a layer are contiguous");
                    vectorised(
                        #[inline(always)]
                        || {
                            let later = weight[column..].iter_mut().zip(pull);
                            later.for_each(|(weight, pull)| *weight -= error * pull);
                        },
                    );
                }
                weight[column] = kept;
            }
            Ok(())
        })?;
    Ok(errors)
}

/// Marks the lowest `count` of one row's N:M group, scored on its current weights.
fn choose_group(
    score: &Score,
    row: usize,
    first: usize,
    count: usize,
    weight: &ArrayViewMut1<f32>,
    group: Range<usize>,
    mask: &mut ArrayViewMut1<bool>,
) -> Result<()> {
    let scores: Vec<f32> = group
        .clone()
        .zip(first..)
        .map(|(column, global)| score.evaluate_one(weight[column], row, global))
        .collect::<Result<_>>()?;
    for index in lowest_of(&scores, count) {
        mask[group.start + index] = true;
    }
    Ok(())
}

/// `W[:, later] -= errors U[block, later]`, in bands of rows.
fn propagate(errors: &Array2<f32>, upper: &Array2<f32>, block: Range<usize>, weight: &mut Array2<f32>) {
    const ROWS: usize = 128;
    let columns = weight.ncols();
    let later = columns - block.end;
    if later == 0 {
        return;
    }
    let width = block.len();
    let from = &upper.as_slice().expect("a factor is contiguous")[block.start * columns + block.end..];
    let from = MatRef::from_row_major_slice_with_stride(from, width, later, columns);
    let errors = errors.as_slice().expect("a fresh array is contiguous");
    weight
        .as_slice_mut()
        .expect("a layer is contiguous")
        .par_chunks_mut(ROWS * columns)
        .zip(errors.par_chunks(ROWS * width))
        .for_each(|(weight, errors)| {
            let rows = errors.len() / width;
            let errors = MatRef::from_row_major_slice(errors, rows, width);
            // Built column-major and transposed: faer 0.24's `from_row_major_slice_with_stride_mut` swaps its strides.
            let into = MatMut::from_column_major_slice_with_stride_mut(&mut weight[block.end..], later, rows, columns);
            matmul(into.transpose_mut(), Accum::Add, errors, from, -1.0, Par::Seq);
        });
}
