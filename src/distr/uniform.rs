//! The uniform distribution on `[low, high)`.
//!
//! An element is `middle + k * (high - low) / 2^32`, where k is its word as a signed integer; in double
//! precision the same with 64 bits. If the interval is symmetric about zero, k is rounded to the precision of
//! the type, so the steps are finest about zero. Otherwise the lowest 8 (11) bits of the word are ignored, so
//! that k is exact and the steps are equal: 2^-24 (2^-53) of the interval. The bounds are rounded to the
//! type.

use super::{SampleF32, SampleF64};
use crate::dtype::{Dtype, Element};
use crate::math::i64_to_f64;
use crate::simd::Simd;

/// A uniform distribution for elements computed as `T`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uniform<T> {
    /// The bits of a word that are used.
    mask: u64,
    middle: T,
    step: T,
    low: T,
    /// The greatest number whose stored value is less than `high`.
    last: T,
}

impl Uniform<f32> {
    /// For single precision, and for the half types that are rounded from it: `dtype` is what will be stored.
    pub fn new_f32(low: f64, high: f64, dtype: Dtype) -> Uniform<f32> {
        let (low, high) = (low as f32, high as f32);
        let last = match dtype {
            Dtype::F16 => last_below(high, |x| crate::dtype::F16::from_f32(x).to_f32()),
            Dtype::Bf16 => last_below(high, |x| crate::dtype::Bf16::from_f32(x).to_f32()),
            Dtype::F32 | Dtype::F64 => high.next_down(),
        };
        Uniform {
            mask: if low == -high { 0xffff_ffff } else { 0xffff_ff00 },
            middle: (0.5 * (low.to_f64() + high.to_f64())) as f32,
            step: ((high.to_f64() - low.to_f64()) / 4_294_967_296.0) as f32,
            low,
            last,
        }
    }
}

/// The greatest number that rounds to less than `high` does. Rounding is monotonic, so bisection finds it.
fn last_below(high: f32, round: impl Fn(f32) -> f32) -> f32 {
    // Numbers have the order of their bits as integers, reversed for negative ones. This is its own inverse.
    let flip = |bits: i32| bits ^ ((bits >> 31) as u32 >> 1) as i32;
    let number = |place: i32| f32::from_bits(flip(place) as u32);
    let place = |x: f32| flip(x.to_bits() as i32);
    let bound = round(high);
    let (mut below, mut above) = (place(f32::MIN), place(bound.max(high)));
    while below + 1 < above {
        let middle = below.midpoint(above);
        if round(number(middle)) < bound { below = middle } else { above = middle }
    }
    number(below)
}

impl Uniform<f64> {
    /// For double precision.
    pub fn new_f64(low: f64, high: f64) -> Uniform<f64> {
        let unit = 1.0 / 18_446_744_073_709_551_616.0;
        Uniform {
            mask: if low == -high { !0 } else { !0x7ff },
            middle: 0.5 * low + 0.5 * high,
            step: high * unit - low * unit,
            low,
            last: high.next_down(),
        }
    }
}

impl Uniform<f32> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, words: S::Int) -> S::F32 {
        let words = s.and(words, s.splat_u32(self.mask as u32));
        let x = s.mul_add_f32(s.i32_to_f32(words), s.splat_f32(self.step), s.splat_f32(self.middle));
        s.min_f32(s.max_f32(x, s.splat_f32(self.low)), s.splat_f32(self.last))
    }
}

impl SampleF32 for Uniform<f32> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (self.one(s, even), self.one(s, odd))
    }
}

impl Uniform<f64> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, word: S::Int) -> S::F64 {
        let word = s.and(word, s.splat_u64(self.mask));
        let x = s.mul_add_f64(i64_to_f64(s, word), s.splat_f64(self.step), s.splat_f64(self.middle));
        s.min_f64(s.max_f64(x, s.splat_f64(self.low)), s.splat_f64(self.last))
    }
}

impl SampleF64 for Uniform<f64> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64) {
        (self.one(s, first), self.one(s, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{Bf16, F16};

    #[test]
    fn last_below_is_the_last_number_below() {
        for high in [1.0, -1.0, 0.05, -0.05, 0.3, 1e-3, 1e-8, 0.0, 65504.0, 1e6, 3e38, 1.5e-5, -1e-30] {
            let high = high as f32;
            for (name, round) in [
                ("bfloat16", (|x| Bf16::from_f32(x).to_f32()) as fn(f32) -> f32),
                ("float16", |x| F16::from_f32(x).to_f32()),
            ] {
                let last = last_below(high, round);
                assert!(round(last) < round(high), "{name} {high:e} {last:e}");
                assert_eq!(round(last.next_up()), round(high), "{name} {high:e} {last:e}");
            }
        }
    }
}
