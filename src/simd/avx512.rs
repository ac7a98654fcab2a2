//! 512-bit AVX-512: eight pairs of lanes.

use super::{Kernel, Paired, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX-512 F, BW, CD, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The token, where the CPU has the features.
    #[inline]
    pub fn detect() -> Option<Avx512> {
        let features = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        features.then_some(Avx512(()))
    }
}

/// The operations, each an intrinsic or two.
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

impl Simd for Avx512 {
    const STREAMS: bool = true;
    const PAIRS: usize = 8;
    type Int = __m512i;
    type F32 = __m512;
    type F64 = __m512d;
    type M32 = __mmask16;
    type M64 = __mmask8;

    type Wide = Paired<Paired<Avx512>>;

    #[inline(always)]
    fn wide(self) -> Self::Wide {
        Paired(Paired(self))
    }
    // Not inlined, so that a kernel that runs others has one copy of each.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,fma,avx2")]
        fn with_features<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only where the CPU has the features; AVX-512 implies AVX2 and FMA.
        unsafe { with_features(self, kernel) }
    }

    operations! {
        fn splat_u32(x: u32) -> __m512i = _mm512_set1_epi32(x as i32);
        fn splat_u64(x: u64) -> __m512i = _mm512_set1_epi64(x as i64);
        fn lane_order() -> __m512i = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
        fn zip_order() -> __m512i = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);

        fn add_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn sub_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        fn abs_i32(a: __m512i) -> __m512i = _mm512_abs_epi32(a);
        fn shl_u32(a: __m512i, n: u32) -> __m512i = _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn shr_u32(a: __m512i, n: u32) -> __m512i = _mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn sar_i32(a: __m512i, n: u32) -> __m512i = _mm512_sra_epi32(a, _mm_cvtsi32_si128(n as i32));
        fn add_u64(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi64(a, b);
        fn sub_u64(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi64(a, b);
        fn shl_u64(a: __m512i, n: u32) -> __m512i = _mm512_sll_epi64(a, _mm_cvtsi32_si128(n as i32));
        fn shr_u64(a: __m512i, n: u32) -> __m512i = _mm512_srl_epi64(a, _mm_cvtsi32_si128(n as i32));
        fn and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i = _mm512_ternarylogic_epi64::<0x96>(a, b, c);
        fn mul_even_u32(a: __m512i, b: __m512i) -> __m512i = _mm512_mul_epu32(a, b);
        fn pair_even_u32(a: __m512i, b: __m512i) -> __m512i =
            _mm512_mask_shuffle_epi32::<0b10_10_00_00>(a, 0xaaaa, b);
        fn pair_odd_u32(a: __m512i, b: __m512i) -> __m512i =
            _mm512_mask_shuffle_epi32::<0b11_11_01_01>(b, 0x5555, a);
        fn zip_u32(a: __m512i, b: __m512i) -> (__m512i, __m512i) =
            (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));

        fn splat_f32(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn add_f32(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub_f32(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul_f32(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div_f32(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn mul_add_f32(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn neg_mul_add_f32(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn sqrt_f32(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        fn min_f32(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn max_f32(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn lt_f32(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        fn bit_u32(a: __m512i, n: u32) -> __mmask16 = _mm512_test_epi32_mask(a, _mm512_set1_epi32(1 << n));
        fn select_f32(condition: __mmask16, a: __m512, b: __m512) -> __m512 =
            _mm512_mask_blend_ps(condition, b, a);
        fn any_f32(condition: __mmask16) -> bool = condition != 0;
        fn i32_to_f32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        fn f32_to_i32(a: __m512) -> __m512i = _mm512_cvttps_epi32(a);
        fn f32_from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        fn f32_to_bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        fn narrow_f16(a: __m512, b: __m512) -> __m512i = {
            let (a, b) = (_mm512_cvtps_ph::<0>(a), _mm512_cvtps_ph::<0>(b));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
        };

        fn splat_f64(x: f64) -> __m512d = _mm512_set1_pd(x);
        fn add_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_add_pd(a, b);
        fn sub_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_sub_pd(a, b);
        fn mul_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_mul_pd(a, b);
        fn div_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_div_pd(a, b);
        fn mul_add_f64(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fmadd_pd(a, b, c);
        fn neg_mul_add_f64(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fnmadd_pd(a, b, c);
        fn sqrt_f64(a: __m512d) -> __m512d = _mm512_sqrt_pd(a);
        fn min_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_min_pd(a, b);
        fn max_f64(a: __m512d, b: __m512d) -> __m512d = _mm512_max_pd(a, b);
        fn lt_f64(a: __m512d, b: __m512d) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b);
        fn bit_u64(a: __m512i, n: u32) -> __mmask8 = _mm512_test_epi64_mask(a, _mm512_set1_epi64(1 << n));
        fn select_f64(condition: __mmask8, a: __m512d, b: __m512d) -> __m512d =
            _mm512_mask_blend_pd(condition, b, a);
        fn any_f64(condition: __mmask8) -> bool = condition != 0;
        fn f64_from_bits(a: __m512i) -> __m512d = _mm512_castsi512_pd(a);
        fn f64_to_bits(a: __m512d) -> __m512i = _mm512_castpd_si512(a);
        fn zip_f64(a: __m512d, b: __m512d) -> (__m512d, __m512d) =
            (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        fn pair_f64_to_f32(even: __m512d, odd: __m512d) -> __m512 = {
            let even = _mm512_cvtepu32_epi64(_mm256_castps_si256(_mm512_cvtpd_ps(even)));
            let odd = _mm512_cvtepu32_epi64(_mm256_castps_si256(_mm512_cvtpd_ps(odd)));
            _mm512_castsi512_ps(_mm512_or_si512(even, _mm512_slli_epi64::<32>(odd)))
        };
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the caller guarantees 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, a: __m512i) {
        // SAFETY: the caller guarantees 64 writable bytes.
        unsafe { _mm512_storeu_si512(to.cast(), a) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8, a: __m512i) {
        // SAFETY: the caller guarantees 64 writable bytes at a multiple of 64; `stream_end` orders them.
        unsafe { _mm512_stream_si512(to.cast(), a) }
    }
    #[inline(always)]
    fn stream_end(self) {
        // SAFETY: every x86-64 has the instruction.
        unsafe { _mm_sfence() }
    }
}
