//! A tensor cut into blocks along an axis: which of them a window touches, and how threads share them.

use super::Options;
use super::buffer::{Scratch, prefer_huge_pages};
use super::threads::{BYTES_PER_THREAD, how_many, in_turns};
use crate::dtype::Element;
use crate::error::Result;
use ndarray::{ArrayViewMutD, Axis, IxDyn, RawArrayViewMut, Slice};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;

/// Blocks of more bytes than this are made one after the other, each on all threads, so that scratch memory for one is enough.
const LARGE: usize = 4 << 20;

/// Blocks of a view along an axis, to be filled.
pub(crate) struct Blocks<'a, T, F> {
    /// The output.
    pub out: ArrayViewMutD<'a, MaybeUninit<T>>,
    /// The axis along which the blocks lie.
    pub axis: usize,
    /// How many there are.
    pub count: usize,
    /// Where each lies along the axis of `out`: ascending, and disjoint.
    pub range: F,
    /// The most bytes of output that one has.
    pub bytes: usize,
    /// How many times the work for a block is that of storing it.
    pub effort: usize,
    /// The most bytes of scratch memory that one needs.
    pub scratch: usize,
}

impl<T: Element, F: Fn(usize) -> Range<usize> + Sync> Blocks<'_, T, F> {
    /// Calls `fill` for each block, with its number and its part of the output. All memory is allocated before the first call.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory), before anything is written; else that of `fill`.
    pub fn fill(
        mut self,
        options: &Options<'_>,
        fill: impl Fn(usize, ArrayViewMutD<'_, MaybeUninit<T>>, &mut Scratch, &Options<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        if options.untouched.is_none() {
            prefer_huge_pages(&mut self.out);
        }
        let work = self.bytes.saturating_mul(self.effort);
        let most = (work.saturating_mul(self.count) / BYTES_PER_THREAD).min(self.count);
        let together = how_many(most, options);
        let alone = how_many(work / BYTES_PER_THREAD, options);
        let (level, untouched) = (options.level, options.untouched);
        let parts = Parts { out: self.out.raw_view_mut(), axis: Axis(self.axis), range: self.range };
        if self.count == 1 || self.bytes > LARGE || alone > together {
            let mut scratch = Scratch::new(self.scratch)?;
            // SAFETY: each number once, one after the other.
            return (0..self.count)
                .try_for_each(|i| fill(i, unsafe { parts.part(i) }, &mut scratch, options));
        }
        let mut workers = (0..together).map(|_| Scratch::new(self.scratch)).collect::<Result<Vec<_>>>()?;
        in_turns(self.count, &mut workers, options, |i, scratch, pulse| {
            let interrupt = || pulse.stopped();
            let options =
                Options { threads: NonZeroUsize::new(1), interrupt: Some(&interrupt), level, untouched };
            // SAFETY: each number is taken by one thread, once.
            fill(i, unsafe { parts.part(i) }, scratch, &options)
        })
    }
}

/// Parts of a view that is borrowed for as long as they are used.
struct Parts<T, F> {
    out: RawArrayViewMut<MaybeUninit<T>, IxDyn>,
    axis: Axis,
    range: F,
}

// SAFETY: a part is taken by one thread only, and parts are disjoint.
unsafe impl<T: Send, F: Sync> Sync for Parts<T, F> {}

impl<T, F: Fn(usize) -> Range<usize>> Parts<T, F> {
    /// Part number `i`.
    ///
    /// # Safety
    /// No other view of the part may be used as long as this one is.
    unsafe fn part(&self, i: usize) -> ArrayViewMutD<'_, MaybeUninit<T>> {
        let mut out = self.out.clone();
        out.slice_axis_inplace(self.axis, Slice::from((self.range)(i)));
        // SAFETY: part of a view that is borrowed mutably, and the caller vouches that no other view of this part is in use.
        unsafe { out.deref_into_view_mut() }
    }
}
