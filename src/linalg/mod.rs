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
use crate::fill::blocks::SPARE;
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
mod streamed;

/// Fewer operations than this are not worth a thread.
const OPERATIONS_PER_THREAD: usize = 8 << 20;

/// The most memory for panels besides that of strips that have not begun.
const PANELS: usize = SPARE / 2;

/// Strips of more bytes than this are streamed.
const LARGE: usize = SPARE / 4;

/// Matrices of one panel are streamed from strips of more bytes on than this, or, where they are at most half as
/// wide, from a quarter of it on.
const LONG: usize = SPARE / 16;

/// The largest number of panels in memory at a time.
const BATCH: usize = 1024;

/// Part of a matrix from the Haar measure, times `gain`.
///
/// The logical tensor is taken as a matrix: its columns are along `column_axis`, its rows along all other
/// axes, in C order. If it has no more columns than rows, the columns are orthonormal, else the rows. Single
/// precision and the half types are computed in single precision, and the half types rounded once.
///
/// A window equals that part of the whole exactly. It takes as long as its columns (rows, if these are
/// orthonormal) in full. The scratch memory must be that of [`scratch_bytes`] for the same options: at most the
/// size of the output and 16 MiB, or, if this is more, the size of 16 columns in full.
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
    let size = Size::new(window.shape(), window.extent(), column_axis, T::DTYPE);
    let mut matrix = if size.transposed { matrix.transposed() } else { matrix };
    let level = options.level.unwrap_or_else(Level::current);
    if T::DTYPE == Dtype::F64 {
        Job { size, key, gain, level }.run(&mut matrix, scratch, options)
    } else {
        Job { size, key, gain: gain as f32, level }.run(&mut matrix, scratch, options)
    }
}

