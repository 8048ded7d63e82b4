//! The vocabulary over matrices on the host.

use super::super::{Matrices, Swapped, Swapping};
use super::free::solve_free;
use super::piece::Piece;
use super::sparse::sparse_product;
use super::swap::swapped;
use super::values::{Evaluator, mapped, outermost, sums};
use crate::backend::cpu::product;
use crate::error::{Error, Result};
use crate::linalg;
use crate::prune::matrix::Matrix;
use crate::prune::values::{Over, Values};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Wraps an array as a [`Matrix`].
pub fn handle(array: Array2<f32>) -> Matrix {
    Matrix::new(array.dim(), array)
}

/// Checks that a matrix has the wanted size.
///
/// # Errors
/// The sizes differ.
pub fn fits(got: (usize, usize), want: (usize, usize)) -> Result<()> {
    if got == want {
        return Ok(());
    }
    Err(Error::numeric(format!(
        "a matrix of {got:?} does not fit one of {want:?}"
    )))
}

impl Piece<'_> {
    /// Prepares a formula over a matrix of `dim`; returns also the weights if the formula reads them.
    fn evaluation<'a>(
        &'a self,
        dim: (usize, usize),
        values: &'a Values,
    ) -> Result<(Evaluator<'a>, Option<ArrayView2<'a, f32>>)> {
        let evaluation = Evaluator::new(values, dim, Some(&self.mask))?;
        let weight = evaluation.reads_weight().then(|| self.weight.view());
        if weight.is_some() || evaluation.reads_mask() {
            fits(dim, self.weight.dim())?;
        }
        Ok((evaluation, weight))
    }

    /// The sums of a formula over rows or columns.
    fn summed(&self, dim: (usize, usize), over: Over, values: &Values) -> Result<Vec<f64>> {
        let (_, weight) = self.evaluation(dim, values)?;
        let sums = sums(dim, weight, Some(&self.mask), &[(over, values)])?;
        Ok(sums.into_iter().flatten().collect())
    }
}

