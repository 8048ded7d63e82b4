//! Calibration moments on the CPU, in `f64`: sums of squares, and the Gram matrix as a triangle.

use super::elements;
use crate::backend::moments::Moments;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Rows per partial sum. Fixed, so that a result does not depend on the number of threads.
const ROWS: usize = 256;

pub fn accumulate(moments: &mut Moments, x: &Array2<f32>) {
    let width = x.ncols();
    if let Some(gram) = &mut moments.gram {
        for rows in elements(x).chunks(4 * ROWS * width) {
            let wide: Vec<f64> = rows.iter().map(|value| f64::from(*value)).collect();
            let rows = MatRef::from_row_major_slice(&wide, wide.len() / width, width);
            let gram = gram.as_slice_mut().expect("a Gram matrix is row-major and contiguous");
            // A symmetric matrix reads the same both ways, so the triangle that is lower in faer's
            // view of this row-major slice is the lower one here too.
            matmul(
                MatMut::from_row_major_slice_mut(gram, width, width),
                BlockStructure::TriangularLower,
                Accum::Add,
                rows.transpose(),
                BlockStructure::Rectangular,
                rows,
                BlockStructure::Rectangular,
                1.0,
                Par::rayon(0),
            );
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
