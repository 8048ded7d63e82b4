//! Rows of activations and panels of weights in bfloat16, and their products with single precision sums.
//!
//! Operands are rounded to nearest, ties to even, and laid out in pairs of neighbouring inputs, as the instructions take
//! them. A weight is packed into panels of [`PANEL`] outputs, pair after pair. The sums of some rows by one panel stay in
//! registers while the pairs pass by. What is missing to a multiple of [`STEP`] pairs is 0.

use super::elements::elements;
use super::instructions::{Amx, Avx512Bf16, Line, PANEL, SQUARE, STEP, room};
use super::simd::vectorised;
use bytemuck::{cast_slice, cast_slice_mut};
use ndarray::Array2;
use rayon::prelude::*;

/// Number of rows of activations per tile of AVX-512: with four registers each, they use 24 of the 32 registers.
const ROWS: usize = 6;

/// The instructions that multiply tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// AMX.
    Amx(Amx),
    /// AVX-512 BF16.
    Avx512(Avx512Bf16),
}

impl Tiles {
    /// Number of rows of activations per task: whole tiles, and few enough to stay in a core's own cache.
    pub fn band(self) -> usize {
        match self {
            Tiles::Amx(_) => 4 * SQUARE,
            Tiles::Avx512(_) => 16 * ROWS,
        }
    }

    /// Numbers of pairs of the pieces in which panels are passed over, so that a panel and a band stay in a core's own
    /// cache. Sums are rounded at the end of a piece.
    fn piece(self, pairs: usize) -> usize {
        let (most, multiple) = match self {
            Tiles::Amx(_) => (1024, STEP),
            Tiles::Avx512(_) => (768, 1),
        };
        let pieces = pairs.div_ceil(most).max(1);
        pairs.div_ceil(pieces).next_multiple_of(multiple)
    }
}

/// A value rounded to bfloat16, in the upper half of the bits. NaN stays NaN.
#[inline(always)]
pub fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if value.is_nan() { bits | 0x0040_0000 } else { nearest }
}

#[inline(always)]
pub fn pair(first: f32, second: f32) -> u32 {
    (rounded(first) >> 16) | (rounded(second) & 0xffff_0000)
}

/// Packs a row into pairs of values; an odd last value is paired with 0.
#[inline(always)]
fn pair_up(values: &[f32], pairs: &mut [u32]) {
    let (whole, rest) = values.as_chunks::<2>();
    for (into, [first, second]) in pairs.iter_mut().zip(whole) {
        *into = pair(*first, *second);
    }
    if let [last] = rest {
        pairs[whole.len()] = pair(*last, 0.0);
    }
}

/// Rows of activations, packed into pairs.
pub struct Band {
    lines: Vec<Line>,
    /// Number of pairs of a row, and how many pairs after one row the next one begins: an odd number of lines, because rows
    /// that are a multiple of 4 kB apart would compete for the same places in the nearest cache.
    pairs: usize,
    stride: usize,
    rows: usize,
}

impl Band {
    /// Packs rows of `width` values; each row begins `stride` values after the one before.
    pub fn new(values: &[f32], rows: usize, width: usize, stride: usize) -> Self {
        let pairs = width.div_ceil(2);
        let padded = (pairs.div_ceil(STEP) | 1) * STEP;
        let mut band = Band {
            lines: room(rows.next_multiple_of(SQUARE) * padded),
            pairs,
            stride: padded,
            rows,
        };
        let into: &mut [u32] = cast_slice_mut(&mut band.lines);
        vectorised(
            #[inline(always)]
            || {
                for (row, pairs) in into.chunks_exact_mut(padded).enumerate().take(rows) {
                    pair_up(&values[row * stride..row * stride + width], pairs);
                }
            },
        );
        band
    }

    fn pairs(&self) -> &[u32] {
        cast_slice(&self.lines)
    }
}

/// A matrix `(outputs, inputs)`, packed into panels.
pub struct Panels {
    lines: Vec<Line>,
    /// Number of pairs per panel.
    pub pairs: usize,
}

impl Panels {
    /// Packs a matrix.
    pub fn new(weight: &Array2<f32>) -> Self {
        let (outputs, inputs) = weight.dim();
        let pairs = inputs.div_ceil(2).next_multiple_of(STEP);
        let mut lines = room(outputs.next_multiple_of(PANEL) * pairs);
        cast_slice_mut(&mut lines)
            .par_chunks_mut(PANEL * pairs)
            .zip(elements(weight).par_chunks(PANEL * inputs))
            .for_each(|(panel, rows)| pack(panel, rows, inputs, inputs));
        Panels { lines, pairs }
    }

