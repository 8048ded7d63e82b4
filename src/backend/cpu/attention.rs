//! Causal attention in tiles of query rows, so that scores never exceed a tile times the window.

use super::simd::{exp, largest, soften, sum_of, vectorised};
use super::{elements, elements_mut};
use crate::spec::AttentionSpec;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

/// Query rows per tile. Keys after the tile's last row, or before its first row's window, are never touched.
const TILE: usize = 64;

pub fn causal(
    shape: AttentionSpec,
    window: Option<usize>,
    length: usize,
    queries: &Array2<f32>,
    keys: &Array2<f32>,
    values: &Array2<f32>,
) -> Array2<f32> {
    let query_width = shape.heads * shape.head_dim;
    let kv_width = shape.kv_heads * shape.head_dim;
    let mut output = Array2::zeros(queries.dim());
    elements_mut(&mut output)
        .par_chunks_mut(length * query_width)
        .zip(elements(queries).par_chunks(length * query_width))
        .zip(elements(keys).par_chunks(length * kv_width))
        .zip(elements(values).par_chunks(length * kv_width))
        .for_each(|(((output, queries), keys), values)| {
            output
                .par_chunks_mut(TILE * query_width)
                .zip(queries.par_chunks(TILE * query_width))
                .enumerate()
                .for_each(|(tile, (output, queries))| {
                    attend(shape, window, tile * TILE, output, queries, keys, values);
                });
        });
    output
}

/// One tile of query rows starting at position `first`, all heads.
fn attend(
    shape: AttentionSpec,
    window: Option<usize>,
    first: usize,
    output: &mut [f32],
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
) {
    let AttentionSpec {
        heads,
        kv_heads,
        head_dim,
        scale,
        softcap,
    } = shape;
    let (query_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let rows = queries.len() / query_width;
    // The first key that the token at a position sees, and the run of keys that any row of the tile sees.
    let earliest = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
    let begin = earliest(first);
    let seen = first + rows - begin;
    let mut scores = vec![0.0f32; rows * seen];
    for head in 0..heads {
        let query_column = head * head_dim;
        let kv_column = head / (heads / kv_heads) * head_dim;
        let q = MatRef::from_row_major_slice_with_stride(&queries[query_column..], rows, head_dim, query_width);
        let k =
            MatRef::from_row_major_slice_with_stride(&keys[begin * kv_width + kv_column..], seen, head_dim, kv_width);
        let v =
            MatRef::from_row_major_slice_with_stride(&values[begin * kv_width + kv_column..], seen, head_dim, kv_width);
        let into = MatMut::from_row_major_slice_mut(&mut scores, rows, seen);
        matmul(into, Accum::Replace, q, k.transpose(), scale, Par::Seq);
        vectorised(
            #[inline(always)]
            || {
                for (row, scores) in scores.chunks_exact_mut(seen).enumerate() {
                    let position = first + row;
                    let (from, to) = (earliest(position) - begin, position + 1 - begin);
                    if let Some(bound) = softcap {
                        soften(&mut scores[from..to], bound);
                    }
                    softmax(&mut scores[from..to]);
                    scores[..from].fill(0.0);
                    scores[to..].fill(0.0);
                }
            },
        );
        // Built column-major and transposed: faer 0.24's `from_row_major_slice_with_stride_mut` swaps its strides.
        let columns = &mut output[query_column..];
        let into = MatMut::from_column_major_slice_with_stride_mut(columns, head_dim, rows, query_width);
        let scores = MatRef::from_row_major_slice(&scores, rows, seen);
        matmul(into.transpose_mut(), Accum::Replace, scores, v, 1.0, Par::Seq);
    }
}

/// Turns scores into probabilities, in place.
#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let shift = largest(scores);
    scores.iter_mut().for_each(|score| *score = exp(*score - shift));
    let scale = 1.0 / sum_of(scores, |score| score);
    scores.iter_mut().for_each(|score| *score *= scale);
}
