//! The LAPACK provider, through ndarray-linalg: Cholesky, inverse, Cholesky, as SparseGPT's own code
//! does it. A different route than faer's on purpose, so that each is an oracle for the other.

use super::provider::SolveFailure;
use ndarray::{Array2, ArrayView2};
use ndarray_linalg::error::LinalgError;
use ndarray_linalg::{Cholesky, InverseC, UPLO};

pub fn inverse_factor(h: ArrayView2<f64>) -> Result<Array2<f64>, SolveFailure> {
    let symmetric = Array2::from_shape_fn(h.dim(), |(i, j)| h[[i.max(j), i.min(j)]]);
    let inverse = symmetric.invc().map_err(pivot)?;
    inverse.cholesky(UPLO::Upper).map_err(pivot)
}

fn pivot(error: LinalgError) -> SolveFailure {
    let LinalgError::Lapack(lax::error::Error::LapackComputationalFailure { return_code }) = error else {
        panic!("LAPACK refused well-shaped arguments: {error}");
    };
    // LAPACK counts leading minors from 1.
    SolveFailure::NotPositiveDefinite {
        pivot: usize::try_from(return_code - 1).unwrap_or(0),
    }
}
