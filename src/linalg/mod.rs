//! Orthogonal matrices from the Haar measure, which is invariant under rotations and reflections.
//!
//! The orthogonal factor of a Gaussian matrix is Haar distributed, if its signs make the diagonal of the
//! triangular factor positive. Its Householder reflectors are those of independent Gaussian vectors of
//! decreasing length, so they are sampled directly, without a factorization (Stewart, The efficient
//! generation of random orthogonal matrices with an application to condition estimators, SIAM Journal on
//! Numerical Analysis 17, 1980; Mezzadri, How to generate random matrices from the classical compact groups,
//! Notices of the AMS 54, 2007). Accumulating them costs 2mn^2 - 2n^3/3 operations for m rows and n columns,
//! half of those of a factorization followed by accumulation.
//!
//! A column of the result is the product of the reflectors and a column of the identity, so it does not
//! depend on the window or on the number of threads. Only the reflectors up to its own number act on it.
#![forbid(unsafe_code)]

use crate::dtype::{Dtype, Element};
use crate::error::Result;
use crate::fill::Options;
use crate::fill::buffer::Scratch;
use crate::fill::place::{Columns, Matrix};
use crate::fill::threads::{Pulse, how_many, in_turns};
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::{DefaultEnvironment, Level};
use ndarray::ArrayViewMutD;
use panel::{Panel, Row, WIDTH};
use real::Real;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

mod panel;
mod real;

/// Fewer operations than this are not worth a thread.
const OPERATIONS_PER_THREAD: usize = 8 << 20;

/// At least this many strips are computed together, even if they need more memory than the output.
const GROUP: usize = 8;

/// The largest number of panels in memory at a time.
const BATCH: usize = 1024;

/// Part of a matrix from the Haar measure, times `gain`.
///
/// The logical tensor is taken as a matrix: its columns are along `column_axis`, its rows along all other
/// axes, in C order. If it has no more columns than rows, the columns are orthonormal, else the rows. Single
/// precision and the half types are computed in single precision, and the half types rounded once.
///
/// A window equals that part of the whole exactly. It takes as long as its columns (rows, if these are
/// orthonormal) in full, in units of 64. The scratch memory must have at least [`scratch_bytes`]: up to twice
/// the memory of the output, or of 16 times 64 such columns.
///
/// # Errors
/// [`Error::OutputShape`](crate::Error::OutputShape), before anything is written, where `out` does not have
/// the shape of the window; [`Error::Interrupted`](crate::Error::Interrupted) where the options' `interrupt`
/// returned true.
pub fn orthogonal<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    column_axis: usize,
    key: Key,
    gain: f64,
    scratch: &mut Scratch,
    options: &Options<'_>,
) -> Result<()> {
    let _environment = DefaultEnvironment::enter();
    let matrix = Matrix::new(out, window, column_axis)?;
    if window.is_empty() {
        return Ok(());
    }
    let size = Size::new(window.shape(), window.extent(), column_axis);
    let mut matrix = if size.transposed { matrix.transposed() } else { matrix };
    let level = options.level.unwrap_or_else(Level::current);
    if T::DTYPE == Dtype::F64 {
        Job { size, key, gain, level }.run(&mut matrix, scratch, options)
    } else {
        Job { size, key, gain: gain as f32, level }.run(&mut matrix, scratch, options)
    }
}

/// The scratch memory that [`orthogonal`] needs for a window of this extent into a tensor of this shape.
pub fn scratch_bytes(dtype: Dtype, shape: &[u64], extent: &[usize], column_axis: usize) -> usize {
    if extent.contains(&0) {
        return 0;
    }
    let size = Size::new(shape, extent, column_axis);
    match dtype {
        Dtype::F64 => size.memory::<f64>().saturating_mul(size_of::<Row<f64>>()),
        _ => size.memory::<f32>().saturating_mul(size_of::<Row<f32>>()),
    }
}

/// The sizes of a matrix and of a part of it, transposed if needed so that there are no fewer rows than
/// columns.
#[derive(Clone, Copy)]
struct Size {
    /// Whether rows and columns are exchanged.
    transposed: bool,
    rows: usize,
    columns: usize,
    wanted_rows: usize,
    wanted_columns: usize,
}

impl Size {
    /// The sizes of a part that is not empty.
    fn new(shape: &[u64], extent: &[usize], column_axis: usize) -> Size {
        // A size that does not fit `usize` does not fit the memory either.
        let logical = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let columns = shape[column_axis];
        let (rows, columns) = (logical(shape.iter().product::<u64>() / columns), logical(columns));
        let wanted_columns = extent[column_axis];
        let wanted_rows = extent.iter().product::<usize>() / wanted_columns;
        if rows >= columns {
            Size { transposed: false, rows, columns, wanted_rows, wanted_columns }
        } else {
            Size {
                transposed: true,
                rows: columns,
                columns: rows,
                wanted_rows: wanted_columns,
                wanted_columns: wanted_rows,
            }
        }
    }

    /// How many strips are computed together. They share their panels, and each needs memory for whole
    /// columns. So no more are computed at a time than have the memory of the output, or [`GROUP`], which
    /// matters for windows of few rows; the next ones compute their panels again.
    fn strips(&self) -> usize {
        let strip = self.rows.saturating_mul(WIDTH);
        let room = (self.wanted_rows * self.wanted_columns).div_ceil(strip);
        room.max(GROUP).min(self.wanted_columns.div_ceil(WIDTH))
    }

