//! Calibration moments on the CPU, in `f64`: sums of squares, and the Gram matrix as a triangle (squares on
//! its diagonal are filled whole), products with other inputs, sums over sequences.

use super::elements::elements;
use super::packed;
use crate::backend::moments::Moments;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows per partial sum. It is fixed, so that a result does not depend on the number of threads.
const ROWS: usize = 256;

/// Rows that are in double precision at one time.
pub const WIDENED_ROWS: usize = 4 * ROWS;

/// Number of rows of a Gram matrix per task: small compared with the matrix, since a task also fills the squares on
/// the diagonal.
const BAND: usize = 128;

pub fn accumulate(moments: &mut Moments, x: &Array2<f32>) {
    let width = x.ncols();
    if let Some(gram) = &mut moments.gram {
        let gram = gram.as_slice_mut().expect("a Gram matrix is row-major and contiguous");
        if !packed::add_product(gram, elements(x), None, width) {
            add_triangle(gram, elements(x), width);
        }
    }
    let partial: Vec<Vec<f64>> = elements(x)
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut squares = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                for (sum, value) in squares.iter_mut().zip(row) {
                    *sum += f64::from(*value) * f64::from(*value);
                }
            }
            squares
        })
        .collect();
    for squares in partial {
        moments
            .squares
            .iter_mut()
            .zip(squares)
            .for_each(|(sum, part)| *sum += part);
    }
    moments.tokens += x.nrows();
}

/// Adds `X^T D`, and `D^T D`, for the inputs `x` and the dense model's inputs `dense` of the same tokens.
pub fn accumulate_cross(moments: &mut Moments, x: &Array2<f32>, dense: &Array2<f32>) {
    for (sum, left) in [(&mut moments.cross, x), (&mut moments.goal, dense)] {
        if let Some(sum) = sum {
            add_product(
                sum.as_slice_mut().expect("products are row-major and contiguous"),
                left,
                dense,
            );
        }
    }
}

/// Adds `X^T D` to a sum.
fn add_product(sum: &mut [f64], x: &Array2<f32>, dense: &Array2<f32>) {
    let width = x.ncols();
    if packed::add_product(sum, elements(x), Some(elements(dense)), width) {
        return;
    }
    let parts = elements(x).chunks(WIDENED_ROWS * width);
    for (x, dense) in parts.zip(elements(dense).chunks(WIDENED_ROWS * width)) {
        let wide = |part: &[f32]| -> Vec<f64> { part.par_iter().map(|value| f64::from(*value)).collect() };
        let (x, dense) = (wide(x), wide(dense));
        let tokens = x.len() / width;
        sum.par_chunks_mut(BAND * width).enumerate().for_each(|(band, sum)| {
            let height = sum.len() / width;
            let mine = MatRef::from_row_major_slice_with_stride(&x[band * BAND..], tokens, height, width);
            let all = MatRef::from_row_major_slice_with_stride(&dense, tokens, width, width);
            // Built column-major and transposed, as below.
            let into = MatMut::from_column_major_slice_with_stride_mut(sum, width, height, width);
            matmul(into.transpose_mut(), Accum::Add, mine.transpose(), all, 1.0, Par::Seq);
        });
    }
}

/// Adds the sums of the rows of `x` over sequences of equal length, which weigh this much.
pub fn accumulate_sums(moments: &mut Moments, x: &Array2<f32>, weights: &[f64]) {
    let Some(found) = &mut moments.sums else { return };
    let (rows, width) = x.dim();
    let length = rows / weights.len();
    let sums = elements(x).par_chunks(length * width).map(|sequence| {
        let mut sums = vec![0.0; width];
        for row in sequence.chunks_exact(width) {
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sums
    });
    found.sums.par_extend(sums);
    found.weights.extend(weights);
}

/// Adds `X^T X` to the lower triangle.
fn add_triangle(gram: &mut [f64], x: &[f32], width: usize) {
    for rows in x.chunks(WIDENED_ROWS * width) {
        let wide: Vec<f64> = rows.par_iter().map(|value| f64::from(*value)).collect();
        // The longest rows first, so that no task is left for the end.
        gram.par_chunks_mut(BAND * width)
            .enumerate()
            .rev()
            .for_each(|(band, gram)| add_band(band * BAND, gram, &wide, width));
    }
}

/// Adds `X^T X` to rows of the lower triangle, beginning with row `first`.
fn add_band(first: usize, gram: &mut [f64], x: &[f64], width: usize) {
    let height = gram.len() / width;
    let reach = first + height;
    let tokens = x.len() / width;
    let mine = MatRef::from_row_major_slice_with_stride(&x[first..], tokens, height, width);
    let all = MatRef::from_row_major_slice_with_stride(x, tokens, reach, width);
    // Built column-major and transposed: faer 0.24's `from_row_major_slice_with_stride_mut` swaps its strides.
    let into = MatMut::from_column_major_slice_with_stride_mut(gram, reach, height, width);
    matmul(into.transpose_mut(), Accum::Add, mine.transpose(), all, 1.0, Par::Seq);
}