impl Matrices for Piece<'_> {
    fn matrix(&self, host: ArrayView2<f32>) -> Result<Matrix> {
        Ok(handle(host.as_standard_layout().into_owned()))
    }

    fn read(&self, matrix: &Matrix) -> Result<Array2<f32>> {
        matrix.there().cloned()
    }

    fn map(&self, dim: (usize, usize), values: &Values) -> Result<Matrix> {
        let (evaluation, weight) = self.evaluation(dim, values)?;
        Ok(handle(mapped(&evaluation, dim, 0, weight)))
    }

    fn reduce(&self, dim: (usize, usize), over: Over, values: &Values) -> Result<Matrix> {
        let shape = match over {
            Over::Row => (dim.0, 1),
            Over::Column => (1, dim.1),
            Over::Vector => return Err(Error::config("a matrix is reduced over its rows or its columns")),
        };
        let sums = self
            .summed(dim, over, values)?
            .into_iter()
            .map(|sum| sum as f32)
            .collect();
        Ok(handle(
            Array2::from_shape_vec(shape, sums).expect("one sum a row or column"),
        ))
    }

    fn total(&self, dim: (usize, usize), values: &Values) -> Result<f64> {
        Ok(self.summed(dim, Over::Row, values)?.iter().sum())
    }

    fn product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        fits((b.dim().0, a.dim().1), b.dim())?;
        Ok(handle(product::linear(b.there()?, None, a.there()?)))
    }

    fn rough_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        self.product(a, b)
    }

    fn sparse_product(&self, a: &Matrix, b: &Matrix) -> Result<Matrix> {
        fits((b.dim().0, a.dim().1), b.dim())?;
        match sparse_product(a.there()?, b.there()?) {
            Some(product) => Ok(handle(product)),
            None => self.product(a, b),
        }
    }

    fn transpose(&self, a: &Matrix) -> Result<Matrix> {
        let a: &Array2<f32> = a.there()?;
        Ok(handle(a.t().as_standard_layout().into_owned()))
    }

    fn gather(&self, a: &Matrix, places: &Matrix) -> Result<Matrix> {
        let (a, places) = placed(a, places, a.dim().1)?;
        let mut into = Array2::zeros((a.nrows(), places.ncols()));
        let rows = into.axis_iter_mut(Axis(0)).into_par_iter();
        rows.zip(a.axis_iter(Axis(0)))
            .enumerate()
            .for_each(|(row, (mut into, a))| {
                for (into, place) in into.iter_mut().zip(places.row(row.min(places.nrows() - 1))) {
                    if *place >= 0.0 {
                        *into = a[*place as usize];
                    }
                }
            });
        Ok(handle(into))
    }

    fn scatter(&self, a: &Matrix, places: &Matrix, columns: usize) -> Result<Matrix> {
        fits((places.dim().0, a.dim().1), places.dim())?;
        let (a, places) = placed(a, places, columns)?;
        let mut into = Array2::zeros((a.nrows(), columns));
        let rows = into.axis_iter_mut(Axis(0)).into_par_iter();
        rows.zip(a.axis_iter(Axis(0)))
            .enumerate()
            .for_each(|(row, (mut into, a))| {
                for (value, place) in a.iter().zip(places.row(row.min(places.nrows() - 1))) {
                    if *place >= 0.0 {
                        into[*place as usize] = *value;
                    }
                }
            });
        Ok(handle(into))
    }

    fn inverse_factor(&self, gram: &Matrix, damping: f64) -> Result<Matrix> {
        let gram: &Array2<f32> = gram.there()?;
        let mut damped = gram.mapv(f64::from);
        damped.diag_mut().mapv_inplace(|value| value + damping);
        let factor = linalg::inverse_factor(self.statistics.provider(), damped);
        let factor = factor.map_err(|failure| Error::numeric(failure.to_string()))?;
        Ok(handle(factor.mapv(|value| value as f32)))
    }

    fn lowest(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<Matrix> {
        let (evaluation, weight) = self.evaluation(dim, values)?;
        let [lowest] = outermost(&evaluation, dim, weight, count);
        Ok(handle(lowest))
    }

    fn extremes(&self, dim: (usize, usize), values: &Values, count: usize) -> Result<[Matrix; 2]> {
        let (evaluation, weight) = self.evaluation(dim, values)?;
        let both: [Array2<f32>; 2] = outermost(&evaluation, dim, weight, count);
        Ok(both.map(handle))
    }

    fn swap(&self, a: &Matrix, kept: &Matrix, gram: &Matrix, swapping: Swapping) -> Result<Swapped> {
        fits(kept.dim(), a.dim())?;
        fits(gram.dim(), (a.dim().1, a.dim().1))?;
        let (kept, swaps) = swapped(a.there()?, kept.there()?, gram.there()?, swapping);
        Ok(Swapped {
            kept: handle(kept),
            swaps,
        })
    }

    fn solve(&self, factor: &Matrix, b: &Matrix) -> Result<Matrix> {
        fits(factor.dim(), (b.dim().1, b.dim().1))?;
        Ok(handle(product::through_factor(factor.there()?, b.there()?)))
    }

    fn solve_free(&self, matrix: &Matrix, free: &Matrix, b: &Matrix) -> Result<Option<Matrix>> {
        fits(matrix.dim(), (b.dim().1, b.dim().1))?;
        fits(free.dim(), b.dim())?;
        Ok(Some(handle(solve_free(matrix.there()?, free.there()?, b.there()?))))
    }
}

/// A matrix and the places that its entries are read from or written to.
///
/// # Errors
/// Their rows do not fit, or a place is neither negative nor one of the `columns` columns.
fn placed<'a>(a: &'a Matrix, places: &'a Matrix, columns: usize) -> Result<(&'a Array2<f32>, &'a Array2<f32>)> {
    let rows = places.dim().0;
    if rows != 1 {
        fits((rows, a.dim().1), a.dim())?;
    }
    let there: &Array2<f32> = places.there()?;
    let right = |place: &f32| *place < columns as f32 && place.floor() == *place;
    let in_rows = there.axis_iter(Axis(0)).into_par_iter();
    let wrong = in_rows
        .map(|row| row.iter().position(|place| !right(place)))
        .enumerate();
    if let Some((row, Some(column))) = wrong.find_first(|(_, wrong)| wrong.is_some()) {
        return Err(Error::numeric(format!(
            "place {} at row {row}, column {column} is neither negative nor the number of one of {columns} columns",
            there[[row, column]]
        )));
    }
    Ok((a.there()?, there))
}
