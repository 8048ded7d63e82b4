//! Access to the elements of a matrix of this backend, row after row.

use ndarray::Array2;
use rayon::prelude::*;
use std::mem::MaybeUninit;

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

/// A matrix `(rows, columns)` that is made on all threads, in pieces of `piece` rows: `make(index, values)` gets a piece of
/// zeros and writes its values. A core sets a piece to 0 right before, so that it is still in the core's cache; zeros for
/// the whole matrix would be written on one core, while the others wait.
#[allow(unsafe_code)]
pub fn in_pieces(
    (rows, columns): (usize, usize),
    piece: usize,
    make: impl Fn(usize, &mut [f32]) + Sync,
) -> Array2<f32> {
    let count = rows * columns;
    let mut values = Vec::with_capacity(count);
    values.spare_capacity_mut()[..count]
        .par_chunks_mut((piece * columns).max(1))
        .enumerate()
        .for_each(|(index, values)| {
            values.fill(MaybeUninit::new(0.0));
            // SAFETY: the line before wrote all of them.
            make(index, unsafe { values.assume_init_mut() });
        });
    // SAFETY: there is room for `count` values, and the pieces, which were written, are all of them.
    unsafe { values.set_len(count) };
    Array2::from_shape_vec((rows, columns), values).expect("as many values as the shape has")
}