    /// How many panels are kept at a time. A panel takes as much memory as a strip; two at least, so that
    /// threads can compute one each.
    fn panels(&self) -> usize {
        self.strips().clamp(2, BATCH).min(self.columns.div_ceil(WIDTH))
    }

    /// The rows of memory for strips and panels. Panel number `i` of a batch begins with column `64 i` or a
    /// later one.
    fn memory<R: Real>(&self) -> usize {
        let panels = (0..self.panels()).map(|i| Panel::<R>::memory(self.rows - i * WIDTH));
        panels.fold(self.strips().saturating_mul(self.rows), usize::saturating_add)
    }
}

/// How to compute a matrix that has no fewer rows than columns, or a part of it.
struct Job<R> {
    size: Size,
    key: Key,
    gain: R,
    level: Level,
}

/// Columns that are being computed.
struct Strip<'a, T, R> {
    /// Where they go.
    out: Columns<'a, T, WIDTH>,
    rows: &'a mut [Row<R>],
    /// Whether `rows` has been set to zero.
    ready: bool,
}

impl<R: Real> Job<R> {
    /// As many workers as `panels` panels that act on `strips` strips each are worth.
    fn workers(&self, panels: usize, strips: usize, options: &Options<'_>) -> Vec<()> {
        let operations = self.size.rows.saturating_mul(4 * WIDTH * WIDTH).saturating_mul(panels);
        let most = (operations.saturating_mul(strips) / OPERATIONS_PER_THREAD).min(panels.max(strips));
        vec![(); how_many(most, options)]
    }

    fn run<T: Element>(
        &self,
        matrix: &mut Matrix<'_, T>,
        scratch: &mut Scratch,
        options: &Options<'_>,
    ) -> Result<()> {
        let (memory, mut zero) = scratch.rows();
        let (strips, panels) = memory.split_at_mut(self.size.strips() * self.size.rows);
        let (group, columns) = (self.size.strips() * WIDTH, matrix.columns.len());
        for begin in (0..columns).step_by(group) {
            let wanted = begin..columns.min(begin + group);
            self.group(matrix, wanted, strips, panels, zero, options)?;
            zero = false;
        }
        Ok(())
    }

    /// Computes the columns at `wanted`. `zero` says whether the memory is zero.
    fn group<T: Element>(
        &self,
        matrix: &mut Matrix<'_, T>,
        wanted: Range<usize>,
        strips: &mut [Row<R>],
        panels: &mut [Row<R>],
        mut zero: bool,
        options: &Options<'_>,
    ) -> Result<()> {
        let Size { rows, columns, .. } = self.size;
        let last = matrix.columns.at(wanted.end - 1).index as usize;
        let strips: Vec<_> = matrix
            .split_columns(wanted)
            .zip(strips.chunks_exact_mut(rows))
            .map(|(out, rows)| Mutex::new(Strip { out, rows, ready: zero }))
            .collect();
        let batch = self.size.panels();
        let mut end = last / WIDTH + 1;
        while end > 0 {
            let begin = end.saturating_sub(batch);
            let mut rest = &mut *panels;
            let places: Vec<_> = (begin..end)
                .map(|number| {
                    let (place, left) =
                        std::mem::take(&mut rest).split_at_mut(Panel::<R>::memory(rows - number * WIDTH));
                    rest = left;
                    Mutex::new((Some(place), None))
                })
                .collect();
            let mut workers = self.workers(places.len(), 1, options);
            in_turns(places.len(), &mut workers, options, |turn, (), pulse| {
                let mut place = places[turn].lock().unwrap_or_else(PoisonError::into_inner);
                let Some(memory) = place.0.take() else { return Ok(()) };
                if !zero {
                    memory.fill([R::default(); WIDTH]);
                }
                let first = (begin + turn) * WIDTH;
                place.1 = Some(Panel::new(self.level, self.key, rows, columns, first, memory, pulse)?);
                Ok(())
            })?;
            let panels: Vec<_> = places
                .into_iter()
                .filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner).1)
                .collect();
            let mut workers = self.workers(panels.len(), strips.len(), options);
            in_turns(strips.len(), &mut workers, options, |turn, (), pulse| {
                // The last strips take longest.
                let mut strip =
                    strips[strips.len() - 1 - turn].lock().unwrap_or_else(PoisonError::into_inner);
                let Strip { out, rows, ready } = &mut *strip;
                if !std::mem::replace(ready, true) {
                    rows.fill([R::default(); WIDTH]);
                }
                panel::apply(self.level, &panels, out.places(), rows, pulse);
                if begin == 0 {
                    self.emit(out, rows, pulse);
                }
                Ok(())
            })?;
            (end, zero) = (begin, false);
        }
        Ok(())
    }

    /// Writes a finished strip to its columns. Returns early where the pulse has stopped.
    fn emit<T: Element>(&self, out: &mut Columns<'_, T, WIDTH>, rows: &[Row<R>], pulse: &Pulse<'_>) {
        for from in (0..self.size.wanted_rows).step_by(WIDTH) {
            // The first write to a page is slow.
            if pulse.stopped() {
                return;
            }
            let positions = from..self.size.wanted_rows.min(from + WIDTH);
            out.write(positions, rows, |x| T::from_f64(x.times(self.gain).to_f64()));
        }
    }
}
