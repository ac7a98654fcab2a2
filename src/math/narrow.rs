//! Rounding to the half types.

use crate::simd::Simd;

/// The numbers of `a`, then those of `b`, as bfloat16, rounded to nearest even. In integers, so that subnormal numbers come out the same
/// whatever the thread does with them (the instruction that CPUs have for this flushes them).
#[inline(always)]
pub fn narrow_bf16<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::Int {
    s.upper_u16(round_bf16(s, a), round_bf16(s, b))
}

/// The bits of the numbers with the bfloat16 in the upper half of each lane. What lies in the lower half is more than half a unit
/// once this is added, or exactly half of one beside an odd upper half.
#[inline(always)]
fn round_bf16<S: Simd>(s: S, a: S::F32) -> S::Int {
    let bits = s.f32_to_bits(a);
    let up = s.f32_from_bits(s.add_u32(bits, s.splat_u32(0x8000)));
    let down = s.f32_from_bits(s.add_u32(bits, s.splat_u32(0x7fff)));
    s.f32_to_bits(s.select_f32(s.bit_u32(bits, 16), up, down))
}
