//! The adjoints of matrix products: of linear layers with respect to inputs and weights, of next-token log-likelihoods.

use super::elements::{elements, elements_mut};
use super::product::{ROWS, log_sum_exp, multiply, view};
use super::simd::{exp, soften, vectorised};
use crate::backend::gradient::Gradient;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows of a weight's gradient per task.
const BAND: usize = 96;

/// Number of rows per task whose logits exist at the same time.
pub const LOGIT_ROWS: usize = 128;

/// Computes `dy W`.
pub fn linear(weight: &Array2<f32>, dy: &Array2<f32>) -> Array2<f32> {
    let (outputs, inputs) = weight.dim();
    let mut dx = Array2::zeros((dy.nrows(), inputs));
    elements_mut(&mut dx)
        .par_chunks_mut(ROWS * inputs)
        .zip(elements(dy).par_chunks(ROWS * outputs))
        .for_each(|(dx, dy)| multiply_back(dx, dy, weight));
    dx
}

/// Computes `dy W` on the calling thread and writes it to `dx`.
fn multiply_back(dx: &mut [f32], dy: &[f32], weight: &Array2<f32>) {
    let (outputs, inputs) = weight.dim();
    let rows = dy.len() / outputs;
    let dx = MatMut::from_row_major_slice_mut(dx, rows, inputs);
    let weight = view(elements(weight), inputs);
    matmul(dx, Accum::Replace, view(dy, outputs), weight, 1.0, Par::Seq);
}

/// Adds `dy^T x` of each sequence, its square and its magnitude to the sums that there are.
pub fn accumulate(
    gradient: &mut Gradient<Array2<f32>>,
    dy: &Array2<f32>,
    x: &Array2<f32>,
    sequences: usize,
    factor: f32,
) {
    let (outputs, inputs) = (dy.ncols(), x.ncols());
    // The product for rows of the weight, of some tokens.
    let product = |into: &mut [f32], accum: Accum, band: usize, first: usize, tokens: usize| {
        let height = into.len() / inputs;
        let dy = &elements(dy)[first * outputs + band * BAND..];
        let dy = MatRef::from_row_major_slice_with_stride(dy, tokens, height, outputs);
        let x = view(&elements(x)[first * inputs..][..tokens * inputs], inputs);
        let into = MatMut::from_row_major_slice_mut(into, height, inputs);
        matmul(into, accum, dy.transpose(), x, factor, Par::Seq);
    };
    let Gradient {
        sum,
        squares,
        magnitudes,
    } = gradient;
    if squares.is_none() && magnitudes.is_none() {
        if let Some(sum) = sum {
            let bands = elements_mut(sum).par_chunks_mut(BAND * inputs).enumerate();
            bands.for_each(|(band, sum)| product(sum, Accum::Add, band, 0, x.nrows()));
        }
        return;
    }
    let length = x.nrows() / sequences;
    // The rows of each sum that belong to a band.
    let mut bands: Vec<[Option<&mut [f32]>; 3]> = Vec::new();
    bands.resize_with(outputs.div_ceil(BAND), Default::default);
    for (place, sums) in [sum, squares, magnitudes].into_iter().enumerate() {
        let rows = sums
            .iter_mut()
            .flat_map(|sums| elements_mut(sums).chunks_mut(BAND * inputs));
        for (band, rows) in bands.iter_mut().zip(rows) {
            band[place] = Some(rows);
        }
    }
    bands
        .into_par_iter()
        .enumerate()
        .for_each(|(band, [mut sum, mut squares, mut magnitudes])| {
            let rows = BAND.min(outputs - band * BAND);
            let mut one = vec![0.0f32; rows * inputs];
            for sequence in 0..sequences {
                product(&mut one, Accum::Replace, band, sequence * length, length);
                add(&mut sum, &one, |one| one);
                add(&mut squares, &one, |one| one * one);
                add(&mut magnitudes, &one, f32::abs);
            }
        });
}

/// Adds what `value` makes of each entry to sums, if they are there.
fn add(sums: &mut Option<&mut [f32]>, one: &[f32], value: impl Fn(f32) -> f32) {
    if let Some(sums) = sums {
        sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += value(*one));
    }
}

/// The log-likelihoods, and the gradient of their weighted sum: `factor (onehot - softmax)`, times the slope of the bound, times
/// the head.
pub fn log_likelihoods(
    head: &Array2<f32>,
    softcap: Option<f32>,
    x: &Array2<f32>,
    targets: &[u32],
    factors: &[f32],
) -> (Vec<f64>, Array2<f32>) {
    let (vocabulary, width) = head.dim();
    let mut likelihoods = vec![0.0; targets.len()];
    let mut dx = Array2::zeros(x.dim());
    likelihoods
        .par_chunks_mut(LOGIT_ROWS)
        .zip(elements_mut(&mut dx).par_chunks_mut(LOGIT_ROWS * width))
        .zip(elements(x).par_chunks(LOGIT_ROWS * width))
        .zip(targets.par_chunks(LOGIT_ROWS).zip(factors.par_chunks(LOGIT_ROWS)))
        .for_each(|(((likelihoods, dx), x), (targets, factors))| {
            let mut logits = vec![0.0f32; targets.len() * vocabulary];
            multiply(&mut logits, x, head);
            let rows = logits.chunks_exact_mut(vocabulary).zip(likelihoods);
            for ((row, likelihood), (target, factor)) in rows.zip(targets.iter().zip(factors)) {
                vectorised(
                    #[inline(always)]
                    || *likelihood = logits_back(row, softcap, *target as usize, *factor),
                );
            }
            multiply_back(dx, &logits, head);
        });
    (likelihoods, dx)
}

/// Turns a row of logits into the gradient with respect to them; returns the log-likelihood of the target.
#[inline(always)]
fn logits_back(row: &mut [f32], softcap: Option<f32>, target: usize, factor: f32) -> f64 {
    if let Some(bound) = softcap {
        soften(row, bound);
    }
    let (_, log_sum) = log_sum_exp(row);
    let logit = row[target];
    let likelihood = f64::from(logit) - log_sum;
    let shift = log_sum as f32;
    let of_target = factor * (1.0 - likelihood.exp() as f32);
    match softcap {
        None => {
            row.iter_mut().for_each(|value| *value = -factor * exp(*value - shift));
            row[target] = of_target;
        }
        Some(bound) => {
            let slope = |value: f32| 1.0 - (value / bound) * (value / bound);
            row.iter_mut()
                .for_each(|value| *value = -factor * exp(*value - shift) * slope(*value));
            row[target] = of_target * slope(logit);
        }
    }
    likelihood
}
