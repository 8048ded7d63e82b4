//! The faer provider.

use super::provider::SolveFailure;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltError, LltParams, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, Par, Spec};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Reverses the order of rows and columns, factorises, inverts the triangle and reverses again.
///
/// With `J` the reversal, `J H J = L L^T` gives `H = M M^T` for the upper triangular `M = J L J`, hence
/// `H^-1 = U^T U` with `U = M^-1 = J L^-1 J`. That is one factorisation and one triangular inverse: half
/// the work of Cholesky, inverse, Cholesky. Every step frees what the one before it made.
pub fn inverse_factor(h: Array2<f64>) -> Result<Array2<f64>, SolveFailure> {
    let n = h.nrows();
    let last = n.wrapping_sub(1);
    let mut lower = Mat::from_fn(n, n, |i, j| if i >= j { h[[last - j, last - i]] } else { 0.0 });
    drop(h);
    let (par, parameters) = (Par::rayon(0), Spec::<LltParams, f64>::default());
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, par, parameters));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(lower.as_mut(), Default::default(), par, stack, parameters).map_err(|error| match error {
        LltError::NonPositivePivot { index } => SolveFailure::NotPositiveDefinite { pivot: last - index },
    })?;
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), par);
    drop(lower);
    Ok(reversed(&inverse))
}

/// The eigenvalues of `A A^T`, or of `A^T A` where that is smaller.
pub fn squared_singular_values(a: ArrayView2<f32>) -> Result<Vec<f64>, SolveFailure> {
    let short = if a.nrows() <= a.ncols() { a } else { a.reversed_axes() };
    let (n, par) = (short.nrows(), Par::rayon(0));
    let gram = gram(&Mat::from_fn(n, short.ncols(), |row, column| {
        f64::from(short[[row, column]])
    }));
    let mut values = Diag::<f64>::zeros(n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::No, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(gram.as_ref(), values.as_mut(), None, par, stack, Spec::default())
        .map_err(|_| SolveFailure::NoConvergence)?;
    Ok(values.column_vector().iter().copied().collect())
}

/// The eigenvectors of `A A^T`, from the largest eigenvalue to the smallest.
pub fn left_singular(a: ArrayView2<f64>) -> Result<(Vec<f64>, Array2<f64>), SolveFailure> {
    let (n, par) = (a.nrows(), Par::rayon(0));
    let gram = gram(&Mat::from_fn(n, a.ncols(), |row, column| a[[row, column]]));
    let (mut values, mut vectors) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(
        gram.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        par,
        stack,
        Spec::default(),
    )
    .map_err(|_| SolveFailure::NoConvergence)?;
    let values = values.column_vector().iter().rev();
    let values = values.map(|square| square.max(0.0).sqrt()).collect();
    let mut turned = Array2::from_shape_fn((n, n), |(row, column)| vectors[(row, n - 1 - column)]);
    for mut column in turned.columns_mut() {
        let largest = column.iter().fold(
            0.0f64,
            |most, value| if value.abs() > most.abs() { *value } else { most },
        );
        if largest < 0.0 {
            column.mapv_inplace(|value| -value);
        }
    }
    Ok((values, turned))
}

/// The lower triangle of `A A^T`.
fn gram(a: &Mat<f64>) -> Mat<f64> {
    let mut gram = Mat::<f64>::zeros(a.nrows(), a.nrows());
    matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        a.as_ref(),
        BlockStructure::Rectangular,
        a.transpose(),
        BlockStructure::Rectangular,
        1.0,
        Par::rayon(0),
    );
    gram
}

/// Factorises, and solves two triangles.
pub fn solve(a: Array2<f64>, b: ArrayView2<f64>) -> Result<Array2<f64>, SolveFailure> {
    let n = a.nrows();
    let mut lower = Mat::from_fn(n, n, |i, j| if i >= j { a[[i, j]] } else { 0.0 });
    drop(a);
    let (par, parameters) = (Par::rayon(0), Spec::<LltParams, f64>::default());
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, par, parameters));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(lower.as_mut(), Default::default(), par, stack, parameters).map_err(|error| match error {
        LltError::NonPositivePivot { index } => SolveFailure::NotPositiveDefinite { pivot: index },
    })?;
    let mut x = Mat::from_fn(n, b.ncols(), |row, column| b[[row, column]]);
    solve_lower_triangular_in_place(lower.as_ref(), x.as_mut(), par);
    solve_upper_triangular_in_place(lower.transpose(), x.as_mut(), par);
    Ok(Array2::from_shape_fn((n, b.ncols()), |(row, column)| x[(row, column)]))
}

/// `J L J` for a lower triangular `L`, where `J` reverses the order.
fn reversed(lower: &Mat<f64>) -> Array2<f64> {
    /// Number of rows that are written together: as many values as one cache line of a column of `lower` holds.
    const ROWS: usize = 8;
    let n = lower.nrows();
    let mut upper = Array2::zeros((n, n));
    let rows = upper.as_slice_mut().expect("a fresh array is contiguous");
    rows.par_chunks_mut(ROWS * n.max(1))
        .enumerate()
        .for_each(|(chunk, rows)| {
            let first = chunk * ROWS;
            for column in first..n {
                for (row, values) in rows.chunks_exact_mut(n).enumerate() {
                    let row = first + row;
                    if row <= column {
                        values[column] = lower[(n - 1 - row, n - 1 - column)];
                    }
                }
            }
        });
    upper
}
