//! Rounding to the half types.

use crate::simd::Simd;

/// The numbers (even, odd) of each lane one after the other as bfloat16, rounded to nearest even. In
/// integers, since the instruction for this conversion flushes subnormal numbers to zero.
#[inline(always)]
pub fn pair_as_bf16<S: Simd>(s: S, even: S::F32, odd: S::F32) -> S::Int {
    let (even, odd) = (round_bf16(s, even), round_bf16(s, odd));
    s.or(s.shr_u32(even, 16), s.and(odd, s.splat_u32(0xffff_0000)))
}

/// The numbers with the rounded bfloat16 in the upper half of each lane; the lower half is arbitrary. The
/// added number carries into the upper half where the lower one is more than half a unit, or exactly half and
/// the upper one is odd.
#[inline(always)]
fn round_bf16<S: Simd>(s: S, a: S::F32) -> S::Int {
    let bits = s.f32_to_bits(a);
    let up = s.f32_from_bits(s.add_u32(bits, s.splat_u32(0x8000)));
    let down = s.f32_from_bits(s.add_u32(bits, s.splat_u32(0x7fff)));
    s.f32_to_bits(s.select_f32(s.bit_u32(bits, 16), up, down))
}
