//! The stages of a fill: words, samples, half types, stores. Each is a loop over whole groups of blocks in a small buffer, compiled
//! once for each level, and the second once for each distribution too.
//!
//! A block takes 16 bytes of the buffer at every stage but the last: four words, then four numbers of single or two of double
//! precision, in the order of the stream.

use crate::distr::{Sample, Sampler};
use crate::math::narrow::narrow_bf16;
use crate::rng::philox::Philox;
use crate::simd::{Kernel, Simd};

/// Bytes of a block in the buffer.
pub(super) const BLOCK: usize = 16;

/// The half types.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    F16,
    Bf16,
}

/// The first stage: the words of `blocks` blocks, a multiple of `S::Wide::PAIRS`, from number `block` on.
pub(super) struct Words<'a> {
    pub philox: &'a Philox,
    pub block: u32,
    /// Room for them.
    pub to: *mut u8,
    pub blocks: usize,
}

impl Kernel for Words<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let s = s.wide();
        self.groups(s);
    }
}

impl Words<'_> {
    #[inline(always)]
    fn groups<S: Simd>(self, s: S) {
        let mut counter = s.add_u64(s.splat_u64(self.block as u64), s.zip_order());
        let step = s.splat_u64(S::PAIRS as u64);
        let philox = *self.philox;
        let mut to = self.to;
        for _ in 0..self.blocks / S::PAIRS {
            let (even, odd) = philox.words(s, counter);
            let (first, second) = s.zip_u32(even, odd);
            counter = s.add_u64(counter, step);
            // SAFETY: the two registers are the words of the group, for which there is room.
            unsafe {
                s.store(to, first);
                s.store(to.add(8 * S::PAIRS), second);
                to = to.add(BLOCK * S::PAIRS);
            }
        }
    }
}

/// The second stage: `blocks` blocks of words at `from`, a multiple of `S::PAIRS`, to the samples of `sampler` at `to`, which may be the
/// same place.
#[inline(always)]
pub(super) fn samples<S: Simd>(s: S, sampler: &Sampler, from: *const u8, to: *mut u8, blocks: usize) {
    match *sampler {
        Sampler::UniformF32(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::NormalF32(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::Central(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::Symmetric(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::GeneralF32(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::UniformF64(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::NormalF64(sample) => s.run(Samples { sample, from, to, blocks }),
        Sampler::GeneralF64(sample) => s.run(Samples { sample, from, to, blocks }),
    }
}

pub(super) struct Samples<D> {
    pub sample: D,
    pub from: *const u8,
    pub to: *mut u8,
    pub blocks: usize,
}

impl<D: Sample> Kernel for Samples<D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sample = self.sample;
        let register = 8 * S::PAIRS;
        let (mut from, mut to) = (self.from, self.to);
        for _ in 0..self.blocks / S::PAIRS {
            // SAFETY: two registers hold `S::PAIRS` blocks, of which there are as many at both places.
            unsafe {
                let (first, second) = sample.sample(s, s.load(from), s.load(from.add(register)));
                s.store(to, first);
                s.store(to.add(register), second);
                (from, to) = (from.add(2 * register), to.add(2 * register));
            }
        }
    }
}

/// The third stage, for half types: `blocks` blocks of numbers at `from`, a multiple of `S::PAIRS`, rounded to `to`, which may be the
/// same place.
pub(super) struct Narrow {
    pub half: Half,
    pub from: *const u8,
    pub to: *mut u8,
    pub blocks: usize,
}

impl Kernel for Narrow {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.half {
            Half::F16 => self.groups(
                s,
                #[inline(always)]
                |a, b| s.narrow_f16(a, b),
            ),
            Half::Bf16 => self.groups(
                s,
                #[inline(always)]
                |a, b| narrow_bf16(s, a, b),
            ),
        }
    }
}

impl Narrow {
    #[inline(always)]
    fn groups<S: Simd>(self, s: S, narrow: impl Fn(S::F32, S::F32) -> S::Int) {
        let register = 8 * S::PAIRS;
        let (mut from, mut to) = (self.from, self.to);
        for _ in 0..self.blocks / S::PAIRS {
            // SAFETY: two registers of numbers are `S::PAIRS` blocks, and make one register of half types; none is written before it
            // is read.
            unsafe {
                let (a, b) = (s.load(from), s.load(from.add(register)));
                s.store(to, narrow(s.f32_from_bits(a), s.f32_from_bits(b)));
                (from, to) = (from.add(2 * register), to.add(register));
            }
        }
    }
}

/// The last stage of a large output: `bytes` bytes, a multiple of 64, from the buffer past the caches, to a multiple of 64.
pub(super) struct Stream {
    pub from: *const u8,
    pub to: *mut u8,
    pub bytes: usize,
}

impl Kernel for Stream {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.bytes).step_by(8 * S::PAIRS) {
            // SAFETY: a register divides 64 bytes.
            unsafe { s.stream(self.to.add(at), s.load(self.from.add(at))) };
        }
    }
}

/// One value of 2, 4 or 8 bytes again and again: what constants have in place of all stages.
pub(super) struct Repeat {
    /// The value as often as 8 bytes hold it.
    pub pattern: u64,
    /// A multiple of the size of the value, and `bytes` is one too.
    pub to: *mut u8,
    pub bytes: usize,
    pub stream: bool,
}

impl Kernel for Repeat {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Repeat { pattern, to, bytes, stream } = self;
        let value = s.splat_u64(pattern);
        let register = 8 * S::PAIRS;
        if bytes < register {
            for at in (0..bytes).step_by(8) {
                let value = pattern.to_le_bytes();
                // SAFETY: at most as many bytes as are left.
                unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(at), (bytes - at).min(8)) };
            }
            return;
        }
        // The first and the last register may overlap those between: every place is a multiple of the size of the value, so
        // the bytes agree.
        let mut at = (to as usize).next_multiple_of(LINE) - to as usize;
        let last = bytes - register;
        // SAFETY: `bytes` is at least a register, and no store begins after `last`. Those past the caches are at a multiple of 64.
        unsafe {
            s.store(to, value);
            let wide = s.wide();
            if stream {
                while at + LINE <= bytes {
                    for part in (0..LINE).step_by(register) {
                        s.stream(to.add(at + part), value);
                    }
                    at += LINE;
                }
                s.stream_end();
            } else {
                repeat(wide, pattern, to, &mut at, bytes);
            }
            while at < last {
                s.store(to.add(at), value);
                at += register;
            }
            s.store(to.add(last), value);
        }
    }
}

/// Stores the pattern from `at` on, as often as whole registers fit.
///
/// # Safety
/// `to` must be valid for writing `bytes` bytes.
#[inline(always)]
unsafe fn repeat<S: Simd>(s: S, pattern: u64, to: *mut u8, at: &mut usize, bytes: usize) {
    let value = s.splat_u64(pattern);
    while *at + 8 * S::PAIRS <= bytes {
        // SAFETY: the register ends within the bytes.
        unsafe { s.store(to.add(*at), value) };
        *at += 8 * S::PAIRS;
    }
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
