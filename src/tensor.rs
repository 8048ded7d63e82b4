//! Host tensors: the storage types of checkpoints and their conversion to and from `f32`.
//!
//! Computation on the host is `f32` (activations, weights) or `f64` (Gram matrices, factors,
//! statistics); half precision exists only in files. A weight that a solver changed is rounded to the
//! checkpoint's own type at once ([`StorageType::round`]), so that what is evaluated is what would be saved.

use crate::error::{Error, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// The element type of a checkpoint's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// IEEE single precision, 4 bytes.
    F32,
    /// IEEE half precision, 2 bytes.
    F16,
    /// bfloat16 (the upper half of an `f32`), 2 bytes.
    BF16,
}

impl StorageType {
    /// Number of bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            StorageType::F32 => 4,
            StorageType::F16 | StorageType::BF16 => 2,
        }
    }

    /// The type called `name`: `f32`, `f16` or `bf16`.
    ///
    /// # Errors
    /// There is no such type.
    pub fn named(name: &str) -> Result<Self> {
        [StorageType::F32, StorageType::F16, StorageType::BF16]
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| Error::config(format!("`{name}` is none of f32, f16, bf16")))
    }

    /// Its name in arguments and messages.
    pub fn name(self) -> &'static str {
        match self {
            StorageType::F32 => "f32",
            StorageType::F16 => "f16",
            StorageType::BF16 => "bf16",
        }
    }

    /// What configurations of models call it.
    pub fn torch_name(self) -> &'static str {
        match self {
            StorageType::F32 => "float32",
            StorageType::F16 => "float16",
            StorageType::BF16 => "bfloat16",
        }
    }

    /// The type that safetensors calls so, if its elements can be pruned.
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(StorageType::F32),
            Dtype::F16 => Some(StorageType::F16),
            Dtype::BF16 => Some(StorageType::BF16),
            _ => None,
        }
    }

    /// The type under the name that safetensors has for it.
    pub fn dtype(self) -> Dtype {
        match self {
            StorageType::F32 => Dtype::F32,
            StorageType::F16 => Dtype::F16,
            StorageType::BF16 => Dtype::BF16,
        }
    }

    /// Converts stored little-endian elements to `f32`; exact for all three types.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            StorageType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            StorageType::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
            StorageType::BF16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32())
                .collect(),
        }
    }

    /// Converts values to stored little-endian elements, rounded to nearest (ties to even). Restores exactly the
    /// bytes that [`StorageType::decode`] read.
    pub fn encode(self, values: impl Iterator<Item = f32>) -> Vec<u8> {
        match self {
            StorageType::F32 => values.flat_map(f32::to_le_bytes).collect(),
            StorageType::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            StorageType::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        }
    }

    /// Rounds a value to the nearest one this type can store (ties to even); may overflow to infinity in `f16`.
    pub fn round(self, value: f32) -> f32 {
        match self {
            StorageType::F32 => value,
            StorageType::F16 => f16::from_f32(value).to_f32(),
            StorageType::BF16 => bf16::from_f32(value).to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_what_was_rounded_changes_nothing() {
        for value in [0.1f32, -3.0e-5, 1234.567, 0.0] {
            let half = StorageType::F16.round(value);
            let decoded = StorageType::F16.decode(&f16::from_f32(value).to_le_bytes());
            assert_eq!(decoded, [half]);
            let brain = StorageType::BF16.decode(&bf16::from_f32(value).to_le_bytes());
            assert_eq!(brain, [StorageType::BF16.round(value)]);
        }
    }

    #[test]
    fn half_precision_overflow_is_visible() {
        assert!(StorageType::F16.round(70000.0).is_infinite());
    }
}
