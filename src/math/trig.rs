//! Sine and cosine of an eighth of a turn.

use super::{horner_f32, horner_f64};
use crate::simd::Simd;

/// `sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1]. Relative error 2.8e-8.
const SIN_F32: [f32; 4] = [7.85398185e-01, -8.07458237e-02, 2.49098917e-03, -3.65884152e-05];

/// `cos(pi/4 y)` in powers of y^2, for y in [-1, 1]. Relative error 6.0e-8.
const COS_F32: [f32; 4] = [9.99999940e-01, -3.08423638e-01, 1.58481933e-02, -3.17679805e-04];

/// `sin(pi/4 y) / y` in powers of y^2, for y in [-1, 1]. Relative error 3.9e-17.
const SIN_F64: [f64; 7] = [
    7.8539816339744828e-01,
    -8.0745512188278565e-02,
    2.4903945701661209e-03,
    -3.6576204062586832e-05,
    3.1336143748287249e-07,
    -1.7569860143161267e-09,
    6.8227840582002801e-12,
];

/// `cos(pi/4 y)` in powers of y^2, for y in [-1, 1]. Relative error 1.1e-16.
const COS_F64: [f64; 7] = [
    9.9999999999999989e-01,
    -3.0842513753403394e-01,
    1.5854344243703057e-02,
    -3.2599188633724061e-04,
    3.5908589204924940e-06,
    -2.4609290853135544e-08,
    1.1358615014422947e-10,
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
