//! Access to the elements of a matrix of this backend, row after row.

use ndarray::Array2;

/// The elements of a standard-layout array; every array made by this backend is one.
pub fn elements(x: &Array2<f32>) -> &[f32] {
    x.as_slice()
        .expect("arrays of the CPU backend are row-major and contiguous")
}

/// The elements of a standard-layout array, mutably.
pub fn elements_mut(x: &mut Array2<f32>) -> &mut [f32] {
    x.as_slice_mut()
        .expect("arrays of the CPU backend are row-major and contiguous")
}
