//! Rounding to the half types.

use crate::simd::Simd;

/// The numbers of `a`, then those of `b`, as bfloat16, rounded to nearest even. In integers, so that subnormal numbers come out
/// the same whatever the thread does with them (the instruction that CPUs have for this flushes them).
#[inline(always)]
pub fn narrow_bf16<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::Int {
    s.pack_odd_u16(round_bf16(s, a), round_bf16(s, b))
}

/// The bits of the numbers with the bfloat16 in the upper half of each lane.
#[inline(always)]
fn round_bf16<S: Simd>(s: S, a: S::F32) -> S::Int {
    let bits = s.f32_to_bits(a);
    let odd = s.and(s.shr_u32(bits, 16), s.splat_u32(1));
    s.add_u32(s.add_u32(bits, s.splat_u32(0x7fff)), odd)
}
