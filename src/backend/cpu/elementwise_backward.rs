//! The adjoints of row-wise and element-wise operations: norms, activations, gates.

use super::elements::{elements, elements_mut};
use super::elementwise::{PIECE, TWICE_ROOT, for_row_pieces, normal};
use super::simd::{LANES, exp, sum_of, vectorised};
use crate::spec::{Activation, NormKind};
use ndarray::Array2;
use rayon::prelude::*;

/// The factor `1 / sqrt(2 pi)` of the normal density.
const DENSITY: f32 = 0.398_942_3;

/// With the normalised run `z`, the factor `r` it was scaled by and `h = gain dy`: `r (h - mean(h) - z mean(h z))`. RMS norms
/// subtract no mean, neither there nor here.
pub fn normalise(
    kind: NormKind,
    epsilon: f32,
    width: usize,
    gain: Option<&Array2<f32>>,
    x: &Array2<f32>,
    dy: &Array2<f32>,
) -> Array2<f32> {
    let mut dx = dy.clone();
    let (columns, source) = (x.ncols(), elements(x));
    for_row_pieces(
        &mut dx,
        #[inline(always)]
        |first, rows| {
            let source = &source[first * columns..][..rows.len()];
            for (h, x) in rows.chunks_exact_mut(width).zip(source.chunks_exact(width)) {
                if let Some(gain) = gain {
                    h.iter_mut().zip(elements(gain)).for_each(|(h, gain)| *h *= gain);
                }
                let (mean, mean_h) = match kind {
                    NormKind::Rms => (0.0, 0.0),
                    NormKind::Layer => (
                        sum_of(x, |value| value) / width as f32,
                        sum_of(h, |value| value) / width as f32,
                    ),
                };
                let variance = sum_of(x, |value| (value - mean) * (value - mean)) / width as f32;
                let scale = 1.0 / (variance + epsilon).sqrt();
                let along = product_of(h, x, mean) * scale / width as f32;
                for (h, x) in h.iter_mut().zip(x) {
                    *h = scale * (*h - mean_h - (*x - mean) * scale * along);
                }
            }
        },
    );
    dx
}

/// The sum of `h (x - mean)`, in [`LANES`] parts.
#[inline(always)]
fn product_of(h: &[f32], x: &[f32], mean: f32) -> f32 {
    let ((h, h_rest), (x, x_rest)) = (h.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let mut parts = [0.0f32; LANES];
    for (h, x) in h.iter().zip(x) {
        for ((part, h), x) in parts.iter_mut().zip(h).zip(x) {
            *part += h * (x - mean);
        }
    }
    for ((part, h), x) in parts.iter_mut().zip(h_rest).zip(x_rest) {
        *part += h * (x - mean);
    }
    parts.iter().sum()
}

pub fn activate(activation: Activation, x: &Array2<f32>, dy: &mut Array2<f32>) {
    elements_mut(dy)
        .par_chunks_mut(PIECE)
        .zip(elements(x).par_chunks(PIECE))
        .for_each(|(dy, x)| {
            vectorised(
                #[inline(always)]
                || match activation {
                    Activation::Relu => dy.iter_mut().zip(x).for_each(|(dy, x)| *dy *= relu(*x).1),
                    Activation::Silu => dy.iter_mut().zip(x).for_each(|(dy, x)| *dy *= silu(*x).1),
                    Activation::Gelu => dy.iter_mut().zip(x).for_each(|(dy, x)| *dy *= gelu(*x).1),
                    Activation::GeluTanh => dy.iter_mut().zip(x).for_each(|(dy, x)| *dy *= gelu_tanh(*x).1),
                },
            );
        });
}

pub fn gate(activation: Activation, gate: &mut Array2<f32>, up: &mut Array2<f32>, dy: &Array2<f32>) {
    elements_mut(gate)
        .par_chunks_mut(PIECE)
        .zip(elements_mut(up).par_chunks_mut(PIECE))
        .zip(elements(dy).par_chunks(PIECE))
        .for_each(|((gate, up), dy)| {
            vectorised(
                #[inline(always)]
                || match activation {
                    Activation::Relu => gated(gate, up, dy, relu),
                    Activation::Silu => gated(gate, up, dy, silu),
                    Activation::Gelu => gated(gate, up, dy, gelu),
                    Activation::GeluTanh => gated(gate, up, dy, gelu_tanh),
                },
            );
        });
}

/// Replaces a gate and what it is multiplied with by their gradients.
#[inline(always)]
fn gated(gate: &mut [f32], up: &mut [f32], dy: &[f32], activation: impl Fn(f32) -> (f32, f32)) {
    for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
        let (value, slope) = activation(*gate);
        (*gate, *up) = (dy * *up * slope, dy * value);
    }
}

/// The activation function's value and its slope.
#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 })
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let below = normal(x);
    let value = f64::from(x) * below;
    (value as f32, below as f32 + x * DENSITY * exp(-0.5 * x * x))
}

/// `x` times the logistic function of `u`, whose slope is `TWICE_ROOT (1 + 3 * 0.044715 x^2)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let square = x * x;
    let sigmoid = 1.0 / (1.0 + exp(-TWICE_ROOT * (x + 0.044_715 * square * x)));
    let slope = TWICE_ROOT * (1.0 + 0.134_145 * square);
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid) * slope))
}
