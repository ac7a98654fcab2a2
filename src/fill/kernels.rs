//! The kernels of a fill: loops over whole groups of blocks, each compiled once for each level.

use super::emit::{AsBf16, AsF16, AsF32, AsF64, AsWords, Emit};
use crate::distr::{SampleF32, Sampler};
use crate::dtype::Dtype;
use crate::rng::philox::Philox;
use crate::simd::{Kernel, Paired, Simd};

/// What is made of the words of a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocks {
    /// The words themselves.
    Words,
    /// Samples, stored as the format says.
    Samples(Sampler, Dtype),
}

/// Makes `count` blocks, a multiple of `S::Wide::PAIRS`, from number `first` on.
pub(super) struct Make<'a> {
    pub blocks: &'a Blocks,
    pub philox: &'a Philox,
    pub first: u32,
    pub count: usize,
    /// Room for them.
    pub to: *mut u8,
    /// Whether to store past the caches; `to` must be a multiple of 64 then.
    pub stream: bool,
}

impl Make<'_> {
    /// Runs the loop that `blocks` needs.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, s: S) {
        match *self.blocks {
            Blocks::Words => self.of(s, AsWords),
            Blocks::Samples(sampler, dtype) => match sampler {
                Sampler::UniformF32(distribution) => self.single(s, distribution, dtype),
                Sampler::NormalF32(distribution) => self.single(s, distribution, dtype),
                Sampler::Central(distribution) => self.single(s, distribution, dtype),
                Sampler::Symmetric(distribution) => self.single(s, distribution, dtype),
                Sampler::GeneralF32(distribution) => self.single(s, distribution, dtype),
                Sampler::UniformF64(distribution) => self.of(s, AsF64(distribution)),
                Sampler::NormalF64(distribution) => self.of(s, AsF64(distribution)),
                Sampler::GeneralF64(distribution) => self.of(s, AsF64(distribution)),
            },
        }
    }

    #[inline(always)]
    fn single<S: Simd, D: SampleF32>(self, s: S, distribution: D, dtype: Dtype) {
        match dtype {
            Dtype::F16 => self.of(s, AsF16(distribution)),
            Dtype::Bf16 => self.of(s, AsBf16(distribution)),
            _ => self.of(s, AsF32(distribution)),
        }
    }

    #[inline(always)]
    fn of<S: Simd, E: Emit>(self, s: S, emit: E) {
        if S::STREAMS && self.stream && !E::BRANCHES {
            s.run(Groups::<E, true> { emit, make: self });
        } else {
            s.run(Groups::<E, false> { emit, make: self });
        }
    }
}

/// `STREAM` says that the loop stores past the caches alone. Where it does not, it stores so only if the elements are made with branches
/// anyway: one branch in a loop without any keeps the compiler from mixing the arithmetic of two groups, and costs up to a tenth.
struct Groups<'a, E, const STREAM: bool> {
    emit: E,
    make: Make<'a>,
}

impl<E: Emit, const STREAM: bool> Kernel for Groups<'_, E, STREAM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.groups(s.wide());
    }
}

impl<E: Emit, const STREAM: bool> Groups<'_, E, STREAM> {
    #[inline(always)]
    fn groups<S: Simd>(self, s: S) {
        let Groups { emit, make: Make { philox, first, count, mut to, stream, .. } } = self;
        let philox = *philox;
        let register = 8 * S::PAIRS;
        let mut counter = s.add_u64(s.splat_u64(first as u64), E::order(s));
        let step = s.splat_u64(S::PAIRS as u64);
        // The words of the next group are made beside the elements of this one: the two are independent.
        let mut words = philox.words(s, counter);
        for _ in 0..count / S::PAIRS {
            counter = s.add_u64(counter, step);
            let next = philox.words(s, counter);
            let (a, b) = emit.emit(s, words.0, words.1);
            words = next;
            // SAFETY: the registers are the blocks of the group, for which there is room, aligned where they are to be.
            unsafe {
                if STREAM || (E::BRANCHES && stream) {
                    s.stream(to, a);
                    if E::REGISTERS == 2 {
                        s.stream(to.add(register), b);
                    }
                } else {
                    s.store(to, a);
                    if E::REGISTERS == 2 {
                        s.store(to.add(register), b);
                    }
                }
                to = to.add(E::REGISTERS * register);
            }
        }
    }
}

/// One value of 2, 4 or 8 bytes again and again.
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
        let head = (to as usize).next_multiple_of(LINE) - to as usize;
        let last = bytes - register;
        // SAFETY: `bytes` is at least a register, and no store begins after `last`. Those past the caches are at a multiple of 64.
        unsafe {
            s.store(to, value);
            let mut at = register;
            while at < head.min(last) {
                s.store(to.add(at), value);
                at += register;
            }
            at = head;
            if stream {
                while at + LINE <= bytes {
                    for part in (0..LINE).step_by(register) {
                        s.stream(to.add(at + part), value);
                    }
                    at += LINE;
                }
                s.stream_end();
            } else {
                repeat(Paired(Paired(s)), pattern, to, &mut at, bytes);
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
