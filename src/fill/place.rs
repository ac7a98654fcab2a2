//! From the index of an element in the logical tensor to its place in memory.
//!
//! No memory is used for each element, row or column; strides suffice.

use super::threads::{Countdown, Pulse};
use super::{GRAIN, TILE};
use crate::error::Result;
use crate::shape::Window;
use ndarray::ArrayViewMutD;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// One axis of a window.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    /// The distance from one index to the next in the order of the logical tensor.
    logical: u64,
    /// The distance from one index to the next in memory, in elements.
    memory: isize,
}

/// Axes of a window as one, in C order: the logical index of its first element, and the axes that are left,
/// the outermost first, after adjacent ones were joined where both orders allow it.
fn joined(
    axes: impl DoubleEndedIterator<Item = usize>,
    window: &Window,
    strides: &[isize],
) -> (u64, Vec<Axis>) {
    let mut kept: Vec<Axis> = Vec::with_capacity(strides.len());
    let (mut first, mut stride) = (0_u64, 1_u64);
    for axis in axes.rev() {
        let extent = window.extent()[axis];
        // A window with elements lies in a shape whose product was checked, and one without is never
        // iterated.
        first = first.wrapping_add(window.start()[axis].wrapping_mul(stride));
        let outside = Axis { extent, logical: stride, memory: strides[axis] };
        stride = stride.wrapping_mul(window.shape()[axis]);
        match kept.last_mut() {
            _ if extent == 1 => {}
            Some(inside)
                if outside.logical == inside.logical.wrapping_mul(inside.extent as u64)
                    && outside.memory == inside.memory.wrapping_mul(inside.extent as isize) =>
            {
                inside.extent *= extent;
            }
            _ => kept.push(outside),
        }
    }
    kept.reverse();
    (first, kept)
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

// SAFETY: the places are those of a mutably borrowed view, and threads are given disjoint parts of them.
unsafe impl<T: Send> Sync for Places<'_, T> {}

/// Elements with consecutive logical indices, whose places are `stride` elements apart.
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
    /// [`Error::OutputShape`](crate::Error::OutputShape) where the shape of `out` is not that of the window.
    pub(super) fn new(mut out: ArrayViewMutD<'a, MaybeUninit<T>>, window: &Window) -> Result<Places<'a, T>> {
        window.check_output(out.shape())?;
        let start = out.as_mut_ptr().cast();
        let (first, mut axes) = joined(0..out.ndim(), window, out.strides());
        let inner = match axes.last() {
            Some(axis) if axis.logical == 1 => axes.pop(),
            _ => None,
        };
        let inner = inner.unwrap_or(Axis { extent: 1, logical: 1, memory: 1 });
        Ok(Places { start, first, outer: axes, inner, borrow: PhantomData })
    }

    /// At multiples of how many elements parts should begin, of which each thread gets about `share` elements:
    /// where adjacent lines are written together, after as many of them.
    pub(super) fn grain(&self, share: usize) -> usize {
        if self.inner.memory == 1 { GRAIN } else { (TILE * self.inner.extent).min(share) }
    }

    /// Calls `each` with the lines that make up the elements `range` of the window, in order, until it
    /// returns false.
    #[inline(always)]
    pub(super) fn lines(&self, range: Range<usize>, mut each: impl FnMut(Line<T>) -> bool) {
        let mut position = range.start;
        let mut within = position % self.inner.extent;
        // The index along each of the outer axes.
        let mut indices = vec![0_usize; self.outer.len()];
        let (mut logical, mut memory) = (self.first, 0_isize);
        let mut rest = position / self.inner.extent;
        for (index, axis) in indices.iter_mut().zip(&self.outer).rev() {
            *index = rest % axis.extent;
            rest /= axis.extent;
            logical += *index as u64 * axis.logical;
            memory += *index as isize * axis.memory;
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
            for (index, axis) in indices.iter_mut().zip(&self.outer).rev() {
                *index += 1;
                logical += axis.logical;
                memory += axis.memory;
                if *index < axis.extent {
                    break;
                }
                logical -= *index as u64 * axis.logical;
                memory -= *index as isize * axis.memory;
                *index = 0;
            }
        }
    }
}

/// A window of a tensor as a matrix: columns along one axis, rows along all others together, in C order.
pub(crate) struct Matrix<'a, T> {
    start: *mut MaybeUninit<T>,
    pub rows: Side,
    pub columns: Side,
    borrow: PhantomData<&'a mut T>,
}

