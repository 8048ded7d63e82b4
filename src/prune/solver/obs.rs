//! SparseGPT's update (Frantar and Alistarh, ICML 2023, arXiv 2301.00774; reference:
//! IST-DASLab/sparsegpt, `sparsegpt.py`, `fasterprune`).
//!
//! With `H^-1 = U^T U`, columns are visited one after the other in blocks of 128. Removing `w_ij` leaves the error
//! `e = w_ij / U_jj`, and `e U_j,>j` is subtracted from the rest of the row: at once within the block,
//! and for all later columns by one product at the block's end.
//!
//! The mask comes from the criterion. One whose score follows the update (`obs`) is evaluated again on
//! the current weights whenever a new column block or N:M group begins, provided that its comparison
//! group does not reach beyond the block; every other mask is fixed before the first update, as in RIA's
//! and Z-Pruner's `--reconstruction`.
//!
//! Columns are visited from left to right, or, as in ROSE (CPAL 2026, arXiv 2603.05878), those first that lose most: what a
//! column loses is the sum of Wanda's scores of its weights that a mask of its block would remove. Columns with large losses
//! come first in their block, and blocks with large losses come first if the largest loss is more than twice the smallest.
//! N:M groups stay together, and a last block of fewer columns stays last. ROSE's code has no working N:M branch.
//!
//! Or all columns that were not visited yet are scored anew before each block, as in Thanos; see `rescore`.

use super::rescore;
use super::step::Solver;
use crate::backend::moments::Needs;
use crate::calibrate::statistics::{DAMPING, DAMPING_LIMIT};
use crate::error::{Error, Result};
use crate::prune::formula::Formula;
use crate::prune::limits::Limits;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target};
use crate::prune::range::within;
use crate::prune::score::{input_squares, resolve, weight};
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::Workpiece;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// The OBS solver. A parameter that has its usual value is not part of a cell's id, since these came later than the
/// first records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Obs {
    /// What is added to the diagonal of the Hessian, as a fraction of its mean.
    #[serde(skip_serializing_if = "is_usual")]
    pub damping: f64,
    /// The order in which columns are visited.
    #[serde(skip_serializing_if = "Order::is_default")]
    pub order: Order,
}

/// The order in which the OBS solver visits columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As they stand.
    #[default]
    LeftToRight,
    /// Columns and blocks that lose most come first.
    Loss,
    /// As they stand; the mask is chosen anew among the columns that are left before each block, by any criterion's scores of
    /// the updated weights, and what a block removes from a row is made up for together.
    Rescore,
}

impl Order {
    fn is_default(&self) -> bool {
        *self == Order::default()
    }
}

fn is_usual(damping: &f64) -> bool {
    *damping == DAMPING
}

impl Default for Obs {
    fn default() -> Self {
        Obs {
            damping: DAMPING,
            order: Order::default(),
        }
    }
}

impl Solver for Obs {
    fn validate(&self) -> Result<()> {
        within("damping", self.damping, 0.0..=DAMPING_LIMIT)
    }

    fn damping(&self) -> f64 {
        self.damping
    }

    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn follows(&self) -> bool {
        true
    }

    fn reorders(&self) -> bool {
        self.order == Order::Loss
    }

    fn rescores(&self) -> bool {
        self.order == Order::Rescore
    }

    fn group(&self) -> Option<Group> {
        self.rescores().then_some(Group::Matrix)
    }

    fn room(&self, weights: u128, inputs: u128) -> u128 {
        match self.order {
            // Weights, kept ones, scores, change and what replaces two; the factor and its transpose.
            Order::Rescore => 4 * 6 * weights + 4 * 2 * inputs.pow(2),
            Order::LeftToRight | Order::Loss => 0,
        }
    }

    fn products(&self) -> usize {
        usize::from(self.rescores())
    }

    fn check(&self, pattern: Pattern, limits: &Limits) -> Result<()> {
        match pattern {
            Pattern::NofM { keep, of } if of > limits.updated_group && !self.rescores() => Err(Error::config(format!(
                "pattern {keep}:{of} with an update needs groups of at most {} on the GPU; use backend = \"cpu\"",
                limits.updated_group
            ))),
            _ => Ok(()),
        }
    }

    fn solve(&self, piece: &mut dyn Workpiece, follow: Option<&Values>, target: &Target) -> Result<Option<f64>> {
        match (self.order, follow) {
            (Order::Loss, _) => {}
            (Order::Rescore, Some(score)) => return rescore::prune(piece, score, target).map(Some),
            (Order::Rescore, None) => {
                return Err(Error::config(
                    "the solver obs with order = \"rescore\" chooses the mask itself and was given no score",
                ));
            }
            (Order::LeftToRight, _) => return piece.reconstruct(follow, target).map(Some),
        }
        let order = by_loss(piece, target)?;
        let follow = follow.map(|score| reordered(score, &order, piece)).transpose()?;
        piece.reorder(&order)?;
        piece.reconstruct(follow.as_ref(), target).map(Some)
    }
}

