//! The faer provider.

use super::Failure;
use faer::linalg::cholesky::llt::factor::LltError;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Par, Side};
use ndarray::{Array2, ArrayView2};

/// Reverses the order of rows and columns, factors, inverts the triangle, reverses back.
///
/// With `J` the reversal, `J H J = L L^T` gives `H = M M^T` for the upper triangular `M = J L J`, hence
/// `H^-1 = U^T U` with `U = M^-1 = J L^-1 J`. That is one factorisation and one triangular inverse: half
/// the work of Cholesky, inverse, Cholesky.
pub fn inverse_factor(h: ArrayView2<f64>) -> Result<Array2<f64>, Failure> {
    let n = h.nrows();
    let last = n.wrapping_sub(1);
    let reversed = Mat::from_fn(n, n, |i, j| h[[last - i.min(j), last - i.max(j)]]);
    let llt = reversed.llt(Side::Lower).map_err(|error| match error {
        LltError::NonPositivePivot { index } => Failure::NotPositiveDefinite { pivot: last - index },
    })?;
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), llt.L(), Par::rayon(0));
    Ok(Array2::from_shape_fn((n, n), |(i, j)| {
        if i <= j { inverse[(last - i, last - j)] } else { 0.0 }
    }))
}
