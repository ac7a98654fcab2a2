//! The uniform distribution on `[low, high)`.
//!
//! An element is `middle + k * (high - low) / 2^32`, where k is its word as a signed integer; in double
//! precision the same with 64 bits. If the interval is symmetric about zero, k is rounded to the precision of
//! the type, so the steps are finest about zero. Otherwise the lowest 8 (11) bits of the word are ignored, so
//! that k is exact and the steps are equal: 2^-24 (2^-53) of the interval. The bounds are rounded to the
//! type.
//!
//! The least element of a symmetric interval is its lower bound exactly, unless steps are subnormal. So there
//! the middle, the mask and the comparison with the lower bound are left out.

use super::{SampleF32, SampleF64, Sampler, Steps};
use crate::dtype::{Dtype, Element};
use crate::math::i64_to_f64;
use crate::simd::Simd;

/// A uniform distribution for elements computed as `T`; with `SYMMETRIC`, about zero and with steps that are
/// not subnormal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uniform<T, const SYMMETRIC: bool> {
    /// The bits of a word that are used.
    mask: u64,
    middle: T,
    step: T,
    low: T,
    /// The greatest number whose stored value is less than `high`.
    last: T,
}

/// The form for these bounds in single precision, and for the half types that are rounded from it: `dtype` is
/// what will be stored.
pub(super) fn sampler_f32(low: f64, high: f64, dtype: Dtype) -> Sampler {
    let (low, high) = (low as f32, high as f32);
    let last = match dtype {
        Dtype::F16 => last_below(high, |x| crate::dtype::F16::from_f32(x).to_f32()),
        Dtype::Bf16 => last_below(high, |x| crate::dtype::Bf16::from_f32(x).to_f32()),
        Dtype::F32 | Dtype::F64 => high.next_down(),
    };
    let mask = if low == -high { 0xffff_ffff } else { 0xffff_ff00 };
    let middle = (0.5 * (low.to_f64() + high.to_f64())) as f32;
    let step = ((high.to_f64() - low.to_f64()) / 4_294_967_296.0) as f32;
    if low == -high && step >= f32::MIN_POSITIVE {
        Sampler::SymmetricUniformF32(Uniform { mask, middle, step, low, last })
    } else {
        Sampler::UniformF32(Uniform { mask, middle, step, low, last })
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

/// The form for these bounds in double precision.
pub(super) fn sampler_f64(low: f64, high: f64) -> Sampler {
    let unit = 1.0 / 18_446_744_073_709_551_616.0;
    let mask = if low == -high { !0 } else { !0x7ff };
    let (middle, step) = (0.5 * low + 0.5 * high, high * unit - low * unit);
    let last = high.next_down();
    if low == -high && high * unit >= f64::MIN_POSITIVE {
        Sampler::SymmetricUniformF64(Uniform { mask, middle, step, low, last })
    } else {
        Sampler::UniformF64(Uniform { mask, middle, step, low, last })
    }
}

impl<T: Copy, const SYMMETRIC: bool> Steps for Uniform<T, SYMMETRIC> {}

impl<const SYMMETRIC: bool> Uniform<f32, SYMMETRIC> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, words: S::Int) -> S::F32 {
        let step = s.splat_f32(self.step);
        let x = if SYMMETRIC {
            s.mul_f32(s.i32_to_f32(words), step)
        } else {
            let k = s.i32_to_f32(s.and(words, s.splat_u32(self.mask as u32)));
            s.max_f32(s.mul_add_f32(k, step, s.splat_f32(self.middle)), s.splat_f32(self.low))
        };
        s.min_f32(x, s.splat_f32(self.last))
    }
}

impl<const SYMMETRIC: bool> SampleF32 for Uniform<f32, SYMMETRIC> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (self.one(s, even), self.one(s, odd))
    }
}

impl<const SYMMETRIC: bool> Uniform<f64, SYMMETRIC> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, word: S::Int) -> S::F64 {
        let step = s.splat_f64(self.step);
        let x = if SYMMETRIC {
            s.mul_f64(i64_to_f64(s, word), step)
        } else {
            let k = i64_to_f64(s, s.and(word, s.splat_u64(self.mask)));
            s.max_f64(s.mul_add_f64(k, step, s.splat_f64(self.middle)), s.splat_f64(self.low))
        };
        s.min_f64(x, s.splat_f64(self.last))
    }
}

impl<const SYMMETRIC: bool> SampleF64 for Uniform<f64, SYMMETRIC> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64) {
        (self.one(s, first), self.one(s, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{Bf16, F16};
    use crate::simd::Scalar;

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

    /// What the form for symmetric intervals leaves out has no effect there, at any step that is not
    /// subnormal.
    #[test]
    fn the_symmetric_form_gives_the_bits_of_the_general_one() {
        let random = (0..1000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let words: Vec<u64> = [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 31, (1 << 31) - 1]
            .into_iter()
            .chain(random)
            .collect();
        for high in [1.0, 0.05, 1.0 / 3.0, 1e30, 1e-28, 2.0_f64.powi(-95), 65504.0] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                let Sampler::SymmetricUniformF32(short) = sampler_f32(-high, high, dtype) else {
                    panic!("{high:e} {dtype:?}")
                };
                let Uniform { mask, middle, step, low, last } = short;
                let general = Uniform::<f32, false> { mask, middle, step, low, last };
                for &word in &words {
                    let [a, b] = [short.one(Scalar, word), general.one(Scalar, word)];
                    assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits), "{high:e} {dtype:?} {word:x}");
                }
            }
        }
        for high in [1.0, 0.05, 1.0 / 3.0, 1e300, 1e-280, 2.0_f64.powi(-958)] {
            let Sampler::SymmetricUniformF64(short) = sampler_f64(-high, high) else { panic!("{high:e}") };
            let Uniform { mask, middle, step, low, last } = short;
            let general = Uniform::<f64, false> { mask, middle, step, low, last };
            for &word in &words {
                let [a, b] = [short.one(Scalar, word), general.one(Scalar, word)];
                assert_eq!(a.to_bits(), b.to_bits(), "{high:e} {word:x}");
            }
        }
        assert!(matches!(sampler_f32(-1e-37, 1e-37, Dtype::F32), Sampler::UniformF32(_)));
        assert!(matches!(sampler_f64(-1e-300, 1e-300), Sampler::UniformF64(_)));
    }
}
