//! Products of bfloat16 numbers with single precision sums: linear layers, attention and next-token likelihoods.
//!
//! Operands are rounded to nearest, ties to even, and laid out in pairs of neighbouring inputs, as the instruction
//! `vdpbf16ps` of AVX-512 BF16 takes them. A weight is packed into panels of [`PANEL`] outputs, pair after pair; a
//! tile of [`ROWS`] rows of activations by one panel stays in registers while the pairs pass by. Processors without
//! the instruction run the same tiles in plain Rust, slower; sums are then rounded a little differently (the
//! instruction adds the two products of a pair without rounding in between, and flushes subnormal numbers).
//!
//! Everything else (norms, softmax, residual stream, statistics) is the `f32` code.

use super::attention::{HeadProducts, Tile};
use super::elements::{elements, elements_mut};
use super::simd::{exp, largest, soften, sum_of, vectorised};
use crate::backend::Likelihood;
use crate::spec::AttentionSpec;
use ndarray::Array2;
use rayon::prelude::*;
use std::sync::OnceLock;

/// Number of outputs that a packed weight has side by side: four registers of 16 sums.
const PANEL: usize = 64;

/// Number of rows of activations per tile: with four registers each, they use 24 of the 32 registers.
const ROWS: usize = 6;

/// Number of rows of activations per task: whole tiles, and few enough to stay in a core's own cache.
const BAND: usize = 16 * ROWS;

/// Number of pairs after which a pass over panels begins again, so that a panel and a band stay in a core's own
/// cache.
const PAIRS: usize = 768;

/// Number of panels per task whose logits exist at the same time.
const LOGIT_PANELS: usize = 16;

/// The implementation that multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The processor's AVX-512 BF16 instructions.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Plain Rust, for every processor.
    Portable,
}

impl Kernel {
    /// The fastest implementation that this processor supports.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            return Kernel::Avx512;
        }
        Kernel::Portable
    }

    /// The implementation's name in records.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => "AVX-512 BF16",
            Kernel::Portable => "bfloat16 products in software",
        }
    }

    /// `sums[row][column] = sum over pairs of a[row] . b[column]`.
    fn tile<const N: usize>(self, a: &[u32], stride: usize, b: &[u32], sums: &mut [[f32; PANEL]; N]) {
        let pairs = b.len() / PANEL;
        assert!(b.len().is_multiple_of(PANEL) && a.len() >= (N - 1) * stride + pairs);
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => {
                // SAFETY: `best` is the only maker of this variant outside of tests, which ask the same question.
                // The operands are as long as the kernel needs: see the assertion.
                #[allow(unsafe_code)]
                unsafe {
                    avx512::tile(a.as_ptr(), stride, b.as_ptr(), pairs, sums);
                }
            }
            Kernel::Portable => vectorised(
                #[inline(always)]
                || portable(a, stride, b, sums),
            ),
        }
    }
}

