//! Where elements go: from the order of a window to places in memory.

use crate::error::{Error, Result};
use crate::shape::Window;
use ndarray::{ArrayViewMut2, ArrayViewMutD};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// One axis of a window.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    /// From one index to the next in the order of the logical tensor.
    logical: u64,
    /// From one index to the next in memory, in elements.
    memory: isize,
}

/// The elements of a window and their places in `out`, with axes joined where both orders allow it.
pub(super) struct Places<'a, T> {
    start: *mut T,
    /// The logical index of the first element.
    first: u64,
    outer: Vec<Axis>,
    /// The last axis, along which the logical index grows by one.
    inner: Axis,
    borrow: PhantomData<&'a mut T>,
}

// SAFETY: the places are those of a mutable view, which borrows them alone; threads are given disjoint parts of them.
unsafe impl<T: Send> Sync for Places<'_, T> {}

/// Elements whose logical index grows by one from each to the next, and whose places are `stride` elements apart.
pub(super) struct Line<T> {
    pub start: *mut T,
    pub first: u64,
    pub length: usize,
    pub stride: isize,
}

impl<'a, T> Places<'a, T> {
    /// The places in `out` of the elements of `window`.
    ///
    /// # Errors
    /// [`Error::Value`] where the shape of `out` is not that of the window.
    pub(super) fn new(mut out: ArrayViewMutD<'a, MaybeUninit<T>>, window: &Window) -> Result<Places<'a, T>> {
        if out.shape() != window.extent() {
            let (out, wanted) = (out.shape(), window.extent());
            return Err(Error::value(format!(
                "the output has shape {out:?}, the elements asked for {wanted:?}"
            )));
        }
        let start = out.as_mut_ptr().cast();
        let mut axes: Vec<Axis> = Vec::with_capacity(window.shape().len());
        let (mut first, mut stride) = (0_u64, 1_u64);
        let sizes = window.shape().iter().zip(window.start()).zip(window.extent()).zip(out.strides());
        // From the last axis to the first; an axis that goes on where the one inside of it ends is joined with that.
        for (((&size, &start), &extent), &memory) in sizes.rev() {
            // A window with elements lies inside a shape whose product was checked; one without is never walked.
            first = first.wrapping_add(start.wrapping_mul(stride));
            let axis = Axis { extent, logical: stride, memory };
            stride = stride.wrapping_mul(size);
            match axes.last_mut() {
                _ if extent == 1 => {}
                Some(inside)
                    if axis.logical == inside.logical.wrapping_mul(inside.extent as u64)
                        && axis.memory == inside.memory.wrapping_mul(inside.extent as isize) =>
                {
                    inside.extent *= extent;
                }
                _ => axes.push(axis),
            }
        }
        axes.reverse();
        let inner = match axes.last() {
            Some(axis) if axis.logical == 1 => axes.pop(),
            _ => None,
        };
        let inner = inner.unwrap_or(Axis { extent: 1, logical: 1, memory: 1 });
        Ok(Places { start, first, outer: axes, inner, borrow: PhantomData })
    }

    /// Calls `each` with the lines that make up the elements `range` of the window, in order, until it returns false.
    #[inline(always)]
    pub(super) fn lines(&self, range: Range<usize>, mut each: impl FnMut(Line<T>) -> bool) {
        let mut position = range.start;
        let mut within = position % self.inner.extent;
        // The place in the outer axes, as on the wheels of a counter.
        let mut wheels = vec![0_usize; self.outer.len()];
        let (mut logical, mut memory) = (self.first, 0_isize);
        let mut rest = position / self.inner.extent;
        for (wheel, axis) in wheels.iter_mut().zip(&self.outer).rev() {
            *wheel = rest % axis.extent;
            rest /= axis.extent;
            logical += *wheel as u64 * axis.logical;
            memory += *wheel as isize * axis.memory;
        }
        while position < range.end {
            let length = (self.inner.extent - within).min(range.end - position);
            let line = Line {
                // SAFETY: a place of the view that `self` was made of.
                start: unsafe { self.start.offset(memory + within as isize * self.inner.memory) },
                first: logical + within as u64,
                length,
                stride: self.inner.memory,
            };
            if !each(line) {
                return;
            }
            position += length;
            within = 0;
            for (wheel, axis) in wheels.iter_mut().zip(&self.outer).rev() {
                *wheel += 1;
                logical += axis.logical;
                memory += axis.memory;
                if *wheel < axis.extent {
                    break;
                }
                logical -= *wheel as u64 * axis.logical;
                memory -= *wheel as isize * axis.memory;
                *wheel = 0;
            }
        }
    }
}

/// The places of a matrix, for threads that write to disjoint parts of it.
pub(super) struct Grid<'a, T> {
    start: *mut MaybeUninit<T>,
    strides: [isize; 2],
    borrow: PhantomData<&'a mut T>,
}

// SAFETY: as for `Places`.
unsafe impl<T: Send> Sync for Grid<'_, T> {}

impl<'a, T> Grid<'a, T> {
    pub(super) fn new(mut out: ArrayViewMut2<'a, MaybeUninit<T>>) -> Grid<'a, T> {
        let strides = [out.strides()[0], out.strides()[1]];
        Grid { start: out.as_mut_ptr(), strides, borrow: PhantomData }
    }

    /// Writes an element.
    ///
    /// # Safety
    /// The row and the column must be those of the view, and no other thread may use this element.
    pub(super) unsafe fn write(&self, row: usize, column: usize, value: T) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let offset = row as isize * self.strides[0] + column as isize * self.strides[1];
            self.start.offset(offset).write(MaybeUninit::new(value));
        }
    }
}
