//! The kernels of a fill: loops over whole groups of blocks, each compiled once for each level.

use super::emit::{AsBf16, AsF16, AsF32, AsF64, AsWords, Emit};
use crate::distr::{SampleF32, Sampler};
use crate::dtype::Dtype;
use crate::rng::philox::Philox;
use crate::simd::{Kernel, Paired, Simd, Words};
use std::marker::PhantomData;

/// What the words of a block become.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocks {
    /// The words themselves.
    Words,
    /// Samples in a format.
    Samples(Sampler, Dtype),
}

/// Which blocks are computed.
#[derive(Clone, Copy)]
pub(super) enum Numbers<'a> {
    /// Those from this number on.
    From(u32),
    /// Those in a list. It has a register of 64-bit lanes for each group, and one more at its end: what is
    /// added to the numbers of the group before, of which the first counts as zero. Lanes are in the order
    /// that [`Emit::order`] gives.
    Listed(&'a [u64]),
}

/// Computes `count` blocks, a multiple of `S::Wide::PAIRS`.
pub(super) struct Make<'a> {
    pub blocks: &'a Blocks,
    pub philox: &'a Philox,
    pub numbers: Numbers<'a>,
    pub count: usize,
    /// Where they go; there must be room for all.
    pub to: *mut u8,
    /// Whether to use non-temporal stores; if so, `to` must be a multiple of 64.
    pub stream: bool,
}

impl Blocks {
    /// Whether the lanes of a group are in [`Simd::zip_order`], else in [`Simd::lane_order`].
    pub(super) fn in_zip_order(&self) -> bool {
        !matches!(self, Blocks::Samples(_, Dtype::Bf16))
    }
}

/// The difference between the numbers of consecutive groups of consecutive blocks.
struct Step<S>(PhantomData<S>);

impl<S: Simd> Step<S> {
    const LANES: [u64; MOST] = [S::PAIRS as u64; MOST];
}

/// The most blocks that a group has at any level.
pub(super) const MOST: usize = 32;

impl Make<'_> {
    /// Runs the loop that `blocks` needs.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, s: S) {
        match *self.blocks {
            Blocks::Words => self.of(s, AsWords),
            Blocks::Samples(sampler, dtype) => match sampler {
                Sampler::SymmetricUniformF32(distribution) => self.single(s, distribution, dtype),
                Sampler::UniformF32(distribution) => self.single(s, distribution, dtype),
                Sampler::NormalF32(distribution) => self.single(s, distribution, dtype),
                Sampler::Central(distribution) => self.single(s, distribution, dtype),
                Sampler::SymmetricTo3(distribution) => self.single(s, distribution, dtype),
                Sampler::Symmetric(distribution) => self.single(s, distribution, dtype),
                Sampler::To3(distribution) => self.single(s, distribution, dtype),
                Sampler::Single(distribution) => self.single(s, distribution, dtype),
                Sampler::GeneralF32(distribution) => self.single(s, distribution, dtype),
                Sampler::SymmetricUniformF64(distribution) => self.of(s, AsF64(distribution)),
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
        if S::ROUNDS { self.words_first(s) } else { self.side_by_side(s.wide()) }
    }
}

