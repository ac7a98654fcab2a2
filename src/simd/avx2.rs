//! 256-bit AVX2 with FMA and F16C: four pairs of lanes.

use super::{Kernel, Paired, Simd, Words, rounds};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the CPU has the features.
    #[inline]
    pub fn detect() -> Option<Avx2> {
        let features = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        features.then_some(Avx2(()))
    }
}

/// The operations, each an intrinsic or a few.
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $body:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe, reason = "a few operations are plain integer expressions")]
        fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: `self` exists only where the CPU has the features, and no intrinsic here touches
            // memory.
            unsafe { $body }
        }
    )*};
}

/// Conditions are in the sign bit of each lane, which the blend instructions read.
impl Simd for Avx2 {
    const STREAMS: bool = true;
    const PAIRS: usize = 4;
    type Int = __m256i;
    type F32 = __m256;
    type F64 = __m256d;
    type M32 = __m256;
    type M64 = __m256d;

    // There are sixteen registers; the state of two Philox blocks takes eight.
    type Wide = Paired<Avx2>;

    #[inline(always)]
    fn wide(self) -> Self::Wide {
        Paired(self)
    }
    // Not inlined, so that a kernel that runs others has one copy of each.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn with_features<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only where the CPU has the features.
        unsafe { with_features(self, kernel) }
    }

    operations! {
        fn splat_u32(x: u32) -> __m256i = _mm256_set1_epi32(x as i32);
        fn splat_u64(x: u64) -> __m256i = _mm256_set1_epi64x(x as i64);
        fn lane_order() -> __m256i = _mm256_setr_epi64x(0, 1, 2, 3);
        fn zip_order() -> __m256i = _mm256_setr_epi64x(0, 2, 1, 3);

        fn add_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn sub_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        fn abs_i32(a: __m256i) -> __m256i = _mm256_abs_epi32(a);
        fn shl_u32(a: __m256i, n: u32) -> __m256i = _mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn shr_u32(a: __m256i, n: u32) -> __m256i = _mm256_srl_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn sar_i32(a: __m256i, n: u32) -> __m256i = _mm256_sra_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn add_u64(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi64(a, b);
        fn sub_u64(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi64(a, b);
        fn shl_u64(a: __m256i, n: u32) -> __m256i = _mm256_sll_epi64(a, _mm_cvtsi32_si128(n as i32));
        fn shr_u64(a: __m256i, n: u32) -> __m256i = _mm256_srl_epi64(a, _mm_cvtsi32_si128(n as i32));
        fn and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        fn xor3(a: __m256i, b: __m256i, c: __m256i) -> __m256i = _mm256_xor_si256(_mm256_xor_si256(a, c), b);
        fn mul_even_u32(a: __m256i, b: __m256i) -> __m256i = _mm256_mul_epu32(a, b);
        fn pair_even_u32(a: __m256i, b: __m256i) -> __m256i =
            _mm256_blend_epi32::<0b1010_1010>(a, _mm256_shuffle_epi32::<0b10_10_00_00>(b));
        fn pair_odd_u32(a: __m256i, b: __m256i) -> __m256i =
            _mm256_blend_epi32::<0b1010_1010>(_mm256_shuffle_epi32::<0b11_11_01_01>(a), b);
        fn zip_u32(a: __m256i, b: __m256i) -> (__m256i, __m256i) =
            (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));

        fn splat_f32(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn add_f32(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub_f32(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul_f32(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div_f32(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn mul_add_f32(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn neg_mul_add_f32(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        fn sqrt_f32(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        fn min_f32(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn max_f32(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn lt_f32(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        fn bit_u32(a: __m256i, n: u32) -> __m256 = _mm256_castsi256_ps(_mm256_sll_epi32(a, _mm_cvtsi32_si128(31 - n as i32)));
        fn select_f32(condition: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, condition);
        fn any_f32(condition: __m256) -> bool = _mm256_movemask_ps(condition) != 0;
        fn i32_to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        fn f32_to_i32(a: __m256) -> __m256i = _mm256_cvttps_epi32(a);
        fn f32_from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
        fn f32_to_bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        fn narrow_f16(a: __m256, b: __m256) -> __m256i =
            _mm256_set_m128i(_mm256_cvtps_ph::<0>(b), _mm256_cvtps_ph::<0>(a));

        fn splat_f64(x: f64) -> __m256d = _mm256_set1_pd(x);
        fn add_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_add_pd(a, b);
        fn sub_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_sub_pd(a, b);
        fn mul_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_mul_pd(a, b);
        fn div_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_div_pd(a, b);
        fn mul_add_f64(a: __m256d, b: __m256d, c: __m256d) -> __m256d = _mm256_fmadd_pd(a, b, c);
        fn neg_mul_add_f64(a: __m256d, b: __m256d, c: __m256d) -> __m256d = _mm256_fnmadd_pd(a, b, c);
        fn sqrt_f64(a: __m256d) -> __m256d = _mm256_sqrt_pd(a);
        fn min_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_min_pd(a, b);
        fn max_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_max_pd(a, b);
        fn lt_f64(a: __m256d, b: __m256d) -> __m256d = _mm256_cmp_pd::<_CMP_LT_OQ>(a, b);
        fn bit_u64(a: __m256i, n: u32) -> __m256d = _mm256_castsi256_pd(_mm256_sll_epi64(a, _mm_cvtsi32_si128(63 - n as i32)));
        fn select_f64(condition: __m256d, a: __m256d, b: __m256d) -> __m256d =
            _mm256_blendv_pd(b, a, condition);
        fn any_f64(condition: __m256d) -> bool = _mm256_movemask_pd(condition) != 0;
        fn f64_from_bits(a: __m256i) -> __m256d = _mm256_castsi256_pd(a);
        fn f64_to_bits(a: __m256d) -> __m256i = _mm256_castpd_si256(a);
        fn zip_f64(a: __m256d, b: __m256d) -> (__m256d, __m256d) =
            (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        fn pair_f64_to_f32(even: __m256d, odd: __m256d) -> __m256 = {
            let even = _mm256_cvtepu32_epi64(_mm_castps_si128(_mm256_cvtpd_ps(even)));
            let odd = _mm256_cvtepu32_epi64(_mm_castps_si128(_mm256_cvtpd_ps(odd)));
            _mm256_castsi256_ps(_mm256_or_si256(even, _mm256_slli_epi64::<32>(odd)))
        };
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        // SAFETY: the caller guarantees 32 readable bytes.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, a: __m256i) {
        // SAFETY: the caller guarantees 32 writable bytes.
        unsafe { _mm256_storeu_si256(to.cast(), a) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8, a: __m256i) {
        // SAFETY: the caller guarantees 32 writable bytes at a multiple of 32; `stream_end` orders them.
        unsafe { _mm256_stream_si256(to.cast(), a) }
    }
    #[inline(always)]
    fn stream_end(self) {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }

    const ROUNDS: bool = true;
    #[inline(always)]
    fn rounds(self, words: &mut Words, count: usize) {
        // SAFETY: `self` exists only where the CPU has the features.
        unsafe { rounds::rounds(words, count) }
    }
    #[inline(always)]
    unsafe fn rounds_in_order(self, words: &mut Words, count: usize, to: *mut u8) -> usize {
        // SAFETY: `self` exists only where the CPU has the features, and the caller guarantees the memory.
        unsafe { rounds::rounds_in_order(words, count, to) }
    }
}