/// The scratch memory that [`orthogonal`] needs for a window of this extent into a tensor of this shape.
pub fn scratch_bytes(
    dtype: Dtype,
    shape: &[u64],
    extent: &[usize],
    column_axis: usize,
    options: &Options<'_>,
) -> usize {
    if extent.contains(&0) {
        return 0;
    }
    let size = Size::new(shape, extent, column_axis, dtype);
    match dtype {
        Dtype::F64 => size.memory::<f64>(options).saturating_mul(size_of::<Row<f64>>()),
        _ => size.memory::<f32>(options).saturating_mul(size_of::<Row<f32>>()),
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
    /// The bytes that a fill may take.
    allowed: usize,
}

/// How the memory is used.
enum Layout {
    /// This many rows for panels, and this many strips.
    Kept { panels: usize, strips: usize },
    /// Nothing of the height of the matrix is kept but columns of the output.
    Streamed(streamed::Layout),
}

impl Size {
    /// The sizes of a part that is not empty.
    fn new(shape: &[u64], extent: &[usize], column_axis: usize, dtype: Dtype) -> Size {
        // A size that does not fit `usize` does not fit the memory either.
        let logical = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let columns = shape[column_axis];
        let (rows, columns) = (logical(shape.iter().product::<u64>() / columns), logical(columns));
        let wanted_columns = extent[column_axis];
        let wanted_rows = extent.iter().product::<usize>() / wanted_columns;
        let allowed = (wanted_rows * wanted_columns * dtype.size()).saturating_add(SPARE);
        if rows >= columns {
            Size { transposed: false, rows, columns, wanted_rows, wanted_columns, allowed }
        } else {
            Size {
                transposed: true,
                rows: columns,
                columns: rows,
                wanted_rows: wanted_columns,
                wanted_columns: wanted_rows,
                allowed,
            }
        }
    }

    fn layout<R: Real>(&self, options: &Options<'_>) -> Layout {
        let strip = self.rows.saturating_mul(size_of::<Row<R>>());
        let long = if self.columns > WIDTH {
            LARGE
        } else if self.columns > WIDTH / 2 {
            LONG
        } else {
            LONG / 4
        };
        if strip > long {
            return Layout::Streamed(streamed::Layout::new::<R>(
                self.rows,
                self.columns,
                self.wanted_columns,
                self.allowed,
                options,
            ));
        }
        // The first panels are the longest ones.
        let all = (0..self.columns.div_ceil(WIDTH)).map(|i| Panel::<R>::memory(self.rows - i * WIDTH));
        let mut panels = 0;
        for panel in all {
            if panels > 0 && (panels + panel) * size_of::<Row<R>>() > PANELS {
                break;
            }
            panels += panel;
        }
        // Each strip needs memory for whole columns. Those that do not fit are computed afterwards, with the
        // same panels.
        let room = (self.allowed - panels * size_of::<Row<R>>()) / strip;
        Layout::Kept { panels, strips: room.clamp(1, self.wanted_columns.div_ceil(WIDTH)) }
    }

    /// The rows of memory.
    fn memory<R: Real>(&self, options: &Options<'_>) -> usize {
        match self.layout::<R>(options) {
            Layout::Kept { panels, strips } => panels + strips * self.rows,
            Layout::Streamed(layout) => layout.memory(),
        }
    }
}

/// How to compute a matrix that has no fewer rows than columns, or a part of it.
struct Job<R> {
    size: Size,
    key: Key,
    gain: R,
    level: Level,
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
        let (panels, strips) = match self.size.layout::<R>(options) {
            Layout::Streamed(layout) => return self.streamed(matrix, &layout, memory, options),
            Layout::Kept { panels, strips } => (panels, strips),
        };
        let columns = matrix.columns.len();
        for begin in (0..columns).step_by(strips * WIDTH) {
            let wanted = begin..columns.min(begin + strips * WIDTH);
            self.group(matrix, wanted, memory, panels, zero, options)?;
            zero = false;
        }
        Ok(())
    }

    /// Computes the columns at `wanted`. The memory has `room` rows for panels, and those of the strips. `zero`
    /// says whether it is zero.
    fn group<T: Element>(
        &self,
        matrix: &mut Matrix<'_, T>,
        wanted: Range<usize>,
        memory: &mut [Row<R>],
        room: usize,
        mut zero: bool,
        options: &Options<'_>,
    ) -> Result<()> {
        let Size { rows, columns, .. } = self.size;
        let mut strips: Vec<_> = matrix.split_columns(wanted).map(|out| (out, false)).collect();
        // The panel with which each strip begins.
        let begins: Vec<_> = strips
            .iter()
            .filter_map(|(out, _)| out.places().last().map(|place| place.index as usize / WIDTH))
            .collect();
        let mut end = begins.last().map_or(0, |last| last + 1);
        while end > 0 {
            // As many panels as fit, also into the memory of strips that do not begin with one of them.
            let (mut begin, mut length, mut waiting) = (end, 0, 0);
            while begin > 0 && end - begin < BATCH {
                let more = length + Panel::<R>::memory(rows - (begin - 1) * WIDTH);
                let later = begins.partition_point(|&panel| panel < begin - 1);
                if more > room + later * rows && begin < end {
                    break;
                }
                (begin, length, waiting) = (begin - 1, more, later);
            }
            let (mut rest, strip_rows) = memory.split_at_mut(room + waiting * rows);
            let active: Vec<_> = strips[waiting..]
                .iter_mut()
                .zip(strip_rows.chunks_exact_mut(rows))
                .map(|(strip, rows)| Mutex::new((strip, rows)))
                .collect();
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
                let first = (begin + turn) * WIDTH;
                place.1 = Some(Panel::new(self.level, self.key, rows, columns, first, memory, pulse)?);
                Ok(())
            })?;
            let panels: Vec<_> = places
                .into_iter()
                .filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner).1)
                .collect();
            let mut workers = self.workers(panels.len(), active.len(), options);
            in_turns(active.len(), &mut workers, options, |turn, (), pulse| {
                // The last strips take longest.
                let mut strip =
                    active[active.len() - 1 - turn].lock().unwrap_or_else(PoisonError::into_inner);
                let ((out, begun), rows) = &mut *strip;
                if !std::mem::replace(begun, true) && !zero {
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
            let positions = from..self.size.wanted_rows.min(from + WIDTH);
            if !out.write(positions, rows, |x| T::from_f64(x.times(self.gain).to_f64()), pulse) {
                return;
            }
        }
    }
}
