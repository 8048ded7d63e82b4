//! Pruning on the host, in plain ndarray: the reference that other workbenches are held against.

mod free;
mod matrices;
mod piece;
mod sparse;
mod swap;
mod values;

use super::{Factored, Finished, Grams, LayerView, Workbench, Workpiece, inverse, of_features, reordered};
use crate::backend::cpu::Products;
use crate::backend::cpu::simd::vectorised;
use crate::backend::moments::Moments;
use crate::calibrate::statistics::{Factoring, LayerStatistics, Means, not_gathered};
use crate::calibrate::variables::InputChange;
use crate::error::{Error, Result};
use crate::prune::compared::{Compared, ranks_nothing};
use crate::prune::mask::{Mask, lowest_of, select};
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Pattern, Target};
use crate::prune::values::{Over, Values};
use crate::tensor::StorageType;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use matrices::{fits, handle};
#[cfg(feature = "gpu")]
use ndarray::ArrayView2;
use ndarray::{Array2, Axis, Zip, s};
use piece::Piece;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use values::{Evaluator, ones_where_kept, scores, tells_apart, usable};

impl<P: Products> Workbench for P {
    type Statistics = LayerStatistics;

    fn statistics(
        &self,
        moments: &Moments,
        sequences: usize,
        factoring: impl Into<Factoring>,
    ) -> Result<LayerStatistics> {
        moments.check_finite()?;
        Ok(LayerStatistics::new(moments, sequences, factoring))
    }

    fn with_goal(&self, statistics: LayerStatistics, goal: &Moments) -> Result<LayerStatistics> {
        let sums = goal.sums.as_ref().ok_or_else(|| not_gathered("sums"))?;
        Ok(statistics.with_goal(sums))
    }

    fn no_statistics(&self) -> LayerStatistics {
        LayerStatistics::none()
    }

    fn workpiece<'a>(
        &'a self,
        weight: &'a mut P::Weight,
        storage: StorageType,
        statistics: &'a LayerStatistics,
    ) -> Box<dyn Workpiece + 'a> {
        Box::new(Piece::new(P::values_mut(weight), storage, statistics))
    }
}

/// The score of one weight of a layer.
///
/// # Errors
/// It is NaN, infinite or negative, or an operand does not fit.
#[cfg(feature = "gpu")]
pub(super) fn score_of(score: &Values, weight: ArrayView2<f32>, (row, column): (usize, usize)) -> Result<f32> {
    let evaluation = Evaluator::new(score, weight.dim(), None)?;
    let mut value = [0.0];
    evaluation.along(
        row,
        column,
        &[weight[[row, column]]],
        &mut evaluation.scratch(),
        &mut value,
    );
    usable(value[0], row, column)
}

impl LayerView for Piece<'_> {
    fn dim(&self) -> (usize, usize) {
        self.weight.dim()
    }

    fn order(&self) -> Option<&[usize]> {
        self.order.as_deref()
    }

    fn squared_norms(&self) -> Result<&[f64]> {
        self.statistics.squared_norms()
    }

    fn means(&self) -> Result<&Means> {
        self.statistics.means()
    }

    fn goal_means(&self) -> Result<&[f64]> {
        self.statistics.goal_means()
    }

    fn weight(&self) -> Result<Matrix> {
        Ok(handle(self.weight.clone()))
    }

    fn kept(&self) -> Result<Matrix> {
        Ok(handle(ones_where_kept(&self.mask)))
    }

    fn gram(&self) -> Result<Matrix> {
        let gram = self.statistics.full_gram()?;
        Ok(Matrix::shared(gram.dim(), gram))
    }

    fn cross(&self) -> Result<Matrix> {
        let cross = self.statistics.cross()?;
        Ok(Matrix::shared(cross.dim(), cross))
    }

    fn centred(&self) -> Result<Grams> {
        let gram = handle(self.statistics.centred_gram()?);
        let cross = self.statistics.centred_cross()?.map(handle);
        Ok(Grams {
            cross: cross.unwrap_or_else(|| gram.clone()),
            gram,
        })
    }

    fn goal_gram(&self) -> Result<Matrix> {
        let gram = self.statistics.goal_gram()?;
        Ok(Matrix::shared(gram.dim(), gram))
    }

    fn choose(&self, score: &Values, target: &Target) -> Result<Matrix> {
        Ok(handle(ones_where_kept(&self.chosen(score, target)?)))
    }

    fn sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>> {
        let wanted: Vec<(Over, &Values)> = wanted.iter().map(|(over, values)| (*over, values)).collect();
        values::sums(self.weight.dim(), Some(self.weight.view()), Some(&self.mask), &wanted)
    }

    fn pivots(&self) -> Result<Vec<Option<f64>>> {
        let factor = self.statistics.inverse_factor()?;
        let pivots = factor.upper.diag().into_iter().zip(&factor.dead);
        Ok(pivots.map(|(pivot, dead)| (!dead).then_some(*pivot)).collect())
    }

    fn factored(&self) -> Result<Factored> {
        let factor = self.statistics.inverse_factor()?;
        Ok(Factored {
            upper: handle(factor.upper.mapv(|value| value as f32)),
            dead: factor.dead.clone(),
            damping: factor.damping,
        })
    }
}

