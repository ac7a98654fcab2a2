//! Elements from many places of the logical tensor, computed together: the blocks that they need are listed,
//! and one loop computes them all. So a line of three elements does not cost a loop of its own, nor does one
//! that begins within a block.

use super::kernels::{MOST, Make, Numbers};
use super::run::{Run, SUBSTREAM_SHIFT, Source};
use crate::rng::Substream;
use crate::rng::philox::Philox;
use crate::seed::Key;
use crate::simd::{Detected, Kernel, Simd};
use std::mem::MaybeUninit;

/// The most blocks of a batch. The list and the elements stay in the first-level cache.
pub(super) const BLOCKS: usize = 1024;

/// The most bytes of a block.
const BYTES: usize = 16;

/// As many bytes may be read after the last element.
pub(super) const SLACK: usize = 16;

/// Memory for the elements of a batch, aligned for registers.
#[repr(align(64))]
pub(super) struct Memory(MaybeUninit<[u8; Memory::LENGTH]>);

impl Memory {
    const LENGTH: usize = (BLOCKS + MOST) * BYTES + SLACK;

    pub(super) fn new() -> Memory {
        Memory(MaybeUninit::uninit())
    }

    fn bytes(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the same memory under the same borrow.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), Memory::LENGTH) }
    }
}

/// Elements to be computed together.
pub(super) struct Batch<'a> {
    source: &'a Source,
    key: Key,
    substream: Substream,
    level: Detected,
    /// The binary logarithm of the number of elements of a block.
    shift: u32,
    /// The numbers of the blocks.
    numbers: Vec<u64>,
    /// Whether each number is the successor of the last.
    consecutive: bool,
    /// Whether all numbers have the same upper half.
    near: bool,
    memory: &'a mut Memory,
}

impl<'a> Batch<'a> {
    /// For at most `most` elements in all batches.
    pub(super) fn new(
        source: &'a Source,
        key: Key,
        substream: Substream,
        level: Detected,
        most: usize,
        memory: &'a mut Memory,
    ) -> Batch<'a> {
        let shift = match source {
            Source::Constant(_) => {
                let length = most.min(Self::REPEATED).saturating_mul(size_of::<u64>()).min(Memory::LENGTH);
                let out = &mut memory.bytes()[..length];
                Run { source, key, substream, first: 0, out, stream: false }.at(level);
                0
            }
            Source::Blocks { per_block, .. } => per_block.trailing_zeros(),
        };
        let numbers = Vec::with_capacity(most.min(BLOCKS) + 2 * MOST);
        Batch { source, key, substream, level, shift, numbers, consecutive: true, near: true, memory }
    }

    /// The most elements that are copied of a constant at a time.
    const REPEATED: usize = 512;

    /// The most blocks that `length` consecutive elements lie in, where a block has `per_block`.
    pub(super) const fn blocks_of(length: usize, per_block: usize) -> usize {
        (length + per_block - 2) / per_block + 1
    }

    /// The blocks that there is room for.
    pub(super) fn room(&self) -> usize {
        BLOCKS - self.numbers.len()
    }

    /// Adds the elements from number `first` on, at most `length`. Returns where the first of them will be, in
    /// elements, and how many have been added: none if there is no room.
    #[inline]
    pub(super) fn add(&mut self, first: u64, length: usize) -> (usize, usize) {
        if let Source::Constant(_) = self.source {
            return (0, length.min(Self::REPEATED));
        }
        let block = first >> self.shift;
        let skip = (first & ((1 << self.shift) - 1)) as usize;
        // Elements that begin in the block that the last ones end in share it.
        let last = self.numbers.last().copied();
        let shared = last == Some(block);
        let start = self.numbers.len() - usize::from(shared);
        if start == BLOCKS {
            return (0, 0);
        }
        let length = length.min(((BLOCKS - start) << self.shift) - skip);
        let end = block + ((skip + length - 1) >> self.shift) as u64;
        self.consecutive &= last.is_none_or(|last| block.wrapping_sub(last) <= 1);
        self.numbers.extend(block + u64::from(shared)..end + 1);
        self.near &= ((self.numbers[0] ^ block) | (self.numbers[0] ^ end)) >> 32 == 0;
        ((start << self.shift) + skip, length)
    }

    /// Computes the elements, and forgets which they are. Returns where the first one is; [`SLACK`] bytes after
    /// the last one are initialized too.
    pub(super) fn compute(&mut self) -> *const u8 {
        if let Source::Blocks { per_block, bytes, .. } = *self.source
            && !self.numbers.is_empty()
        {
            let count = self.numbers.len();
            if self.near {
                self.level.run(Compute(self));
            } else {
                let Batch { source, key, substream, level, .. } = *self;
                for (&number, out) in self.numbers.iter().zip(self.memory.bytes().chunks_mut(bytes)) {
                    let first = number * per_block as u64;
                    Run { source, key, substream, first, out, stream: false }.at(level);
                }
            }
            self.memory.bytes()[count * bytes..][..SLACK].fill(MaybeUninit::new(0));
            self.numbers.clear();
            (self.consecutive, self.near) = (true, true);
        }
        self.memory.bytes().as_ptr().cast()
    }
}

/// Computes the blocks of a batch, of which there is at least one, and whose numbers have the same upper half.
struct Compute<'a, 'b>(&'a mut Batch<'b>);

impl Kernel for Compute<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Batch { source, key, substream, numbers, memory, consecutive, .. } = self.0;
        let Source::Blocks { blocks, .. } = source else { return };
        let first = numbers[0] | (*substream as u64) << SUBSTREAM_SHIFT;
        let philox = Philox::new(*key, (first >> 32) as u32);
        let count = numbers.len().next_multiple_of(S::Wide::PAIRS);
        let numbers = if *consecutive {
            Numbers::From(first as u32)
        } else {
            let last = numbers[numbers.len() - 1];
            numbers.resize(count + S::Wide::PAIRS, last);
            steps(s.wide(), blocks.order(s.wide()), numbers);
            Numbers::Listed(numbers)
        };
        let to = memory.bytes().as_mut_ptr().cast();
        Make { blocks, philox: &philox, numbers, count, to, stream: false }.run(s);
    }
}

/// Turns the numbers of blocks into what [`Numbers::Listed`] says.
#[inline(always)]
fn steps<S: Simd>(s: S, order: S::Int, numbers: &mut [u64]) {
    let mut of_lane = [0; MOST];
    // SAFETY: there is room for the lanes of a group.
    unsafe { s.store(of_lane.as_mut_ptr().cast(), order) };
    let mut before = [0; MOST];
    for group in numbers.chunks_exact_mut(S::PAIRS) {
        let mut lanes = [0; MOST];
        for i in 0..S::PAIRS {
            lanes[i] = group[of_lane[i] as usize % S::PAIRS];
        }
        for i in 0..S::PAIRS {
            group[i] = lanes[i].wrapping_sub(before[i]);
        }
        before = lanes;
    }
}
