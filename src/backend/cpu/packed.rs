//! Products of packed matrices in single and in double precision, with AVX-512.
//!
//! Every sum is added up in runs of [`RUN`] terms, term after term and rounded once for each, and the runs are added up in
//! order. faer does the same where it uses AVX-512. So a result has the same bits, whichever of the two computes it, and
//! with any number of threads. What is gained: a matrix is packed once for all rows that it is multiplied with, only
//! one triangle of a product with itself is computed, and tiles fit the caches of Intel's processors better.

use super::elements::elements;
use super::instructions::{Avx512, DOUBLE_PANEL, DOUBLE_ROWS, Line, SINGLE_PANEL, SINGLE_ROWS, room};
use bytemuck::{cast_slice, cast_slice_mut};
use faer::MatMut;
use faer::reborrow::ReborrowMut;
use ndarray::Array2;
use rayon::prelude::*;

/// Number of terms of a run.
pub const RUN: usize = 512;

/// Products of no more than so many terms are left to faer, which has another way for them.
const SMALL: usize = 16 * 16 * 16;

/// Number of rows from which on a matrix is packed for a product. With fewer, packing costs more than it gains.
const WORTH: usize = 512;

/// Rows that are so many bytes apart compete for the same places in the nearest cache.
const CROWDED: usize = 4096;

/// Values of a line of a cache.
const LINE: usize = 16;

/// Whether a product of these numbers of rows, columns and terms is computed here. faer computes products with vectors in
/// another order.
fn taken(rows: usize, columns: usize, terms: usize) -> bool {
    rows.min(columns).min(terms) > 1 && rows * columns * terms > SMALL
}

/// The instructions, if this processor multiplies faster with packed matrices.
fn fast() -> Option<Avx512> {
    Avx512::here().filter(|avx512| avx512.fast())
}

/// A matrix `(outputs, inputs)` in single precision, packed into panels of `SINGLE_PANEL` outputs, input after input.
pub struct Packed {
    avx512: Avx512,
    lines: Vec<Line>,
    inputs: usize,
}

impl Packed {
    /// Packs a matrix, if this processor multiplies so many rows faster with it.
    pub fn new(weight: &Array2<f32>, rows: usize) -> Option<Self> {
        fast()
            .filter(|_| rows >= WORTH)
            .map(|avx512| Self::with(avx512, weight))
    }

    /// Bytes of a packed matrix of so many values; 0 where none is packed.
    pub fn bytes(values: u128) -> u128 {
        fast().map_or(0, |_| size_of::<f32>() as u128 * values)
    }

    fn with(avx512: Avx512, weight: &Array2<f32>) -> Self {
        let (outputs, inputs) = weight.dim();
        let mut lines = room(outputs.next_multiple_of(SINGLE_PANEL) * inputs);
        cast_slice_mut(&mut lines)
            .par_chunks_mut(SINGLE_PANEL * inputs)
            .zip(elements(weight).par_chunks(SINGLE_PANEL * inputs))
            .for_each(|(panel, rows)| pack(panel, rows, inputs));
        Packed { avx512, lines, inputs }
    }

    /// Computes `x W^T` on the calling thread for the outputs from `first` on, a multiple of `SINGLE_PANEL`. Returns
    /// false if faer computes such a product in another way: then nothing was done.
    pub fn multiply(&self, mut y: MatMut<f32>, x: &[f32], first: usize) -> bool {
        let inputs = self.inputs;
        let (rows, outputs) = (y.nrows(), y.ncols());
        if !taken(rows, outputs, inputs) {
            return false;
        }
        let panels = &cast_slice(&self.lines)[first * inputs..];
        let crowded = (inputs * size_of::<f32>()).is_multiple_of(CROWDED);
        let mut copy = if crowded { room(rows * (RUN + LINE)) } else { Vec::new() };
        for begin in (0..inputs).step_by(RUN) {
            let run = RUN.min(inputs - begin);
            let (a, stride) = if crowded {
                let copy: &mut [f32] = cast_slice_mut(&mut copy);
                for (to, row) in copy.chunks_exact_mut(RUN + LINE).zip(x.chunks_exact(inputs)) {
                    to[..run].copy_from_slice(&row[begin..begin + run]);
                }
                (&*copy, RUN + LINE)
            } else {
                (&x[begin..], inputs)
            };
            for (index, panel) in panels
                .chunks(SINGLE_PANEL * inputs)
                .take(outputs.div_ceil(SINGLE_PANEL))
                .enumerate()
            {
                let panel = &panel[begin * SINGLE_PANEL..][..run * SINGLE_PANEL];
                let column = index * SINGLE_PANEL;
                let width = SINGLE_PANEL.min(outputs - column);
                for row in (0..rows).step_by(SINGLE_ROWS) {
                    let height = SINGLE_ROWS.min(rows - row);
                    let tile = y.rb_mut().submatrix_mut(row, column, height, width);
                    self.avx512.single(&a[row * stride..], stride, panel, tile, begin > 0);
                }
            }
        }
        true
    }
}

