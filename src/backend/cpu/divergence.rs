//! What models predict, without keeping logits: the likeliest tokens, and how far two models are from each other.
//!
//! With `p` and `q` the probabilities of a token, the divergence is the sum of `p ln(p / q) - p + q`, which is that of `p ln(p / q)`
//! since both add up to 1. No term is negative, and an error in a normalisation hardly matters where `p` and `q` are close: that is
//! where the plain sum is a small difference of large numbers.

use super::elements::{elements, elements_mut};
use super::product::{LOGIT_ROWS, log_sum_exp};
use super::simd::{LANES, exp, soften, vectorised};
use crate::backend::{Divergence, greatest};
use crate::error::Result;
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// Number of logits whose sum is kept in single precision.
const RUN: usize = 1024;

/// Some rows of a model's logits.
pub type Logits<'a> = &'a (dyn Fn(Range<usize>) -> Array2<f32> + Sync);

/// How far `other` is from `dense` in each of so many rows, given how to compute the logits of some of them.
pub fn divergences(rows: usize, dense: Logits, other: Logits) -> Vec<Divergence> {
    let parts = parts(rows).into_par_iter().map(|part| {
        let (dense, other) = (dense(part.clone()), other(part));
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

/// The place of the greatest logit in each of so many rows.
pub fn likeliest(rows: usize, logits: Logits) -> Result<Vec<u32>> {
    let parts = parts(rows).into_par_iter().map(|part| {
        let logits = logits(part);
        let rows = logits.rows().into_iter();
        rows.map(|row| greatest(row.iter().copied().map(f64::from)))
            .collect::<Result<Vec<u32>>>()
    });
    Ok(parts.collect::<Result<Vec<_>>>()?.concat())
}

/// Rows whose logits exist at the same time.
fn parts(rows: usize) -> Vec<Range<usize>> {
    let starts = (0..rows).step_by(LOGIT_ROWS);
    starts.map(|first| first..(first + LOGIT_ROWS).min(rows)).collect()
}

/// Bounds logits, if there is a bound.
pub fn bounded(mut logits: Array2<f32>, softcap: Option<f32>) -> Array2<f32> {
    if let Some(bound) = softcap {
        let values = elements_mut(&mut logits);
        vectorised(
            #[inline(always)]
            || soften(values, bound),
        );
    }
    logits
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
