//! Pruning on the host, in plain ndarray: the reference that other workbenches are held against.

use super::{AxisSums, Finished, LayerView, WeightSums, Workbench, Workpiece};
use crate::backend::cpu::Cpu;
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
use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis, linalg::general_mat_mul, s};
use rayon::prelude::*;
use std::ops::Range;

impl Workbench for Cpu {
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
        Ok(WeightSums {
            rows: sums(self.weight, Axis(1)),
            columns: sums(self.weight, Axis(0)),
        })
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

fn sums(weight: ArrayView2<f32>, axis: Axis) -> AxisSums {
    let of = |value: fn(f64) -> f64| weight.mapv(|w| value(f64::from(w))).sum_axis(axis).to_vec();
    AxisSums {
        value: of(|w| w),
        magnitude: of(f64::abs),
        square: of(|w| w * w),
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
            let later = upper.slice(s![block.clone(), block.end..]);
            propagate(&errors, later, weight, block.end);
        }
        Ok(factor.damping)
    }

    fn finish(&mut self) -> Result<Finished> {
        let storage = self.storage;
        self.weight.mapv_inplace(|weight| storage.round(weight));
        let fault = |weight: f32, removed: bool| !weight.is_finite() || (removed && weight != 0.0);
        Ok(Finished {
            zeros: self.weight.iter().filter(|weight| **weight == 0.0).count(),
            fault: self
                .weight
                .indexed_iter()
                .zip(self.mask.entries())
                .find(|((_, weight), removed)| fault(**weight, **removed))
                .map(|((place, weight), _)| (place, *weight)),
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
                    weight.slice_mut(s![column..]).scaled_add(-error, &pull);
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
fn propagate(errors: &Array2<f32>, later: ArrayView2<f32>, weight: &mut Array2<f32>, end: usize) {
    const ROWS: usize = 64;
    weight
        .slice_mut(s![.., end..])
        .axis_chunks_iter_mut(Axis(0), ROWS)
        .into_par_iter()
        .zip(errors.axis_chunks_iter(Axis(0), ROWS))
        .for_each(|(mut weight, errors)| general_mat_mul(-1.0, &errors, &later, 1.0, &mut weight));
}