/// Packs rows of `inputs` values into a panel.
fn pack(panel: &mut [f32], rows: &[f32], inputs: usize) {
    for (part, lines) in panel.chunks_mut(LINE * SINGLE_PANEL).enumerate() {
        for (place, row) in rows.chunks_exact(inputs).enumerate() {
            for (line, value) in lines.chunks_exact_mut(SINGLE_PANEL).zip(&row[part * LINE..]) {
                line[place] = *value;
            }
        }
    }
}

/// Tokens in double precision: panels of [`DOUBLE_PANEL`] features, token after token.
struct Tokens {
    lines: Vec<Line>,
    /// Number of tokens.
    count: usize,
}

impl Tokens {
    /// Packs rows of `width` features.
    fn new(rows: &[f32], width: usize) -> Self {
        const LANES: usize = 8;
        let count = rows.len() / width;
        let mut lines = room(2 * width.next_multiple_of(DOUBLE_PANEL) * count);
        cast_slice_mut(&mut lines)
            .par_chunks_mut(DOUBLE_PANEL * count)
            .enumerate()
            .for_each(|(index, panel): (usize, &mut [f64])| {
                let first = index * DOUBLE_PANEL;
                let features = first..width.min(first + DOUBLE_PANEL);
                for (into, row) in panel.chunks_exact_mut(DOUBLE_PANEL).zip(rows.chunks_exact(width)) {
                    let (whole, rest) = row[features.clone()].as_chunks::<LANES>();
                    let (into, last) = into.split_at_mut(whole.len() * LANES);
                    for (into, values) in into.as_chunks_mut::<LANES>().0.iter_mut().zip(whole) {
                        *into = values.map(f64::from);
                    }
                    last.iter_mut()
                        .zip(rest)
                        .for_each(|(into, value)| *into = f64::from(*value));
                }
            });
        Tokens { lines, count }
    }

    /// The panel of a feature, from the feature on.
    fn from(&self, feature: usize) -> &[f64] {
        let panel = feature / DOUBLE_PANEL;
        let panel = &cast_slice(&self.lines)[panel * DOUBLE_PANEL * self.count..][..DOUBLE_PANEL * self.count];
        &panel[feature % DOUBLE_PANEL..]
    }
}

/// Adds `X^T D` to a sum in double precision, for rows of `x` and `dense` of the same tokens. Without `dense`, `X^T X` is
/// added, but only to the lower triangle; values above its diagonal may be changed, too.
///
/// Returns false if faer computes such a product faster or in another way: then nothing was done.
pub fn add_product(sum: &mut [f64], x: &[f32], dense: Option<&[f32]>, width: usize) -> bool {
    match fast() {
        Some(avx512) => add_product_with(avx512, sum, x, dense, width),
        None => false,
    }
}

