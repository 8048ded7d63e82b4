//! Row-wise and element-wise operations: rows put together (embedding), norms, rotary positions, activations.

use super::elements::{elements, elements_mut, in_pieces};
use super::simd::{exp, sum_of, vectorised};
use crate::backend::{Columns, RotaryTable};
use crate::spec::{Activation, NormKind};
use ndarray::Array2;
use rayon::prelude::*;
use statrs::function::erf::erfc;
use std::f64::consts::FRAC_1_SQRT_2;

/// The constant `2 sqrt(2 / pi)` in GELU's approximation by the hyperbolic tangent.
pub(super) const TWICE_ROOT: f32 = 1.595_769_2;

/// Number of elements per task: enough to outweigh scheduling, few enough to stay in the L2 cache.
pub(super) const PIECE: usize = 16 * 1024;

/// Number of rows of `width` elements that make about one [`PIECE`].
fn rows_per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Calls `work(first row, rows)` on pieces of whole rows.
pub(super) fn for_row_pieces(x: &mut Array2<f32>, work: impl Fn(usize, &mut [f32]) + Sync) {
    let width = x.ncols();
    let rows = rows_per_piece(width);
    elements_mut(x)
        .par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(piece, values)| {
            vectorised(
                #[inline(always)]
                || work(piece * rows, values),
            )
        });
}

pub fn rows(x: &Array2<f32>, rows: &[u32]) -> Array2<f32> {
    let width = x.ncols();
    let piece = rows_per_piece(width);
    let source = elements(x);
    in_pieces((rows.len(), width), piece, |index, y| {
        for (y, row) in y.chunks_exact_mut(width).zip(&rows[index * piece..]) {
            let start = *row as usize * width;
            y.copy_from_slice(&source[start..start + width]);
        }
    })
}

pub fn add_positions(x: &mut Array2<f32>, table: &Array2<f32>, offset: usize, length: usize) {
    let width = x.ncols();
    let source = elements(table);
    for_row_pieces(
        x,
        #[inline(always)]
        |first, rows| {
            for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                let start = (offset + (first + index) % length) * width;
                row.iter_mut()
                    .zip(&source[start..start + width])
                    .for_each(|(x, p)| *x += p);
            }
        },
    );
}