    /// The data of the panels, beginning with number `panel`.
    pub fn from(&self, panel: usize) -> &[u32] {
        &cast_slice(&self.lines)[panel * PANEL * self.pairs..]
    }
}

/// Packs rows into a panel; each has `inputs` values and begins `stride` values after the one before.
pub fn pack(panel: &mut [u32], rows: &[f32], inputs: usize, stride: usize) {
    /// Number of pairs that are transposed together: a cache line of every row.
    const TOGETHER: usize = 8;
    let count = rows.len().div_ceil(stride);
    let band = Band::new(rows, count, inputs, stride);
    for (step, lines) in panel.chunks_mut(TOGETHER * PANEL).enumerate() {
        for row in 0..count {
            let from = &band.pairs()[row * band.stride + step * TOGETHER..];
            for (line, pair) in lines.chunks_exact_mut(PANEL).zip(from) {
                line[row] = *pair;
            }
        }
    }
}

/// `y[row][..columns] = band[row] . panel columns`; rows of `y` are `stride` apart. `of` is the pairs that panels
/// have, of which the band's are the ones from `first` on.
pub fn multiply(
    tiles: Tiles,
    band: &Band,
    panels: &[u32],
    (of, first): (usize, usize),
    y: &mut [f32],
    (columns, stride): (usize, usize),
) {
    let pairs = band.pairs.min(of - first);
    let piece = tiles.piece(pairs);
    for start in (0..pairs).step_by(piece.max(1)) {
        let end = (start + piece).min(pairs);
        for (index, panel) in panels.chunks(of * PANEL).enumerate().take(columns.div_ceil(PANEL)) {
            let column = index * PANEL;
            let width = PANEL.min(columns - column);
            let (a, y) = (&band.pairs()[start..], &mut y[column..]);
            let into = (width, stride, start > 0);
            match tiles {
                Tiles::Amx(amx) => {
                    let panel = &panel[(first + start) * PANEL..(first + end.next_multiple_of(STEP)) * PANEL];
                    let rows = (band.rows.next_multiple_of(SQUARE), band.stride);
                    amx.panel([a, panel], rows, |row, column, sums| {
                        let width = SQUARE.min(width.saturating_sub(column));
                        if row < band.rows && width > 0 {
                            let rows = SQUARE.min(band.rows - row);
                            keep(
                                &sums[..rows],
                                &mut y[row * stride + column..],
                                (width, stride, start > 0),
                            );
                        }
                    });
                }
                Tiles::Avx512(avx512) => {
                    let panel = &panel[(first + start) * PANEL..(first + end) * PANEL];
                    multiply_panel(avx512, (a, band.stride, band.rows), panel, y, into);
                }
            }
        }
    }
}

/// One panel by all rows of a band, which begins with `a`, in tiles of AVX-512.
fn multiply_panel(
    avx512: Avx512Bf16,
    (a, a_stride, rows): (&[u32], usize, usize),
    panel: &[u32],
    y: &mut [f32],
    into: (usize, usize, bool),
) {
    let mut row = 0;
    while row < rows {
        let a = &a[row * a_stride..];
        let y = &mut y[row * into.1..];
        row += match rows - row {
            6.. => tile::<ROWS>(avx512, a, a_stride, panel, y, into),
            5 => tile::<5>(avx512, a, a_stride, panel, y, into),
            4 => tile::<4>(avx512, a, a_stride, panel, y, into),
            3 => tile::<3>(avx512, a, a_stride, panel, y, into),
            2 => tile::<2>(avx512, a, a_stride, panel, y, into),
            _ => tile::<1>(avx512, a, a_stride, panel, y, into),
        };
    }
}

/// Computes one tile of `y`, and returns the number of its rows.
fn tile<const N: usize>(
    avx512: Avx512Bf16,
    a: &[u32],
    a_stride: usize,
    panel: &[u32],
    y: &mut [f32],
    into: (usize, usize, bool),
) -> usize {
    let mut sums = [[0.0f32; PANEL]; N];
    avx512.tile(a, a_stride, panel, &mut sums);
    keep(&sums, y, into);
    N
}

/// The first `width` sums of every row are added to what is in `y`, or replace it; rows of `y` are `stride` apart.
fn keep<const N: usize>(sums: &[[f32; N]], y: &mut [f32], (width, stride, add): (usize, usize, bool)) {
    for (row, sums) in sums.iter().enumerate() {
        let y = &mut y[row * stride..row * stride + width];
        if add {
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
        } else {
            y.copy_from_slice(&sums[..width]);
        }
    }
}
