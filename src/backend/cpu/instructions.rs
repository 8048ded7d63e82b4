//! The processor's instructions for products: whether they are there, and tiles of products made with them. Beside
//! [`super::elements::in_pieces`], the only code of the CPU backend with `unsafe`.
//!
//! A value of [`Avx512`], [`Avx512Bf16`] or [`Amx`] is made only where the instructions exist and may be used. So functions
//! on them need not ask again, and are safe: they check the lengths of their operands.

use bytemuck::{Pod, Zeroable};

/// Sizes of a tile of sums in single precision: as many rows, and twice 16 columns. They use 28 of the 32 registers.
pub const SINGLE_ROWS: usize = 14;
/// See [`SINGLE_ROWS`].
pub const SINGLE_PANEL: usize = 32;

/// Sizes of a tile of sums in double precision: as many rows, and three times 8 columns. A panel has whole tiles of rows,
/// since both operands of a product with itself are the same panels.
pub const DOUBLE_ROWS: usize = 8;
/// See [`DOUBLE_ROWS`].
pub const DOUBLE_PANEL: usize = 24;

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

/// Room for so many elements of four bytes, all of them 0.
pub fn room(elements: usize) -> Vec<Line> {
    vec![Line::zeroed(); elements.div_ceil(16)]
}

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{Amx, Avx512, Avx512Bf16};
#[cfg(target_arch = "x86_64")]
pub use x86::{Amx, Avx512, Avx512Bf16};

