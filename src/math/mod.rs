//! Elementary functions from the operations of [`Simd`], and the normal integrals that prepare a truncated
//! normal distribution.
//!
//! No function calls the platform's libm, so results do not differ between machines. Each states its range
//! and its error in units in the last place (ulp) of the result. The coefficients come from
//! `tools/coefficients.py`.
#![forbid(unsafe_code)]

use crate::simd::Simd;

pub mod log;
pub mod narrow;
pub mod normal;
pub mod quantile;
pub mod trig;

/// The polynomial with these coefficients, lowest order first.
#[inline(always)]
pub fn horner_f32<S: Simd, const N: usize>(s: S, x: S::F32, coefficients: &[f32; N]) -> S::F32 {
    let mut sum = s.splat_f32(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        sum = s.mul_add_f32(sum, x, s.splat_f32(c));
    }
    sum
}

/// The polynomial with these coefficients, lowest order first.
#[inline(always)]
pub fn horner_f64<S: Simd, const N: usize>(s: S, x: S::F64, coefficients: &[f64; N]) -> S::F64 {
    let mut sum = s.splat_f64(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        sum = s.mul_add_f64(sum, x, s.splat_f64(c));
    }
    sum
}

/// The same polynomial, computed with a shorter chain of dependent operations: groups of four coefficients (the
/// last one of three or four), combined by Horner's rule in x^4.
#[inline(always)]
pub fn fours_f32<S: Simd, const N: usize>(s: S, x: S::F32, coefficients: &[f32; N]) -> S::F32 {
    let x2 = s.mul_f32(x, x);
    let x4 = s.mul_f32(x2, x2);
    let mut sum = s.splat_f32(0.0);
    for (i, c) in coefficients.chunks(4).enumerate().rev() {
        let group = match *c {
            [a, b, c] => s.mul_add_f32(s.splat_f32(c), x2, horner_f32(s, x, &[a, b])),
            [a, b, c, d] => s.mul_add_f32(horner_f32(s, x, &[c, d]), x2, horner_f32(s, x, &[a, b])),
            _ => unreachable!("the last group has three coefficients or four"),
        };
        sum = if 4 * i + 4 >= N { group } else { s.mul_add_f32(sum, x4, group) };
    }
    sum
}

/// The same in double precision.
#[inline(always)]
pub fn fours_f64<S: Simd, const N: usize>(s: S, x: S::F64, coefficients: &[f64; N]) -> S::F64 {
    let x2 = s.mul_f64(x, x);
    let x4 = s.mul_f64(x2, x2);
    let mut sum = s.splat_f64(0.0);
    for (i, c) in coefficients.chunks(4).enumerate().rev() {
        let group = match *c {
            [a, b, c] => s.mul_add_f64(s.splat_f64(c), x2, horner_f64(s, x, &[a, b])),
            [a, b, c, d] => s.mul_add_f64(horner_f64(s, x, &[c, d]), x2, horner_f64(s, x, &[a, b])),
            _ => unreachable!("the last group has three coefficients or four"),
        };
        sum = if 4 * i + 4 >= N { group } else { s.mul_add_f64(sum, x4, group) };
    }
    sum
}

/// The bits of 2^52, whose fraction has room for a 32-bit integer.
pub const TWO_52: u64 = 0x4330_0000_0000_0000;

/// The low halves of the 64-bit lanes as numbers; the high halves must be zero. Exact.
#[inline(always)]
pub fn u32_to_f64<S: Simd>(s: S, a: S::Int) -> S::F64 {
    let shifted = s.f64_from_bits(s.or(a, s.splat_u64(TWO_52)));
    s.sub_f64(shifted, s.splat_f64(4503599627370496.0))
}

/// The halves of each 64-bit lane as numbers: (high, low), both unsigned. Exact.
#[inline(always)]
pub fn halves_to_f64<S: Simd>(s: S, a: S::Int) -> (S::F64, S::F64) {
    (u32_to_f64(s, s.shr_u64(a, 32)), u32_to_f64(s, s.and(a, s.splat_u64(0xffff_ffff))))
}

/// The signed 64-bit integer as a number, rounded once.
#[inline(always)]
pub fn i64_to_f64<S: Simd>(s: S, a: S::Int) -> S::F64 {
    // With the sign bit flipped the integer is unsigned and 2^63 too large, which is subtracted from the high
    // half exactly.
    let (high, low) = halves_to_f64(s, s.xor(a, s.splat_u64(1 << 63)));
    s.mul_add_f64(s.sub_f64(high, s.splat_f64(2147483648.0)), s.splat_f64(4294967296.0), low)
}