impl<E: Emit, const STREAM: bool> Groups<'_, E, STREAM> {
    /// Words and elements side by side.
    #[inline(always)]
    fn side_by_side<S: Simd>(self, s: S) {
        const { assert!(S::PAIRS <= MOST) };
        let Make { philox, numbers, count, mut to, .. } = self.make;
        let philox = *philox;
        let (mut counter, mut steps, stride) = match numbers {
            Numbers::From(first) => {
                (s.add_u64(s.splat_u64(first as u64), E::order(s)), Step::<S>::LANES.as_ptr(), 0)
            }
            Numbers::Listed(list) => {
                assert!(list.len() >= count + S::PAIRS);
                // SAFETY: the list has a register at least.
                (unsafe { s.load(list.as_ptr().cast()) }, list[S::PAIRS..].as_ptr(), S::PAIRS)
            }
        };
        // The words of the next group are computed beside the elements of this one, since the two are
        // independent.
        let mut words = philox.words(s, counter);
        for _ in 0..count / S::PAIRS {
            // SAFETY: `Step` has a register, and the list has one for each group after the first and one
            // more.
            unsafe {
                counter = s.add_u64(counter, s.load(steps.cast()));
                steps = steps.add(stride);
            }
            let next = philox.words(s, counter);
            to = self.store(s, self.emit.steps(s, words.0, words.1), to);
            words = next;
        }
    }

    /// First the words of many blocks, then each step towards their elements.
    #[inline(always)]
    fn words_first<S: Simd>(self, s: S) {
        let Make { philox, numbers, count, mut to, .. } = self.make;
        let wide = s.wide();
        let first = if let Numbers::From(first) = numbers { first } else { 0 };
        let mut buffer = Words::new(s, &philox.constants(), first, E::order(s));
        let mut counter = [0; MOST];
        let mut done = 0;
        if E::WORDS && !STREAM && matches!(numbers, Numbers::From(_)) {
            // SAFETY: there is room for all blocks.
            unsafe {
                done = s.rounds_in_order(&mut buffer, count, to);
                to = to.add(16 * done);
            }
        }
        for done in (done..count).step_by(Words::BLOCKS) {
            let blocks = (count - done).min(Words::BLOCKS);
            match numbers {
                Numbers::From(_) => s.rounds(&mut buffer, blocks),
                Numbers::Listed(list) => {
                    let list = &list[done..done + blocks];
                    s.run(ListedWords { philox, list, counter: &mut counter, to: &mut buffer });
                }
            }
            let groups = (0..blocks).step_by(S::Wide::PAIRS);
            // SAFETY: there are whole groups, and what is read has been written: the words as above, the rest
            // by the first step.
            unsafe {
                if E::STEPS > 0 {
                    for at in groups.clone() {
                        let lanes = buffer.lanes(at);
                        let (even, odd) = (wide.load(lanes[0]), wide.load(lanes[1]));
                        let made = self.emit.step::<S::Wide, 0>(wide, [even, odd, even, odd]);
                        let wanted = if E::STEPS > 1 { 4 } else { 2 };
                        (0..wanted).for_each(|i| wide.store(lanes[i], made[i]));
                    }
                }
                if E::STEPS > 1 {
                    for at in groups.clone() {
                        let lanes = buffer.lanes(at);
                        let made = self.emit.step::<S::Wide, 1>(wide, lanes.map(|lanes| wide.load(lanes)));
                        (0..2).for_each(|i| wide.store(lanes[i], made[i]));
                    }
                }
                for at in groups {
                    let [a, b, ..] = buffer.lanes(at);
                    to = self.store(wide, (wide.load(a), wide.load(b)), to);
                }
            }
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

/// The words of listed blocks. A kernel of its own, since it is the same for all elements.
struct ListedWords<'a> {
    philox: &'a Philox,
    /// As in [`Numbers::Listed`], without the register at the end.
    list: &'a [u64],
    /// The numbers of the last group, zero at first.
    counter: &'a mut [u64; MOST],
    to: &'a mut Words,
}

impl Kernel for ListedWords<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.groups(s.wide());
    }
}

impl ListedWords<'_> {
    #[inline(always)]
    fn groups<S: Simd>(self, s: S) {
        let ListedWords { philox, list, counter, to } = self;
        let philox = *philox;
        // SAFETY: there is room for a register in `counter`, and the list and the lanes have one for each
        // group.
        unsafe {
            let mut numbers = s.load(counter.as_ptr().cast());
            for (at, steps) in (0..).step_by(S::PAIRS).zip(list.chunks_exact(S::PAIRS)) {
                numbers = s.add_u64(numbers, s.load(steps.as_ptr().cast()));
                let (even, odd) = philox.words(s, numbers);
                let lanes = to.lanes(at);
                s.store(lanes[0], even);
                s.store(lanes[1], odd);
            }
            s.store(counter.as_mut_ptr().cast(), numbers);
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
