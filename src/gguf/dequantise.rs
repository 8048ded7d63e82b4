//! ggml's block formats and their values as `f32`.
//!
//! Owns the layout of every supported block. Follows `ggml-quants.c` (and `gguf.quants`, its Python
//! twin) operation by operation in single precision, without fused multiply-adds: the values are the
//! reference's to the last bit, which `tests/gguf` holds.

use crate::error::{Error, Result};
use half::{bf16, f16};
use std::fmt;

/// Elements of a block of the formats with one scale (`QK4_0` and its siblings in ggml).
const SMALL: usize = 32;

/// Elements of a block of the K formats (`QK_K` in ggml).
const LARGE: usize = 256;

/// Names of ggml's types by number, for refusals; those without a name have never been in use or were withdrawn.
const NAMES: [&str; 42] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
    "NVFP4",
    "Q1_0",
];

/// A supported block format, by ggml's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    non_camel_case_types,
    reason = "these are the names the format itself goes by"
)]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl BlockType {
    /// All block formats that can be read.
    pub const ALL: [BlockType; 11] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q8_0,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ];

    /// The format with ggml's number `id`.
    ///
    /// # Errors
    /// It is not supported; the message has its name.
    pub fn from_id(id: u32) -> Result<BlockType> {
        let name = usize::try_from(id).ok().and_then(|id| NAMES.get(id));
        let found = BlockType::ALL.into_iter().find(|kind| Some(&kind.name()) == name);
        found.ok_or_else(|| {
            let known = BlockType::ALL.map(BlockType::name).join(", ");
            let name = name.map_or_else(|| format!("number {id}"), |name| name.to_string());
            Error::input(format!("type {name} is not supported (supported: {known})"))
        })
    }

    /// ggml's number of the format.
    pub fn id(self) -> u32 {
        let place = NAMES.iter().position(|name| *name == self.name());
        place.expect("all formats have names") as u32
    }

    /// The name that ggml gives the format.
    pub fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "F32",
            BlockType::F16 => "F16",
            BlockType::BF16 => "BF16",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_1 => "Q4_1",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q5_1 => "Q5_1",
            BlockType::Q4_K => "Q4_K",
            BlockType::Q5_K => "Q5_K",
            BlockType::Q6_K => "Q6_K",
        }
    }

    /// Number of elements in a block.
    pub fn elements(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => 1,
            BlockType::Q8_0 | BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q5_0 | BlockType::Q5_1 => SMALL,
            BlockType::Q4_K | BlockType::Q5_K | BlockType::Q6_K => LARGE,
        }
    }

    /// Whether it stores weights with fewer bits than a number of its own has.
    pub fn is_quantised(self) -> bool {
        self.elements() > 1
    }

    /// Number of bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::BF16 => 2,
            BlockType::Q8_0 => 2 + SMALL,
            BlockType::Q4_0 => 2 + SMALL / 2,
            BlockType::Q4_1 => 4 + SMALL / 2,
            BlockType::Q5_0 => 2 + 4 + SMALL / 2,
            BlockType::Q5_1 => 4 + 4 + SMALL / 2,
            BlockType::Q4_K => 4 + 12 + LARGE / 2,
            BlockType::Q5_K => 4 + 12 + LARGE / 8 + LARGE / 2,
            BlockType::Q6_K => LARGE / 2 + LARGE / 4 + LARGE / 16 + 2,
        }
    }

    /// The values of whole blocks.
    ///
    /// # Panics
    /// `blocks` are not whole, or `values` is not as long as they say: a mistake of the caller.
    pub fn dequantise(self, blocks: &[u8], values: &mut [f32]) {
        assert_eq!(blocks.len() % self.bytes(), 0, "whole blocks");
        assert_eq!(
            blocks.len() / self.bytes() * self.elements(),
            values.len(),
            "one value for every element"
        );
        let pairs = blocks
            .chunks_exact(self.bytes())
            .zip(values.chunks_exact_mut(self.elements()));
        match self {
            BlockType::F32 => pairs.for_each(|(b, v)| v[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            BlockType::F16 => pairs.for_each(|(b, v)| v[0] = half(b)),
            BlockType::BF16 => pairs.for_each(|(b, v)| v[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            BlockType::Q8_0 => pairs.for_each(|(b, v)| q8_0(b, v)),
            BlockType::Q4_0 => pairs.for_each(|(b, v)| four_bits(&b[2..], v, |q| half(b) * (f32::from(q) - 8.0))),
            BlockType::Q4_1 => {
                pairs.for_each(|(b, v)| four_bits(&b[4..], v, |q| half(b) * f32::from(q) + half(&b[2..])));
            }
            BlockType::Q5_0 => pairs.for_each(|(b, v)| five_bits(&b[2..], v, |q| half(b) * (f32::from(q) - 16.0))),
            BlockType::Q5_1 => {
                pairs.for_each(|(b, v)| five_bits(&b[4..], v, |q| half(b) * f32::from(q) + half(&b[2..])));
            }
            BlockType::Q4_K => pairs.for_each(|(b, v)| q4_k(b, v)),
            BlockType::Q5_K => pairs.for_each(|(b, v)| q5_k(b, v)),
            BlockType::Q6_K => pairs.for_each(|(b, v)| q6_k(b, v)),
        }
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The half-precision number at the front of `bytes`.
fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Scale, then 32 signed bytes.
fn q8_0(block: &[u8], values: &mut [f32]) {
    let scale = half(block);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = f32::from(*byte as i8) * scale;
    }
}

/// 16 bytes: element `j` in the low half of byte `j`, element `j + 16` in its high half.
fn four_bits(bytes: &[u8], values: &mut [f32], value_of: impl Fn(u8) -> f32) {
    let (low, high) = values.split_at_mut(SMALL / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = value_of(byte & 15);
        *high = value_of(byte >> 4);
    }
}

/// 4 bytes with the fifth bit of every element, first element lowest, then 16 bytes as [`four_bits`].
fn five_bits(bytes: &[u8], values: &mut [f32], value_of: impl Fn(u8) -> f32) {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let bit = |index: usize| ((fifth >> index & 1) as u8) << 4;
    let (low, high) = values.split_at_mut(SMALL / 2);
    for (index, ((low, high), byte)) in low.iter_mut().zip(high).zip(&bytes[4..]).enumerate() {
        *low = value_of(byte & 15 | bit(index));
        *high = value_of(byte >> 4 | bit(index + SMALL / 2));
    }
}

/// The six-bit scale and minimum of sub-block `index` of 8, out of 12 bytes: four scales, four minima, and
/// their other four, whose upper two bits are the upper two bits of the first eight bytes.
fn scale_and_minimum(packed: &[u8], index: usize) -> (f32, f32) {
    let (scale, minimum) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        (
            low & 15 | packed[index - 4] >> 6 << 4,
            low >> 4 | packed[index] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// Scale, minimum, their eight factors each, then 128 bytes: sub-blocks `2 g` and `2 g + 1` of 32 elements
/// in the low and the high halves of bytes `32 g` to `32 g + 31`.
fn q4_k(block: &[u8], values: &mut [f32]) {
    let (scale, minimum) = (half(block), half(&block[2..]));
    for (index, values) in values.chunks_exact_mut(32).enumerate() {
        let (factor, least) = scale_and_minimum(&block[4..16], index);
        let (scale, minimum) = (scale * factor, minimum * least);
        let bytes = &block[16 + 32 * (index / 2)..][..32];
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = scale * f32::from(byte >> (4 * (index % 2)) & 15) - minimum;
        }
    }
}

/// As [`q4_k`] with 32 bytes before the halves: bit `s` of byte `l` is the fifth bit of element `l` of sub-block `s`.
fn q5_k(block: &[u8], values: &mut [f32]) {
    let (scale, minimum) = (half(block), half(&block[2..]));
    let fifth = &block[16..48];
    for (index, values) in values.chunks_exact_mut(32).enumerate() {
        let (factor, least) = scale_and_minimum(&block[4..16], index);
        let (scale, minimum) = (scale * factor, minimum * least);
        let bytes = &block[48 + 32 * (index / 2)..][..32];
        for ((value, byte), high) in values.iter_mut().zip(bytes).zip(fifth) {
            let code = byte >> (4 * (index % 2)) & 15 | (high >> index & 1) << 4;
            *value = scale * f32::from(code) - minimum;
        }
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 signed factors (one for 16 elements), scale.
/// In each half of the block four groups of 32 elements share 64 and 32 of those bytes.
fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, rest) = block.split_at(LARGE / 2);
    let (high, rest) = rest.split_at(LARGE / 4);
    let (factors, scale) = rest.split_at(LARGE / 16);
    let scale = half(scale);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (part, quarter) = (group / 4, group % 4);
        let low = &low[64 * part + 32 * (quarter % 2)..][..32];
        let high = &high[32 * part..][..32];
        for (index, value) in values.iter_mut().enumerate() {
            let code = low[index] >> (4 * (quarter / 2)) & 15 | (high[index] >> (2 * quarter) & 3) << 4;
            let factor = f32::from(factors[2 * group + index / 16] as i8);
            *value = scale * factor * (f32::from(code) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_name_has_one_number() {
        for kind in BlockType::ALL {
            let ids = (0..100).filter(|id| BlockType::from_id(*id).is_ok_and(|found| found == kind));
            assert_eq!(ids.collect::<Vec<_>>(), [kind.id()], "{kind}");
        }
        let error = BlockType::from_id(16).expect_err("not supported").to_string();
        assert!(error.contains("IQ2_XXS"), "{error}");
        assert!(BlockType::from_id(u32::MAX).is_err());
    }
}