/// The same scores for columns in another order: column `j` becomes what column `order[j]` is.
fn reordered(score: &Values, order: &[usize], piece: &dyn Workpiece) -> Result<Values> {
    let places = Array2::from_shape_fn((1, order.len()), |(_, column)| order[column] as f32);
    let places = piece.matrix(places.view())?;
    let moved = |matrix: &Matrix| match matrix.dim().1 == order.len() {
        true => piece.gather(matrix, &places),
        false => Ok(matrix.clone()),
    };
    let (mut vectors, mut known) = (Vec::new(), Vec::new());
    let formula = score.formula.substitute(&mut |operand| {
        let (Operand::Row(index) | Operand::Column(index)) = *operand else {
            return Ok(Formula::Leaf(*operand));
        };
        if !known.contains(operand) {
            let vector: &Vec<f32> = &score.vectors[index];
            vectors.push(match operand {
                Operand::Column(_) => order.iter().map(|from| vector[*from]).collect(),
                _ => vector.clone(),
            });
            known.push(*operand);
        }
        let place = known.iter().position(|it| it == operand);
        let place = place.expect("it is known by now");
        Ok(Formula::Leaf(match operand {
            Operand::Column(_) => Operand::Column(place),
            _ => Operand::Row(place),
        }))
    })?;
    Ok(Values {
        formula,
        matrices: score.matrices.iter().map(moved).collect::<Result<_>>()?,
        vectors,
    })
}

/// The columns in the order of what they lose, most first.
fn by_loss(piece: &dyn Workpiece, target: &Target) -> Result<Vec<usize>> {
    let score = resolve(&(weight().abs() * input_squares().root()), piece)?;
    let (unit, width) = match target.pattern {
        Pattern::Unstructured { .. } => (1, COLUMN_BLOCK),
        Pattern::NofM { of, .. } => (of, (COLUMN_BLOCK / of).max(1) * of),
    };
    let blocks = Target {
        pattern: target.pattern,
        group: Group::ColumnBlock,
        selection: Selection::Exact,
    };
    let kept = piece.choose(&score, &blocks)?;
    let scores = piece.map(piece.dim(), &score)?;
    let lost = Values::over([&scores, &kept], |[score, kept]| score.clone() - score * kept);
    let lost = piece.read(&piece.reduce(piece.dim(), Over::Column, &lost)?)?;
    let lost: Vec<f64> = lost.iter().map(|value| f64::from(*value)).collect();
    Ok(sorted_blocks(&lost, unit, width))
}

/// Blocks of `width` columns and the units of `unit` columns in them, sorted by their losses.
fn sorted_blocks(lost: &[f64], unit: usize, width: usize) -> Vec<usize> {
    let loss = |columns: &[usize]| -> f64 { columns.iter().map(|column| lost[*column]).sum() };
    let columns: Vec<usize> = (0..lost.len()).collect();
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    for block in columns.chunks(width) {
        let mut units: Vec<&[usize]> = block.chunks(unit).collect();
        units.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        blocks.push(units.concat());
    }
    let last = blocks.pop_if(|block| block.len() < width);
    let losses = blocks.iter().map(|block| loss(block));
    let (least, most) = losses.fold((f64::INFINITY, 0.0f64), |(least, most), loss| {
        (least.min(loss), most.max(loss))
    });
    if most - least > 0.5 * most {
        blocks.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
    }
    blocks.extend(last);
    blocks.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_lose_most_come_first_in_their_block() {
        assert_eq!(
            sorted_blocks(&[1.0, 3.0, 2.0, 2.0, 1.0, 3.0, 9.0], 1, 3),
            [1, 2, 0, 5, 3, 4, 6]
        );
    }

    #[test]
    fn blocks_move_only_if_their_losses_differ_by_half() {
        assert_eq!(sorted_blocks(&[1.0, 0.0, 1.5, 0.4, 5.0], 1, 2), [0, 1, 2, 3, 4]);
        assert_eq!(sorted_blocks(&[1.0, 0.0, 2.0, 0.5, 5.0], 1, 2), [2, 3, 0, 1, 4]);
    }

    #[test]
    fn groups_stay_together() {
        assert_eq!(sorted_blocks(&[1.0, 0.0, 0.5, 2.0], 2, 4), [2, 3, 0, 1]);
    }
}
