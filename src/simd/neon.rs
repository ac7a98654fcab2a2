//! 128-bit NEON, which every AArch64 has: two pairs of lanes.

use super::{Kernel, Paired, Simd};
use crate::dtype::F16;
use std::arch::aarch64::*;

/// The token of NEON, which every AArch64 has.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

/// The operations, each an intrinsic or a few.
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $body:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe, reason = "intrinsics without pointers are safe where NEON is always on")]
        fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: NEON is part of AArch64, and no intrinsic here touches memory.
            unsafe { $body }
        }
    )*};
}

/// The 64-bit lanes of integers.
macro_rules! u64s {
    ($a:expr) => {
        vreinterpretq_u64_u32($a)
    };
}

/// Back to 32-bit lanes.
macro_rules! u32s {
    ($a:expr) => {
        vreinterpretq_u32_u64($a)
    };
}

impl Simd for Neon {
    const STREAMS: bool = false;
    const PAIRS: usize = 2;
    type Int = uint32x4_t;
    type F32 = float32x4_t;
    type F64 = float64x2_t;
    type M32 = uint32x4_t;
    type M64 = uint64x2_t;

    type Wide = Paired<Paired<Neon>>;

    #[inline(always)]
    fn wide(self) -> Self::Wide {
        Paired(Paired(self))
    }
    // Not inlined, so that a kernel that runs others has one copy of each.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    operations! {
        fn splat_u32(x: u32) -> uint32x4_t = vdupq_n_u32(x);
        fn splat_u64(x: u64) -> uint32x4_t = u32s!(vdupq_n_u64(x));
        fn lane_order() -> uint32x4_t = u32s!(vcombine_u64(vcreate_u64(0), vcreate_u64(1)));
        fn zip_order() -> uint32x4_t = u32s!(vcombine_u64(vcreate_u64(0), vcreate_u64(1)));