#[inline(always)]
fn portable<const N: usize>(a: &[u32], stride: usize, b: &[u32], sums: &mut [[f32; PANEL]; N]) {
    let (low, high) = (
        |pair: u32| f32::from_bits(pair << 16),
        |pair: u32| f32::from_bits(pair & 0xffff_0000),
    );
    for (row, sums) in sums.iter_mut().enumerate() {
        *sums = [0.0; PANEL];
        for (a, b) in a[row * stride..].iter().zip(b.as_chunks::<PANEL>().0) {
            let (first, second) = (low(*a), high(*a));
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += first * low(*b) + second * high(*b);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
// The intrinsics take pointers, and registers of integers become registers of bfloat16 by reinterpretation; the
// checks that a safe loop repeats for every pair would cost more than the products.
#[allow(unsafe_code)]
mod avx512 {
    use super::PANEL;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    /// Number of registers per panel.
    const WIDE: usize = PANEL / 16;

    /// # Safety
    /// The processor has AVX-512 BF16; `a` has `N` rows of `pairs` readable elements, `stride` apart, and `b` has
    /// `pairs * PANEL`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn tile<const N: usize>(
        a: *const u32,
        stride: usize,
        b: *const u32,
        pairs: usize,
        sums: &mut [[f32; PANEL]; N],
    ) {
        let mut registers = [[_mm512_setzero_ps(); WIDE]; N];
        for pair in 0..pairs {
            // SAFETY: `pair < pairs`, and the caller vouches for the lengths; both types are 64 plain bytes.
            unsafe {
                let b: [__m512bh; WIDE] = std::array::from_fn(|index| {
                    let loaded: __m512i = _mm512_loadu_si512(b.add(pair * PANEL + 16 * index).cast());
                    transmute::<__m512i, __m512bh>(loaded)
                });
                for (row, registers) in registers.iter_mut().enumerate() {
                    let both = _mm512_set1_epi32(*a.add(row * stride + pair) as i32);
                    let both = transmute::<__m512i, __m512bh>(both);
                    for (sum, b) in registers.iter_mut().zip(b) {
                        *sum = _mm512_dpbf16_ps(*sum, both, b);
                    }
                }
            }
        }
        for (sums, registers) in sums.iter_mut().zip(registers) {
            for (sums, register) in sums.as_chunks_mut::<16>().0.iter_mut().zip(registers) {
                // SAFETY: the destination is an array of 16 floats.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), register) };
            }
        }
    }
}

/// A value rounded to bfloat16, in the upper half of the bits. NaN stays NaN.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if value.is_nan() { bits | 0x0040_0000 } else { nearest }
}

#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
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
struct Band {
    pairs: Vec<u32>,
    stride: usize,
    rows: usize,
}

impl Band {
    /// Packs rows of `width` values; each row begins `stride` values after the one before.
    fn new(values: &[f32], rows: usize, width: usize, stride: usize) -> Self {
        let pairs = width.div_ceil(2);
        let mut band = Band {
            pairs: vec![0; rows * pairs],
            stride: pairs,
            rows,
        };
        vectorised(
            #[inline(always)]
            || {
                for (row, pairs) in band.pairs.chunks_exact_mut(pairs).enumerate() {
                    pair_up(&values[row * stride..row * stride + width], pairs);
                }
            },
        );
        band
    }
}

/// A weight: its values, and their packed form. That is made for the first product and kept for those that follow, until
/// the values change; a table that is only looked up in never has one.
pub struct Weight {
    values: Array2<f32>,
    packed: OnceLock<Packed>,
}

impl Weight {
    pub fn new(values: Array2<f32>) -> Self {
        Weight {
            values,
            packed: OnceLock::new(),
        }
    }

    pub fn values(&self) -> &Array2<f32> {
        &self.values
    }

    /// Whoever may change the values makes the packed form untrue.
    pub fn values_mut(&mut self) -> &mut Array2<f32> {
        self.packed.take();
        &mut self.values
    }

    fn packed(&self) -> &Packed {
        self.packed.get_or_init(|| Packed::new(&self.values))
    }
}

/// A matrix `(outputs, inputs)`, packed into panels.
struct Packed {
    panels: Vec<u32>,
    pairs: usize,
}

impl Packed {
    fn new(weight: &Array2<f32>) -> Self {
        let (outputs, inputs) = weight.dim();
        let pairs = inputs.div_ceil(2);
        let mut panels = vec![0; outputs.next_multiple_of(PANEL) * pairs];
        panels
            .par_chunks_mut(PANEL * pairs)
            .zip(elements(weight).par_chunks(PANEL * inputs))
            .for_each(|(panel, rows)| pack(panel, rows, inputs, inputs));
        Packed { panels, pairs }
    }

    /// The data of the panels, beginning with number `panel`.
    fn from(&self, panel: usize) -> &[u32] {
        &self.panels[panel * PANEL * self.pairs..]
    }
}

/// Packs rows into a panel; each has `inputs` values and begins `stride` values after the one before.
fn pack(panel: &mut [u32], rows: &[f32], inputs: usize, stride: usize) {
    /// Number of pairs that are transposed together: a cache line of every row.
    const STEP: usize = 8;
    let count = rows.len().div_ceil(stride);
    let band = Band::new(rows, count, inputs, stride);
    for (step, lines) in panel.chunks_mut(STEP * PANEL).enumerate() {
        for row in 0..count {
            let from = &band.pairs[row * band.stride + step * STEP..];
            for (line, pair) in lines.chunks_exact_mut(PANEL).zip(from) {
                line[row] = *pair;
            }
        }
    }
}

/// `y[row][..columns] = band[row] . panel columns`; rows of `y` are `stride` apart. `of` is the pairs that panels
/// have, of which the band's are the ones from `first` on.
fn multiply(
    kernel: Kernel,
    band: &Band,
    panels: &[u32],
    (of, first): (usize, usize),
    y: &mut [f32],
    (columns, stride): (usize, usize),
) {
    let pairs = band.stride.min(of - first);
    let pieces = pairs.div_ceil(PAIRS).max(1);
    let piece = pairs.div_ceil(pieces);
    for start in (0..pairs).step_by(piece.max(1)) {
        let end = (start + piece).min(pairs);
        for (index, panel) in panels.chunks(of * PANEL).enumerate().take(columns.div_ceil(PANEL)) {
            let panel = &panel[(first + start) * PANEL..(first + end) * PANEL];
            let column = index * PANEL;
            let width = PANEL.min(columns - column);
            let mut row = 0;
            while row < band.rows {
                let a = &band.pairs[row * band.stride + start..];
                let y = &mut y[row * stride + column..];
                let into = (width, stride, start > 0);
                row += match band.rows - row {
                    6.. => tile::<ROWS>(kernel, a, band.stride, panel, y, into),
                    5 => tile::<5>(kernel, a, band.stride, panel, y, into),
                    4 => tile::<4>(kernel, a, band.stride, panel, y, into),
                    3 => tile::<3>(kernel, a, band.stride, panel, y, into),
                    2 => tile::<2>(kernel, a, band.stride, panel, y, into),
                    _ => tile::<1>(kernel, a, band.stride, panel, y, into),
                };
            }
        }
    }
}

/// Computes one tile of `y`, which is added to what is there or replaces it; returns the number of its rows.
fn tile<const N: usize>(
    kernel: Kernel,
    a: &[u32],
    a_stride: usize,
    panel: &[u32],
    y: &mut [f32],
    (width, stride, add): (usize, usize, bool),
) -> usize {
    let mut sums = [[0.0f32; PANEL]; N];
    kernel.tile(a, a_stride, panel, &mut sums);
    for (row, sums) in sums.iter().enumerate() {
        let y = &mut y[row * stride..row * stride + width];
        if add {
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
        } else {
            y.copy_from_slice(&sums[..width]);
        }
    }
    N
}

pub fn linear(kernel: Kernel, weight: &Weight, bias: Option<&Array2<f32>>, x: &Array2<f32>) -> Array2<f32> {
    let (outputs, inputs) = weight.values().dim();
    let packed = weight.packed();
    let mut y = Array2::zeros((x.nrows(), outputs));
    elements_mut(&mut y)
        .par_chunks_mut(BAND * outputs)
        .zip(elements(x).par_chunks(BAND * inputs))
        .for_each(|(y, x)| {
            let band = Band::new(x, x.len() / inputs, inputs, inputs);
            multiply(kernel, &band, &packed.panels, (packed.pairs, 0), y, (outputs, outputs));
            if let Some(bias) = bias {
                for row in y.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(elements(bias)).for_each(|(y, b)| *y += b);
                }
            }
        });
    y
}