impl Piece<'_> {
    /// The mask that a target selects by the scores of the current weights.
    fn chosen(&self, score: &Values, target: &Target) -> Result<Mask> {
        let evaluation = Evaluator::new(score, self.weight.dim(), Some(&self.mask))?;
        select(scores(&evaluation, self.weight.view(), 0)?.view(), target)
    }
}

impl Workpiece for Piece<'_> {
    fn select(&mut self, score: &Values, target: &Target) -> Result<()> {
        self.mask = self.chosen(score, target)?;
        Ok(())
    }

    fn check_ranking(&mut self, score: &Values, target: &Target, given_by: &str) -> Result<()> {
        let Some(compared) = Compared::of(target, self.weight.dim()) else {
            return Ok(());
        };
        let evaluation = Evaluator::new(score, self.weight.dim(), Some(&self.mask))?;
        if tells_apart(&evaluation, self.weight.view(), compared) {
            return Ok(());
        }
        let zero = |values: &Array2<f32>| values.iter().all(|value| *value == 0.0);
        let mut harmless = zero(&*self.weight);
        for matrix in &score.matrices {
            harmless |= zero(matrix.there()?);
        }
        match harmless {
            true => Ok(()),
            false => Err(Error::numeric(ranks_nothing(target, given_by))),
        }
    }

    fn keep(&mut self, kept: &Matrix) -> Result<()> {
        fits(kept.dim(), self.weight.dim())?;
        let kept: &Array2<f32> = kept.there()?;
        self.mask = Mask::from_entries(Zip::from(kept).par_map_collect(|kept| *kept == 0.0));
        Ok(())
    }

    fn reorder(&mut self, order: &[usize]) -> Result<()> {
        self.order = reordered(self.order.as_deref(), order, self.weight.ncols())?;
        self.move_columns(order);
        self.statistics = Cow::Owned(self.statistics.reordered(order));
        Ok(())
    }

    fn change_inputs(&mut self, change: &InputChange) -> Result<()> {
        of_features(change, self.weight.ncols())?;
        self.statistics = Cow::Owned(self.statistics.changed(change)?);
        Ok(())
    }

    fn set_weight(&mut self, weight: &Matrix) -> Result<()> {
        fits(weight.dim(), self.weight.dim())?;
        self.weight.assign(weight.there::<Array2<f32>>()?);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.mask.apply(self.weight);
        Ok(())
    }

    fn reconstruct(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64> {
        let Piece {
            weight,
            mask,
            statistics,
            ..
        } = self;
        let factor = statistics.inverse_factor()?;
        let upper = factor.upper.mapv(|value| value as f32);
        for (mut column, dead) in weight.columns_mut().into_iter().zip(&factor.dead) {
            if *dead {
                column.fill(0.0);
            }
        }
        let columns = weight.ncols();
        let follow = follow
            .map(|score| Evaluator::new(score, weight.dim(), None))
            .transpose()?;
        let width = block_width(target.pattern);
        for first in (0..columns).step_by(width) {
            let block = first..(first + width).min(columns);
            let groups = match (&follow, target.pattern) {
                (None, _) => None,
                (Some(score), Pattern::NofM { keep, of }) => Some((score, keep, of)),
                (Some(score), Pattern::Unstructured { .. }) => {
                    let current = weight.slice(s![.., block.clone()]);
                    let chosen = select(scores(score, current, first)?.view(), target)?;
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
        let order = self.order.take();
        if let Some(order) = &order {
            self.move_columns(&inverse(order));
        }
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
            order,
            mask: self.mask.packed(),
        })
    }
}

/// Number of columns that SparseGPT updates at a time: its block size, rounded down to whole N:M groups.
fn block_width(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Unstructured { .. } => COLUMN_BLOCK,
        Pattern::NofM { of, .. } => (COLUMN_BLOCK / of).max(1) * of,
    }
}

/// Updates the columns of a block row by row, since rows do not depend on each other; returns the errors. If `groups`
/// is given as `(score, keep, of)`, the mask of each N:M group is chosen when the update reaches it.
fn update_block(
    weight: &mut Array2<f32>,
    mask: &mut Mask,
    upper: &Array2<f32>,
    block: Range<usize>,
    groups: Option<(&Evaluator, usize, usize)>,
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
        .try_for_each_init(
            || groups.map(|(score, ..)| score.scratch()),
            |scratch, (row, ((mut weight, mut mask), mut errors))| {
                for (column, global) in block.clone().enumerate() {
                    if let (Some((score, keep, of)), Some(scratch)) = (groups, scratch.as_mut())
                        && column.is_multiple_of(of)
                    {
                        let group = column..column + of;
                        let current = &weight.as_slice().expect("rows of a layer are contiguous")[group.clone()];
                        let mut scores = vec![0.0; of];
                        score.along(row, global, current, scratch, &mut scores);
                        for (place, score) in scores.iter().enumerate() {
                            usable(*score, row, global + place)?;
                        }
                        for index in lowest_of(&scores, of - keep) {
                            mask[group.start + index] = true;
                        }
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
            },
        )?;
    Ok(errors)
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
