//! Vectorisation: run-time dispatch to the widest instructions this processor has, and an exponential
//! that a compiler can vectorise.

use std::f32::consts::LOG2_E;

/// Runs `work` compiled for the widest vector instructions of this processor. Results do not depend on
/// the width: Rust never fuses or reorders floating-point operations, and sums are kept in [`LANES`] parts.
/// Closures passed here carry `#[inline(always)]`; one that is not inlined is compiled for the baseline.
#[inline(always)]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Number of parts of a sum that are added separately: the number of `f32` in the widest vectors.
pub const LANES: usize = 16;

/// The sum of `value(x)` over a slice, in [`LANES`] parts; rounding errors grow with a sixteenth of the length.
#[inline(always)]
pub fn sum_of(values: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut parts = [0.0f32; LANES];
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part += value(*x);
        }
    }
    for (part, x) in parts.iter_mut().zip(rest) {
        *part += value(*x);
    }
    parts.iter().sum()
}

/// The largest value of a slice.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut parts = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part = if *x > *part { *x } else { *part };
        }
    }
    parts.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Bounds every value smoothly: `bound tanh(x / bound)`. Good to 1e-7 of the bound, which is what a
/// softmax over the values sees.
#[inline(always)]
pub fn soften(values: &mut [f32], bound: f32) {
    values.iter_mut().for_each(|x| {
        let doubled = 2.0 * *x / bound;
        *x = bound * (1.0 - 2.0 / (1.0 + exp(doubled)));
    });
}

/// `e^x` to within 2 units in the last place for results in the normal range; 0 below it and about
/// 3e38 above it. NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by its Taylor polynomial of degree 7 (error below
/// 1e-8); `2^n` through the exponent bits, in two factors so that the ends of the range stay exact.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts; the first has few enough bits that `n * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -104.0 { -104.0 } else { x };
    let clamped = if clamped > 88.72 { 88.72 } else { clamped };
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut polynomial = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        polynomial = polynomial * r + coefficient;
    }
    // The low bits of `shifted` are `n` in two's complement. A NaN makes them meaningless, and the
    // product NaN all the same. Wrapping arithmetic, since a check for overflow would stop vectorisation.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |exponent: i32| f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    polynomial * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        let mut x = -87.0f32;
        while x < 88.7 {
            let want = f64::from(x).exp();
            let got = f64::from(exp(x));
            let unit = f64::from(f32::EPSILON) * want;
            assert!((got - want).abs() <= 2.0 * unit, "exp({x}) = {got}, not {want}");
            x += 0.003_7;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_cover_the_tail() {
        let values: Vec<f32> = (0..37).map(|x| x as f32).collect();
        assert_eq!(sum_of(&values, |x| 2.0 * x), 2.0 * 36.0 * 37.0 / 2.0);
        assert_eq!(largest(&values), 36.0);
        assert_eq!(largest(&values[..3]), 2.0);
    }
}
