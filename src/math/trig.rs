//! Sine and cosine of an eighth of a turn.

#![allow(
    clippy::approx_constant,
    reason = "the first coefficient of the sine is nearly pi / 4, as it has to be"
)]

use super::{horner_f32, horner_f64};
use crate::simd::Simd;

/// `sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1]. Relative error 2.8e-8.
const SIN_F32: [f32; 4] = [7.853982e-01, -8.074582e-02, 2.4909892e-03, -3.6588415e-05];

/// `cos(pi/4 y)` in powers of y^2, for y in [-1, 1]. Relative error 6.0e-8.
const COS_F32: [f32; 4] = [9.9999994e-01, -3.0842364e-01, 1.5848193e-02, -3.176798e-04];

/// `sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1]. Relative error 3.9e-17.
const SIN_F64: [f64; 7] = [
    7.853981633974483e-01,
    -8.074551218827856e-02,
    2.490394570166121e-03,
    -3.657620406258683e-05,
    3.133614374828725e-07,
    -1.7569860143161267e-09,
    6.82278405820028e-12,
];

/// `cos(pi/4 y)` in powers of y^2, for y in [-1, 1]. Relative error 6.1e-17.
const COS_F64: [f64; 7] = [
    1e+00,
    -3.0842513753403883e-01,
    1.585434424374731e-02,
    -3.2599188649733255e-04,
    3.590859194828772e-06,
    -2.460951383359162e-08,
    1.1365542403772008e-10,
];

/// (`sin(pi/4 y) / y`, `cos(pi/4 y)`) for y in [-1, 1], each to 1.5 ulp.
#[inline(always)]
pub fn sin_cos_eighth_f32<S: Simd>(s: S, y: S::F32) -> (S::F32, S::F32) {
    let z = s.mul_f32(y, y);
    (horner_f32(s, z, &SIN_F32), horner_f32(s, z, &COS_F32))
}

/// The same in double precision.
#[inline(always)]
pub fn sin_cos_eighth_f64<S: Simd>(s: S, y: S::F64) -> (S::F64, S::F64) {
    let z = s.mul_f64(y, y);
    (horner_f64(s, z, &SIN_F64), horner_f64(s, z, &COS_F64))
}
