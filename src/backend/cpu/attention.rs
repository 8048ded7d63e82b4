//! Causal attention in tiles of query rows, so that scores never exceed a tile times the window. The loop over sequences,
//! tiles and heads, the mask and the softmax stand once; the two products of a head are each precision's own.

use super::elements::{elements, in_pieces};
use super::simd::{exp, largest, soften, sum_of, vectorised};
use crate::spec::AttentionSpec;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;

/// Query rows per tile. Keys after the tile's last row, or before its first row's window, are never touched.
pub const TILE: usize = 64;

/// One head of a tile of query rows, and the run of keys that any of its rows sees.
pub struct Tile {
    /// Index of the sequence in the batch.
    pub sequence: usize,
    /// Index of the query head.
    pub head: usize,
    /// Number of query rows in the tile.
    pub rows: usize,
    /// Position of the first key that a row of the tile sees, in the sequence.
    pub begin: usize,
    /// Number of keys that the rows of the tile see together.
    pub seen: usize,
}

/// The two products of attention.
pub trait HeadProducts: Sync {
    /// A tile's first key is at a multiple of so many positions.
    const BEGIN: usize;
    /// A tile's keys are a multiple of so many; there may be fewer in the sequence.
    const SEEN: usize;

    /// Scores `(rows, seen)` of a tile, scaled; what `queries` holds beside the head's features is left alone.
    fn scores(&self, tile: &Tile, queries: &[f32], scores: &mut [f32]);

    /// The values of a tile's keys, weighted, into the head's features of `output`.
    fn mix(&self, tile: &Tile, weights: &[f32], output: &mut [f32]);
}

/// Attention of whole sequences of `length` tokens, with keys and values in the hands of `heads`.
pub fn causal(
    heads: &impl HeadProducts,
    shape: AttentionSpec,
    window: Option<usize>,
    length: usize,
    queries: &Array2<f32>,
) -> Array2<f32> {
    let width = shape.heads * shape.head_dim;
    in_pieces(queries.dim(), length, |sequence, output| {
        let queries = &elements(queries)[sequence * length * width..][..output.len()];
        output
            .par_chunks_mut(TILE * width)
            .zip(queries.par_chunks(TILE * width))
            .enumerate()
            .for_each(|(tile, (output, queries))| {
                attend(heads, shape, window, (sequence, tile * TILE), output, queries);
            });
    })
}

/// Computes attention for one tile of query rows of a sequence, beginning at position `first`, for all heads.
fn attend<H: HeadProducts>(
    products: &H,
    shape: AttentionSpec,
    window: Option<usize>,
    (sequence, first): (usize, usize),
    output: &mut [f32],
    queries: &[f32],
) {
    let rows = queries.len() / (shape.heads * shape.head_dim);
    // The run of keys that any row of the tile sees.
    let begin = visible(window, first).start / H::BEGIN * H::BEGIN;
    let seen = (first + rows - begin).next_multiple_of(H::SEEN);
    let mut scores = vec![0.0f32; rows * seen];
    for head in 0..shape.heads {
        let tile = Tile {
            sequence,
            head,
            rows,
            begin,
            seen,
        };
        products.scores(&tile, queries, &mut scores);
        vectorised(
            #[inline(always)]
            || {
                for (row, scores) in scores.chunks_exact_mut(seen).enumerate() {
                    let visible = visible(window, first + row);
                    let (from, to) = (visible.start - begin, visible.end - begin);
                    if let Some(bound) = shape.softcap {
                        soften(&mut scores[from..to], bound);
                    }
                    softmax(&mut scores[from..to]);
                    scores[..from].fill(0.0);
                    scores[to..].fill(0.0);
                }
            },
        );
        products.mix(&tile, &scores, output);
    }
}

/// The positions of the keys that the query at a position sees.
#[inline(always)]
pub fn visible(window: Option<usize>, position: usize) -> Range<usize> {
    let end = position + 1;
    window.map_or(0, |window| end.saturating_sub(window))..end
}

/// Turns scores into probabilities, in place.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) {
    let shift = largest(scores);
    scores.iter_mut().for_each(|score| *score = exp(*score - shift));
    let scale = 1.0 / sum_of(scores, |score| score);
    scores.iter_mut().for_each(|score| *score *= scale);
}

/// The products of attention in single precision.
pub struct Single<'a> {
    /// Numbers and sizes of the heads.
    pub shape: AttentionSpec,
    /// Number of tokens in a sequence.
    pub length: usize,
    /// The keys of all sequences, one row per token.
    pub keys: &'a Array2<f32>,
    /// The values of all sequences, one row per token.
    pub values: &'a Array2<f32>,
}

impl Single<'_> {
    /// A tile's rows of keys or values.
    fn rows<'b>(&self, tile: &Tile, of: &'b Array2<f32>) -> MatRef<'b, f32> {
        let AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let width = kv_heads * head_dim;
        let column = tile.head / (heads / kv_heads) * head_dim;
        let sequence = &elements(of)[tile.sequence * self.length * width..][..self.length * width];
        MatRef::from_row_major_slice_with_stride(&sequence[tile.begin * width + column..], tile.seen, head_dim, width)
    }
}

impl HeadProducts for Single<'_> {
    const BEGIN: usize = 1;
    const SEEN: usize = 1;

    fn scores(&self, tile: &Tile, queries: &[f32], scores: &mut [f32]) {
        let AttentionSpec {
            heads, head_dim, scale, ..
        } = self.shape;
        let (rows, width) = (tile.rows, heads * head_dim);
        let q = MatRef::from_row_major_slice_with_stride(&queries[tile.head * head_dim..], rows, head_dim, width);
        let into = MatMut::from_row_major_slice_mut(scores, rows, tile.seen);
        let k = self.rows(tile, self.keys);
        matmul(into, Accum::Replace, q, k.transpose(), scale, Par::Seq);
    }

    fn mix(&self, tile: &Tile, weights: &[f32], output: &mut [f32]) {
        let AttentionSpec { heads, head_dim, .. } = self.shape;
        // Built column-major and transposed: faer 0.24's `from_row_major_slice_with_stride_mut` swaps its strides.
        let columns = &mut output[tile.head * head_dim..];
        let into = MatMut::from_column_major_slice_with_stride_mut(columns, head_dim, tile.rows, heads * head_dim);
        let weights = MatRef::from_row_major_slice(weights, tile.rows, tile.seen);
        let v = self.rows(tile, self.values);
        matmul(into.transpose_mut(), Accum::Replace, weights, v, 1.0, Par::Seq);
    }
}
