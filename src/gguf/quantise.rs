//! Values as ggml's block formats, for those that are written.
//!
//! Q8_0 follows `quantize_row_q8_0_ref` of `ggml-quants.c` operation by operation in single precision: the blocks are the reference's,
//! bit for bit.

use super::dequantise::BlockType;
use crate::error::{Error, Result};
use half::{bf16, f16};

/// The block formats that are written.
pub const WRITTEN: [BlockType; 4] = [BlockType::F32, BlockType::F16, BlockType::BF16, BlockType::Q8_0];

/// The written format called `name`: `f32`, `f16`, `bf16` or `q8_0`.
///
/// # Errors
/// There is no such format.
pub fn named(name: &str) -> Result<BlockType> {
    let found = WRITTEN.into_iter().find(|kind| kind.name().to_lowercase() == name);
    found.ok_or_else(|| Error::config(format!("`{name}` is none of f32, f16, bf16, q8_0")))
}

/// Encodes finite values as whole blocks, rounded to nearest. Returns the position of the first value that is too large for the format.
///
/// # Panics
/// The format is not [`WRITTEN`], or `blocks` is not as long as the values need: a mistake of the caller.
pub(super) fn quantise(kind: BlockType, values: &[f32], blocks: &mut [u8]) -> Option<usize> {
    assert_eq!(
        values.len() / kind.elements() * kind.bytes(),
        blocks.len(),
        "a block for each {} values",
        kind.elements()
    );
    let pairs = values
        .chunks_exact(kind.elements())
        .zip(blocks.chunks_exact_mut(kind.bytes()));
    let fits = |values: &[f32], block: &mut [u8]| match kind {
        BlockType::F32 => {
            block.copy_from_slice(&values[0].to_le_bytes());
            true
        }
        BlockType::F16 => {
            let half = f16::from_f32(values[0]);
            block.copy_from_slice(&half.to_le_bytes());
            half.is_finite()
        }
        BlockType::BF16 => {
            let half = bf16::from_f32(values[0]);
            block.copy_from_slice(&half.to_le_bytes());
            half.is_finite()
        }
        BlockType::Q8_0 => q8_0(values, block),
        other => panic!("{other} is not written"),
    };
    // A block with a value that is too large ends the work.
    let block = pairs
        .enumerate()
        .find_map(|(place, (values, block))| (!fits(values, block)).then_some(place))?;
    let first = block * kind.elements();
    let in_block = &values[first..first + kind.elements()];
    let largest = in_block.iter().map(|value| value.abs()).fold(0.0, f32::max);
    in_block
        .iter()
        .position(|value| value.abs() == largest)
        .map(|place| first + place)
}

/// The scale, which is the largest magnitude over 127, and 32 signed bytes; returns whether the scale is finite in half precision.
fn q8_0(values: &[f32], block: &mut [u8]) -> bool {
    let largest = values.iter().map(|value| value.abs()).fold(0.0, f32::max);
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let half = f16::from_f32(scale);
    let (front, bytes) = block.split_at_mut(2);
    front.copy_from_slice(&half.to_le_bytes());
    for (byte, value) in bytes.iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8 as u8;
    }
    half.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(kind: BlockType, values: &[f32]) -> (Option<usize>, Vec<f32>) {
        let mut blocks = vec![0; values.len() / kind.elements() * kind.bytes()];
        let wrong = quantise(kind, values, &mut blocks);
        let mut back = vec![0.0; values.len()];
        kind.dequantise(&blocks, &mut back);
        (wrong, back)
    }

    #[test]
    fn values_come_back_as_nearly_as_the_format_allows() {
        let values: Vec<f32> = (0..96).map(|place| ((place * 37 % 101) as f32 - 50.0) / 64.0).collect();
        assert_eq!(there_and_back(BlockType::F32, &values), (None, values.clone()));
        // Whole 64ths are exact in both halves.
        assert_eq!(there_and_back(BlockType::F16, &values), (None, values.clone()));
        assert_eq!(there_and_back(BlockType::BF16, &values), (None, values.clone()));
        let (wrong, back) = there_and_back(BlockType::Q8_0, &values);
        assert_eq!(wrong, None);
        for (values, back) in values.chunks(32).zip(back.chunks(32)) {
            let step = values.iter().map(|value| value.abs()).fold(0.0, f32::max) / 127.0;
            for (value, back) in values.iter().zip(back) {
                assert!((value - back).abs() <= 0.57 * step, "{value} came back as {back}");
            }
        }
        assert_eq!(there_and_back(BlockType::Q8_0, &[0.0; 32]), (None, vec![0.0; 32]));
    }

    #[test]
    fn what_is_too_large_is_found() {
        let mut values = [1.0f32; 64];
        values[40] = -1e5;
        assert_eq!(there_and_back(BlockType::F16, &values).0, Some(40));
        assert_eq!(there_and_back(BlockType::Q8_0, &values).0, None, "a scale of 787");
        values[41] = 1e7;
        assert_eq!(there_and_back(BlockType::Q8_0, &values).0, Some(41));
        assert_eq!(there_and_back(BlockType::BF16, &values).0, None);
    }

    #[test]
    fn formats_are_called_by_their_names() {
        assert_eq!(named("q8_0").expect("written"), BlockType::Q8_0);
        for other in ["q4_0", "F16", ""] {
            let error = named(other).expect_err("not written").to_string();
            assert!(error.contains("none of f32, f16, bf16, q8_0"), "{error}");
        }
    }
}
