//! Blocks of an output along an axis, and how threads share them.

use super::Options;
use super::buffer::{Scratch, prefer_huge_pages};
use super::limits::check_memory;
use super::threads::{BYTES_PER_THREAD, how_many, in_turns};
use crate::dtype::Element;
use crate::error::Result;
use ndarray::{ArrayViewMutD, Axis, IxDyn, RawArrayViewMut, Slice};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;

/// Blocks of more bytes than this are filled one after the other, each by all threads, so that scratch memory
/// for one is enough.
const LARGE: usize = 4 << 20;

/// The scratch memory that a fill may take besides that of the size of its output.
pub(crate) const SPARE: usize = 16 << 20;

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
    /// The bytes of output of the largest one.
    pub bytes: usize,
    /// How many times longer it takes to compute an element than to store it.
    pub effort: usize,
    /// Whether anything is written to untouched memory.
    pub writes: bool,
    /// The bytes of scratch memory that each may need where all threads fill it.
    pub scratch: usize,
    /// The same where one thread fills it.
    pub single: usize,
}

impl<T: Element, F: Fn(usize) -> Range<usize> + Sync> Blocks<'_, T, F> {
    /// Calls `fill` for each block, with its number and its part of the output. All memory is allocated
    /// before the first call.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory), before anything is written; otherwise as `fill`.
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
        // All threads together use no more scratch memory than the output has, and what one may use.
        let all = (self.out.len() * size_of::<T>()).saturating_add(SPARE);
        let most = most.min(all.checked_div(self.single).unwrap_or(usize::MAX)).max(1);
        let together = how_many(most, options);
        let alone = how_many(work / BYTES_PER_THREAD, options);
        let (level, untouched) = (options.level, options.untouched);
        let parts = Parts { out: self.out.raw_view_mut(), axis: Axis(self.axis), range: self.range };
        let one_by_one = self.count == 1 || self.bytes > LARGE || alone > together;
        let scratch = if one_by_one { self.scratch } else { together.saturating_mul(self.single) };
        let new = if untouched.is_some() && self.writes { all - SPARE } else { 0 };
        check_memory(scratch.saturating_add(new))?;
        if one_by_one {
            let mut scratch = Scratch::new(self.scratch)?;
            // SAFETY: one part at a time.
            return (0..self.count)
                .try_for_each(|i| fill(i, unsafe { parts.part(i) }, &mut scratch, options));
        }
        let mut workers = (0..together).map(|_| Scratch::new(self.single)).collect::<Result<Vec<_>>>()?;
        in_turns(self.count, &mut workers, options, |i, scratch, pulse| {
            let interrupt = || pulse.stopped();
            let options =
                Options { threads: NonZeroUsize::new(1), interrupt: Some(&interrupt), level, untouched };
            // SAFETY: `in_turns` gives out each number once, and the parts are disjoint.
            fill(i, unsafe { parts.part(i) }, scratch, &options)
        })
    }
}

/// Parts of a view. They borrow it mutably.
struct Parts<T, F> {
    out: RawArrayViewMut<MaybeUninit<T>, IxDyn>,
    axis: Axis,
    range: F,
}

// SAFETY: access to a part is only given by `part`, whose caller guarantees that there is one view of it.
unsafe impl<T: Send, F: Sync> Sync for Parts<T, F> {}

impl<T, F: Fn(usize) -> Range<usize>> Parts<T, F> {
    /// Part number `i`.
    ///
    /// # Safety
    /// While the result is in use, there must be no other view of its elements.
    unsafe fn part(&self, i: usize) -> ArrayViewMutD<'_, MaybeUninit<T>> {
        let mut out = self.out.clone();
        out.slice_axis_inplace(self.axis, Slice::from((self.range)(i)));
        // SAFETY: part of a view that is mutably borrowed. The caller guarantees that no other view of these
        // elements is in use.
        unsafe { out.deref_into_view_mut() }
    }
}
