//! Logarithms.

use super::{horner_f32, horner_f64, u32_to_f64};
use crate::simd::Simd;

/// The bits of 2/3: numbers are split into `2^e m` with m in [2/3, 4/3), where `|m - 1|` is smallest.
const TWO_THIRDS: u32 = 0x3f2a_aaab;
/// The bits of `sqrt(1/2)`: the same in double precision, with m in [sqrt 1/2, sqrt 2).
const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;

/// `-2 ln(1 + f) / f` for f in [-1/3, 1/3]. Relative error 2.6e-8.
const LOG_F32: [f32; 9] = [
    -2e+00,
    9.9999875e-01,
    -6.66664e-01,
    5.0015485e-01,
    -4.002213e-01,
    3.2834366e-01,
    -2.7994713e-01,
    3.0765352e-01,
    -2.8038555e-01,
];

/// `-ln(1 + f) / f` for f in [-1/3, 1/3]. Relative error 1.8e-7.
const LOG_COARSE_F32: [f32; 8] = [
    -9.999998e-01,
    4.999999e-01,
    -3.3338e-01,
    2.5004652e-01,
    -1.9796392e-01,
    1.6463736e-01,
    -1.7098336e-01,
    1.517408e-01,
];

/// `(ln(1 + f) - 2 s) / s^3` in powers of s^2, where s = f / (2 + f), f in [1/sqrt 2 - 1, sqrt 2 - 1].
/// Relative error 4.6e-16.
const LOG_F64: [f64; 7] = [
    6.66666666666667e-01,
    3.9999999999899855e-01,
    2.8571428625928685e-01,
    2.2222211135525752e-01,
    1.818288931284132e-01,
    1.533171105390721e-01,
    1.4616610769169405e-01,
];

/// `x = 2^(e + scale) m`: returns (e, m - 1), for x positive and normal, m in [2/3, 4/3).
#[inline(always)]
fn split_f32<S: Simd>(s: S, x: S::F32, scale: u32) -> (S::F32, S::F32) {
    let t = s.sub_u32(s.f32_to_bits(x), s.splat_u32(TWO_THIRDS + (scale << 23)));
    let e = s.i32_to_f32(s.sar_i32(t, 23));
    let m = s.add_u32(s.and(t, s.splat_u32(0x007f_ffff)), s.splat_u32(TWO_THIRDS));
    (e, s.sub_f32(s.f32_from_bits(m), s.splat_f32(1.0)))
}

/// `-2 ln(k / 2^31)` of an integer k from 1 to 2^31 - 1, to 2 ulp for every k: near 2^31 the logarithm is
/// small, so the rounding error of the conversion of k is added again.
#[inline(always)]
pub fn minus_2_ln_of_fraction<S: Simd>(s: S, k: S::Int) -> S::F32 {
    let x = s.i32_to_f32(k);
    let rest = s.i32_to_f32(s.sub_u32(k, s.f32_to_i32(x)));
    let (e, f) = split_f32(s, x, 31);
    let f = s.mul_add_f32(rest, s.splat_f32(1.0 / (1_u32 << 31) as f32), f);
    s.mul_add_f32(f, horner_f32(s, f, &LOG_F32), s.mul_f32(e, s.splat_f32(-2.0 * std::f32::consts::LN_2)))
}

/// `-ln x` to an absolute error of 2e-7, for x positive and normal.
#[inline(always)]
pub fn minus_ln_coarse<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (e, f) = split_f32(s, x, 0);
    s.mul_add_f32(f, horner_f32(s, f, &LOG_COARSE_F32), s.mul_f32(e, s.splat_f32(-std::f32::consts::LN_2)))
}

/// `ln(1 + f)` to 2 ulp, for f in [sqrt 1/2 - 1, sqrt 2 - 1].
#[inline(always)]
fn ln_1p_f64<S: Simd>(s: S, f: S::F64) -> S::F64 {
    let t = s.div_f64(f, s.add_f64(f, s.splat_f64(2.0)));
    let z = s.mul_f64(t, t);
    s.mul_f64(t, s.mul_add_f64(z, horner_f64(s, z, &LOG_F64), s.splat_f64(2.0)))
}

/// `x = 2^(e + scale) m`: returns (e, m - 1), for x at least `sqrt(1/2)`, m in [sqrt 1/2, sqrt 2).
#[inline(always)]
fn split_f64<S: Simd>(s: S, bits: S::Int, scale: f64) -> (S::F64, S::F64) {
    let t = s.sub_u64(bits, s.splat_u64(SQRT_HALF));
    let e = s.sub_f64(u32_to_f64(s, s.shr_u64(t, 52)), s.splat_f64(scale));
    let m = s.add_u64(s.and(t, s.splat_u64((1 << 52) - 1)), s.splat_u64(SQRT_HALF));
    (e, s.sub_f64(s.f64_from_bits(m), s.splat_f64(1.0)))
}

/// `-2 ln(k / 2^64)` of an odd 64-bit integer k, given as its halves, to 3 ulp.
#[inline(always)]
pub fn minus_2_ln_of_fraction_f64<S: Simd>(s: S, high: S::F64, low: S::F64) -> S::F64 {
    let two_32 = s.splat_f64(4294967296.0);
    let x = s.mul_add_f64(high, two_32, low);
    let rest = s.add_f64(s.mul_add_f64(high, two_32, s.sub_f64(s.splat_f64(0.0), x)), low);
    let (e, f) = split_f64(s, s.f64_to_bits(x), 64.0);
    let f = s.mul_add_f64(rest, s.splat_f64(1.0 / 18446744073709551616.0), f);
    let ln = s.mul_add_f64(e, s.splat_f64(std::f64::consts::LN_2), ln_1p_f64(s, f));
    s.mul_f64(ln, s.splat_f64(-2.0))
}

/// `ln x` to 3 ulp or an absolute error of 1e-16, for x from 2^-1000 on.
#[inline(always)]
pub fn ln_f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    // The exponent is raised by 1001, so that it is positive for every x.
    let bits = s.add_u64(s.f64_to_bits(x), s.splat_u64(1001 << 52));
    let (e, f) = split_f64(s, bits, 1001.0);
    s.mul_add_f64(e, s.splat_f64(std::f64::consts::LN_2), ln_1p_f64(s, f))
}
