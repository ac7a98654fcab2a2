//! From the index of an element in the logical tensor to its place in memory.
//!
//! No memory is used for each element, row or column; strides suffice.

use super::batch::{BLOCKS, Batch, CONSTANT};
use super::threads::{Countdown, Pulse};
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
///
/// Long lines of consecutive elements with consecutive places are filled one by one. Everything else is cut into
/// tiles. A tile has a line of consecutive elements, along its run, at each of some indices along another axis,
/// across: that of the nearest places, or of the next line where lines are short.
pub(super) struct Places<'a, T> {
    start: *mut T,
    /// The logical index of the first element.
    first: u64,
    /// The number of elements.
    length: usize,
    outer: Vec<Axis>,
    /// The axis of long lines.
    inner: Axis,
    tiling: Option<Tiling>,
    borrow: PhantomData<&'a mut T>,
}

/// How a window is cut into tiles.
pub(super) struct Tiling {
    /// The innermost axes, along which logical indices are consecutive.
    run: Vec<Axis>,
    /// The elements along the run.
    length: usize,
    across: Axis,
    /// The extent of a tile along the run and across.
    size: [usize; 2],
    /// By how much the first tile is shorter across, so that others begin at a cache line if all rows do.
    lead: usize,
    store: Store,
}

/// How a tile is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// Lines have consecutive places.
    Lines,
    /// Lines are adjacent in memory.
    Squares,
    /// Neither.
    Elements,
}

impl Tiling {
    /// The most lines of a tile.
    pub(super) const MOST_LINES: usize = 2048;

    fn new<T>(run: Vec<Axis>, across: Axis, start: *const T) -> Tiling {
        let length: usize = run.iter().map(|axis| axis.extent).product();
        let store = match run[..] {
            [Axis { memory: 1, .. }] => Store::Lines,
            // Of narrower squares most would not be used.
            _ if across.memory == 1 && length * 2 * size_of::<T>() >= 16 => Store::Squares,
            _ => Store::Elements,
        };
        let mut tiling = Tiling { run, length, across, size: [length, 1], lead: 0, store };
        if store != Store::Lines {
            let rows = (ROW / size_of::<T>()).min(across.extent);
            tiling.size[0] = ((BLOCKS / rows - 1) * per_block::<T>()).min(length).min(RUN);
        }
        let along = tiling.size[0];
        let rows = if tiling.is_consecutive() {
            (BLOCKS - 1) * per_block::<T>() / along
        } else {
            BLOCKS / tiling.blocks::<T>(1, along)
        };
        let rows = rows.min(Self::MOST_LINES).min(across.extent);
        let line = CACHE_LINE / size_of::<T>();
        let aligned = store == Store::Squares && (line..across.extent).contains(&rows);
        if aligned {
            tiling.lead = start as usize % CACHE_LINE / size_of::<T>();
        }
        tiling.size[1] = if aligned { rows / line * line } else { rows };
        tiling
    }

    /// The distance from one line to the next in the order of the logical tensor.
    pub(super) fn step(&self) -> u64 {
        self.across.logical
    }

    /// Whether each line of a tile goes on where the last one ends.
    pub(super) fn is_consecutive(&self) -> bool {
        self.size[0] == self.length && self.across.logical == self.length as u64
    }

    /// The most blocks that lines of a tile lie in.
    pub(super) fn blocks<T>(&self, lines: usize, length: usize) -> usize {
        if self.is_consecutive() {
            Batch::blocks_of(lines * length, per_block::<T>())
        } else {
            lines * Batch::blocks_of(length, per_block::<T>())
        }
    }

    /// The distance from one line to the next in memory.
    pub(super) fn across(&self) -> isize {
        self.across.memory
    }

    /// How tiles are stored.
    pub(super) fn store(&self) -> Store {
        self.store
    }

    /// The distances in memory from the first element of a run to those from number `start` on.
    pub(super) fn distances(&self, start: usize, distances: &mut [isize]) {
        let mut cursor = Cursor::new(&self.run, start);
        for distance in distances {
            *distance = cursor.memory;
            cursor.step();
        }
    }

    /// The tiles along the run and across.
    fn counts(&self) -> [usize; 2] {
        let [run, across] = self.size;
        [self.length.div_ceil(run), (self.across.extent + self.lead).div_ceil(across)]
    }
}

