//! Where elements go: from the order of a window to places in memory.

use crate::error::{Error, Result};
use crate::shape::Window;
use ndarray::ArrayViewMutD;
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
        window.check_output(out.shape())?;
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

/// A tensor seen as a matrix: one axis has its columns, all others together, in C order, its rows.
pub(crate) struct Matrix<'a, T> {
    start: *mut MaybeUninit<T>,
    pub rows: Vec<Place>,
    pub columns: Vec<Place>,
    borrow: PhantomData<&'a mut T>,
}

/// A row or a column of a [`Matrix`].
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Its number in the logical matrix.
    pub index: u64,
    /// How far it lies from the first one in memory, in elements.
    pub offset: isize,
}

impl Place {
    /// The places of an axis beneath each of `outer`, whose numbers count `scale` of them.
    fn along(
        outer: &[Place],
        axis: usize,
        scale: u64,
        window: &Window,
        strides: &[isize],
    ) -> Result<Vec<Place>> {
        let count = outer.len().saturating_mul(window.extent()[axis]);
        let mut places = Vec::new();
        let bytes = count.saturating_mul(size_of::<Place>());
        places.try_reserve_exact(count).map_err(|_| Error::Memory { bytes })?;
        for outer in outer {
            places.extend(window.range(axis).zip(0..).map(|(index, i)| Place {
                index: outer.index * scale + index,
                offset: outer.offset + i * strides[axis],
            }));
        }
        Ok(places)
    }
}

// SAFETY: as for `Places`.
unsafe impl<T: Send> Sync for Matrix<'_, T> {}

impl<'a, T> Matrix<'a, T> {
    /// The part of the matrix that the window names, in `out`, which has its shape.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn new(
        mut out: ArrayViewMutD<'a, MaybeUninit<T>>,
        window: &Window,
        column_axis: usize,
    ) -> Result<Matrix<'a, T>> {
        let first = [Place { index: 0, offset: 0 }];
        let columns = Place::along(&first, column_axis, 0, window, out.strides())?;
        let mut rows = first.to_vec();
        for axis in (0..window.shape().len()).filter(|&axis| axis != column_axis) {
            rows = Place::along(&rows, axis, window.shape()[axis], window, out.strides())?;
        }
        Ok(Matrix { start: out.as_mut_ptr(), rows, columns, borrow: PhantomData })
    }

    /// Writes the element at the sum of the offsets of a row and a column.
    ///
    /// # Safety
    /// The row and the column must be of this matrix, and no other thread may use this element.
    #[inline]
    pub unsafe fn write(&self, offset: isize, value: T) {
        // SAFETY: the caller vouches for the place.
        unsafe { self.start.offset(offset).write(MaybeUninit::new(value)) };
    }
}
