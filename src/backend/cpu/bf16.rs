//! Products of bfloat16 numbers with single precision sums: linear layers, attention and next-token likelihoods.
//!
//! A [`Kernel`] is how they are computed here: with the processor's instructions for such products ([`super::panels`]), or as
//! products in single precision of operands that were rounded to bfloat16. Kernels round sums a little differently (the
//! instructions add the two products of a pair first, and flush subnormal numbers).
//!
//! Everything else (norms, softmax, residual stream, statistics) is the `f32` code.

use super::attention::{self, HeadProducts, Single, Tile};
use super::elements::{elements, elements_mut, in_pieces};
use super::instructions::{Line, PANEL, STEP, room};
use super::kernel::Kernel;
use super::panels::{Band, Panels, Tiles, multiply, pack, pair, rounded};
use super::product;
use super::simd::{exp, largest, soften, sum_of, vectorised};
use crate::backend::Likelihood;
use crate::spec::AttentionSpec;
use bytemuck::{cast_slice, cast_slice_mut};
use ndarray::Array2;
use rayon::prelude::*;
use std::sync::OnceLock;

/// Number of panels per task whose logits exist at the same time.
const LOGIT_PANELS: usize = 16;

/// Every value rounded to bfloat16.
fn round(values: &Array2<f32>) -> Array2<f32> {
    let mut rounded = values.clone();
    round_all(elements_mut(&mut rounded));
    rounded
}

fn round_all(values: &mut [f32]) {
    values.par_chunks_mut(1 << 16).for_each(|values| {
        vectorised(
            #[inline(always)]
            || {
                values
                    .iter_mut()
                    .for_each(|value| *value = f32::from_bits(rounded(*value) & 0xffff_0000));
            },
        );
    });
}

/// A weight: its values, and what the kernel multiplies with. That is made for the first product and kept for those that
/// follow, until the values change; a table that is only looked up in never has one.
pub struct Weight {
    values: Array2<f32>,
    operand: OnceLock<Operand>,
}

/// A weight as a kernel takes it.
enum Operand {
    Panels(Panels, Tiles),
    Rounded(Array2<f32>),
}

impl Weight {
    pub fn new(values: Array2<f32>) -> Self {
        Weight {
            values,
            operand: OnceLock::new(),
        }
    }

    pub fn values(&self) -> &Array2<f32> {
        &self.values
    }

    /// Whoever may change the values makes the operand untrue.
    pub fn values_mut(&mut self) -> &mut Array2<f32> {
        self.operand.take();
        &mut self.values
    }

    /// A weight stays with the backend that made it, which has one kernel.
    fn operand(&self, kernel: Kernel) -> &Operand {
        self.operand.get_or_init(|| match kernel {
            Kernel::Tiles(tiles) => Operand::Panels(Panels::new(&self.values), tiles),
            Kernel::Single => Operand::Rounded(round(&self.values)),
        })
    }
}