/// The elements of type `T` that a block has.
fn per_block<T>() -> usize {
    if size_of::<T>() == 8 { 2 } else { 4 }
}

// SAFETY: the places are those of a mutably borrowed view, and threads are given disjoint parts of them.
unsafe impl<T: Send> Sync for Places<'_, T> {}

/// Elements with consecutive logical indices and consecutive places.
pub(super) struct Line<T> {
    pub start: *mut T,
    pub first: u64,
    pub length: usize,
}

/// Lines of consecutive elements.
pub(super) struct Tile<T> {
    /// The place of the first element of the run at the first line.
    pub start: *mut T,
    /// The logical index of the first element of the first line.
    pub first: u64,
    pub lines: usize,
    /// The elements of each line, as indices along the run.
    pub run: Range<usize>,
}

/// Parts of lines begin at multiples of this many elements, so that no two threads write to the same page of
/// page-aligned memory.
const GRAIN: usize = 4096;

/// Lines are long from this many bytes on.
const LONG: usize = CONSTANT;

/// The bytes of a row of a tile in memory, at least, and those of a cache line.
const ROW: usize = 256;
const CACHE_LINE: usize = 64;

/// The most elements of a tile along its run.
const RUN: usize = 256;

impl<'a, T> Places<'a, T> {
    /// The places in `out` of the elements of `window` or, without one, of a tensor of the shape of `out`.
    ///
    /// # Errors
    /// [`Error::OutputShape`](crate::Error::OutputShape) where the shape of `out` is not that of the window.
    pub(super) fn new(
        mut out: ArrayViewMutD<'a, MaybeUninit<T>>,
        window: Option<&Window>,
    ) -> Result<Places<'a, T>> {
        if let Some(window) = window {
            window.check_output(out.shape())?;
        }
        let (start, length) = (out.as_mut_ptr().cast(), out.len());
        let inner = Axis { extent: length, logical: 1, memory: 1 };
        let mut places =
            Places { start, first: 0, length, outer: vec![], inner, tiling: None, borrow: PhantomData };
        // Nearly all outputs are one line. Small ones should not wait for more.
        if length == 0 || out.is_standard_layout() && window.is_none_or(Window::is_whole) {
            return Ok(places);
        }
        let whole;
        let window = match window {
            Some(window) => window,
            None => {
                whole = Window::whole(out.shape())?;
                &whole
            }
        };
        (places.first, places.outer) = joined(0..out.ndim(), window, out.strides());
        places.inner.extent = 1;
        places.arrange();
        Ok(places)
    }

    /// Chooses the axes of lines or tiles, which so far are among the outer ones.
    fn arrange(&mut self) {
        let nearest = (0..self.outer.len()).min_by_key(|&i| self.outer[i].memory.unsigned_abs());
        let Some(nearest) = nearest else { return };
        let mut axis = self.outer.remove(nearest);
        let (mut run, mut length) = (vec![], 1_usize);
        if nearest == self.outer.len() && axis.logical == 1 {
            if axis.memory == 1 {
                if axis.extent * size_of::<T>() >= LONG {
                    self.inner = axis;
                    return;
                }
                match self.outer.pop() {
                    Some(next) => run.push(std::mem::replace(&mut axis, next)),
                    None => {
                        self.inner = axis;
                        return;
                    }
                }
            }
        } else {
            if axis.memory < 0 {
                // From the other end.
                let last = axis.extent - 1;
                // SAFETY: a place of the view that `self` was made of.
                self.start = unsafe { self.start.offset(axis.memory * last as isize) };
                self.first = self.first.wrapping_add(axis.logical.wrapping_mul(last as u64));
                (axis.memory, axis.logical) = (-axis.memory, axis.logical.wrapping_neg());
            }
            while self.outer.len() > nearest
                && let Some(axis) = self.outer.pop_if(|axis| axis.logical == length as u64)
            {
                length *= axis.extent;
                run.insert(0, axis);
            }
        }
        self.tiling = Some(Tiling::new(run, axis, self.start));
    }

    /// What is split between threads: the number of elements, or of tiles; and the number of which parts should
    /// have a multiple.
    pub(super) fn to_split(&self) -> (usize, usize) {
        match &self.tiling {
            None => (self.length, GRAIN),
            Some(tiling) => {
                let [along, across] = tiling.counts();
                let outer: usize = self.outer.iter().map(|axis| axis.extent).product();
                (outer * along * across, 1)
            }
        }
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// How the window is cut into tiles; `None` where it has long lines.
    pub(super) fn tiling(&self) -> Option<&Tiling> {
        self.tiling.as_ref()
    }

    /// Calls `each` with the tiles `range`, those along memory first, until it returns false.
    #[inline(always)]
    pub(super) fn tiles(&self, tiles: &Tiling, range: Range<usize>, mut each: impl FnMut(Tile<T>) -> bool) {
        let ([runs, rows], [along, across]) = (tiles.counts(), tiles.size);
        let (mut row, mut run) = (range.start % rows, range.start / rows % runs);
        let mut cursor = Cursor::new(&self.outer, range.start / rows / runs);
        for _ in range {
            let line = (row * across).saturating_sub(tiles.lead);
            let end = (row * across + across - tiles.lead).min(tiles.across.extent);
            let first = (line as u64).wrapping_mul(tiles.across.logical).wrapping_add((run * along) as u64);
            let tile = Tile {
                // SAFETY: a place of the view that `self` was made of.
                start: unsafe { self.start.offset(cursor.memory + line as isize * tiles.across.memory) },
                first: self.first.wrapping_add(cursor.logical).wrapping_add(first),
                lines: end - line,
                run: run * along..tiles.length.min((run + 1) * along),
            };
            if !each(tile) {
                return;
            }
            row += 1;
            if row == rows {
                (row, run) = (0, run + 1);
                if run == runs {
                    run = 0;
                    cursor.step();
                }
            }
        }
    }

    /// Calls `each` with the lines that make up the elements `range` of the window, in order, until it
    /// returns false.
    #[inline(always)]
    pub(super) fn lines(&self, range: Range<usize>, mut each: impl FnMut(Line<T>) -> bool) {
        let mut position = range.start;
        let mut within = position % self.inner.extent;
        let mut cursor = Cursor::new(&self.outer, position / self.inner.extent);
        while position < range.end {
            let length = (self.inner.extent - within).min(range.end - position);
            let line = Line {
                // SAFETY: a place of the view that `self` was made of.
                start: unsafe { self.start.offset(cursor.memory + within as isize * self.inner.memory) },
                first: self.first + cursor.logical + within as u64,
                length,
            };
            if !each(line) {
                return;
            }
            position += length;
            within = 0;
            cursor.step();
        }
    }
}

