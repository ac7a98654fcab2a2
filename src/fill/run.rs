//! The loop: consecutive elements of the logical tensor into consecutive memory, a buffer of blocks at a time.

use super::stages::{BLOCK, Half, LINE, Narrow, Repeat, Stream, Words, samples};
use crate::distr::{Distribution, Sampler};
use crate::dtype::Dtype;
use crate::rng::philox::Philox;
use crate::seed::Key;
use crate::simd::{Detected, Kernel, Simd};
use std::mem::MaybeUninit;

/// The bits of a block number above those that elements use say what the words are for: sub-stream 0 is the values.
pub(super) const SUBSTREAM_SHIFT: u32 = 62;

/// Blocks that are made at a time: the buffer stays in the first-level cache, and the calls of the stages cost little beside it.
const BLOCKS: usize = 256;

/// What the elements are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// One value, as often as 8 bytes hold it.
    Constant(u64),
    /// The words themselves, so many elements a block.
    Words { per_block: usize },
    /// Samples, rounded to a half type or not.
    Samples(Sampler, Option<Half>),
}

impl Source {
    /// Samples of a distribution that are stored as `dtype`.
    pub(super) fn samples(distribution: &Distribution, dtype: Dtype) -> Source {
        let half = match dtype {
            Dtype::F16 => Some(Half::F16),
            Dtype::Bf16 => Some(Half::Bf16),
            Dtype::F32 | Dtype::F64 => None,
        };
        Source::Samples(Sampler::new(distribution, dtype), half)
    }

    /// Elements of a block.
    fn per_block(&self) -> usize {
        match self {
            Source::Constant(_) => 1,
            Source::Words { per_block } => *per_block,
            Source::Samples(sampler, _) => sampler.per_block(),
        }
    }

    /// Bytes that a block has in the output.
    fn stored(&self) -> usize {
        match self {
            Source::Samples(_, Some(_)) => BLOCK / 2,
            _ => BLOCK,
        }
    }
}

/// Fills `out` with the elements from `first` on.
pub(super) struct Run<'a> {
    pub source: &'a Source,
    pub key: Key,
    /// 0 to 3, see [`SUBSTREAM_SHIFT`].
    pub substream: u64,
    /// The C-order index in the logical tensor of the first element.
    pub first: u64,
    /// Whole elements.
    pub out: &'a mut [MaybeUninit<u8>],
    /// Whether to store past the caches.
    pub stream: bool,
}

impl Run<'_> {
    /// Runs at a level. Not generic, so that the stages are compiled with this crate and not with those that use it.
    pub(super) fn at(self, level: Detected) {
        level.run(self);
    }
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { source, key, substream, first, mut out, stream } = self;
        if let Source::Constant(pattern) = *source {
            let (to, bytes) = (out.as_mut_ptr().cast(), out.len());
            return s.run(Repeat { pattern, to, bytes, stream });
        }
        let (per_block, stored) = (source.per_block() as u64, source.stored());
        let block = first / per_block;
        let mut skip = (first % per_block) as usize * (stored / per_block as usize);
        let mut block = block | substream << SUBSTREAM_SHIFT;
        // One pass for each upper word of the block number: nearly always one in all.
        while !out.is_empty() {
            let left = ((1 << 32) - (block & 0xffff_ffff)) * stored as u64 - skip as u64;
            let length = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
            let (now, rest) = out.split_at_mut(length);
            let philox = Philox::new(key, (block >> 32) as u32);
            Pass { s, source, stored, philox, stream }.fill(now, block as u32, skip);
            (out, skip) = (rest, 0);
            block = ((block >> 32) + 1) << 32;
        }
        if stream {
            s.stream_end();
        }
    }
}

/// Room for [`BLOCKS`] blocks.
#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; BLOCKS * BLOCK]>);

/// Elements whose blocks share the upper word of their number.
struct Pass<'a, S: Simd> {
    s: S,
    source: &'a Source,
    /// Bytes that a block has in the output.
    stored: usize,
    philox: Philox,
    stream: bool,
}

impl<S: Simd> Pass<'_, S> {
    /// Blocks that the first stage makes side by side.
    const GROUP: usize = S::Wide::PAIRS;

    /// Fills `out`, which begins `skip` bytes into block `block`.
    #[inline(always)]
    fn fill(self, mut out: &mut [MaybeUninit<u8>], mut block: u32, mut skip: usize) {
        const { assert!(BLOCKS.is_multiple_of(Self::GROUP)) };
        let mut buffer = Buffer(MaybeUninit::uninit());
        let (head, aligned) = head(out, self.stored, skip);
        let stream = self.stream && aligned;
        // Where there is more than a buffer of them, elements are stored from the beginning of a block and of a cache line on.
        let mut length = if out.len() > BLOCKS * self.stored && head > 0 { head } else { out.len() };
        while !out.is_empty() {
            let blocks = (skip + length).div_ceil(self.stored).min(BLOCKS);
            let (now, rest) = out.split_at_mut(length.min(blocks * self.stored - skip));
            self.blocks(&mut buffer, now, block, blocks, skip, stream);
            (out, skip) = (rest, 0);
            length = out.len();
            block = block.wrapping_add(blocks as u32);
        }
    }

    /// Makes `blocks` blocks from `block` on, at most a buffer of them: all that `out` has but for the first `skip` bytes.
    #[inline(always)]
    fn blocks(
        &self,
        buffer: &mut Buffer,
        out: &mut [MaybeUninit<u8>],
        block: u32,
        blocks: usize,
        skip: usize,
        stream: bool,
    ) {
        let Pass { s, source, stored, ref philox, .. } = *self;
        let buffer: *mut u8 = buffer.0.as_mut_ptr().cast();
        let whole = out.len() == blocks * stored && blocks.is_multiple_of(Self::GROUP);
        // Whole groups go to their place at once, unless they are to go past the caches.
        let to = if whole && !stream { out.as_mut_ptr().cast() } else { buffer };
        let blocks = blocks.next_multiple_of(Self::GROUP);
        match source {
            Source::Samples(sampler, half) => {
                s.run(Words { philox, block, to: buffer, blocks });
                match *half {
                    None => samples(s, sampler, buffer, to, blocks),
                    Some(half) => {
                        samples(s, sampler, buffer, buffer, blocks);
                        s.run(Narrow { half, from: buffer, to, blocks });
                    }
                }
            }
            _ => s.run(Words { philox, block, to, blocks }),
        }
        if to != buffer {
            return;
        }
        if stream && whole && out.len().is_multiple_of(LINE) {
            s.run(Stream { from: buffer, to: out.as_mut_ptr().cast(), bytes: out.len() });
        } else {
            // SAFETY: the buffer has the bytes of all blocks, of which `out` takes all but the first `skip` and what is left over.
            unsafe { std::ptr::copy_nonoverlapping(buffer.add(skip).cast(), out.as_mut_ptr(), out.len()) };
        }
    }
}

/// How many bytes come before the first that begins both a block and a cache line, and whether there is such a one; if not, how many
/// come before the first block.
#[inline(always)]
fn head(out: &[MaybeUninit<u8>], stored: usize, skip: usize) -> (usize, bool) {
    let to_block = (stored - skip) % stored;
    let misaligned = (out.as_ptr() as usize + to_block) % LINE;
    let to_line = (LINE - misaligned) % LINE;
    if to_line.is_multiple_of(stored) { (to_block + to_line, true) } else { (to_block, false) }
}