pub fn linear(kernel: Kernel, weight: &Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32> {
    let (outputs, inputs) = weight.values().dim();
    let (packed, tiles) = match weight.operand(kernel) {
        Operand::Panels(panels, tiles) => (panels, *tiles),
        Operand::Rounded(weight) => return product::linear(weight, bias, &round(x)),
    };
    let rows = tiles.band();
    in_pieces((x.nrows(), outputs), rows, |piece, y| {
        let count = y.len() / outputs;
        let x = &elements(x)[piece * rows * inputs..][..count * inputs];
        let band = Band::new(x, count, inputs, inputs);
        multiply(tiles, &band, packed.from(0), (packed.pairs, 0), y, (outputs, outputs));
        if let Some(bias) = bias {
            for row in y.chunks_exact_mut(outputs) {
                row.iter_mut().zip(elements(bias)).for_each(|(y, b)| *y += b);
            }
        }
    })
}

pub fn log_likelihoods(
    kernel: Kernel,
    head: &Weight,
    softcap: Option<f32>,
    x: &Array2<f32>,
    targets: &[u32],
) -> Vec<Likelihood> {
    let (vocabulary, width) = head.values().dim();
    let (packed, tiles) = match head.operand(kernel) {
        Operand::Panels(panels, tiles) => (panels, *tiles),
        Operand::Rounded(head) => return product::log_likelihoods(head, softcap, &round(x), targets),
    };
    let rows = tiles.band();
    let nothing = Likelihood {
        log: 0.0,
        greatest: false,
    };
    let mut likelihoods = vec![nothing; targets.len()];
    likelihoods
        .par_chunks_mut(rows)
        .zip(elements(x).par_chunks(rows * width))
        .zip(targets.par_chunks(rows))
        .for_each(|((likelihoods, x), targets)| {
            let band = Band::new(x, targets.len(), width, width);
            let mut totals = vec![Total::EMPTY; targets.len()];
            let mut logits = vec![0.0f32; targets.len() * LOGIT_PANELS * PANEL];
            for first in (0..vocabulary).step_by(LOGIT_PANELS * PANEL) {
                let columns = (LOGIT_PANELS * PANEL).min(vocabulary - first);
                let logits = &mut logits[..targets.len() * columns];
                let panels = packed.from(first / PANEL);
                multiply(tiles, &band, panels, (packed.pairs, 0), logits, (columns, columns));
                let rows = logits.chunks_exact_mut(columns).zip(&mut totals);
                for ((row, total), (target, likelihood)) in rows.zip(targets.iter().zip(likelihoods.iter_mut())) {
                    vectorised(
                        #[inline(always)]
                        || {
                            if let Some(bound) = softcap {
                                soften(row, bound);
                            }
                            total.add(row);
                        },
                    );
                    if let Some(logit) = (*target as usize).checked_sub(first).and_then(|place| row.get(place)) {
                        likelihood.log = f64::from(*logit);
                    }
                }
            }
            likelihoods.iter_mut().zip(totals).for_each(|(likelihood, total)| {
                likelihood.greatest = likelihood.log >= f64::from(total.shift);
                likelihood.log -= total.ln();
            });
        });
    likelihoods
}

/// The sum `exp(logit)`, relative to the exponential of the largest logit so far.
#[derive(Clone, Copy)]
struct Total {
    shift: f32,
    sum: f64,
}

impl Total {
    const EMPTY: Total = Total {
        shift: f32::NEG_INFINITY,
        sum: 0.0,
    };

    #[inline(always)]
    fn add(&mut self, logits: &[f32]) {
        let shift = self.shift.max(largest(logits));
        if self.sum > 0.0 {
            self.sum *= f64::from(self.shift - shift).exp();
        }
        self.sum += f64::from(sum_of(logits, |logit| exp(logit - shift)));
        self.shift = shift;
    }

    fn ln(self) -> f64 {
        f64::from(self.shift) + self.sum.ln()
    }
}

/// Keys and values of all heads of all sequences, in panels.
pub struct Heads {
    tiles: Tiles,
    shape: AttentionSpec,
    keys: Vec<Line>,
    values: Vec<Line>,
    /// Sizes of one head's packed keys and of its packed values, in elements.
    key_size: usize,
    value_size: usize,
    /// Number of pairs of a head's features, and of a sequence's positions.
    feature_pairs: usize,
    position_pairs: usize,
}

impl Heads {
    /// Of sequences of `length` tokens.
    pub fn new(tiles: Tiles, shape: AttentionSpec, length: usize, keys: &Array2<f32>, values: &Array2<f32>) -> Self {
        let (keys, values) = (elements(keys), elements(values));
        let AttentionSpec { kv_heads, head_dim, .. } = shape;
        let width = kv_heads * head_dim;
        let padded = |values: usize| values.div_ceil(2).next_multiple_of(STEP);
        let (feature_pairs, position_pairs) = (padded(head_dim), padded(length));
        let key_size = length.next_multiple_of(PANEL) * feature_pairs;
        let value_size = head_dim.next_multiple_of(PANEL) * position_pairs;
        let heads = keys.len() / (length * width) * kv_heads;
        let mut packed = Heads {
            tiles,
            shape,
            keys: room(heads * key_size),
            values: room(heads * value_size),
            key_size,
            value_size,
            feature_pairs,
            position_pairs,
        };
        cast_slice_mut(&mut packed.keys)
            .par_chunks_mut(key_size)
            .zip(cast_slice_mut(&mut packed.values).par_chunks_mut(value_size))
            .enumerate()
            .for_each(|(head, (key_panels, value_panels))| {
                let start = head / kv_heads * length * width;
                let column = head % kv_heads * head_dim;
                let keys = &keys[start + column..start + length * width];
                let values = &values[start + column..start + length * width];
                let key_panels = key_panels.chunks_mut(PANEL * feature_pairs);
                for (panel, rows) in key_panels.zip(keys.chunks(PANEL * width)) {
                    pack(panel, rows, head_dim, width);
                }
                for (index, panel) in value_panels.chunks_mut(PANEL * position_pairs).enumerate() {
                    let first = index * PANEL;
                    let columns = PANEL.min(head_dim - first);
                    for (position, line) in panel.chunks_exact_mut(PANEL).enumerate().take(length.div_ceil(2)) {
                        let row = |position: usize| values.get(position * width + first..).unwrap_or_default();
                        let (even, odd) = (row(2 * position), row(2 * position + 1));
                        for (column, pair_of) in line.iter_mut().enumerate().take(columns) {
                            *pair_of = pair(even[column], odd.get(column).copied().unwrap_or(0.0));
                        }
                    }
                }
            });
        packed
    }

    /// Which of the packed heads a tile's query head reads.
    fn kv(&self, tile: &Tile) -> usize {
        let AttentionSpec { heads, kv_heads, .. } = self.shape;
        tile.sequence * kv_heads + tile.head / (heads / kv_heads)
    }
}

impl HeadProducts for Heads {
    /// Whole panels of keys, so that positions stay in their pairs.
    const BEGIN: usize = PANEL;
    const SEEN: usize = 2 * STEP;

    fn scores(&self, tile: &Tile, queries: &[f32], scores: &mut [f32]) {
        let AttentionSpec {
            heads, head_dim, scale, ..
        } = self.shape;
        let keys =
            &cast_slice(&self.keys)[self.kv(tile) * self.key_size..][tile.begin * self.feature_pairs..self.key_size];
        let q = Band::new(&queries[tile.head * head_dim..], tile.rows, head_dim, heads * head_dim);
        let into = (tile.seen, tile.seen);
        multiply(self.tiles, &q, keys, (self.feature_pairs, 0), scores, into);
        vectorised(
            #[inline(always)]
            || scores.iter_mut().for_each(|score| *score *= scale),
        );
    }

    fn mix(&self, tile: &Tile, weights: &[f32], output: &mut [f32]) {
        let AttentionSpec { heads, head_dim, .. } = self.shape;
        let kv = self.kv(tile);
        let values = &cast_slice(&self.values)[kv * self.value_size..(kv + 1) * self.value_size];
        let weights = Band::new(weights, tile.rows, tile.seen, tile.seen);
        let positions = (self.position_pairs, tile.begin / 2);
        let output = &mut output[tile.head * head_dim..];
        multiply(
            self.tiles,
            &weights,
            values,
            positions,
            output,
            (head_dim, heads * head_dim),
        );
    }
}

/// [`Backend::attention`](crate::backend::Backend::attention), of `[queries, keys, values]`.
pub fn attention(
    kernel: Kernel,
    shape: AttentionSpec,
    window: Option<usize>,
    length: usize,
    [queries, keys, values]: [&Array2<f32>; 3],
) -> Array2<f32> {
    let tiles = match kernel {
        Kernel::Tiles(tiles) => tiles,
        Kernel::Single => {
            let [queries, keys, values] = [queries, keys, values].map(round);
            let (keys, values) = (&keys, &values);
            let heads = Rounded(Single {
                shape,
                length,
                keys,
                values,
            });
            return attention::causal(&heads, shape, window, length, &queries);
        }
    };
    let heads = Heads::new(tiles, shape, length, keys, values);
    attention::causal(&heads, shape, window, length, queries)
}

/// The products of attention in single precision, of rounded queries, keys and values.
struct Rounded<'a>(Single<'a>);

