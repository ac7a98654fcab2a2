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

/// As many numbers are listed at least.
const FEW: usize = 4;

/// The most bytes that are copied of a constant at a time.
pub(super) const CONSTANT: usize = 4096;

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
    /// The numbers of the blocks, and room for what [`Numbers::Listed`] needs besides.
    numbers: Vec<u64>,
    count: usize,
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
                let length = most.saturating_mul(8).min(CONSTANT) + SLACK;
                let out = &mut memory.bytes()[..length];
                Run { source, key, substream, first: 0, out, stream: false }.at(level);
                0
            }
            Source::Blocks { per_block, .. } => per_block.trailing_zeros(),
        };
        let numbers = vec![0; most.min(BLOCKS) + 2 * MOST];
        Batch {
            source,
            key,
            substream,
            level,
            shift,
            numbers,
            count: 0,
            consecutive: true,
            near: true,
            memory,
        }
    }

    /// Whether all elements are equal. They are then at any multiple of their size below [`CONSTANT`] bytes, and
    /// need not be added.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self.source, Source::Constant(_))
    }

    /// The most blocks that `length` consecutive elements lie in, where a block has `per_block`.
    pub(super) const fn blocks_of(length: usize, per_block: usize) -> usize {
        (length + per_block - 2) / per_block + 1
    }

    /// Whether there is room for this many blocks more.
    pub(super) fn has_room(&self, blocks: usize) -> bool {
        self.count + blocks <= BLOCKS
    }

    /// Adds `length` elements, at least one, from number `first` on, for whose blocks there must be room. Returns
    /// where the first of them will be, in elements.
    #[inline(always)]
    pub(super) fn add(&mut self, first: u64, length: usize) -> usize {
        let block = first >> self.shift;
        let skip = (first & ((1 << self.shift) - 1)) as usize;
        let more = (skip + length - 1) >> self.shift;
        let last = if self.count == 0 { block } else { self.numbers[self.count - 1] };
        // Elements that begin in the block that the last ones end in share it.
        let start = self.count - usize::from(self.count > 0 && last == block);
        self.consecutive &= block.wrapping_sub(last) <= 1;
        // The first few without a loop, since often that is all.
        let slots = &mut self.numbers[start..start + (more + 1).max(FEW)];
        let (few, others) = slots.split_at_mut(FEW);
        for (i, slot) in few.iter_mut().enumerate() {
            *slot = block.wrapping_add(i as u64);
        }
        for (i, slot) in others.iter_mut().enumerate() {
            *slot = block.wrapping_add((FEW + i) as u64);
        }
        self.near &= ((self.numbers[0] ^ block) | (self.numbers[0] ^ (block + more as u64))) >> 32 == 0;
        self.count = start + more + 1;
        (start << self.shift) + skip
    }

    /// Computes the elements, and forgets which they are. Returns where the first one is; [`SLACK`] bytes after
    /// the last one are initialized too.
    pub(super) fn compute(&mut self) -> *const u8 {
        if let Source::Blocks { per_block, bytes, .. } = *self.source
            && self.count > 0
        {
            let count = std::mem::take(&mut self.count);
            if self.near {
                self.level.run(Compute(self, count));
            } else {
                let Batch { source, key, substream, level, .. } = *self;
                for (&number, out) in self.numbers[..count].iter().zip(self.memory.bytes().chunks_mut(bytes))
                {
                    let first = number * per_block as u64;
                    Run { source, key, substream, first, out, stream: false }.at(level);
                }
            }
            self.memory.bytes()[count * bytes..][..SLACK].fill(MaybeUninit::new(0));
            (self.consecutive, self.near) = (true, true);
        }
        self.memory.bytes().as_ptr().cast()
    }
}

/// Computes the blocks of a batch, of which there is at least one, and whose numbers have the same upper half.
struct Compute<'a, 'b>(&'a mut Batch<'b>, usize);

impl Kernel for Compute<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Batch { source, key, substream, numbers, memory, consecutive, .. } = self.0;
        let Source::Blocks { blocks, .. } = source else { return };
        let first = numbers[0] | (*substream as u64) << SUBSTREAM_SHIFT;
        let philox = Philox::new(*key, (first >> 32) as u32);
        let group = S::Wide::PAIRS;
        let count = self.1.next_multiple_of(group);
        let numbers = if *consecutive {
            Numbers::From(first as u32)
        } else {
            let list = &mut numbers[..count + group];
            let last = list[self.1 - 1];
            list[self.1..].fill(last);
            // Apart, so that the compiler knows the order.
            if blocks.in_zip_order() {
                steps(s.wide(), s.wide().zip_order(), list);
            } else {
                steps(s.wide(), s.wide().lane_order(), list);
            }
            Numbers::Listed(list)
        };
        let to = memory.bytes().as_mut_ptr().cast();
        Make { blocks, philox: &philox, numbers, count, to, stream: false }.run(s);
    }
}

/// Turns the numbers of blocks into what [`Numbers::Listed`] says.
#[inline(always)]
fn steps<S: Simd>(s: S, order: S::Int, numbers: &mut [u64]) {
    let mut of_lane = [0_u64; MOST];
    // SAFETY: there is room for the lanes of a group.
    unsafe { s.store(of_lane.as_mut_ptr().cast(), order) };
    let mut lanes = [0; MOST];
    for at in (S::PAIRS..numbers.len()).step_by(S::PAIRS).rev() {
        let (before, group) = numbers[at - S::PAIRS..][..2 * S::PAIRS].split_at_mut(S::PAIRS);
        for i in 0..S::PAIRS {
            let block = of_lane[i] as usize;
            lanes[i] = group[block].wrapping_sub(before[block]);
        }
        group.copy_from_slice(&lanes[..S::PAIRS]);
    }
    for i in 0..S::PAIRS {
        lanes[i] = numbers[of_lane[i] as usize];
    }
    numbers[..S::PAIRS].copy_from_slice(&lanes[..S::PAIRS]);
}
