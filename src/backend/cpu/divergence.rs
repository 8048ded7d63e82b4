//! How far two models' predictions are from each other, without keeping logits.
//!
//! With `p` and `q` the probabilities of a token, the divergence is the sum of `p ln(p / q) - p + q`, which is that of `p ln(p / q)`
//! since both add up to 1. No term is negative, and an error in a normalisation hardly matters where `p` and `q` are close: that is
//! where the plain sum is a small difference of large numbers.

use super::Products;
use super::elements::elements;
use super::product::{LOGIT_ROWS, log_sum_exp};
use super::simd::{LANES, exp, soften, vectorised};
use crate::backend::{Divergence, Predictions};
use ndarray::{Array2, s};
use rayon::prelude::*;

/// Number of logits whose sum is kept in single precision.
const RUN: usize = 1024;

pub fn divergences<P: Products>(
    products: &P,
    dense: &Predictions<P::Weight, Array2<f32>>,
    other: &Predictions<P::Weight, Array2<f32>>,
) -> Vec<Divergence> {
    let rows = other.x.nrows();
    let starts: Vec<usize> = (0..rows).step_by(LOGIT_ROWS).collect();
    let parts = starts.par_iter().map(|first| {
        let part = *first..(first + LOGIT_ROWS).min(rows);
        let [dense, other] = [dense, other].map(|model| {
            let x = model.x.slice(s![part.clone(), ..]).to_owned();
            let mut logits = products.linear(model.head, None, &x);
            if let (Some(bound), Some(logits)) = (model.softcap, logits.as_slice_mut()) {
                vectorised(
                    #[inline(always)]
                    || soften(logits, bound),
                );
            }
            logits
        });
        let width = dense.ncols();
        let rows = elements(&dense)
            .chunks_exact(width)
            .zip(elements(&other).chunks_exact(width));
        let of = |(dense, other): (&[f32], &[f32])| {
            vectorised(
                #[inline(always)]
                || divergence(dense, other),
            )
        };
        rows.map(of).collect::<Vec<Divergence>>()
    });
    parts.collect::<Vec<_>>().concat()
}

#[inline(always)]
fn divergence(dense: &[f32], other: &[f32]) -> Divergence {
    let (greatest, dense_sum) = log_sum_exp(dense);
    let (other_greatest, other_sum) = log_sum_exp(other);
    let (dense_sum, other_sum) = (dense_sum as f32, other_sum as f32);
    let runs = dense.chunks(RUN).zip(other.chunks(RUN));
    let kl = runs.map(|(dense, other)| f64::from(apart(dense, dense_sum, other, other_sum)));
    Divergence {
        kl: kl.sum(),
        agrees: first(dense, greatest) == first(other, other_greatest),
    }
}

/// The part of the divergence of a run of logits, in [`LANES`] parts.
#[inline(always)]
fn apart(dense: &[f32], dense_sum: f32, other: &[f32], other_sum: f32) -> f32 {
    let term = |dense: f32, other: f32| {
        let (a, b) = (dense - dense_sum, other - other_sum);
        let likely = exp(a);
        likely * (a - b) - likely + exp(b)
    };
    let (dense, dense_rest) = dense.as_chunks::<LANES>();
    let (other, other_rest) = other.as_chunks::<LANES>();
    let mut parts = [0.0f32; LANES];
    for (dense, other) in dense.iter().zip(other) {
        for ((part, dense), other) in parts.iter_mut().zip(dense).zip(other) {
            *part += term(*dense, *other);
        }
    }
    for ((part, dense), other) in parts.iter_mut().zip(dense_rest).zip(other_rest) {
        *part += term(*dense, *other);
    }
    parts.iter().sum()
}

/// The place of the first value that is `greatest`.
#[inline(always)]
fn first(values: &[f32], greatest: f32) -> Option<usize> {
    values.iter().position(|value| *value == greatest)
}
