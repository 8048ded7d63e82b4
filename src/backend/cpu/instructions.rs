//! The processor's instructions for products of bfloat16 numbers: whether they are there, and tiles of products made
//! with them. The only file of the CPU backend with `unsafe`.
//!
//! A value of [`Avx512Bf16`] or [`Amx`] is made only where the instructions exist and may be used. So functions on
//! them need not ask again, and are safe: they check the lengths of their operands.

use bytemuck::{Pod, Zeroable};

/// Number of outputs that a packed weight has side by side: four registers of 16 sums, or the columns of four tiles.
pub const PANEL: usize = 64;

/// Number of pairs that a tile of AMX multiplies at a time; packed rows and panels have a multiple of so many.
pub const STEP: usize = 16;

/// Rows and columns that AMX computes at a time: two tiles by two.
pub const SQUARE: usize = 32;

/// A line of a cache. Packed operands begin with one, so that no load touches two lines.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line([u32; 16]);

/// Room for so many pairs, all of them 0.
pub fn room(pairs: usize) -> Vec<Line> {
    vec![Line::zeroed(); pairs.div_ceil(16)]
}

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{Amx, Avx512Bf16};
#[cfg(target_arch = "x86_64")]
pub use x86::{Amx, Avx512Bf16};

/// Other processors have neither: no value of these types exists.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::{PANEL, SQUARE};

    /// `vdpbf16ps` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Avx512Bf16 {}

    /// `tdpbf16ps` of AMX.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Amx {}

    impl Avx512Bf16 {
        pub fn here() -> Option<Self> {
            None
        }

        pub fn fast(self) -> bool {
            match self {}
        }

        pub fn tile<const N: usize>(self, _: &[u32], _: usize, _: &[u32], _: &mut [[f32; PANEL]; N]) {
            match self {}
        }
    }

    impl Amx {
        pub fn here() -> Option<Self> {
            None
        }

        pub fn panel(self, _: [&[u32]; 2], _: (usize, usize), _: impl FnMut(usize, usize, &[[f32; SQUARE]; SQUARE])) {
            match self {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
// Intrinsics take pointers, registers of integers become registers of bfloat16 by reinterpretation, and AMX has no stable
// intrinsics. The checks that a safe loop repeats for every pair would cost more than the products.
#[allow(unsafe_code)]
mod x86 {
    use super::{PANEL, SQUARE, STEP};
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid, __cpuid_count, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    /// `vdpbf16ps` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Avx512Bf16(());

    /// `tdpbf16ps` of AMX.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Amx(());

    impl Avx512Bf16 {
        /// The instruction, if this processor has it.
        pub fn here() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")).then_some(Avx512Bf16(()))
        }

        /// Whether it multiplies faster than the instructions for single precision. On a Zen 4, twice as fast. On an Intel
        /// Xeon with AMX, 0.6 times as fast.
        pub fn fast(self) -> bool {
            let name = __cpuid(0);
            [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
        }

        /// `sums[row][column] = sum over pairs of a[row] . b[column]`, for rows of `a` that are `stride` pairs apart and
        /// a panel `b`.
        pub fn tile<const N: usize>(self, a: &[u32], stride: usize, b: &[u32], sums: &mut [[f32; PANEL]; N]) {
            let pairs = b.len() / PANEL;
            assert!(b.len().is_multiple_of(PANEL) && a.len() >= (N - 1) * stride + pairs);
            // SAFETY: `here` made this value, so the processor has the instructions. The assertion says that the operands
            // are as long as the function needs.
            unsafe { tile(a.as_ptr(), stride, b.as_ptr(), pairs, sums) }
        }
    }

    /// Number of registers per panel.
    const WIDE: usize = PANEL / 16;

    /// # Safety
    /// The processor has AVX-512 BF16; `a` has `N` rows of `pairs` readable elements, `stride` apart, and `b` has
    /// `pairs * PANEL`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const N: usize>(
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

    /// Sizes of the eight tiles, as `ldtilecfg` reads them: palette 1; bytes per row, two bytes each, from byte 16 on;
    /// rows from byte 48 on. All have 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Sizes([u8; 64]);

    static SIZES: Sizes = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Sizes(bytes)
    };

    impl Amx {
        /// The instructions, if this processor has them and the system lets this process use them. Only Linux is asked.
        pub fn here() -> Option<Self> {
            (has_tiles() && is_x86_feature_detected!("avx512f") && permitted()).then_some(Amx(()))
        }

        /// Sums of the products of rows of `a`, `stride` pairs apart, with the columns of a panel `b`, square by square:
        /// `square(row, column, sums)`. There is a multiple of [`SQUARE`] rows, and of [`STEP`] pairs in `b`.
        pub fn panel(
            self,
            [a, b]: [&[u32]; 2],
            (rows, stride): (usize, usize),
            mut square: impl FnMut(usize, usize, &[[f32; SQUARE]; SQUARE]),
        ) {
            let pairs = b.len() / PANEL;
            assert!(b.len().is_multiple_of(PANEL) && pairs.is_multiple_of(STEP) && pairs > 0);
            assert!(rows.is_multiple_of(SQUARE) && (rows == 0 || a.len() >= (rows - 1) * stride + pairs));
            // SAFETY: `here` made this value, so the processor has the instructions, and the process the permission to use
            // them. Tiles belong to the thread, no other code of this program uses them, and they are given back below.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SIZES, options(nostack, readonly, preserves_flags)) };
            let mut sums = [[0.0f32; SQUARE]; SQUARE];
            for column in (0..PANEL).step_by(SQUARE) {
                for row in (0..rows).step_by(SQUARE) {
                    let (a, b) = (&a[row * stride..], &b[column..]);
                    // SAFETY: the sizes of tiles were set above. The assertions say that there are 32 rows of `pairs`
                    // elements in `a`, and `pairs` rows in `b`, each with 32 columns from `column` on.
                    unsafe { multiply(a.as_ptr(), stride, b.as_ptr(), pairs / STEP, &mut sums) };
                    square(row, column, &sums);
                }
            }
            // SAFETY: as for `ldtilecfg`.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }

    /// `sums = a b`, of two tiles of rows and two tiles of columns.
    ///
    /// # Safety
    /// Tiles have the sizes [`SIZES`]. `a` has [`SQUARE`] rows of `steps * STEP` readable pairs, `stride` pairs apart; `b`
    /// has `steps * STEP` rows of [`SQUARE`] readable pairs, [`PANEL`] pairs apart; `steps` is not 0.
    unsafe fn multiply(a: *const u32, stride: usize, b: *const u32, steps: usize, sums: &mut [[f32; SQUARE]; SQUARE]) {
        let to = sums.as_mut_ptr();
        // SAFETY: the caller vouches for what is read. Each of the four tiles of sums is stored in its quarter of `sums`,
        // whose rows are 128 bytes apart. Tile registers are no operands that a compiler knows here: it does not use them.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{upper} + {stride} * 1]",
                "tileloadd tmm6, [{b} + {line} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{lower} + {stride} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b} + {line} * 1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, 64",
                "add {lower}, 64",
                "add {b}, {step}",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{to} + {row} * 1], tmm0",
                "tilestored [{to} + {row} * 1 + 64], tmm1",
                "tilestored [{half} + {row} * 1], tmm2",
                "tilestored [{half} + {row} * 1 + 64], tmm3",
                upper = inout(reg) a => _,
                lower = inout(reg) a.add(SQUARE / 2 * stride) => _,
                b = inout(reg) b => _,
                steps = inout(reg) steps => _,
                stride = in(reg) 4 * stride,
                line = in(reg) 4 * PANEL,
                step = const 4 * PANEL * STEP,
                to = in(reg) to,
                half = in(reg) to.add(SQUARE / 2),
                row = in(reg) 4 * SQUARE,
                options(nostack),
            );
        }
    }

    /// Whether the processor has tiles, and products of bfloat16 numbers with them.
    fn has_tiles() -> bool {
        /// Bits of register EDX that leaf 7 tells them in.
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        let wanted = AMX_BF16 | AMX_TILE;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & wanted == wanted
    }

    /// Asks Linux for the use of tiles by all threads of this process. It refuses where it does not know them, or where a
    /// thread's stack for signals is too small for what they hold.
    #[cfg(target_os = "linux")]
    fn permitted() -> bool {
        /// `ARCH_REQ_XCOMP_PERM` of Linux's `asm/prctl.h`.
        const REQUEST: libc::c_ulong = 0x1023;
        /// The processor's number for what tiles hold.
        const TILE_DATA: libc::c_ulong = 18;
        // SAFETY: this call reads and writes no memory of the process.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    fn permitted() -> bool {
        false
    }
}