impl HeadProducts for Rounded<'_> {
    const BEGIN: usize = Single::BEGIN;
    const SEEN: usize = Single::SEEN;

    fn scores(&self, tile: &Tile, queries: &[f32], scores: &mut [f32]) {
        self.0.scores(tile, queries, scores);
    }

    fn mix(&self, tile: &Tile, weights: &[f32], output: &mut [f32]) {
        let mut weights = weights.to_vec();
        round_all(&mut weights);
        self.0.mix(tile, &weights, output);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Bf16Kernel;
    use super::*;
    use half::bf16;
    use rand::{RngExt, SeedableRng};

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0..1.0f32))
    }

    fn kernels() -> Vec<Kernel> {
        let here = |kernel: Bf16Kernel| {
            let found = Kernel::here(kernel);
            if found.is_none() {
                println!("not tested: this processor has no {}", kernel.describe());
            }
            found
        };
        Bf16Kernel::ALL.into_iter().filter_map(here).collect()
    }

    #[test]
    fn values_are_rounded_as_the_crate_half_rounds_them() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let mut values: Vec<f32> = (0..100_000).map(|_| f32::from_bits(random.random())).collect();
        values.extend([
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::NAN,
        ]);
        // Exactly between two neighbours, with an even and an odd one below.
        values.extend([f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000)]);
        for value in values {
            let ours = (rounded(value) >> 16) as u16;
            let want = bf16::from_f32(value);
            let same = ours == want.to_bits() || (want.is_nan() && bf16::from_bits(ours).is_nan());
            assert!(same, "{value}: {ours:#06x}, not {:#06x}", want.to_bits());
        }
    }

    /// The sums of products of rounded operands, to within what single precision sums of so many terms differ by.
    #[test]
    fn products_of_rounded_operands_are_right_to_single_precision() {
        let rounding = |x: &f32| f64::from(bf16::from_f32(*x).to_f32());
        for kernel in kernels() {
            for (rows, outputs, inputs) in [(1, 1, 1), (7, 65, 33), (13, 64, 128), (100, 130, 1601), (5, 3, 4000)] {
                let (x, w) = (random(rows, inputs, 1), random(outputs, inputs, 2));
                let bias = random(1, outputs, 3);
                let w = Weight::new(w);
                let got = linear(kernel, &w, Some(&bias), &x);
                let w = w.values();
                for ((row, output), got) in got.indexed_iter() {
                    let terms = || {
                        x.row(row)
                            .into_iter()
                            .zip(w.row(output))
                            .map(|(a, b)| rounding(a) * rounding(b))
                    };
                    let want = terms().sum::<f64>() + f64::from(bias[[0, output]]);
                    let size: f64 = terms().map(f64::abs).sum();
                    let error = (f64::from(*got) - want).abs();
                    let bound = 2e-6 * size + 1e-6;
                    assert!(
                        error <= bound,
                        "{kernel:?} {rows} x {outputs} x {inputs}: off by {error:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_weight_is_packed_once_and_again_when_it_changes() {
        for kernel in kernels() {
            packed_once(kernel);
        }
    }

    fn packed_once(kernel: Kernel) {
        let x = random(5, 40, 7);
        let mut weight = Weight::new(random(70, 40, 8));
        let before = linear(kernel, &weight, None, &x);
        let place = || match weight.operand(kernel) {
            Operand::Panels(panels, _) => panels.from(0).as_ptr().cast::<f32>(),
            Operand::Rounded(values) => values.as_ptr(),
        };
        let before_it = place();
        assert_eq!(linear(kernel, &weight, None, &x), before);
        assert_eq!(place(), before_it, "the operand of the first product serves the second");
        weight.values_mut().row_mut(3).fill(0.0);
        let after = linear(kernel, &weight, None, &x);
        assert!(
            after.column(3).iter().all(|value| *value == 0.0),
            "the new values count"
        );
        assert_eq!(after.column(4), before.column(4));
    }

    #[test]
    fn an_infinite_activation_is_not_hidden() {
        for kernel in kernels() {
            let mut x = random(8, 32, 5);
            x[[3, 7]] = f32::INFINITY;
            x[[4, 7]] = f32::NAN;
            let y = linear(kernel, &Weight::new(random(70, 32, 6)), None, &x);
            assert!(y.row(3).iter().all(|value| value.is_infinite()), "{kernel:?}");
            assert!(y.row(4).iter().all(|value| value.is_nan()), "{kernel:?}");
            assert!(y.row(2).iter().all(|value| value.is_finite()), "{kernel:?}");
        }
    }
}
