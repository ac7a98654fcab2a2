//! Consecutive elements of the logical tensor into consecutive memory: whole groups of blocks directly, the
//! rest through a buffer.

use super::kernels::{Blocks, LINE, Make, Numbers, Repeat};
use crate::distr::{Distribution, Sampler};
use crate::dtype::Dtype;
use crate::rng::Substream;
use crate::rng::philox::Philox;
use crate::seed::Key;
use crate::simd::{Detected, Kernel, Simd};
use std::mem::MaybeUninit;

/// The sub-stream is in the bits of a block number above those that elements use.
pub(super) const SUBSTREAM_SHIFT: u32 = 62;

/// What the elements are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// One value, repeated to fill 8 bytes.
    Constant(u64),
    /// Elements that are computed from the words of their blocks.
    Blocks {
        blocks: Blocks,
        /// The elements of a block.
        per_block: usize,
        /// Bytes of a block.
        bytes: usize,
    },
}

impl Source {
    /// Samples of a distribution that are stored as `dtype`.
    pub(super) fn samples(distribution: &Distribution, dtype: Dtype) -> Source {
        let per_block = if dtype == Dtype::F64 { 2 } else { 4 };
        let blocks = Blocks::Samples(Sampler::new(distribution, dtype), dtype);
        Source::Blocks { blocks, per_block, bytes: per_block * dtype.size() }
    }

    /// The words themselves, as `per_block` elements for each block.
    pub(super) fn words(per_block: usize) -> Source {
        Source::Blocks { blocks: Blocks::Words, per_block, bytes: 16 }
    }
}

/// Fills `out` with the elements from `first` on.
pub(super) struct Run<'a> {
    pub source: &'a Source,
    pub key: Key,
    pub substream: Substream,
    /// The C-order index in the logical tensor of the first element.
    pub first: u64,
    /// The memory of whole elements.
    pub out: &'a mut [MaybeUninit<u8>],
    /// Whether to use non-temporal stores.
    pub stream: bool,
}

impl Run<'_> {
    /// Runs at a level. Not generic, so that the loops are compiled in this crate and not in those that
    /// depend on it.
    pub(super) fn at(self, level: Detected) {
        level.run(self);
    }
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { source, key, substream, first, mut out, stream } = self;
        let (blocks, per_block, bytes) = match source {
            Source::Constant(pattern) => {
                let (to, bytes) = (out.as_mut_ptr().cast(), out.len());
                return s.run(Repeat { pattern: *pattern, to, bytes, stream });
            }
            Source::Blocks { blocks, per_block, bytes } => (blocks, *per_block as u64, *bytes),
        };
        let mut block = (first / per_block) | ((substream as u64) << SUBSTREAM_SHIFT);
        let mut skip = (first % per_block) as usize * (bytes / per_block as usize);
        // One pass for each upper word of the block number, of which there is nearly always one only.
        while !out.is_empty() {
            let left = ((1 << 32) - (block & 0xffff_ffff)) * bytes as u64 - skip as u64;
            let length = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
            let (now, rest) = out.split_at_mut(length);
            let philox = Philox::new(key, (block >> 32) as u32);
            Pass { s, blocks, bytes, philox: &philox }.fill(now, block as u32, skip, stream);
            (out, skip) = (rest, 0);
            block = ((block >> 32) + 1) << 32;
        }
        if stream {
            s.stream_end();
        }
    }
}

/// The size of the buffer, which stays in the first-level cache.
const BUFFER: usize = 4096;

/// A buffer, aligned for registers.
#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; BUFFER]>);

/// Elements whose blocks share the upper word of their number.
struct Pass<'a, S: Simd> {
    s: S,
    blocks: &'a Blocks,
    /// Bytes of a block.
    bytes: usize,
    philox: &'a Philox,
}