pub fn add(x: &mut Array2<f32>, y: &Array2<f32>) {
    elements_mut(x)
        .par_chunks_mut(PIECE)
        .zip(elements(y).par_chunks(PIECE))
        .for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

pub fn scale(x: &mut Array2<f32>, factor: f32) {
    elements_mut(x)
        .par_chunks_mut(PIECE)
        .for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
}

pub fn scale_rows(x: &mut Array2<f32>, factors: &[f32]) {
    let width = x.ncols();
    elements_mut(x)
        .par_chunks_mut(width)
        .zip(factors)
        .for_each(|(row, factor)| row.iter_mut().for_each(|x| *x *= factor));
}

pub fn columns(x: &Array2<f32>, columns: Columns) -> Array2<f32> {
    let Columns {
        first,
        width,
        stride,
        count,
    } = columns;
    let source = elements(x);
    let row_width = x.ncols();
    let mut chosen = Array2::zeros((x.nrows(), count * width));
    elements_mut(&mut chosen)
        .par_chunks_mut(count * width)
        .zip(source.par_chunks(row_width))
        .for_each(|(into, from)| {
            for (run, into) in into.chunks_exact_mut(width).enumerate() {
                let start = first + run * stride;
                into.copy_from_slice(&from[start..start + width]);
            }
        });
    chosen
}

/// Puts runs of `run` columns of each part side by side, in turn.
pub fn interleave(parts: &[&Array2<f32>], run: usize) -> Array2<f32> {
    let (tokens, width) = parts.first().map_or((0, 0), |part| part.dim());
    let mut whole = Array2::zeros((tokens, parts.len() * width));
    let row_width = whole.ncols();
    elements_mut(&mut whole)
        .par_chunks_mut(row_width)
        .enumerate()
        .for_each(|(token, into)| {
            for (place, into) in into.chunks_exact_mut(run).enumerate() {
                let (index, part) = (place / parts.len(), parts[place % parts.len()]);
                into.copy_from_slice(&elements(part)[token * width + index * run..][..run]);
            }
        });
    whole
}

pub fn normalise(
    kind: NormKind,
    epsilon: f32,
    width: usize,
    gain: Option<&Array2<f32>>,
    bias: Option<&Array2<f32>>,
    x: &Array2<f32>,
) -> Array2<f32> {
    let piece = rows_per_piece(x.ncols());
    in_pieces(x.dim(), piece, |index, rows| {
        rows.copy_from_slice(&elements(x)[index * piece * x.ncols()..][..rows.len()]);
        vectorised(
            #[inline(always)]
            || {
                // A row is whole runs, so a piece of whole rows is too.
                for row in rows.chunks_exact_mut(width) {
                    let mean = match kind {
                        NormKind::Rms => 0.0,
                        NormKind::Layer => sum_of(row, |value| value) / width as f32,
                    };
                    let variance = sum_of(row, |value| (value - mean) * (value - mean)) / width as f32;
                    let scale = 1.0 / (variance + epsilon).sqrt();
                    row.iter_mut().for_each(|value| *value = (*value - mean) * scale);
                    if let Some(gain) = gain {
                        row.iter_mut()
                            .zip(elements(gain))
                            .for_each(|(value, gain)| *value *= gain);
                    }
                    if let Some(bias) = bias {
                        row.iter_mut()
                            .zip(elements(bias))
                            .for_each(|(value, bias)| *value += bias);
                    }
                }
            },
        );
    })
}

pub fn rotate(x: &mut Array2<f32>, table: &RotaryTable, head_dim: usize, length: usize) {
    let width = x.ncols();
    let half = table.cosines.ncols();
    let (cosines, sines) = (elements(&table.cosines), elements(&table.sines));
    for_row_pieces(
        x,
        #[inline(always)]
        |first, rows| {
            for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                let start = (first + index) % length * half;
                let (cosines, sines) = (&cosines[start..start + half], &sines[start..start + half]);
                for head in row.chunks_exact_mut(head_dim) {
                    let (low, high) = head[..2 * half].split_at_mut(half);
                    for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                        (*low, *high) = (*low * cosine - *high * sine, *high * cosine + *low * sine);
                    }
                }
            }
        },
    );
}

pub fn activate(activation: Activation, x: &mut Array2<f32>) {
    elements_mut(x).par_chunks_mut(PIECE).for_each(|x| {
        vectorised(
            #[inline(always)]
            || match activation {
                Activation::Relu => x.iter_mut().for_each(|x| *x = relu(*x)),
                Activation::Silu => x.iter_mut().for_each(|x| *x = silu(*x)),
                Activation::Gelu => x.iter_mut().for_each(|x| *x = gelu(*x)),
                Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            },
        );
    });
}

pub fn gate(activation: Activation, gate: &Array2<f32>, up: &mut Array2<f32>) {
    elements_mut(up)
        .par_chunks_mut(PIECE)
        .zip(elements(gate).par_chunks(PIECE))
        .for_each(|(up, gate)| {
            vectorised(
                #[inline(always)]
                || match activation {
                    Activation::Relu => up.iter_mut().zip(gate).for_each(|(up, gate)| *up *= relu(*gate)),
                    Activation::Silu => up.iter_mut().zip(gate).for_each(|(up, gate)| *up *= silu(*gate)),
                    Activation::Gelu => up.iter_mut().zip(gate).for_each(|(up, gate)| *up *= gelu(*gate)),
                    Activation::GeluTanh => up.iter_mut().zip(gate).for_each(|(up, gate)| *up *= gelu_tanh(*gate)),
                },
            );
        });
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    x.max(0.0)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The normal distribution function.
#[inline(always)]
pub(super) fn normal(x: f32) -> f64 {
    0.5 * erfc(-f64::from(x) * FRAC_1_SQRT_2)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    (f64::from(x) * normal(x)) as f32
}

/// `(1 + tanh(u)) / 2` is the logistic function of `2 u`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    x / (1.0 + exp(-TWICE_ROOT * (x + 0.044_715 * x * x * x)))
}
