//! Matrix products, on faer or of packed matrices: linear layers, and next-token log-likelihoods without keeping logits.

use super::elements::{elements, elements_mut, in_pieces};
use super::instructions::SINGLE_PANEL;
use super::packed::Packed;
use super::simd::{exp, largest, soften, sum_of, vectorised};
use crate::backend::Likelihood;
use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows of activations per task. It is fixed, so that a result does not depend on the number of threads.
pub(super) const ROWS: usize = 256;

/// Number of rows for each thread whose logits exist at the same time.
pub const LOGIT_ROWS: usize = 64;

/// About how many outputs of the head a task computes.
const HEAD_PANEL: usize = 192;

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
    let packed = Packed::new(weight, x.nrows());
    in_pieces((x.nrows(), outputs), ROWS, |piece, y| {
        let rows = y.len() / outputs;
        let x = &elements(x)[piece * ROWS * inputs..][..rows * inputs];
        let into = MatMut::from_row_major_slice_mut(y, rows, outputs);
        if !packed.as_ref().is_some_and(|packed| packed.multiply(into, x, 0)) {
            multiply(y, x, weight);
        }
        if let Some(bias) = bias {
            for row in y.chunks_exact_mut(outputs) {
                row.iter_mut().zip(elements(bias)).for_each(|(y, b)| *y += b);
            }
        }
    })
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

/// Computes `x W^T` on all threads. Where the weight is not packed, the kernel packs it in every call, so each task has all
/// rows and some of the outputs.
///
/// A single row is multiplied in another way, which rounds differently. So rows beyond whole runs of [`LOGIT_ROWS`] stay apart, and a row's
/// result does not depend on how many others there are.
fn multiply_in_panels(y: &mut [f32], x: &[f32], weight: &Array2<f32>, packed: Option<&Packed>) {
    let (outputs, inputs) = weight.dim();
    let rows = y.len() / outputs;
    let whole = rows / LOGIT_ROWS * LOGIT_ROWS;
    let count = outputs.div_ceil(HEAD_PANEL);
    // Panels of a packed weight are whole panels of the kernel.
    let bound = |panel: usize| (panel * outputs / count).next_multiple_of(SINGLE_PANEL).min(outputs);
    let mut rest = MatMut::from_row_major_slice_mut(y, rows, outputs);
    let mut panels = Vec::with_capacity(count);
    for panel in 0..count {
        let (first, end) = (bound(panel), bound(panel + 1));
        let (y, others) = rest.split_at_col_mut(end - first);
        rest = others;
        panels.push((y, first, end));
    }
    panels.into_par_iter().for_each(|(y, first, end)| {
        let weight = view(&elements(weight)[first * inputs..end * inputs], inputs);
        let (x, y) = (x.split_at(whole * inputs), y.split_at_row_mut(whole));
        for (x, mut y) in [(x.0, y.0), (x.1, y.1)] {
            if !packed.is_some_and(|packed| packed.multiply(y.rb_mut(), x, first)) {
                matmul(y, Accum::Replace, view(x, inputs), weight.transpose(), 1.0, Par::Seq);
            }
        }
    });
}

pub fn log_likelihoods(head: &Array2<f32>, softcap: Option<f32>, x: &Array2<f32>, targets: &[u32]) -> Vec<Likelihood> {
    let (vocabulary, width) = head.dim();
    let together = (LOGIT_ROWS * rayon::current_num_threads()).min(targets.len()).max(1);
    let packed = Packed::new(head, targets.len());
    let mut logits = vec![0.0f32; together * vocabulary];
    let mut likelihoods = Vec::with_capacity(targets.len());
    for (targets, x) in targets.chunks(together).zip(elements(x).chunks(together * width)) {
        let logits = &mut logits[..targets.len() * vocabulary];
        multiply_in_panels(logits, x, head, packed.as_ref());
        let rows = logits.par_chunks_exact_mut(vocabulary).zip(targets);
        likelihoods.par_extend(rows.map(|(row, target)| {
            let (greatest, log_sum) = vectorised(
                #[inline(always)]
                || {
                    if let Some(bound) = softcap {
                        soften(row, bound);
                    }
                    log_sum_exp(row)
                },
            );
            let logit = row[*target as usize];
            Likelihood {
                log: f64::from(logit) - log_sum,
                greatest: logit >= greatest,
            }
        }));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Claim: the likelihoods of a row have the same bits with any number of threads and of other rows as where whole runs of rows are
    /// multiplied by the whole head.
    #[test]
    fn likelihoods_have_the_bits_of_a_product_with_the_whole_head() {
        let value = |index: usize| ((index * 2_654_435_761 % 4_294_967_296) as f32 / 2_147_483_648.0) - 1.0;
        let mut compared = 0;
        for (vocabulary, width) in [(5, 3), (HEAD_PANEL + 1, 17), (1537, 576)] {
            let head = Array2::from_shape_fn((vocabulary, width), |(i, j)| value(i * width + j));
            for rows in [1, 2, 64, 65, 129, 200, 513] {
                let x = Array2::from_shape_fn((rows, width), |(i, j)| value(7 + i * width + j));
                let targets: Vec<u32> = (0..rows).map(|row| (row * 31 % vocabulary) as u32).collect();
                for softcap in [None, Some(3.0)] {
                    let mut wanted = Vec::new();
                    for (targets, x) in targets.chunks(LOGIT_ROWS).zip(elements(&x).chunks(LOGIT_ROWS * width)) {
                        let mut logits = vec![0.0; targets.len() * vocabulary];
                        multiply(&mut logits, x, &head);
                        if let Some(bound) = softcap {
                            vectorised(
                                #[inline(always)]
                                || soften(&mut logits, bound),
                            );
                        }
                        for (row, target) in logits.chunks(vocabulary).zip(targets) {
                            let (greatest, log_sum) = vectorised(
                                #[inline(always)]
                                || log_sum_exp(row),
                            );
                            let logit = row[*target as usize];
                            wanted.push(((f64::from(logit) - log_sum).to_bits(), logit >= greatest));
                        }
                    }
                    for threads in [1, 2, 3] {
                        let pool = rayon::ThreadPoolBuilder::new()
                            .num_threads(threads)
                            .build()
                            .expect("threads");
                        let found = pool.install(|| log_likelihoods(&head, softcap, &x, &targets));
                        let found: Vec<_> = found.iter().map(|it| (it.log.to_bits(), it.greatest)).collect();
                        assert_eq!(found, wanted, "{rows} rows, {vocabulary} tokens, {threads} threads");
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, 3 * 7 * 2 * 3);
    }
}