impl<S: Simd> Pass<'_, S> {
    /// The blocks of a group, which are computed together.
    const GROUP: usize = S::Wide::PAIRS;

    /// Fills `out`, which begins `skip` bytes into block `block`.
    #[inline(always)]
    fn fill(&self, mut out: &mut [MaybeUninit<u8>], mut block: u32, mut skip: usize, stream: bool) {
        let mut buffer = Buffer(MaybeUninit::uninit());
        let (head, aligned) = head(out, self.bytes, skip);
        // Longer outputs are stored from the beginning of a block and of a cache line on.
        let long = out.len() > BUFFER;
        let stream = stream && aligned && long;
        let mut length = if long { head } else { 0 };
        while !out.is_empty() {
            let whole = out.len() / self.bytes / Self::GROUP * Self::GROUP;
            let short = out.len() <= BUFFER && out.len() > whole * self.bytes;
            let blocks = if skip == 0 && length == 0 && whole > 0 && !short {
                // Whole groups are stored directly. What fits the buffer is computed in one loop in any case,
                // since the first words of a loop cannot overlap with other arithmetic.
                let (now, rest) = out.split_at_mut(whole * self.bytes);
                self.make(block, whole, now.as_mut_ptr().cast(), stream);
                out = rest;
                whole
            } else {
                let length = if length == 0 { out.len() } else { std::mem::take(&mut length) };
                let blocks = (skip + length).div_ceil(self.bytes).min(BUFFER / self.bytes);
                let (now, rest) = out.split_at_mut(length.min(blocks * self.bytes - skip));
                self.by_buffer(&mut buffer, now, block, blocks, skip);
                (out, skip) = (rest, 0);
                blocks
            };
            block = block.wrapping_add(blocks as u32);
        }
    }

    /// Computes `count` blocks, a multiple of a group, from number `first` on, to `to`, which must have room
    /// for them.
    #[inline(always)]
    fn make(&self, first: u32, count: usize, to: *mut u8, stream: bool) {
        let numbers = Numbers::From(first);
        Make { blocks: self.blocks, philox: self.philox, numbers, count, to, stream }.run(self.s);
    }

    /// Computes `count` blocks, at most a buffer of them, from number `first` on. `out` gets their bytes
    /// after the first `skip`.
    #[inline(always)]
    fn by_buffer(
        &self,
        buffer: &mut Buffer,
        out: &mut [MaybeUninit<u8>],
        first: u32,
        count: usize,
        skip: usize,
    ) {
        const { assert!((BUFFER / 16).is_multiple_of(Self::GROUP)) };
        let from: *mut u8 = buffer.0.as_mut_ptr().cast();
        self.make(first, count.next_multiple_of(Self::GROUP), from, false);
        // SAFETY: the blocks are in the buffer, and `skip` and the length of `out` are together at most their
        // bytes.
        unsafe { std::ptr::copy_nonoverlapping(from.add(skip).cast(), out.as_mut_ptr(), out.len()) };
    }
}

/// The bytes before the first address that begins both a block and a cache line, and `true`; if there is
/// none, the bytes before the first block, and `false`.
#[inline(always)]
fn head(out: &[MaybeUninit<u8>], bytes: usize, skip: usize) -> (usize, bool) {
    let to_block = (bytes - skip) % bytes;
    let misaligned = (out.as_ptr() as usize + to_block) % LINE;
    let to_line = (LINE - misaligned) % LINE;
    if to_line.is_multiple_of(bytes) { (to_block + to_line, true) } else { (to_block, false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    /// Non-temporal stores need an aligned address, which a short output may not have.
    #[test]
    fn outputs_at_any_address_may_ask_for_non_temporal_stores() {
        let source = Source::samples(&Distribution::Normal { mean: 0.0, stddev: 1.0 }, Dtype::F32);
        let fill = |level: Level, first, out: &mut [u8], stream| {
            // SAFETY: the same memory under the same borrow, to which only initialized bytes are written.
            let out = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len()) };
            let substream = Substream::Values;
            let key = Key { seed: 1, stream: 2 };
            Run { source: &source, key, substream, first, out, stream }.at(level.detect());
        };
        for &level in Level::available() {
            for length in [16, 64, 128, 256, 1024, 1025, 1040, 3000] {
                for first in [0, 3] {
                    let mut expected = vec![0; 4 * length];
                    fill(Level::Scalar, first, &mut expected, false);
                    for start in 0..16 {
                        let mut memory = vec![0; 4 * (start + length)];
                        fill(level, first, &mut memory[4 * start..], true);
                        assert!(
                            memory[4 * start..] == expected,
                            "{level:?}: {length} from {first} at {start}"
                        );
                    }
                }
            }
        }
    }
}
