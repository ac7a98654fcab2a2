//! What is stored for the words of a block: samples in one of the four formats, or the words themselves.

use crate::distr::{SampleF32, SampleF64, Steps};
use crate::math::narrow::pair_as_bf16;
use crate::simd::Simd;

/// Turns the words of a group of blocks, one for each pair of lanes, into what is stored.
pub(super) trait Emit: Steps {
    /// The number of registers that a group fills: one or two.
    const REGISTERS: usize;
    /// Whether [`Emit::emit`] has branches.
    const BRANCHES: bool;
    /// Whether the elements are the words.
    const WORDS: bool = false;
    /// The number of the block in each lane, in the order that [`Emit::emit`] needs.
    #[inline(always)]
    fn order<S: Simd>(s: S) -> S::Int {
        s.zip_order()
    }
    /// The elements of the group in order, in two registers, or in the first one if they fit; from what the
    /// steps make of the words.
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int);
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

impl<D: Steps> Steps for AsF32<D> {
    const STEPS: usize = D::STEPS;
    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, lanes: [S::Int; 4]) -> [S::Int; 4] {
        self.0.step::<S, STEP>(s, lanes)
    }
}

impl<D: SampleF32> Emit for AsF32<D> {
    const REGISTERS: usize = 2;
    const BRANCHES: bool = D::BRANCHES;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (a, b) = in_order(&self.0, s, even, odd);
        (s.f32_to_bits(a), s.f32_to_bits(b))
    }
}

/// Samples as binary16.
#[derive(Clone, Copy)]
pub(super) struct AsF16<D>(pub D);

impl<D: Steps> Steps for AsF16<D> {
    const STEPS: usize = D::STEPS;
    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, lanes: [S::Int; 4]) -> [S::Int; 4] {
        self.0.step::<S, STEP>(s, lanes)
    }
}

impl<D: SampleF32> Emit for AsF16<D> {
    const REGISTERS: usize = 1;
    const BRANCHES: bool = D::BRANCHES;
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

impl<D: Steps> Steps for AsBf16<D> {
    const STEPS: usize = D::STEPS;
    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, lanes: [S::Int; 4]) -> [S::Int; 4] {
        self.0.step::<S, STEP>(s, lanes)
    }
}

impl<D: SampleF32> Emit for AsBf16<D> {
    const REGISTERS: usize = 1;
    const BRANCHES: bool = D::BRANCHES;
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

/// The 64-bit words of the blocks, the first and the second of each.
#[inline(always)]
fn words_f64<S: Simd>(s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
    (s.pair_even_u32(even, odd), s.pair_odd_u32(even, odd))
}

/// Samples as `f64`.
#[derive(Clone, Copy)]
pub(super) struct AsF64<D>(pub D);

impl<D: Steps> Steps for AsF64<D> {
    const STEPS: usize = D::STEPS;
    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, lanes: [S::Int; 4]) -> [S::Int; 4] {
        if STEP == 0 {
            let (first, second) = words_f64(s, lanes[0], lanes[1]);
            return self.0.step::<S, 0>(s, [first, second, first, second]);
        }
        self.0.step::<S, STEP>(s, lanes)
    }
}

impl<D: SampleF64> Emit for AsF64<D> {
    const REGISTERS: usize = 2;
    const BRANCHES: bool = D::BRANCHES;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        let (first, second) = if D::STEPS > 0 { (even, odd) } else { words_f64(s, even, odd) };
        let (a, b) = self.0.sample(s, first, second);
        let (a, b) = s.zip_f64(a, b);
        (s.f64_to_bits(a), s.f64_to_bits(b))
    }
}

/// The words themselves. A word of 64 bits has the first of its two words in its low half, which comes first
/// in memory too.
#[derive(Clone, Copy)]
pub(super) struct AsWords;

impl Steps for AsWords {}

impl Emit for AsWords {
    const REGISTERS: usize = 2;
    const BRANCHES: bool = false;
    const WORDS: bool = true;
    #[inline(always)]
    fn emit<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::Int, S::Int) {
        s.zip_u32(even, odd)
    }
}