/// The rows or the columns of a [`Matrix`].
pub(crate) struct Side {
    /// The number of the first one in the logical matrix.
    first: u64,
    axes: Vec<Axis>,
    length: usize,
}

/// A row or a column of a [`Matrix`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    /// Its number in the logical matrix.
    pub index: u64,
    /// Its distance from the first one in memory, in elements.
    pub(super) offset: isize,
}

impl Side {
    fn new(axes: impl DoubleEndedIterator<Item = usize> + Clone, window: &Window, strides: &[isize]) -> Side {
        let length = axes.clone().map(|axis| window.extent()[axis]).product();
        let (first, axes) = joined(axes, window, strides);
        Side { first, axes, length }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Number `position` of them.
    #[inline]
    pub fn at(&self, position: usize) -> Place {
        let mut place = Place { index: self.first, offset: 0 };
        let Some((outermost, inner)) = self.axes.split_first() else { return place };
        let mut rest = position;
        let mut step = |axis: &Axis, steps: usize| {
            place.index += steps as u64 * axis.logical;
            place.offset += steps as isize * axis.memory;
        };
        for axis in inner.iter().rev() {
            step(axis, rest % axis.extent);
            rest /= axis.extent;
        }
        step(outermost, rest);
        place
    }

    /// At most `N` of them, from number `positions.start` on, and how many those are.
    pub fn some<const N: usize>(&self, positions: Range<usize>) -> ([Place; N], usize) {
        assert!(positions.end <= self.length);
        let mut places = [Place::default(); N];
        let length = positions.len().min(N);
        for (place, position) in places.iter_mut().zip(positions) {
            *place = self.at(position);
        }
        (places, length)
    }
}

// SAFETY: as for `Places`.
unsafe impl<T: Send> Sync for Matrix<'_, T> {}

impl<'a, T> Matrix<'a, T> {
    /// The window as a part of the logical matrix, in `out`.
    ///
    /// # Errors
    /// As [`Places::new`].
    pub fn new(
        mut out: ArrayViewMutD<'a, MaybeUninit<T>>,
        window: &Window,
        column_axis: usize,
    ) -> Result<Matrix<'a, T>> {
        window.check_output(out.shape())?;
        let rows = (0..out.ndim()).filter(move |&axis| axis != column_axis);
        let rows = Side::new(rows, window, out.strides());
        let columns = Side::new(column_axis..column_axis + 1, window, out.strides());
        Ok(Matrix { start: out.as_mut_ptr(), rows, columns, borrow: PhantomData })
    }

    /// The transposed matrix, in the same memory.
    pub fn transposed(self) -> Matrix<'a, T> {
        Matrix { rows: self.columns, columns: self.rows, ..self }
    }

    /// The columns at `positions`, `N` at a time.
    pub fn split_columns<const N: usize>(
        &mut self,
        positions: Range<usize>,
    ) -> impl Iterator<Item = Columns<'_, T, N>> {
        let (matrix, end) = (&*self, positions.end);
        positions.step_by(N).map(move |from| {
            let (columns, count) = matrix.columns.some(from..end);
            Columns { start: matrix.start, rows: &matrix.rows, columns, count, borrow: PhantomData }
        })
    }

    /// The rows, `length` at a time.
    pub fn split_rows(&mut self, length: usize) -> impl Iterator<Item = Rows<'_, T>> {
        let matrix = &*self;
        let end = matrix.rows.len();
        (0..end).step_by(length).map(move |from| Rows { matrix, positions: from..end.min(from + length) })
    }

    /// Writes the element at the sum of the offsets of a row and a column.
    ///
    /// # Safety
    /// The row and the column must be of this matrix, and no other thread may use this element.
    #[inline]
    pub(super) unsafe fn write(&self, offset: isize, value: T) {
        // SAFETY: the caller guarantees that the place is an element of the matrix.
        unsafe { self.start.offset(offset).write(MaybeUninit::new(value)) };
    }
}