/// Other processors have none of them: no value of these types exists.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::{PANEL, SQUARE};
    use faer::MatMut;

    /// `vfmadd231ps` and `vfmadd231pd` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Avx512 {}

    /// `vdpbf16ps` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Avx512Bf16 {}

    /// `tdpbf16ps` of AMX.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Amx {}

    impl Avx512 {
        pub fn here() -> Option<Self> {
            None
        }

        pub fn fast(self) -> bool {
            match self {}
        }

        pub fn single(self, _: &[f32], _: usize, _: &[f32], _: MatMut<f32>, _: bool) {
            match self {}
        }

        pub fn double(self, _: &[f64], _: &[f64], _: MatMut<f64>) {
            match self {}
        }
    }

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
    use super::{DOUBLE_PANEL, DOUBLE_ROWS, PANEL, SINGLE_PANEL, SINGLE_ROWS, SQUARE, STEP};
    use faer::MatMut;
    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid, __cpuid_count, __m512bh, __m512i, _MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch, _mm512_add_pd,
        _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_pd, _mm512_fmadd_ps, _mm512_loadu_pd, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mask_storeu_pd, _mm512_mask_storeu_ps, _mm512_maskz_loadu_pd, _mm512_maskz_loadu_ps,
        _mm512_set1_epi32, _mm512_set1_pd, _mm512_set1_ps, _mm512_setzero_pd, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    /// Whether the processor's maker has this name.
    fn made_by(name: &[u8; 12]) -> bool {
        let found = __cpuid(0);
        [found.ebx, found.edx, found.ecx].map(u32::to_le_bytes).concat() == name
    }

    /// `vfmadd231ps` and `vfmadd231pd` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Avx512(());

    /// `vdpbf16ps` of AVX-512.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Avx512Bf16(());

    /// `tdpbf16ps` of AMX.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Amx(());

    /// Calls a tile of single precision with its number of rows as a constant.
    macro_rules! with_rows {
        ($rows:expr, $tile:ident $arguments:tt, $($count:literal)*) => {
            match $rows {
                $($count => $tile::<$count> $arguments,)*
                _ => unreachable!("a tile has 1 to {SINGLE_ROWS} rows"),
            }
        };
    }

    impl Avx512 {
        /// The instructions, if this processor has them.
        pub fn here() -> Option<Self> {
            is_x86_feature_detected!("avx512f").then_some(Avx512(()))
        }

        /// Whether tiles were measured to be faster than faer's products: on Intel's processors. Others were not tried.
        pub fn fast(self) -> bool {
            made_by(b"GenuineIntel")
        }

        /// `y[row][column] = sum over inputs of a[row] . b[column]`, or adds this sum, for rows of `a` that are `stride`
        /// values apart and a panel `b`. `y` has at most [`SINGLE_ROWS`] by [`SINGLE_PANEL`] values and contiguous rows.
        pub fn single(self, a: &[f32], stride: usize, b: &[f32], y: MatMut<f32>, add: bool) {
            let depth = b.len() / SINGLE_PANEL;
            let (rows, columns) = (y.nrows(), y.ncols());
            assert!(b.len().is_multiple_of(SINGLE_PANEL) && (1..=SINGLE_ROWS).contains(&rows));
            assert!(a.len() >= (rows - 1) * stride + depth);
            assert!(columns <= SINGLE_PANEL && y.col_stride() == 1 && y.row_stride() >= 0);
            let (to, apart) = (y.as_ptr_mut(), y.row_stride() as usize);
            let mask = (1u64 << columns) - 1;
            // SAFETY: `here` made this value, so the processor has the instructions. The assertions say that the operands
            // are as long as the function needs; `y` vouches for its own memory.
            unsafe {
                with_rows!(rows, single(a.as_ptr(), stride, b.as_ptr(), depth, (to, apart, mask as u32), add),
                    1 2 3 4 5 6 7 8 9 10 11 12 13 14)
            }
        }

        /// Adds to `y[row][column]` the sum of the products of row `row` of `a` and column `column` of `b`. Both are panels
        /// of the same number of tokens; `a` begins with the first of the rows. `y` has at most [`DOUBLE_ROWS`] by
        /// [`DOUBLE_PANEL`] values and contiguous rows.
        pub fn double(self, a: &[f64], b: &[f64], y: MatMut<f64>) {
            let depth = b.len() / DOUBLE_PANEL;
            let (rows, columns) = (y.nrows(), y.ncols());
            assert!(b.len().is_multiple_of(DOUBLE_PANEL) && rows <= DOUBLE_ROWS && depth > 0);
            assert!(a.len() >= (depth - 1) * DOUBLE_PANEL + DOUBLE_ROWS);
            assert!(columns <= DOUBLE_PANEL && y.col_stride() == 1 && y.row_stride() >= 0);
            let (to, apart) = (y.as_ptr_mut(), y.row_stride() as usize);
            // SAFETY: as for `single`.
            unsafe { double(a.as_ptr(), b.as_ptr(), depth, (to, apart), (rows, columns)) }
        }
    }

    /// How many inputs before they are used values of a panel are fetched into the nearest cache.
    const AHEAD: usize = 8;

    /// # Safety
    /// The processor has AVX-512; `a` has `N` rows of `depth` readable values, `stride` apart, and `b` has
    /// `depth * SINGLE_PANEL`; `N` rows at `y`, which are the second value apart, may be written where the mask has bits.
    #[target_feature(enable = "avx512f")]
    unsafe fn single<const N: usize>(
        a: *const f32,
        stride: usize,
        b: *const f32,
        depth: usize,
        (y, apart, mask): (*mut f32, usize, u32),
        add: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        for row in 0..N {
            let y = y.wrapping_add(row * apart);
            _mm_prefetch::<_MM_HINT_ET0>(y.cast());
            _mm_prefetch::<_MM_HINT_ET0>(y.wrapping_add(SINGLE_PANEL / 2).cast());
        }
        for input in 0..depth {
            let b = b.wrapping_add(input * SINGLE_PANEL);
            let later = b.wrapping_add(AHEAD * SINGLE_PANEL);
            _mm_prefetch::<_MM_HINT_T0>(later.cast());
            _mm_prefetch::<_MM_HINT_T0>(later.wrapping_add(SINGLE_PANEL / 2).cast());
            // SAFETY: `input < depth`, and the caller vouches for the lengths. Fetching ahead may name any address.
            unsafe {
                let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(SINGLE_PANEL / 2))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*a.add(row * stride + input));
                    sums[0] = _mm512_fmadd_ps(value, b[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(value, b[1], sums[1]);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let y = y.wrapping_add(row * apart + half * SINGLE_PANEL / 2);
                let mask = (mask >> (half * SINGLE_PANEL / 2)) as u16;
                // SAFETY: the caller vouches for the values of the mask; no others are read or written.
                unsafe {
                    let sum = if add {
                        _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), *sum)
                    } else {
                        *sum
                    };
                    _mm512_mask_storeu_ps(y, mask, sum);
                }
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512; `a` has [`DOUBLE_ROWS`] readable values every [`DOUBLE_PANEL`] values, `depth` times, and
    /// `b` has `depth * DOUBLE_PANEL`; `y` has as many rows and columns as the last argument says, rows `apart`.
    #[target_feature(enable = "avx512f")]
    unsafe fn double(
        a: *const f64,
        b: *const f64,
        depth: usize,
        (y, apart): (*mut f64, usize),
        (rows, columns): (usize, usize),
    ) {
        const LANES: usize = 8;
        const WIDE: usize = DOUBLE_PANEL / LANES;
        let mut sums = [[_mm512_setzero_pd(); WIDE]; DOUBLE_ROWS];
        for row in 0..rows {
            for part in 0..WIDE {
                _mm_prefetch::<_MM_HINT_ET0>(y.wrapping_add(row * apart + part * LANES).cast());
            }
        }
        for token in 0..depth {
            let (a, b) = (
                a.wrapping_add(token * DOUBLE_PANEL),
                b.wrapping_add(token * DOUBLE_PANEL),
            );
            for part in 0..WIDE {
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * DOUBLE_PANEL + part * LANES).cast());
            }
            // SAFETY: `token < depth`, and the caller vouches for the lengths. Fetching ahead may name any address.
            unsafe {
                let b: [_; WIDE] = std::array::from_fn(|part| _mm512_loadu_pd(b.add(part * LANES)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_pd(*a.add(row));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_fmadd_pd(value, b, *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate().take(rows) {
            for (part, sum) in sums.iter().enumerate() {
                let y = y.wrapping_add(row * apart + part * LANES);
                let left = columns.saturating_sub(part * LANES).min(LANES);
                let mask = ((1u32 << left) - 1) as u8;
                // SAFETY: the caller vouches for `columns` values of the row; no others are read or written.
                unsafe { _mm512_mask_storeu_pd(y, mask, _mm512_add_pd(_mm512_maskz_loadu_pd(mask, y), *sum)) };
            }
        }
    }

    impl Avx512Bf16 {
        /// The instruction, if this processor has it.
        pub fn here() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")).then_some(Avx512Bf16(()))
        }

        /// Whether it multiplies faster than the instructions for single precision. On a Zen 4, twice as fast. On an Intel
        /// Xeon with AMX, 0.6 times as fast.
        pub fn fast(self) -> bool {
            made_by(b"AuthenticAMD")
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
