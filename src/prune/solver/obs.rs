//! SparseGPT's update (Frantar and Alistarh, ICML 2023, arXiv 2301.00774; reference:
//! IST-DASLab/sparsegpt, `sparsegpt.py`, `fasterprune`).
//!
//! With `H^-1 = U^T U`, columns are visited from left to right in blocks of 128. Removing `w_ij` leaves the error
//! `e = w_ij / U_jj`, and `e U_j,>j` is subtracted from the rest of the row: at once within the block,
//! and for all later columns by one product at the block's end.
//!
//! The mask comes from the criterion. One whose score follows the update (`obs`) is evaluated again on
//! the current weights whenever a new column block or N:M group begins, provided that its comparison
//! group does not reach beyond the block; every other mask is fixed before the first update, as in RIA's
//! and Z-Pruner's `--reconstruction`.

use super::{Solution, Solver};
use crate::backend::moments::Needs;
use crate::error::Result;
use crate::prune::Layer;
use crate::prune::criterion::Criterion;
use crate::prune::mask::{Mask, lowest_of, select};
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Target};
use crate::prune::score::Score;
use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis, linalg::general_mat_mul, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The OBS solver; no parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obs {}

/// Where the mask of a block comes from.
enum Plan {
    /// It was chosen before the first update.
    Fixed,
    /// It is chosen from the current weights of the block.
    EachBlock(Score),
    /// It is chosen from the current weights of each group of `of` columns, in each row.
    EachGroup { score: Score, keep: usize, of: usize },
}

impl Solver for Obs {
    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn solve(&self, layer: &Layer, criterion: &dyn Criterion, target: &Target) -> Result<Solution> {
        let factor = layer.statistics.inverse_factor()?;
        let upper = factor.upper.mapv(|value| value as f32);
        let mut weight = layer.weight.to_owned();
        for (mut column, dead) in weight.columns_mut().into_iter().zip(&factor.dead) {
            if *dead {
                column.fill(0.0);
            }
        }

        let score = criterion.score(layer)?;
        let (plan, mut mask) = match target.pattern {
            Pattern::Structured { keep, of } if criterion.follows_update() => {
                (Plan::EachGroup { score, keep, of }, Mask::keep_all(weight.dim()))
            }
            Pattern::Unstructured { .. } if criterion.follows_update() && target.group == Group::ColumnBlock => {
                (Plan::EachBlock(score), Mask::keep_all(weight.dim()))
            }
            _ => (Plan::Fixed, select(score.evaluate(layer.weight)?.view(), target)?),
        };

        let columns = weight.ncols();
        let width = block_width(target.pattern);
        for first in (0..columns).step_by(width) {
            let block = first..(first + width).min(columns);
            if let Plan::EachBlock(score) = &plan {
                let current = weight.slice(s![.., block.clone()]);
                let chosen = select(score.evaluate_columns(current, first)?.view(), target)?;
                mask.entries_mut()
                    .slice_mut(s![.., block.clone()])
                    .assign(&chosen.entries());
            }
            let errors = update_block(&mut weight, &mut mask, &upper, block.clone(), &plan)?;
            let later = upper.slice(s![block.clone(), block.end..]);
            propagate(&errors, later, &mut weight, block.end);
        }
        Ok(Solution {
            weight,
            mask,
            damping: Some(factor.damping),
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
fn update_block(
    weight: &mut Array2<f32>,
    mask: &mut Mask,
    upper: &Array2<f32>,
    block: Range<usize>,
    plan: &Plan,
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
                if let Plan::EachGroup { score, keep, of } = plan
                    && column.is_multiple_of(*of)
                {
                    choose_group(score, row, global, *of - *keep, &weight, column..column + of, &mut mask)?;
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