/// At most `N` consecutive columns of a [`Matrix`], which only this value gives access to.
pub(crate) struct Columns<'a, T, const N: usize> {
    start: *mut MaybeUninit<T>,
    rows: &'a Side,
    columns: [Place; N],
    count: usize,
    borrow: PhantomData<&'a mut T>,
}

// SAFETY: like a mutable reference to the elements of the columns.
unsafe impl<T: Send, const N: usize> Send for Columns<'_, T, N> {}

impl<T, const N: usize> Columns<'_, T, N> {
    /// Their places.
    pub fn places(&self) -> &[Place] {
        &self.columns[..self.count]
    }

    /// Writes at most `N` rows, those at `positions`. The values are those that `convert` makes of `values`,
    /// which has all rows of the logical matrix. Returns whether to go on.
    pub fn write<R: Copy>(
        &mut self,
        positions: Range<usize>,
        values: &[[R; N]],
        convert: impl Fn(R) -> T,
        pulse: &Pulse<'_>,
    ) -> bool {
        let (rows, count) = self.rows.some::<N>(positions);
        let write = |offset: isize, value: R| {
            // SAFETY: the offsets are those of a row and of a column of the matrix, and only `self` gives
            // access to the column.
            unsafe { self.start.offset(offset).write(MaybeUninit::new(convert(value))) };
        };
        write_all(&rows[..count], &self.columns[..self.count], 0, values, write, pulse)
    }
}

/// Consecutive rows of a [`Matrix`], which only this value gives access to.
pub(crate) struct Rows<'a, T> {
    matrix: &'a Matrix<'a, T>,
    positions: Range<usize>,
}

// SAFETY: like a mutable reference to the elements of the rows.
unsafe impl<T: Send> Send for Rows<'_, T> {}

impl<T> Rows<'_, T> {
    /// The number of row `position` of these in the logical matrix, if there is one.
    pub fn index(&self, position: usize) -> Option<u64> {
        let position = self.positions.start + position;
        (position < self.positions.end).then(|| self.matrix.rows.at(position).index)
    }

    /// Writes some of these rows in at most `N` columns, those at `columns`. The values are those that `convert`
    /// makes of `values`, which begin with row number `first` of the logical matrix. Returns whether to go on.
    pub fn write<R: Copy, const N: usize>(
        &mut self,
        rows: Range<usize>,
        columns: Range<usize>,
        first: usize,
        values: &[[R; N]],
        convert: impl Fn(R) -> T,
        pulse: &Pulse<'_>,
    ) -> bool {
        let (columns, width) = self.matrix.columns.some::<N>(columns);
        let write = |offset: isize, value: R| {
            // SAFETY: the offsets are those of a row and of a column of the matrix, and only `self` gives
            // access to the row.
            unsafe { self.matrix.write(offset, convert(value)) };
        };
        let (start, end) = (self.positions.start + rows.start, self.positions.start + rows.end);
        assert!(end <= self.positions.end);
        (start..end).step_by(N).all(|from| {
            let (rows, count) = self.matrix.rows.some::<N>(from..end);
            write_all(&rows[..count], &columns[..width], first, values, write, pulse)
        })
    }
}

/// Calls `write` with the offset and the value of each element of some rows and columns; returns whether to go
/// on. The values begin with row number `first`.
fn write_all<R: Copy, const N: usize>(
    rows: &[Place],
    columns: &[Place],
    first: usize,
    values: &[[R; N]],
    write: impl Fn(isize, R),
    pulse: &Pulse<'_>,
) -> bool {
    let mut countdown = Countdown::new(pulse);
    let adjacent = columns.windows(2).all(|pair| pair[1].offset - pair[0].offset == 1);
    if adjacent {
        rows.iter().all(|row| {
            let values = &values[row.index as usize - first][..columns.len()];
            let start = row.offset + columns[0].offset;
            values.iter().zip(start..).for_each(|(&value, offset)| write(offset, value));
            countdown.goes_on(4)
        })
    } else {
        columns.iter().enumerate().all(|(number, column)| {
            rows.iter().for_each(|row| {
                write(row.offset + column.offset, values[row.index as usize - first][number]);
            });
            countdown.goes_on(rows.len())
        })
    }
}
