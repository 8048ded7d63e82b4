//! The workbench: what a backend must be able to do to a weight matrix for it to be pruned there.
//!
//! [`Matrices`] is a small vocabulary over matrices in the backend's memory, [`LayerView`] what a criterion sees of a
//! layer, [`Workpiece`] what a solver may do to it, [`Workbench`] a backend that offers all of them. Criteria, refiners
//! and solvers are written against these and never learn where the numbers are. How closely two workbenches must agree
//! is declared in [`OPERATIONS`] and held by `tests/workbench_contract`.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod timed;

use crate::backend::{Agreement, Backend};
use crate::calibrate::statistics::{Factoring, Means};
use crate::calibrate::variables::InputChange;
use crate::error::{Error, Result};
use crate::prune::limits::Limits;
use crate::prune::mask::PackedMask;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::Target;
use crate::prune::values::{Over, Values};
use crate::tensor::StorageType;
use ndarray::{Array2, ArrayView2};
use std::any::Any;

/// Every operation of [`Matrices`], with how closely it must agree with a plain `f64` loop on random inputs. Formulas of
/// sums, products, roots and quotients are rounded once an operation.
pub const OPERATIONS: &[(&str, Agreement)] = &[
    ("matrix and read", Agreement::Exact),
    ("map", Agreement::Close { abs: 0.0, rel: 1e-6 }),
    ("reduce rows", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("reduce columns", Agreement::Close { abs: 0.0, rel: 2e-6 }),
    ("total", Agreement::Close { abs: 0.0, rel: 1e-7 }),
    ("product", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("rough_product", Agreement::Close { abs: 0.0, rel: 1e-3 }),
    ("sparse_product", Agreement::Close { abs: 0.0, rel: 5e-6 }),
    ("transpose", Agreement::Exact),
    ("gather", Agreement::Exact),
    ("scatter", Agreement::Exact),
    ("choose", Agreement::Exact),
    ("inverse_factor", Agreement::Close { abs: 0.0, rel: 2e-5 }),
    ("lowest", Agreement::Exact),
    ("extremes", Agreement::Exact),
    // Of `r G r^T` after all swaps: of two pairs that are equal to rounding, either may go first.
    ("swap", Agreement::Close { abs: 0.0, rel: 1e-3 }),
    ("solve", Agreement::Close { abs: 0.0, rel: 1e-5 }),
    ("solve_free", Agreement::Close { abs: 0.0, rel: 1e-5 }),
];

/// Which entries of a row [`Matrices::swap`] may swap for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapping {
    /// Number of neighbouring columns that form a group; the last group of a row may be smaller. At least 1.
    pub width: usize,
    /// Most swaps in a row.
    pub most: usize,
}

/// What [`Matrices::swap`] did.
#[derive(Debug, Clone)]
pub struct Swapped {
    /// 1 for each entry that is kept now and 0 for each one that is removed.
    pub kept: Matrix,
    /// Number of swaps in each row.
    pub swaps: Vec<u32>,
}

/// The products of a layer's inputs that a solver computes with.
#[derive(Debug, Clone)]
pub struct Grams {
    /// Those of the inputs with each other, with both triangles.
    pub gram: Matrix,
    /// Those with the inputs whose outputs are to be reproduced; the same matrix if these are the inputs themselves.
    pub cross: Matrix,
}

/// The operations on matrices that a workbench offers. A formula over matrices ([`Values`]) does everything
/// elementwise: copies, sums, products, masks, thresholds, scaled rows and columns (a matrix of one column or one row
/// is repeated). No operation changes a matrix in place.
pub trait Matrices {
    /// Puts a matrix into the workbench's memory.
    ///
    /// # Errors
    /// There is no room.
    fn matrix(&self, host: ArrayView2<f32>) -> Result<Matrix>;

    /// Copies a matrix to the host.
    ///
    /// # Errors
    /// The backend fails.
    fn read(&self, matrix: &Matrix) -> Result<Array2<f32>>;

    /// The matrix of shape `dim` whose entries are the values of a formula.
    ///
    /// # Errors
    /// An operand does not fit, or there is no room.
    fn map(&self, dim: (usize, usize), values: &Values) -> Result<Matrix>;

    /// The sums of a formula's values over each row of a matrix of `dim` (the result is one column), or over each
    /// column (one row).
    ///
    /// # Errors
    /// As [`Matrices::map`]; and sums of a vector are [`Matrices::total`]'s.
    fn reduce(&self, dim: (usize, usize), over: Over, values: &Values) -> Result<Matrix>;

    /// The sum of all values of a formula over a matrix of `dim`, added up in `f64` or with the same number of
    /// digits.
    ///
    /// # Errors
    /// As [`Matrices::map`].
    fn total(&self, dim: (usize, usize), values: &Values) -> Result<f64>;

    /// Whether a loop asks before this step, counted from 0, for a number that may end it, such as a [`Matrices::total`]. Not before
    /// every step where the answer waits for all work before it.
    fn asks_at(&self, _step: usize) -> bool {
        true
    }

    /// The product `A B^T`, in single precision.
    ///
    /// # Errors
    /// The matrices have different numbers of columns, or there is no room.
    fn product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix>;

    /// The product `A B^T` for directions of search, which need few digits: each entry to about three digits of the product
    /// of its two rows' norms, as fast as the workbench can. Where nothing is faster it is [`Matrices::product`].
    ///
    /// # Errors
    /// As [`Matrices::product`].
    fn rough_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix>;

    /// The product `A B^T`, in single precision, where most entries of `A` are expected to be 0. Where nothing is faster, or too few
    /// are, it is [`Matrices::product`].
    ///
    /// # Errors
    /// As [`Matrices::product`].
    fn sparse_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix>;

    /// The transposed matrix, `A^T`.
    ///
    /// # Errors
    /// There is no room.
    fn transpose(&self, a: &Matrix) -> Result<Matrix>;

    /// `result[i, j] = A[i, places[i, j]]`. If `places` has only one row, it is used for all rows, which permutes
    /// columns. A negative place gives 0.
    ///
    /// # Errors
    /// The rows do not fit, a place is neither negative nor the number of a column of `A`, or there is no room. A GPU reads
    /// or writes nothing at such a place, and the next call that copies results to the host fails, at the latest
    /// [`Workpiece::finish`].
    fn gather(&self, a: &Matrix, places: &Matrix) -> Result<Matrix>;

    /// The matrix with `columns` columns, `result[i, places[i, j]] = A[i, j]` and 0 at all other places. Negative
    /// places are left out. No place may occur twice in a row.
    ///
    /// # Errors
    /// As [`Matrices::gather`], for places that are no columns of the result.
    fn scatter(&self, a: &Matrix, places: &Matrix, columns: usize) -> Result<Matrix>;

    /// The upper triangular `U` with `(G + damping I)^-1 = U^T U`, for a symmetric `G`.
    ///
    /// # Errors
    /// The sum is not positive definite; names the pivot.
    fn inverse_factor(&self, gram: &Matrix, damping: f64) -> Result<Matrix>;

    /// The places of the `count` lowest values of a formula in each row of a matrix of `dim`, the lowest first; of equal ones the
    /// one in the lower column comes first, and NaN comes before all others. There are as many as columns if `count` is more. Meant for a few: on the GPU it
    /// takes a pass over the row for each.
    ///
    /// # Errors
    /// As [`Matrices::map`].
    fn lowest(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<Matrix>;

    /// The places of the `count` lowest and those of the `count` highest values of a formula in each row, from the outermost inwards:
    /// [`Matrices::lowest`] of the formula and of its negative.
    ///
    /// # Errors
    /// As [`Matrices::map`].
    fn extremes(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<[Matrix; 2]> {
        let negative = Values {
            formula: -values.formula.clone(),
            ..values.clone()
        };
        Ok([self.lowest(dim, values, count)?, self.lowest(dim, &negative, count)?])
    }

    /// In every row, swaps a kept entry for a removed one of the same group, always the two that lower `r G r^T` most, as
    /// long as any two do. `r` is the row of `A` with 0 in place of the entries that are kept, `kept` has ones and zeros, and
    /// `G` is symmetric and positive semidefinite. Single rows are independent, so that a fused pass serves them best.
    ///
    /// # Errors
    /// The matrices do not fit, or there is no room.
    fn swap(&self, a: &Matrix, kept: &Matrix, gram: &Matrix, swapping: Swapping) -> Result<Swapped>;

    /// `B U^T U` for an upper triangular `U`: with the factor of [`Matrices::inverse_factor`], the solution `X` of
    /// `X (G + damping I) = B`.
    ///
    /// # Errors
    /// The matrices have different numbers of columns, or there is no room.
    fn solve(&self, factor: &Matrix, b: &Matrix) -> Result<Matrix>;

    /// `X` with `X M = B` in the entries where `free` is 1, and 0 elsewhere, for a symmetric positive definite `M`: every row has
    /// a system of its own, of the rows and columns of `M` that are free in it. Meant for up to some hundred unknowns. `None`
    /// where nothing is faster than conjugate gradients over all rows at once.
    ///
    /// # Errors
    /// The matrices do not fit, or there is no room.
    fn solve_free(&self, _matrix: &Matrix, _free: &Matrix, _b: &Matrix) -> Result<Option<Matrix>> {
        Ok(None)
    }
}

/// What a criterion can read of one linear layer, on the CPU or the GPU.
pub trait LayerView: Matrices {
    /// Number of outputs (rows) and inputs (columns).
    fn dim(&self) -> (usize, usize);

    /// The order of the columns, if it is not their own: the `j`-th is column `order[j]`.
    fn order(&self) -> Option<&[usize]>;

    /// `||x_j||^2 / sequences`, one value per input feature `j`.
    ///
    /// # Errors
    /// No sums of squares were gathered.
    fn squared_norms(&self) -> Result<&[f64]>;

    /// Means and variances of the input features.
    ///
    /// # Errors
    /// No sums were gathered.
    fn means(&self) -> Result<&Means>;

    /// The means of the inputs whose outputs are to be reproduced: those of [`LayerView::means`] unless the dense model's outputs
    /// are the goal.
    ///
    /// # Errors
    /// No sums were gathered.
    fn goal_means(&self) -> Result<&[f64]>;

    /// The current weights, with one row per output.
    ///
    /// # Errors
    /// There is no room.
    fn weight(&self) -> Result<Matrix>;

    /// A matrix with 1 for each weight that is kept and 0 for each one that the mask removes.
    ///
    /// # Errors
    /// There is no room.
    fn kept(&self) -> Result<Matrix>;

    /// `X X^T / sequences` of the layer's inputs, with both triangles; its diagonal is [`LayerView::squared_norms`].
    /// Computed once for all layers of a tap.
    ///
    /// # Errors
    /// No Gram matrix was gathered, or there is no room.
    fn gram(&self) -> Result<Matrix>;

    /// `X D^T / sequences` for the layer's inputs `X` and the inputs `D` whose outputs a solver reproduces: `product` of the
    /// dense weights with it is `W D X^T / sequences`, the right-hand side of the normal equations. It is
    /// [`LayerView::gram`] unless the dense model's outputs are the goal.
    ///
    /// # Errors
    /// As [`LayerView::gram`].
    fn cross(&self) -> Result<Matrix>;

    /// [`LayerView::gram`] and [`LayerView::cross`] of inputs less their means: `(X - m)(X - m)^T / sequences`, and the same with
    /// the inputs whose outputs are to be reproduced. Made anew at every call.
    ///
    /// # Errors
    /// No Gram matrix was gathered, no sums, or there is no room.
    fn centred(&self) -> Result<Grams>;

    /// `D D^T / sequences` for the inputs `D` of [`LayerView::cross`]. It is [`LayerView::gram`] unless the dense model's
    /// outputs are the goal.
    ///
    /// # Errors
    /// As [`LayerView::gram`]; and the solver did not ask for it ([`Needs::goal`](crate::backend::moments::Needs::goal_gram)).
    fn goal_gram(&self) -> Result<Matrix>;

    /// A matrix with 1 for each weight that a target keeps and 0 for each one that it removes, by these scores. The
    /// layer's own mask does not change.
    ///
    /// # Errors
    /// The pattern does not fit, or a score is NaN, infinite or negative. A device tells of such a score when results come back the
    /// next time, at the end of the layer at the latest.
    fn choose(&self, score: &Values, target: &Target) -> Result<Matrix>;

    /// The sums of formulas over each row or each column, all computed in one pass over the weights.
    ///
    /// # Errors
    /// A formula asks for more than the workbench can do at once, or the backend fails.
    fn sums(&self, wanted: &[(Over, Values)]) -> Result<Vec<Vec<f64>>>;

    /// `U_jj` of the damped inverse Hessian's factor, `H^-1 = U^T U`, for each input feature `j`; `None` if the
    /// feature was zero on every calibration token.
    ///
    /// # Errors
    /// No Gram matrix was accumulated, or the Hessian cannot be factored.
    fn pivots(&self) -> Result<Vec<Option<f64>>>;

    /// The factor of the damped inverse Hessian, computed once for all layers of a tap.
    ///
    /// # Errors
    /// As [`LayerView::pivots`], or there is no room.
    fn factored(&self) -> Result<Factored>;
}

/// The factor of a damped inverse Hessian, `H^-1 = U^T U`.
#[derive(Debug, Clone)]
pub struct Factored {
    /// `U`, upper triangular, with a row and a column per input feature.
    pub upper: Matrix,
    /// For each input feature, whether it was zero on every calibration token. These count with 1 on the diagonal of `H`.
    pub dead: Vec<bool>,
    /// The damping, as a fraction of the mean diagonal.
    pub damping: f64,
}

/// A layer that is being pruned: its weights change in place, and a mask says which are removed.
pub trait Workpiece: LayerView {
    /// Chooses the mask from the scores of the current weights.
    ///
    /// # Errors
    /// The pattern does not fit, or a score is NaN, infinite or negative. A GPU tells that with the next results that it copies to the
    /// host, at the latest in [`Workpiece::finish`] or [`Workpiece::conclude`].
    fn select(&mut self, score: &Values, target: &Target) -> Result<()>;

    /// Refuses scores that are the same ([`differ`](crate::prune::compared::differ)) in every comparison group of a target, since the
    /// first columns would be removed then. `given_by` is what gives them, for the message. They may be the same where nothing depends
    /// on them: where the layer's weights, or the values of a matrix of the score, such as gradients, are all 0.
    ///
    /// # Errors
    /// They are, or an operand does not fit. A GPU tells the first as [`Workpiece::select`] tells of its scores.
    fn check_ranking(&mut self, score: &Values, target: &Target, given_by: &str) -> Result<()>;

    /// Sets the mask from a matrix of ones (kept) and zeros (removed).
    ///
    /// # Errors
    /// It is not as large as the layer, or the backend fails.
    fn keep(&mut self, kept: &Matrix) -> Result<()>;

    /// Puts the columns into another order, with their statistics and their part of the mask: column `j` becomes what
    /// column `order[j]` is now. [`Workpiece::finish`] puts them back.
    ///
    /// # Errors
    /// The order does not name each column once, or there is no room.
    fn reorder(&mut self, order: &[usize]) -> Result<()>;

    /// Puts the layer's inputs into other variables: all statistics become those of the new inputs. The weights stay as they are.
    ///
    /// # Errors
    /// It is not a change of as many features, it has shifts and no means were gathered, or there is no room.
    fn change_inputs(&mut self, change: &InputChange) -> Result<()>;

    /// Replaces the layer's weights.
    ///
    /// # Errors
    /// They are not as many as the layer's, or the backend fails.
    fn set_weight(&mut self, weight: &Matrix) -> Result<()>;

    /// Sets the weights that the mask removes to 0.
    ///
    /// # Errors
    /// The backend fails.
    fn remove(&mut self) -> Result<()>;

    /// SparseGPT's pass over the columns (see [`solver`](crate::prune::solver)): removes what the mask
    /// says and makes up for it with the columns to the right. With a score to follow, the mask of each
    /// block of columns, or of each N:M group, is chosen from that score of the current weights when the
    /// pass reaches it; else it is the one chosen before. Returns the damping of the Hessian.
    ///
    /// # Errors
    /// A score is unusable, or the Hessian cannot be factored.
    fn reconstruct(&mut self, follow: Option<&Values>, target: &Target) -> Result<f64>;

    /// Puts columns back into their places, rounds the weights to the checkpoint's type and returns the result; the last call for a workpiece.
    ///
    /// # Errors
    /// The backend fails.
    fn finish(&mut self) -> Result<Finished>;

    /// As [`Workpiece::finish`], in its place; the mask stays where it is. Counts and checks the result, or has the device do it:
    /// [`Workbench::concluded`] tells what was found.
    ///
    /// # Errors
    /// The backend fails; or what [`Workbench::concluded`] would tell, if it is known already.
    fn conclude(&mut self, target: &Target) -> Result<Concluding> {
        Ok(Concluding(Ending::Known(self.finish()?.concluded(target)?)))
    }
}

/// A workpiece that is finished, and whose result the device may still have to count.
pub struct Concluding(Ending);

enum Ending {
    /// It is counted and passed its checks.
    Known(Concluded),
    /// What the backend keeps until it is asked.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only GPUs keep anything"))]
    There(Box<dyn Any>),
}

/// A workpiece that is finished and passed its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// Number of weights that the mask removed.
    pub removed: usize,
    /// As in [`Finished`].
    pub zeros: usize,
    /// As in [`Finished`].
    pub order: Option<Vec<usize>>,
}

impl Finished {
    /// Checks the result.
    fn concluded(self, target: &Target) -> Result<Concluded> {
        match &self.order {
            Some(order) => self.mask.reordered(order).check(target)?,
            None => self.mask.check(target)?,
        }
        if let Some((place, weight)) = self.fault {
            let what = if weight.is_finite() { "removed" } else { "pruned" };
            return Err(Error::numeric(format!("the {what} weight at {place:?} is {weight}")));
        }
        Ok(Concluded {
            removed: self.mask.removed(),
            zeros: self.zeros,
            order: self.order,
        })
    }
}

/// The error for a workpiece that another backend finished.
fn elsewhere() -> Error {
    Error::config("a layer was pruned on another backend than the one that is asked for what was found of it")
}

/// The result of pruning one workpiece.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Which weights were removed.
    pub mask: PackedMask,
    /// Number of weights that are 0.
    pub zeros: usize,
    /// The order in which the columns were pruned, if it was not their own: the `j`-th was column `order[j]`.
    pub order: Option<Vec<usize>>,
    /// Row, column and value of a weight that is not finite, or that was removed and is not 0; `None` if there is
    /// none.
    pub fault: Option<((usize, usize), f32)>,
}

/// The order of columns after a change of their order; `None` if every column is in its place again.
///
/// # Errors
/// The change does not name each of the `columns` columns once.
fn reordered(current: Option<&[usize]>, change: &[usize], columns: usize) -> Result<Option<Vec<usize>>> {
    let mut named = vec![false; columns];
    let once = |from: &usize| {
        named
            .get_mut(*from)
            .is_some_and(|named| !std::mem::replace(named, true))
    };
    if change.len() != columns || !change.iter().all(once) {
        return Err(Error::numeric(format!(
            "an order of {} columns does not name each of the layer's {columns} columns once",
            change.len()
        )));
    }
    let order: Vec<usize> = match current {
        Some(current) => change.iter().map(|from| current[*from]).collect(),
        None => change.to_vec(),
    };
    Ok(Some(order).filter(|order| order.iter().enumerate().any(|(place, from)| place != *from)))
}

/// Checks that a change of variables has as many features as the layer has columns.
fn of_features(change: &InputChange, columns: usize) -> Result<()> {
    let shifts = change
        .shifts
        .iter()
        .flat_map(|shifts| [shifts.own.len(), shifts.goal.len()]);
    match shifts.chain([change.factors.len()]).find(|count| *count != columns) {
        None => Ok(()),
        Some(count) => Err(Error::numeric(format!(
            "a change of the variables of {count} input features for a layer of {columns}"
        ))),
    }
}

/// The order that undoes another one.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (place, from) in order.iter().enumerate() {
        inverse[*from] = place;
    }
    inverse
}

