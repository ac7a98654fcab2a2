//! What is stored for a block: samples in one of the four formats, raw words, or one value again and again.

use crate::distr::{SampleF32, SampleF64};
use crate::dtype::{Bf16, Element, F16};
use crate::math::narrow::pair_as_bf16;
use crate::simd::Simd;
use std::marker::PhantomData;

/// Turns the words of a group of blocks (one block for each pair of lanes) into what is stored.
pub(super) trait Emit: Copy + Send + Sync {
    /// The type of an element in memory. It has no padding.
    type Item: Copy + Send + Sync;
    /// How many elements a block makes. A group fills one register or two.
    const PER_BLOCK: usize;
    /// Which block stands in which lane, as [`Emit::emit`] wants them.
    #[inline(always)]
    fn order<S: Simd>(s: S) -> S::Int {
        s.zip_order()
    }
    /// The elements of the group in order: in two registers, or in the first one alone where they fit.
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int);
}

/// How many registers a group of this kind fills.
pub(super) const fn registers<E: Emit>() -> usize {
    let bytes = E::PER_BLOCK * size_of::<E::Item>();
    assert!(bytes == 8 || bytes == 16);
    bytes / 8
}

/// The samples in order.
#[inline(always)]
fn in_order<S: Simd, D: SampleF32>(distribution: &D, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
    let (even, odd) = distribution.sample(s, even, odd);
    let (a, b) = s.zip_u32(s.f32_to_bits(even), s.f32_to_bits(odd));
    (s.f32_from_bits(a), s.f32_from_bits(b))
}

/// Samples as `f32`.
#[derive(Clone, Copy)]
pub(super) struct AsF32<D>(pub D);

impl<D: SampleF32> Emit for AsF32<D> {
    type Item = f32;
    const PER_BLOCK: usize = 4;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (a, b) = in_order(&self.0, s, even, odd);
        (s.f32_to_bits(a), s.f32_to_bits(b))
    }
}

/// Samples as binary16.
#[derive(Clone, Copy)]
pub(super) struct AsF16<D>(pub D);

impl<D: SampleF32> Emit for AsF16<D> {
    type Item = F16;
    const PER_BLOCK: usize = 4;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (a, b) = in_order(&self.0, s, even, odd);
        let packed = s.narrow_f16(a, b);
        (packed, packed)
    }
}

/// Samples as bfloat16.
#[derive(Clone, Copy)]
pub(super) struct AsBf16<D>(pub D);

impl<D: SampleF32> Emit for AsBf16<D> {
    type Item = Bf16;
    const PER_BLOCK: usize = 4;
    #[inline(always)]
    fn order<S: Simd>(s: S) -> S::Int {
        s.lane_order()
    }
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (even, odd) = self.0.sample(s, even, odd);
        let packed = pair_as_bf16(s, even, odd);
        (packed, packed)
    }
}

/// Samples as `f64`.
#[derive(Clone, Copy)]
pub(super) struct AsF64<D>(pub D);

impl<D: SampleF64> Emit for AsF64<D> {
    type Item = f64;
    const PER_BLOCK: usize = 2;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (first, second) = (s.pair_even_u32(even, odd), s.pair_odd_u32(even, odd));
        let (a, b) = self.0.sample(s, first, second);
        let (a, b) = s.zip_f64(a, b);
        (s.f64_to_bits(a), s.f64_to_bits(b))
    }
}

/// The words themselves: four elements of 32 bits or two of 64 a block.
#[derive(Clone, Copy)]
pub(super) struct Words<T>(pub PhantomData<T>);

impl Emit for Words<u32> {
    type Item = u32;
    const PER_BLOCK: usize = 4;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        s.zip_u32(even, odd)
    }
}

impl Emit for Words<u64> {
    type Item = u64;
    const PER_BLOCK: usize = 2;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        // The first word is the low half, and comes first in memory too.
        s.zip_u32(even, odd)
    }
}

/// One value again and again; the words are not looked at, and so not made.
#[derive(Clone, Copy)]
pub(super) struct Repeat<T> {
    pattern: u64,
    value: PhantomData<T>,
}

impl<T: Element> Repeat<T> {
    pub(super) fn new(bits: u64) -> Repeat<T> {
        let pattern = match size_of::<T>() {
            2 => (bits & 0xffff) * 0x0001_0001_0001_0001,
            4 => (bits & 0xffff_ffff) * 0x0000_0001_0000_0001,
            _ => bits,
        };
        Repeat { pattern, value: PhantomData }
    }
}

impl<T: Element> Emit for Repeat<T> {
    type Item = T;
    const PER_BLOCK: usize = 16 / if size_of::<T>() < 4 { 4 } else { size_of::<T>() };
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, _even: S::Int, _odd: S::Int) -> (S::Int, S::Int) {
        let pattern = s.splat_u64(self.pattern);
        (pattern, pattern)
    }
}
