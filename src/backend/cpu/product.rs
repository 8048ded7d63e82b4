//! Matrix products on faer: linear layers, and next-token log-likelihoods without keeping logits.

use super::elements::{elements, elements_mut};
use super::simd::{exp, largest, soften, sum_of, vectorised};
use crate::backend::Likelihood;
use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows of activations per task. It is fixed, so that a result does not depend on the number of threads.
pub(super) const ROWS: usize = 256;

/// Number of rows per task whose logits exist at the same time.
pub const LOGIT_ROWS: usize = 64;

/// The values as a row-major matrix of the crate faer.
pub(super) fn view(values: &[f32], columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, values.len() / columns, columns)
}

/// Computes `x W^T` on the calling thread and writes it to `y`.
pub(super) fn multiply(y: &mut [f32], x: &[f32], weight: &Array2<f32>) {
    let (outputs, inputs) = weight.dim();
    let rows = y.len() / outputs;
    let y = MatMut::from_row_major_slice_mut(y, rows, outputs);
    let weight = view(elements(weight), inputs);
    matmul(y, Accum::Replace, view(x, inputs), weight.transpose(), 1.0, Par::Seq);
}

pub fn linear(weight: &Array2<f32>, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32> {
    let (outputs, inputs) = weight.dim();
    let mut y = Array2::zeros((x.nrows(), outputs));
    elements_mut(&mut y)
        .par_chunks_mut(ROWS * outputs)
        .zip(elements(x).par_chunks(ROWS * inputs))
        .for_each(|(y, x)| {
            multiply(y, x, weight);
            if let Some(bias) = bias {
                for row in y.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(elements(bias)).for_each(|(y, b)| *y += b);
                }
            }
        });
    y
}

/// Number of columns of a triangular matrix that are multiplied at a time; what is left of the zeros beside the diagonal.
const PANEL: usize = 256;

/// Computes `x U^T U` for an upper triangular `U`, passing over its zeros: half the work of two products.
pub fn through_factor(upper: &Array2<f32>, x: &Array2<f32>) -> Array2<f32> {
    let inputs = upper.ncols();
    let upper = view(elements(upper), inputs);
    let mut y = Array2::zeros(x.dim());
    elements_mut(&mut y)
        .par_chunks_mut(ROWS * inputs)
        .zip(elements(x).par_chunks(ROWS * inputs))
        .for_each(|(y, x)| {
            let (rows, x) = (y.len() / inputs, view(x, inputs));
            let mut half = vec![0.0f32; y.len()];
            let panels = || {
                (0..inputs)
                    .step_by(PANEL)
                    .map(|first| (first, PANEL.min(inputs - first)))
            };
            let mut between = MatMut::from_row_major_slice_mut(&mut half, rows, inputs);
            for (first, width) in panels() {
                let left = inputs - first;
                let into = between.rb_mut().submatrix_mut(0, first, rows, width);
                let from = upper.submatrix(first, first, width, left);
                matmul(
                    into,
                    Accum::Replace,
                    x.subcols(first, left),
                    from.transpose(),
                    1.0,
                    Par::Seq,
                );
            }
            let half = view(&half, inputs);
            let mut y = MatMut::from_row_major_slice_mut(y, rows, inputs);
            for (first, width) in panels() {
                let to = first + width;
                let into = y.rb_mut().submatrix_mut(0, first, rows, width);
                let from = upper.submatrix(0, first, to, width);
                matmul(into, Accum::Replace, half.subcols(0, to), from, 1.0, Par::Seq);
            }
        });
    y
}

pub fn log_likelihoods(head: &Array2<f32>, softcap: Option<f32>, x: &Array2<f32>, targets: &[u32]) -> Vec<Likelihood> {
    let (vocabulary, width) = head.dim();
    let nothing = Likelihood {
        log: 0.0,
        greatest: false,
    };
    let mut likelihoods = vec![nothing; targets.len()];
    likelihoods
        .par_chunks_mut(LOGIT_ROWS)
        .zip(elements(x).par_chunks(LOGIT_ROWS * width))
        .zip(targets.par_chunks(LOGIT_ROWS))
        .for_each(|((likelihoods, x), targets)| {
            let mut logits = vec![0.0f32; targets.len() * vocabulary];
            multiply(&mut logits, x, head);
            if let Some(bound) = softcap {
                vectorised(
                    #[inline(always)]
                    || soften(&mut logits, bound),
                );
            }
            for ((row, target), likelihood) in logits.chunks_exact(vocabulary).zip(targets).zip(likelihoods) {
                let (greatest, log_sum) = vectorised(
                    #[inline(always)]
                    || log_sum_exp(row),
                );
                let logit = row[*target as usize];
                *likelihood = Likelihood {
                    log: f64::from(logit) - log_sum,
                    greatest: logit >= greatest,
                };
            }
        });
    likelihoods
}

/// The maximum, and `ln(sum(exp(row)))`, shifted by it; short runs in `f32`, their sum in `f64`.
#[inline(always)]
pub(super) fn log_sum_exp(row: &[f32]) -> (f32, f64) {
    const RUN: usize = 1024;
    let shift = largest(row);
    let total: f64 = row
        .chunks(RUN)
        .map(|run| f64::from(sum_of(run, |value| exp(value - shift))))
        .sum();
    (shift, f64::from(shift) + total.ln())
}