/// A backend that weights can be pruned on.
pub trait Workbench: Backend {
    /// Statistics of the inputs at a tap; all layers that read these inputs share them.
    type Statistics;

    /// Computes statistics from moments that were accumulated over `sequences` sequences.
    ///
    /// # Errors
    /// An activation was not finite (names the feature), or the backend fails.
    fn statistics(
        &self,
        moments: &Self::Moments,
        sequences: usize,
        factoring: impl Into<Factoring>,
    ) -> Result<Self::Statistics>;

    /// The statistics with the means of the inputs whose outputs are to be reproduced, from moments that have their sums.
    ///
    /// # Errors
    /// An activation was not finite, or the backend fails.
    fn with_goal(&self, statistics: Self::Statistics, goal: &Self::Moments) -> Result<Self::Statistics>;

    /// Statistics for methods that look at weights only; asking for one of them is an error.
    fn no_statistics(&self) -> Self::Statistics;

    /// What was found of finished workpieces, each with its weights: for all of them together, since a device is waited for only once
    /// then. A workpiece's own error says that its mask is not what the target demands, a weight is not finite, a removed one is not 0,
    /// or something that it was asked for before turned out to be wrong.
    ///
    /// # Errors
    /// The backend fails, or a workpiece was another backend's.
    fn concluded(&self, pieces: Vec<(Concluding, &Self::Weight)>) -> Result<Vec<Result<Concluded>>> {
        let known = |(Concluding(ending), _)| match ending {
            Ending::Known(concluded) => Ok(Ok(concluded)),
            Ending::There(_) => Err(elsewhere()),
        };
        pieces.into_iter().map(known).collect()
    }

    /// What it has room for.
    fn limits(&self) -> Limits {
        Limits::NONE
    }

    /// Prepares a layer's weights for pruning in place.
    fn workpiece<'a>(
        &'a self,
        weight: &'a mut Self::Weight,
        storage: StorageType,
        statistics: &'a Self::Statistics,
    ) -> Box<dyn Workpiece + 'a>;
}
