//! The gradients of causal attention with respect to queries, keys and values, in single precision.
//!
//! A key-value head of a sequence and the query heads that read it are one task, which walks over tiles of queries: scores and
//! their gradients exist for a tile at a time. With the probabilities `P` and the gradient `dO` of the result `O`, the gradient of
//! the scores is `P (dO V^T - rowsum(dO O))`.

use super::attention::{TILE, softmax, visible};
use super::elements::{elements, elements_mut};
use super::simd::{soften, vectorised};
use crate::spec::AttentionSpec;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// What the gradients are computed from.
pub struct Given<'a> {
    /// Numbers and sizes of the heads.
    pub shape: AttentionSpec,
    /// Number of tokens that a token sees; all before it without one.
    pub window: Option<usize>,
    /// Number of tokens in a sequence.
    pub length: usize,
    /// Queries, keys and values.
    pub heads: [&'a Array2<f32>; 3],
    /// What attention computed of them.
    pub result: &'a Array2<f32>,
    /// The gradient with respect to the result.
    pub dy: &'a Array2<f32>,
}

/// The gradients of a key-value head of a sequence, each `(length, features)`: of the queries that read it, its keys, its values.
type Part = [Vec<f32>; 3];

/// Columns of a sequence's rows.
fn rows<'a>(x: &'a Array2<f32>, first: usize, rows: usize, column: usize, width: usize) -> MatRef<'a, f32> {
    let stride = x.ncols();
    MatRef::from_row_major_slice_with_stride(&elements(x)[first * stride + column..], rows, width, stride)
}

/// The gradients with respect to queries, keys and values.
pub fn causal(given: &Given) -> [Array2<f32>; 3] {
    let Given { shape, length, .. } = *given;
    let sequences = given.dy.nrows() / length;
    let parts: Vec<Part> = (0..sequences * shape.kv_heads)
        .into_par_iter()
        .map(|index| part(given, index / shape.kv_heads, index % shape.kv_heads))
        .collect();
    let together = |of: usize, width: usize| {
        let stride = width * shape.kv_heads;
        let mut whole = Array2::zeros((given.dy.nrows(), stride));
        elements_mut(&mut whole)
            .par_chunks_mut(stride)
            .enumerate()
            .for_each(|(token, row)| {
                let (sequence, position) = (token / length, token % length);
                let parts = &parts[sequence * shape.kv_heads..][..shape.kv_heads];
                for (into, part) in row.chunks_exact_mut(width).zip(parts) {
                    into.copy_from_slice(&part[of][position * width..][..width]);
                }
            });
        whole
    };
    let group = shape.heads / shape.kv_heads;
    [
        together(0, group * shape.head_dim),
        together(1, shape.head_dim),
        together(2, shape.head_dim),
    ]
}

/// The gradients of one key-value head of one sequence, and of the query heads that read it.
fn part(given: &Given, sequence: usize, kv_head: usize) -> Part {
    let Given {
        shape, window, length, ..
    } = *given;
    let [queries, keys, values] = given.heads;
    let (dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let start = sequence * length;
    let mut gradients = [
        vec![0.0f32; length * group * dim],
        vec![0.0; length * dim],
        vec![0.0; length * dim],
    ];
    let [for_queries, for_keys, for_values] = &mut gradients;
    let mut scores = vec![0.0f32; TILE * length];
    let mut slopes = vec![0.0f32; TILE * length];
    let mut sums = [0.0f32; TILE];
    for first in (0..length).step_by(TILE) {
        let count = TILE.min(length - first);
        let begin = visible(window, first).start;
        let seen = first + count - begin;
        let (scores, slopes) = (&mut scores[..count * seen], &mut slopes[..count * seen]);
        let k = rows(keys, start + begin, seen, kv_head * dim, dim);
        let v = rows(values, start + begin, seen, kv_head * dim, dim);
        for head in 0..group {
            let column = (kv_head * group + head) * dim;
            let q = rows(queries, start + first, count, column, dim);
            let dy = rows(given.dy, start + first, count, column, dim);
            let result = rows(given.result, start + first, count, column, dim);
            let into = MatMut::from_row_major_slice_mut(scores, count, seen);
            matmul(into, Accum::Replace, q, k.transpose(), shape.scale, Par::Seq);
            let into = MatMut::from_row_major_slice_mut(slopes, count, seen);
            matmul(into, Accum::Replace, dy, v.transpose(), 1.0, Par::Seq);
            for (row, sum) in sums[..count].iter_mut().enumerate() {
                *sum = (0..dim)
                    .map(|feature| dy[(row, feature)] * result[(row, feature)])
                    .sum();
            }
            vectorised(
                #[inline(always)]
                || {
                    let rows = scores.chunks_exact_mut(seen).zip(slopes.chunks_exact_mut(seen));
                    for (row, ((scores, slopes), sum)) in rows.zip(&sums).enumerate() {
                        let visible = visible(window, first + row);
                        let (from, to) = (visible.start - begin, visible.end - begin);
                        slope(&mut scores[from..to], &mut slopes[from..to], *sum, shape.softcap);
                        for values in [scores, slopes] {
                            values[..from].fill(0.0);
                            values[to..].fill(0.0);
                        }
                    }
                },
            );
            let weights = MatRef::from_row_major_slice(&*scores, count, seen);
            let slopes = MatRef::from_row_major_slice(&*slopes, count, seen);
            let into = MatMut::from_row_major_slice_mut(&mut for_values[begin * dim..][..seen * dim], seen, dim);
            matmul(into, Accum::Add, weights.transpose(), dy, 1.0, Par::Seq);
            let into = MatMut::from_row_major_slice_mut(&mut for_keys[begin * dim..][..seen * dim], seen, dim);
            matmul(into, Accum::Add, slopes.transpose(), q, shape.scale, Par::Seq);
            // Built column-major and transposed: faer 0.24's `from_row_major_slice_with_stride_mut` swaps its strides.
            let columns = &mut for_queries[(first * group + head) * dim..];
            let into = MatMut::from_column_major_slice_with_stride_mut(columns, dim, count, group * dim);
            matmul(into.transpose_mut(), Accum::Replace, slopes, k, shape.scale, Par::Seq);
        }
    }
    gradients
}

/// Turns scores into probabilities, and `slopes`, the gradient with respect to those, into the gradient with respect to scores
/// before their bound. `sum` is the sum of the products of both.
#[inline(always)]
fn slope(scores: &mut [f32], slopes: &mut [f32], sum: f32, softcap: Option<f32>) {
    slopes.iter_mut().for_each(|slope| *slope -= sum);
    if let Some(bound) = softcap {
        soften(scores, bound);
        for (slope, score) in slopes.iter_mut().zip(&*scores) {
            let part = *score / bound;
            *slope *= 1.0 - part * part;
        }
    }
    softmax(scores);
    slopes
        .iter_mut()
        .zip(&*scores)
        .for_each(|(slope, weight)| *slope *= weight);
}
