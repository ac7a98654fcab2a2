//! The loop: consecutive elements of the logical tensor into consecutive memory.

use super::emit::{Emit, registers};
use crate::rng::Substream;
use crate::rng::philox::Philox;
use crate::seed::Key;
use crate::simd::{Kernel, Simd};
use std::mem::MaybeUninit;

/// The sub-stream stands in the bits of a block number above those that elements use.
pub(super) const SUBSTREAM_SHIFT: u32 = 62;

/// What a cache line holds, and the widest register.
const LINE: usize = 64;

/// Room for two registers. Its alignment is that of the whole frame then: registers that the compiler puts aside for a while do not
/// straddle cache lines, as they would by chance otherwise.
#[repr(align(64))]
struct Scratch([MaybeUninit<[u8; LINE]>; 2]);

/// Fills `out` with the elements from `first` on.
pub(super) struct Run<'a, E: Emit> {
    pub emit: E,
    pub key: Key,
    pub substream: Substream,
    /// The C-order index in the logical tensor of the first element.
    pub first: u64,
    pub out: &'a mut [MaybeUninit<E::Item>],
    /// Whether to store past the caches.
    pub stream: bool,
}

impl<E: Emit> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let per_block = E::PER_BLOCK as u64;
        let (mut out, mut index) = (self.out, self.first);
        // One pass for each upper word of the block number: nearly always one in all.
        while !out.is_empty() {
            let block = (index / per_block) | ((self.substream as u64) << SUBSTREAM_SHIFT);
            let left = ((1 << 32) - (block & 0xffff_ffff)) * per_block - index % per_block;
            let length = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
            let (now, rest) = out.split_at_mut(length);
            let philox = Philox::new(self.key, (block >> 32) as u32);
            let group = Group { s, emit: self.emit, philox };
            group.fill(now, block as u32, (index % per_block) as usize, self.stream);
            (out, index) = (rest, index + length as u64);
        }
    }
}

/// Makes elements by the group: one block for each pair of lanes.
struct Group<S: Simd, E: Emit> {
    s: S,
    emit: E,
    philox: Philox,
}

impl<S: Simd, E: Emit> Group<S, E> {
    /// Elements in a group.
    const ELEMENTS: usize = S::PAIRS * E::PER_BLOCK;
    /// Bytes in a register.
    const REGISTER: usize = 8 * S::PAIRS;

    /// Fills `out`, whose first element is number `skip` of block `block`.
    #[inline(always)]
    fn fill(&self, out: &mut [MaybeUninit<E::Item>], block: u32, skip: usize, stream: bool) {
        let (head, aligned) = head(out, E::PER_BLOCK, skip);
        let head = head.min(out.len());
        let (first, out) = out.split_at_mut(head);
        self.part(first, block, skip);
        let block = block.wrapping_add(((skip + head) / E::PER_BLOCK) as u32);
        let wide = Group { s: self.s.wide(), emit: self.emit, philox: self.philox };
        let (out, block) = if stream && aligned {
            let rest = wide.whole::<true>(out, block);
            self.s.stream_end();
            rest
        } else {
            wide.whole::<false>(out, block)
        };
        let (out, block) = self.whole::<false>(out, block);
        self.part(out, block, 0);
    }

    /// The counters of the group that begins with this block.
    #[inline(always)]
    fn counter(&self, block: u32) -> S::Int {
        self.s.add_u64(self.s.splat_u64(block as u64), E::order(self.s))
    }

    /// Fills as many whole groups as there are in `out`, from `block` on; returns what is left.
    #[inline(always)]
    fn whole<'a, const STREAM: bool>(
        &self,
        out: &'a mut [MaybeUninit<E::Item>],
        block: u32,
    ) -> (&'a mut [MaybeUninit<E::Item>], u32) {
        let groups = out.len() / Self::ELEMENTS;
        let (whole, rest) = out.split_at_mut(groups * Self::ELEMENTS);
        let mut to: *mut u8 = whole.as_mut_ptr().cast();
        let mut counter = self.counter(block);
        let step = self.s.splat_u64(S::PAIRS as u64);
        // The words of the next group are made beside the elements of this one: the two do not wait for each other.
        let mut words = self.philox.words(self.s, counter);
        for _ in 0..groups {
            counter = self.s.add_u64(counter, step);
            let next = self.philox.words(self.s, counter);
            let (a, b) = self.emit.emit(self.s, words.0, words.1);
            words = next;
            // SAFETY: a group has `ELEMENTS` elements, which are as many bytes as `registers::<E>()` registers, and `groups` of
            // them lie within `whole`. Where they are streamed, `fill` has seen to it that they begin at a cache line.
            unsafe {
                if STREAM {
                    self.s.stream(to, a);
                    if registers::<E>() == 2 {
                        self.s.stream(to.add(Self::REGISTER), b);
                    }
                } else {
                    self.s.store(to, a);
                    if registers::<E>() == 2 {
                        self.s.store(to.add(Self::REGISTER), b);
                    }
                }
                to = to.add(registers::<E>() * Self::REGISTER);
            }
        }
        (rest, block.wrapping_add((groups * S::PAIRS) as u32))
    }

    /// Fills any number of elements, whose first is number `skip` of block `block`.
    #[inline(always)]
    fn part(&self, mut out: &mut [MaybeUninit<E::Item>], mut block: u32, mut skip: usize) {
        while !out.is_empty() {
            let (even, odd) = self.philox.words(self.s, self.counter(block));
            let (a, b) = self.emit.emit(self.s, even, odd);
            let mut group = Scratch([MaybeUninit::uninit(); 2]);
            let length = out.len().min(Self::ELEMENTS - skip);
            // SAFETY: a register has at most 64 bytes, so two fit. After the stores the first `ELEMENTS` elements are
            // initialized, of which `skip + length` are at most all.
            unsafe {
                let group: *mut u8 = group.0.as_mut_ptr().cast();
                self.s.store(group, a);
                self.s.store(group.add(Self::REGISTER), b);
                let from = group.cast::<MaybeUninit<E::Item>>().add(skip);
                std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), length);
            }
            out = &mut out[length..];
            block = block.wrapping_add(S::PAIRS as u32);
            skip = 0;
        }
    }
}

/// How many elements come before the first that begins both a block and a cache line, and whether there is such a one; if not,
/// how many come before the first block.
#[inline(always)]
fn head<T>(out: &[MaybeUninit<T>], per_block: usize, skip: usize) -> (usize, bool) {
    let to_block = (per_block - skip) % per_block;
    let size = size_of::<T>();
    let misaligned = (out.as_ptr() as usize + to_block * size) % LINE;
    let to_line = (LINE - misaligned) % LINE;
    if to_line.is_multiple_of(per_block * size) {
        (to_block + to_line / size, true)
    } else {
        (to_block, false)
    }
}
