//! How products of bfloat16 numbers are computed on this processor: chosen here, and nowhere else.

use super::instructions::{Amx, Avx512Bf16};
use super::panels::Tiles;
use serde::{Deserialize, Serialize};

/// How products of bfloat16 numbers are computed, in the order in which a processor's own are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bf16Kernel {
    /// AMX, of Intel's Xeons since 2023.
    Amx,
    /// AVX-512 BF16, of AMD's processors since 2022 and of Intel's Xeons. Slower than `F32` on the latter.
    Avx512,
    /// Single precision, on every processor, after operands were rounded to bfloat16. As fast as `compute = "f32"`.
    F32,
}

impl Bf16Kernel {
    /// All kernels.
    pub const ALL: [Bf16Kernel; 3] = [Bf16Kernel::Amx, Bf16Kernel::Avx512, Bf16Kernel::F32];

    /// Number of bytes of a rounded value.
    pub fn bytes(self) -> usize {
        match self {
            Bf16Kernel::Amx | Bf16Kernel::Avx512 => 2,
            Bf16Kernel::F32 => 4,
        }
    }

    /// What is computed with, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Bf16Kernel::Amx => "AMX BF16",
            Bf16Kernel::Avx512 => "AVX-512 BF16",
            Bf16Kernel::F32 => "f32 products of operands rounded to bfloat16",
        }
    }
}

/// A kernel that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Instructions for products of bfloat16 numbers.
    Tiles(Tiles),
    /// Products in single precision.
    Single,
}

impl Kernel {
    /// The kernel of this name, if this processor has it and the system allows it.
    pub fn here(kernel: Bf16Kernel) -> Option<Self> {
        match kernel {
            Bf16Kernel::Amx => Amx::here().map(Tiles::Amx).map(Kernel::Tiles),
            Bf16Kernel::Avx512 => Avx512Bf16::here().map(Tiles::Avx512).map(Kernel::Tiles),
            Bf16Kernel::F32 => Some(Kernel::Single),
        }
    }

    /// The fastest that this processor has.
    pub fn best() -> Self {
        let fast = |avx512: &Avx512Bf16| avx512.fast();
        let tiles = Amx::here().map(Tiles::Amx);
        let tiles = tiles.or_else(|| Avx512Bf16::here().filter(fast).map(Tiles::Avx512));
        tiles.map_or(Kernel::Single, Kernel::Tiles)
    }

    /// The kernel's name.
    pub fn name(self) -> Bf16Kernel {
        match self {
            Kernel::Tiles(Tiles::Amx(_)) => Bf16Kernel::Amx,
            Kernel::Tiles(Tiles::Avx512(_)) => Bf16Kernel::Avx512,
            Kernel::Single => Bf16Kernel::F32,
        }
    }
}