fn add_product_with(avx512: Avx512, sum: &mut [f64], x: &[f32], dense: Option<&[f32]>, width: usize) -> bool {
    /// Rows of the sum per task.
    const BAND: usize = 4 * DOUBLE_PANEL;
    if !taken(width, width, 2) {
        return false;
    }
    for (index, x) in x.chunks(RUN * width).enumerate() {
        let dense = dense.map(|dense| Tokens::new(&dense[index * RUN * width..][..x.len()], width));
        let x = Tokens::new(x, width);
        // The longest rows of a triangle first, so that no task is left for the end.
        sum.par_chunks_mut(BAND * width)
            .enumerate()
            .rev()
            .for_each(|(band, sum)| {
                let (first, height) = (band * BAND, sum.len() / width);
                let mut sum = MatMut::from_row_major_slice_mut(sum, height, width);
                let columns = if dense.is_some() { width } else { first + height };
                for column in (0..columns).step_by(DOUBLE_PANEL) {
                    let across = DOUBLE_PANEL.min(width - column);
                    // Bands and panels begin with a tile's first row, so what is before a panel's diagonal is whole tiles.
                    let below = if dense.is_some() {
                        0
                    } else {
                        column.saturating_sub(first)
                    };
                    for row in (below..height).step_by(DOUBLE_ROWS) {
                        let tall = DOUBLE_ROWS.min(height - row);
                        let tile = sum.rb_mut().submatrix_mut(row, column, tall, across);
                        avx512.double(x.from(first + row), dense.as_ref().unwrap_or(&x).from(column), tile);
                    }
                }
            });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::linalg::matmul::matmul;
    use faer::{Accum, MatRef, Par};
    use rand::{RngExt, SeedableRng};

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0..1.0f32))
    }

    fn here() -> Option<Avx512> {
        let found = Avx512::here();
        if found.is_none() {
            println!("not tested: this processor has no AVX-512");
        }
        found
    }

    #[test]
    fn products_in_single_precision_have_the_bits_of_faer() {
        let Some(avx512) = here() else { return };
        let mut compared = 0;
        for (rows, outputs, inputs) in [
            (2, 2, 2),
            (7, 65, 33),
            (14, 32, 512),
            (13, 31, 513),
            (256, 192, 576),
            (255, 100, 1536),
            (30, 70, 1024),
            (3, 33, 4096),
        ] {
            let (x, weight) = (random(rows, inputs, 1), random(outputs, inputs, 2));
            let [mut got, mut want] = [0, 1].map(|_| vec![f32::NAN; rows * outputs]);
            let packed = Packed::with(avx512, &weight);
            let taken = packed.multiply(
                MatMut::from_row_major_slice_mut(&mut got, rows, outputs),
                elements(&x),
                0,
            );
            assert_eq!(taken, rows * outputs * inputs > SMALL);
            let x = MatRef::from_row_major_slice(elements(&x), rows, inputs);
            let weight = MatRef::from_row_major_slice(elements(&weight), outputs, inputs);
            let into = MatMut::from_row_major_slice_mut(&mut want, rows, outputs);
            matmul(into, Accum::Replace, x, weight.transpose(), 1.0, Par::Seq);
            if taken {
                assert_eq!(got, want, "{rows} x {outputs} x {inputs}");
                compared += 1;
            }
        }
        assert_eq!(compared, 7);
    }

    #[test]
    fn products_in_double_precision_have_the_bits_of_faer() {
        let Some(avx512) = here() else { return };
        for (tokens, width) in [(1, 130), (5, 64), (512, 97), (513, 100), (700, 250)] {
            let (x, dense) = (random(tokens, width, 3), random(tokens, width, 4));
            for dense in [None, Some(&dense)] {
                let mut got: Vec<f64> = (0..width * width).map(|place| place as f64).collect();
                let mut want = got.clone();
                let of = dense.map(elements);
                assert!(add_product_with(avx512, &mut got, elements(&x), of, width));
                let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|value| f64::from(*value)).collect() };
                for (index, x) in elements(&x).chunks(RUN * width).enumerate() {
                    let right = wide(of.map_or(x, |of| &of[index * RUN * width..][..x.len()]));
                    let left = wide(x);
                    let [left, right] =
                        [&left, &right].map(|it| MatRef::from_row_major_slice(it, it.len() / width, width));
                    let into = MatMut::from_row_major_slice_mut(&mut want, width, width);
                    matmul(into, Accum::Add, left.transpose(), right, 1.0, Par::Seq);
                }
                for row in 0..width {
                    let columns = if dense.is_some() { width } else { row + 1 };
                    let of_row = row * width..row * width + columns;
                    assert_eq!(got[of_row.clone()], want[of_row], "{tokens} x {width}, row {row}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        let Some(avx512) = here() else { return };
        let mut x = random(20, 40, 5);
        x[[3, 7]] = f32::INFINITY;
        x[[4, 7]] = f32::NAN;
        let mut y = vec![0.0; 20 * 70];
        let weight = random(70, 40, 6);
        let packed = Packed::with(avx512, &weight);
        assert!(packed.multiply(MatMut::from_row_major_slice_mut(&mut y, 20, 70), elements(&x), 0));
        let row = |index: usize| &y[index * 70..(index + 1) * 70];
        assert!(row(3).iter().all(|value| value.is_infinite()));
        assert!(row(4).iter().all(|value| value.is_nan()));
        assert!(row(2).iter().all(|value| value.is_finite()));
    }
}
