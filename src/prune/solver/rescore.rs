//! SparseGPT's update with Thanos' choice and joint solution (Ilin and Richtárik, arXiv 2504.05346), for the solver `obs` with
//! `order = "rescore"`.
//!
//! Columns are visited in blocks of 128, from left to right. Before each block the scores of all columns not yet visited are
//! computed anew from the updated weights, the mask is chosen among them, and its part in the block is carried out. With
//! `H^-1 = U^T U` of the columns not yet visited, removing the weights `q` of a row in the block changes these columns by
//!
//! ```text
//! - l U_Bq^T U_B    with    l (U^T U)_qq = w_q
//! ```
//!
//! where `B` are the rows of `U` in the block: all weights of the row that the block removes are made up for together, by the
//! kept weights on either side of them, where SparseGPT looks at one after the other. Each row has a system of its own,
//! which is solved directly where the workbench can do so, else by conjugate gradients for all rows at once.

use super::normal_equations::{Free, descend};
use crate::error::Result;
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::{COLUMN_BLOCK, Pattern, Target};
use crate::prune::values::{Over, Values};
use crate::prune::workbench::Workpiece;
use ndarray::{Array2, ArrayView2};

/// A row's system is solved when the norm of its residual is at most this fraction of the norm of its right-hand side.
const TOLERANCE: f64 = 1e-6;

/// More than any score.
const ABOVE_ALL: f64 = 1e30;

/// Less than any score but 0: weights that are removed already go before others whose score is 0.
const LEAST: f64 = 1e-30;

/// Prunes a layer; returns the damping of its Hessian.
///
/// # Errors
/// A score is unusable, the Hessian cannot be factored, or there is no room.
pub fn prune(piece: &mut dyn Workpiece, score: &Values, target: &Target) -> Result<f64> {
    let dim = piece.dim();
    let columns = dim.1;
    target.pattern.fits(columns)?;
    let factored = piece.factored()?;
    let transposed = piece.transpose(&factored.upper)?;
    // Weights of inputs that were never active.
    let alive = row(piece, columns, |column| !factored.dead[column])?;
    let mut weight = piece.weight()?;
    weight = piece.map(dim, &Values::over([&weight, &alive], |[weight, alive]| weight * alive))?;
    let mut kept = piece.map(dim, &Values::from(Formula::Number(1.0)))?;
    let width = match target.pattern {
        Pattern::Unstructured { .. } => COLUMN_BLOCK,
        Pattern::NofM { of, .. } => (COLUMN_BLOCK / of).max(1) * of,
    };
    for first in (0..columns).step_by(width) {
        let block = first..columns.min(first + width);
        piece.set_weight(&weight)?;
        let scores = piece.map(dim, score)?;
        let visited = row(piece, columns, |column| column < first)?;
        let ranks = Values::over([&scores, &visited, &kept], |[score, visited, kept]| {
            (score + LEAST) * (1.0 - visited.clone()) + ABOVE_ALL * kept * visited
        });
        let chosen = piece.choose(&ranks, target)?;
        let decided = row(piece, columns, |column| column < block.end)?;
        let now = Values::over([&chosen, &decided], |[chosen, decided]| 1.0 - decided * (1.0 - chosen));
        kept = piece.map(dim, &now)?;
        let places = Array2::from_shape_fn((1, block.len()), |(_, column)| (first + column) as f32);
        let places = piece.matrix(places.view())?;
        let removed = {
            let kept = piece.gather(&kept, &places)?;
            piece.map((dim.0, block.len()), &Values::over([&kept], |[kept]| 1.0 - kept))?
        };
        // U_B^T: a row for each column of the layer, 0 for those that were visited.
        let later = piece.gather(&transposed, &places)?;
        let current = piece.gather(&weight, &places)?;
        let errors = errors(piece, &later, &places, (&current, &removed))?;
        let change = piece.product(&errors, &later)?;
        let next = Values::over([&weight, &change, &kept], |[weight, change, kept]| {
            (weight - change) * kept
        });
        weight = piece.map(dim, &next)?;
    }
    piece.keep(&kept)?;
    piece.set_weight(&weight)?;
    Ok(factored.damping)
}

/// One row with 1 for the columns of which something is true, else 0.
fn row(piece: &dyn Workpiece, columns: usize, is: impl Fn(usize) -> bool) -> Result<Matrix> {
    let values: Vec<f32> = (0..columns).map(|column| f32::from(u8::from(is(column)))).collect();
    piece.matrix(ArrayView2::from_shape((1, columns), &values).expect("one value per column"))
}

/// `l U_Bq^T` for every row of the layer, given `U_B^T`, the places of the block's columns, and of these the weights and what
/// is removed.
fn errors(
    piece: &dyn Workpiece,
    later: &Matrix,
    places: &Matrix,
    (current, removed): (&Matrix, &Matrix),
) -> Result<Matrix> {
    let (rows, width) = current.dim();
    let square = (width, width);
    let upper = piece.gather(&piece.transpose(later)?, places)?;
    let lower = piece.transpose(&upper)?;
    // The system in unknowns of equal size, as in `normal_equations`.
    let squares = piece.reduce(square, Over::Row, &Values::over([&lower], |[lower]| lower.square()))?;
    let lower = piece.map(
        square,
        &Values::over([&lower, &squares], |[lower, squares]| lower / squares.root()),
    )?;
    let matrix = piece.product(&lower, &lower)?;
    let squares = piece.transpose(&squares)?;
    let goal = Values::over([current, removed, &squares], |[current, removed, squares]| {
        current * removed / squares.root()
    });
    let goal = piece.map((rows, width), &goal)?;
    let unknowns = match piece.solve_free(&matrix, removed, &goal)? {
        Some(unknowns) => unknowns,
        None => {
            let bounds = Values::over([&goal], |[goal]| goal.square() * TOLERANCE.powi(2));
            let bounds = piece.reduce((rows, width), Over::Row, &bounds)?;
            let zero = piece.map((rows, width), &Values::from(Formula::Number(0.0)))?;
            // In exact arithmetic as many steps as unknowns are enough.
            descend(piece, &matrix, Free::Ones(removed), (zero, goal), 2 * width, &bounds)?.0
        }
    };
    piece.product(&unknowns, &piece.transpose(&lower)?)
}