/// An index along some axes, in C order.
struct Cursor<'a> {
    axes: &'a [Axis],
    indices: Vec<usize>,
    /// The distance from the first index in the order of the logical tensor.
    logical: u64,
    /// The distance in memory.
    memory: isize,
}

impl<'a> Cursor<'a> {
    /// Index number `position`.
    fn new(axes: &'a [Axis], position: usize) -> Cursor<'a> {
        let (mut logical, mut memory, mut rest) = (0, 0, position);
        let mut indices = vec![0; axes.len()];
        for (index, axis) in indices.iter_mut().zip(axes).rev() {
            *index = rest % axis.extent;
            rest /= axis.extent;
            logical += *index as u64 * axis.logical;
            memory += *index as isize * axis.memory;
        }
        Cursor { axes, indices, logical, memory }
    }

    /// Goes on to the next index; after the last one, to the first.
    #[inline]
    fn step(&mut self) {
        for (index, axis) in self.indices.iter_mut().zip(self.axes).rev() {
            *index += 1;
            self.logical += axis.logical;
            self.memory += axis.memory;
            if *index < axis.extent {
                break;
            }
            self.logical -= *index as u64 * axis.logical;
            self.memory -= *index as isize * axis.memory;
            *index = 0;
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

    /// Writes elements whose places are consecutive, from this offset on.
    ///
    /// # Safety
    /// As for [`Matrix::write`], for each of them.
    #[inline]
    pub(super) unsafe fn write_all(&self, offset: isize, values: &[T]) {
        // SAFETY: the caller guarantees that the places are elements of the matrix.
        unsafe {
            self.start.offset(offset).cast::<T>().copy_from_nonoverlapping(values.as_ptr(), values.len())
        };
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
