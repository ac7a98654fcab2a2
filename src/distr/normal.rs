//! The normal distribution, by the transform of Box and Muller (Annals of Mathematical Statistics 29, 1958).
//!
//! The first word of a pair of elements gives the radius `sqrt(-2 ln u)` and the second the angle, so the
//! elements 0 and 1 of a block share two words, and 2 and 3 the other two. In single precision u is an odd
//! multiple of 2^-31, from which the radius reaches 6.55; in double precision one of 2^-64, and the radius
//! reaches 9.41. The angle is one of the four half-axes, which its two highest bits select, plus or minus an
//! odd multiple of 2^-30 (2^-62) of an eighth of a turn. So the distribution is exactly symmetric about zero
//! and under exchange of the two elements.

use super::{SampleF32, SampleF64, Steps};
use crate::math::log::{minus_2_ln_of_split, minus_2_ln_of_split_f64, split_fraction, split_fraction_f64};
use crate::math::trig::{sin_cos_eighth_f32, sin_cos_eighth_f64};
use crate::math::{halves_to_f64, i64_to_f64};
use crate::simd::Simd;

/// A normal distribution for elements computed as `T`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal<T> {
    /// The mean.
    pub mean: T,
    /// The standard deviation.
    pub stddev: T,
}

/// The numerator of u, whose denominator is 2^31, for a word.
#[inline(always)]
fn radius_word<S: Simd>(s: S, word: S::Int) -> S::Int {
    s.or(s.shr_u32(word, 1), s.splat_u32(1))
}

/// The radius of a word.
#[cfg(test)]
pub(crate) fn radius_f32<S: Simd>(s: S, word: S::Int) -> S::F32 {
    s.sqrt_f32(minus_2_ln_of_split(s, split_fraction(s, radius_word(s, word))))
}

/// The two coordinates, on the unit circle, of the angle of a word.
#[inline(always)]
pub(crate) fn on_circle_f32<S: Simd>(s: S, word: S::Int) -> (S::F32, S::F32) {
    let angle = s.i32_to_f32(s.or(s.shl_u32(word, 2), s.splat_u32(2)));
    let y = s.mul_f32(angle, s.splat_f32(1.0 / (1_u32 << 31) as f32));
    let (sin_over_y, cos) = sin_cos_eighth_f32(s, y);
    let across = s.mul_f32(y, sin_over_y);
    let along = s.f32_from_bits(s.xor(s.f32_to_bits(cos), s.and(word, s.splat_u32(1 << 31))));
    let swap = s.bit_u32(word, 30);
    (s.select_f32(swap, across, along), s.select_f32(swap, along, across))
}

impl Steps for Normal<f32> {
    const STEPS: usize = 2;

    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, [a, odd, b, _]: [S::Int; 4]) -> [S::Int; 4] {
        if STEP == 0 {
            let (e, f) = split_fraction(s, radius_word(s, a));
            return [s.f32_to_bits(f), odd, s.f32_to_bits(e), odd];
        }
        let square = minus_2_ln_of_split(s, (s.f32_from_bits(b), s.f32_from_bits(a)));
        let radius = s.f32_to_bits(s.mul_f32(s.sqrt_f32(square), s.splat_f32(self.stddev)));
        [radius, odd, radius, odd]
    }
}

impl SampleF32 for Normal<f32> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        let radius = s.f32_from_bits(even);
        let (a, b) = on_circle_f32(s, odd);
        let mean = s.splat_f32(self.mean);
        (s.mul_add_f32(radius, a, mean), s.mul_add_f32(radius, b, mean))
    }
}

/// The two coordinates, on the unit circle, of the angle of a word of 64 bits.
#[inline(always)]
pub(crate) fn on_circle_f64<S: Simd>(s: S, word: S::Int) -> (S::F64, S::F64) {
    let angle = i64_to_f64(s, s.or(s.shl_u64(word, 2), s.splat_u64(2)));
    let y = s.mul_f64(angle, s.splat_f64(1.0 / (1_u64 << 63) as f64));
    let (sin_over_y, cos) = sin_cos_eighth_f64(s, y);
    let across = s.mul_f64(y, sin_over_y);
    let along = s.f64_from_bits(s.xor(s.f64_to_bits(cos), s.and(word, s.splat_u64(1 << 63))));
    let swap = s.bit_u64(word, 62);
    (s.select_f64(swap, across, along), s.select_f64(swap, along, across))
}

impl Steps for Normal<f64> {
    const STEPS: usize = 2;

    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, [a, second, b, _]: [S::Int; 4]) -> [S::Int; 4] {
        if STEP == 0 {
            let (high, low) = halves_to_f64(s, s.or(a, s.splat_u64(1)));
            let (e, f) = split_fraction_f64(s, high, low);
            return [s.f64_to_bits(f), second, s.f64_to_bits(e), second];
        }
        let square = minus_2_ln_of_split_f64(s, (s.f64_from_bits(b), s.f64_from_bits(a)));
        let radius = s.f64_to_bits(s.mul_f64(s.sqrt_f64(square), s.splat_f64(self.stddev)));
        [radius, second, radius, second]
    }
}

impl SampleF64 for Normal<f64> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64) {
        let radius = s.f64_from_bits(first);
        let (a, b) = on_circle_f64(s, second);
        let mean = s.splat_f64(self.mean);
        (s.mul_add_f64(radius, a, mean), s.mul_add_f64(radius, b, mean))
    }
}
