//! The kernels of a fill: loops over whole groups of blocks, each compiled once for each level.

use super::emit::{AsBf16, AsF16, AsF32, AsF64, AsWords, Emit};
use crate::distr::{SampleF32, Sampler};
use crate::dtype::Dtype;
use crate::rng::philox::Philox;
use crate::simd::{Batch, Kernel, Paired, Simd};

/// What the words of a block become.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocks {
    /// The words themselves.
    Words,
    /// Samples in a format.
    Samples(Sampler, Dtype),
}

/// Computes `count` blocks, a multiple of `S::Wide::PAIRS`, from number `first` on.
pub(super) struct Make<'a> {
    pub blocks: &'a Blocks,
    pub philox: &'a Philox,
    pub first: u32,
    pub count: usize,
    /// Where they go; there must be room for all.
    pub to: *mut u8,
    /// Whether to use non-temporal stores; if so, `to` must be a multiple of 64.
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
                Sampler::SymmetricTo3(distribution) => self.single(s, distribution, dtype),
                Sampler::Symmetric(distribution) => self.single(s, distribution, dtype),
                Sampler::To3(distribution) => self.single(s, distribution, dtype),
                Sampler::Single(distribution) => self.single(s, distribution, dtype),
                Sampler::GeneralF32(distribution) => self.single(s, distribution, dtype),
                Sampler::UniformF64(distribution) => self.of(s, AsF64(distribution)),
                Sampler::NormalF64(distribution) => self.of(s, AsF64(distribution)),
                Sampler::CentralF64(distribution) => self.of(s, AsF64(distribution)),
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

/// With `STREAM` all stores are non-temporal. Without it they are if `stream` says so and computing the
/// elements branches anyway: a single branch in a loop that has none keeps the compiler from interleaving two
/// groups and costs up to 10%.
struct Groups<'a, E, const STREAM: bool> {
    emit: E,
    make: Make<'a>,
}

impl<E: Emit, const STREAM: bool> Kernel for Groups<'_, E, STREAM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::ROUNDS { self.batches(s) } else { self.groups(s.wide()) }
    }
}

impl<E: Emit, const STREAM: bool> Groups<'_, E, STREAM> {
    /// Words and elements side by side.
    #[inline(always)]
    fn groups<S: Simd>(self, s: S) {
        let Make { philox, first, count, mut to, .. } = self.make;
        let philox = *philox;
        let mut counter = s.add_u64(s.splat_u64(first as u64), E::order(s));
        let step = s.splat_u64(S::PAIRS as u64);
        // The words of the next group are computed beside the elements of this one, since the two are
        // independent.
        let mut words = philox.words(s, counter);
        for _ in 0..count / S::PAIRS {
            counter = s.add_u64(counter, step);
            let next = philox.words(s, counter);
            if E::STEPS {
                words = self.emit.prepare(s, self.emit.begin(s, words.0, words.1));
            }
            to = self.store(s, words, to);
            words = next;
        }
    }

    /// First the words of many blocks, then each step towards their elements.
    #[inline(always)]
    fn batches<S: Simd>(self, s: S) {
        let Make { philox, first, mut count, mut to, .. } = self.make;
        let wide = s.wide();
        let mut batch = Batch::new(s, &philox.constants(), first, E::order(s));
        while count > 0 {
            let blocks = count.min(Batch::BLOCKS);
            s.rounds(&mut batch, blocks);
            let groups = (0..blocks).step_by(S::Wide::PAIRS);
            // SAFETY: there are whole groups, and what is read has been written: the words by `rounds`, the rest
            // by the first step.
            unsafe {
                if E::STEPS {
                    for at in groups.clone() {
                        let lanes = batch.lanes(at);
                        let step = self.emit.begin(wide, wide.load(lanes[0]), wide.load(lanes[1]));
                        (0..3).for_each(|i| wide.store(lanes[i], step[i]));
                    }
                    for at in groups.clone() {
                        let lanes = batch.lanes(at);
                        let (a, b) = self.emit.prepare(wide, lanes.map(|lanes| wide.load(lanes)));
                        wide.store(lanes[0], a);
                        wide.store(lanes[1], b);
                    }
                }
                for at in groups {
                    let [a, b, _] = batch.lanes(at);
                    to = self.store(wide, (wide.load(a), wide.load(b)), to);
                }
            }
            count -= blocks;
        }
    }

    /// Stores the elements of a group; returns where those of the next one go.
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, (even, odd): (S::Int, S::Int), to: *mut u8) -> *mut u8 {
        let register = 8 * S::PAIRS;
        let (a, b) = self.emit.emit(s, even, odd);
        // SAFETY: the registers hold the blocks of the group, for which there is room; `to` is aligned as
        // `stream` requires.
        unsafe {
            if STREAM || (E::BRANCHES && self.make.stream) {
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
            to.add(E::REGISTERS * register)
        }
    }
}

/// Repeats one value of 2, 4 or 8 bytes.
pub(super) struct Repeat {
    /// The value, repeated to fill 8 bytes.
    pub pattern: u64,
    /// Valid for writing `bytes` bytes. Both are multiples of the size of the value.
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
                // SAFETY: at most the bytes that are left.
                unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(at), (bytes - at).min(8)) };
            }
            return;
        }
        // The first and the last register may overlap those between: every place is a multiple of the size of
        // the value, so the bytes agree.
        let head = (to as usize).next_multiple_of(LINE) - to as usize;
        let last = bytes - register;
        // SAFETY: `bytes` is at least a register, and no store begins after `last`. Non-temporal ones are at
        // a multiple of 64.
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

/// Stores the pattern from `at` on, in whole registers as long as they fit.
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

/// The bytes of a cache line.
pub(super) const LINE: usize = 64;