        fn add_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vaddq_u32(a, b);
        fn sub_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vsubq_u32(a, b);
        fn abs_i32(a: uint32x4_t) -> uint32x4_t = vreinterpretq_u32_s32(vabsq_s32(vreinterpretq_s32_u32(a)));
        fn shl_u32(a: uint32x4_t, n: u32) -> uint32x4_t = vshlq_u32(a, vdupq_n_s32(n as i32));
        fn shr_u32(a: uint32x4_t, n: u32) -> uint32x4_t = vshlq_u32(a, vdupq_n_s32(-(n as i32)));
        fn sar_i32(a: uint32x4_t, n: u32) -> uint32x4_t =
            vreinterpretq_u32_s32(vshlq_s32(vreinterpretq_s32_u32(a), vdupq_n_s32(-(n as i32))));
        fn add_u64(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = u32s!(vaddq_u64(u64s!(a), u64s!(b)));
        fn sub_u64(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = u32s!(vsubq_u64(u64s!(a), u64s!(b)));
        fn shl_u64(a: uint32x4_t, n: u32) -> uint32x4_t = u32s!(vshlq_u64(u64s!(a), vdupq_n_s64(n as i64)));
        fn shr_u64(a: uint32x4_t, n: u32) -> uint32x4_t = u32s!(vshlq_u64(u64s!(a), vdupq_n_s64(-(n as i64))));
        fn and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vandq_u32(a, b);
        fn or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vorrq_u32(a, b);
        fn xor(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = veorq_u32(a, b);
        fn xor3(a: uint32x4_t, b: uint32x4_t, c: uint32x4_t) -> uint32x4_t = veorq_u32(veorq_u32(a, c), b);
        fn mul_even_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t =
            u32s!(vmull_u32(vmovn_u64(u64s!(a)), vmovn_u64(u64s!(b))));
        fn pair_even_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vtrn1q_u32(a, b);
        fn pair_odd_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vtrn2q_u32(a, b);
        fn zip_u32(a: uint32x4_t, b: uint32x4_t) -> (uint32x4_t, uint32x4_t) = (vzip1q_u32(a, b), vzip2q_u32(a, b));

        fn splat_f32(x: f32) -> float32x4_t = vdupq_n_f32(x);
        fn add_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        fn sub_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        fn mul_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        fn div_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fn mul_add_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        fn neg_mul_add_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmsq_f32(c, a, b);
        fn sqrt_f32(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        fn min_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
        fn max_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
        fn lt_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t = vcltq_f32(a, b);
        fn bit_u32(a: uint32x4_t, n: u32) -> uint32x4_t = vtstq_u32(a, vdupq_n_u32(1 << n));
        fn select_f32(condition: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t =
            vbslq_f32(condition, a, b);
        fn any_f32(condition: uint32x4_t) -> bool = vmaxvq_u32(condition) != 0;
        fn i32_to_f32(a: uint32x4_t) -> float32x4_t = vcvtq_f32_s32(vreinterpretq_s32_u32(a));
        // To unsigned numbers, whose 2^31 has the bits that the wrapped -2^31 has.
        fn f32_to_i32(a: float32x4_t) -> uint32x4_t = vcvtq_u32_f32(a);
        fn f32_from_bits(a: uint32x4_t) -> float32x4_t = vreinterpretq_f32_u32(a);
        fn f32_to_bits(a: float32x4_t) -> uint32x4_t = vreinterpretq_u32_f32(a);
        // The intrinsic needs a type that is not stable yet.
        fn narrow_f16(a: float32x4_t, b: float32x4_t) -> uint32x4_t = {
            let wide: [[f32; 4]; 2] = [std::mem::transmute(a), std::mem::transmute(b)];
            std::mem::transmute(wide.map(|four| four.map(|x| F16::from_f32(x).0)))
        };

        fn splat_f64(x: f64) -> float64x2_t = vdupq_n_f64(x);
        fn add_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vaddq_f64(a, b);
        fn sub_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vsubq_f64(a, b);
        fn mul_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vmulq_f64(a, b);
        fn div_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vdivq_f64(a, b);
        fn mul_add_f64(a: float64x2_t, b: float64x2_t, c: float64x2_t) -> float64x2_t = vfmaq_f64(c, a, b);
        fn neg_mul_add_f64(a: float64x2_t, b: float64x2_t, c: float64x2_t) -> float64x2_t = vfmsq_f64(c, a, b);
        fn sqrt_f64(a: float64x2_t) -> float64x2_t = vsqrtq_f64(a);
        fn min_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vbslq_f64(vcltq_f64(a, b), a, b);
        fn max_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = vbslq_f64(vcgtq_f64(a, b), a, b);
        fn lt_f64(a: float64x2_t, b: float64x2_t) -> uint64x2_t = vcltq_f64(a, b);
        fn bit_u64(a: uint32x4_t, n: u32) -> uint64x2_t = vtstq_u64(u64s!(a), vdupq_n_u64(1 << n));
        fn select_f64(condition: uint64x2_t, a: float64x2_t, b: float64x2_t) -> float64x2_t =
            vbslq_f64(condition, a, b);
        fn any_f64(condition: uint64x2_t) -> bool = vmaxvq_u32(u32s!(condition)) != 0;
        fn f64_from_bits(a: uint32x4_t) -> float64x2_t = vreinterpretq_f64_u32(a);
        fn f64_to_bits(a: float64x2_t) -> uint32x4_t = vreinterpretq_u32_f64(a);
        fn zip_f64(a: float64x2_t, b: float64x2_t) -> (float64x2_t, float64x2_t) =
            (vzip1q_f64(a, b), vzip2q_f64(a, b));
        fn pair_f64_to_f32(even: float64x2_t, odd: float64x2_t) -> float32x4_t = {
            let (even, odd) = (vcvt_f32_f64(even), vcvt_f32_f64(odd));
            vcombine_f32(vzip1_f32(even, odd), vzip2_f32(even, odd))
        };
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> uint32x4_t {
        // SAFETY: the caller guarantees 16 readable bytes; bytes need no alignment.
        unsafe { vreinterpretq_u32_u8(vld1q_u8(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, a: uint32x4_t) {
        // SAFETY: the caller guarantees 16 writable bytes; bytes need no alignment.
        unsafe { vst1q_u8(to, vreinterpretq_u8_u32(a)) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8, a: uint32x4_t) {
        // SAFETY: as for `store`; NEON has no intrinsic for a non-temporal store.
        unsafe { self.store(to, a) }
    }
    #[inline(always)]
    fn stream_end(self) {}
}