pub fn log_likelihoods(
    kernel: Kernel,
    head: &Weight,
    softcap: Option<f32>,
    x: &Array2<f32>,
    targets: &[u32],
) -> Vec<Likelihood> {
    let (vocabulary, width) = head.values().dim();
    let packed = head.packed();
    let nothing = Likelihood {
        log: 0.0,
        greatest: false,
    };
    let mut likelihoods = vec![nothing; targets.len()];
    likelihoods
        .par_chunks_mut(BAND)
        .zip(elements(x).par_chunks(BAND * width))
        .zip(targets.par_chunks(BAND))
        .for_each(|((likelihoods, x), targets)| {
            let band = Band::new(x, targets.len(), width, width);
            let mut totals = vec![Total::EMPTY; targets.len()];
            let mut logits = vec![0.0f32; targets.len() * LOGIT_PANELS * PANEL];
            for first in (0..vocabulary).step_by(LOGIT_PANELS * PANEL) {
                let columns = (LOGIT_PANELS * PANEL).min(vocabulary - first);
                let logits = &mut logits[..targets.len() * columns];
                let panels = packed.from(first / PANEL);
                multiply(kernel, &band, panels, (packed.pairs, 0), logits, (columns, columns));
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
    kernel: Kernel,
    shape: AttentionSpec,
    keys: Vec<u32>,
    values: Vec<u32>,
    /// Sizes of one head's packed keys and of its packed values, in elements.
    key_size: usize,
    value_size: usize,
    /// Number of pairs of a head's features, and of a sequence's positions.
    feature_pairs: usize,
    position_pairs: usize,
}

impl Heads {
    /// Of sequences of `length` tokens.
    pub fn new(kernel: Kernel, shape: AttentionSpec, length: usize, keys: &Array2<f32>, values: &Array2<f32>) -> Self {
        let (keys, values) = (elements(keys), elements(values));
        let AttentionSpec { kv_heads, head_dim, .. } = shape;
        let width = kv_heads * head_dim;
        let (feature_pairs, position_pairs) = (head_dim.div_ceil(2), length.div_ceil(2));
        let key_size = length.next_multiple_of(PANEL) * feature_pairs;
        let value_size = head_dim.next_multiple_of(PANEL) * position_pairs;
        let heads = keys.len() / (length * width) * kv_heads;
        let mut packed = Heads {
            kernel,
            shape,
            keys: vec![0; heads * key_size],
            values: vec![0; heads * value_size],
            key_size,
            value_size,
            feature_pairs,
            position_pairs,
        };
        packed
            .keys
            .par_chunks_mut(key_size)
            .zip(packed.values.par_chunks_mut(value_size))
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
                    for (position, line) in panel.chunks_exact_mut(PANEL).enumerate() {
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
    const SEEN: usize = 2;

    fn scores(&self, tile: &Tile, queries: &[f32], scores: &mut [f32]) {
        let AttentionSpec {
            heads, head_dim, scale, ..
        } = self.shape;
        let keys = &self.keys[self.kv(tile) * self.key_size..][tile.begin * self.feature_pairs..self.key_size];
        let q = Band::new(&queries[tile.head * head_dim..], tile.rows, head_dim, heads * head_dim);
        let into = (tile.seen, tile.seen);
        multiply(self.kernel, &q, keys, (self.feature_pairs, 0), scores, into);
        vectorised(
            #[inline(always)]
            || scores.iter_mut().for_each(|score| *score *= scale),
        );
    }

    fn mix(&self, tile: &Tile, weights: &[f32], output: &mut [f32]) {
        let AttentionSpec { heads, head_dim, .. } = self.shape;
        let kv = self.kv(tile);
        let values = &self.values[kv * self.value_size..(kv + 1) * self.value_size];
        let weights = Band::new(weights, tile.rows, tile.seen, tile.seen);
        let positions = (self.position_pairs, tile.begin / 2);
        let output = &mut output[tile.head * head_dim..];
        multiply(
            self.kernel,
            &weights,
            values,
            positions,
            output,
            (head_dim, heads * head_dim),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use rand::{RngExt, SeedableRng};

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0..1.0f32))
    }

    fn kernels() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        if Kernel::best() != Kernel::Portable {
            kernels.push(Kernel::best());
        }
        kernels
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
        let (x, kernel) = (random(5, 40, 7), Kernel::best());
        let mut weight = Weight::new(random(70, 40, 8));
        let before = linear(kernel, &weight, None, &x);
        let panels = weight.packed().panels.as_ptr();
        assert_eq!(linear(kernel, &weight, None, &x), before);
        assert_eq!(
            weight.packed().panels.as_ptr(),
            panels,
            "the panels of the first product serve the second"
        );
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
