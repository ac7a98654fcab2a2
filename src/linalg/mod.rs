//! Orthogonal matrices from the Haar measure, the one that no rotation or reflection changes.
//!
//! The orthogonal factor of a Gaussian matrix, with the signs that make the diagonal of the triangular factor positive, is Haar
//! distributed. Its Householder reflectors are those of independent Gaussian vectors of decreasing length, so
//! they are sampled directly, and nothing is factorized (Stewart, The efficient generation of random orthogonal matrices with
//! an application to condition estimators, SIAM Journal on Numerical Analysis 17, 1980; Mezzadri, How to generate random matrices from
//! the classical compact groups, Notices of the AMS 54, 2007). Accumulating them costs 2mn^2 - 2n^3/3 operations
//! for m rows and n columns, which are half as many as factorizing and accumulating.
//!
//! A column of the result is the product of the reflectors and a column of the identity, so it does not depend on which other columns
//! are wanted, or on how they are shared out; and only the reflectors up to its own number touch it.

use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::Options;
use crate::fill::buffer::Rows;
use crate::fill::place::{Matrix, Place};
use crate::fill::threads::{Pulse, in_turns};
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::{DefaultEnvironment, Level};
use ndarray::ArrayViewMutD;
use panel::{Panel, WIDTH};
use real::Real;
use std::mem::MaybeUninit;
use std::sync::{Mutex, OnceLock, PoisonError};

mod panel;
mod real;

/// Fewer operations than this are not worth a thread, see [`in_turns`].
const OPERATIONS_PER_THREAD: usize = 8 << 20;

/// So many strips are made together in any case.
const GROUP: usize = 8;

/// The most panels that are kept in memory at a time.
const BATCH: usize = 1024;

/// Part of a matrix from the Haar measure, times `gain`.
///
/// The logical tensor is seen as a matrix: its columns are along `column_axis`, its rows along all other axes, in C order. If it has no
/// more columns than rows, the columns are orthonormal, else the rows. Single precision and the half types are computed in
/// single precision, and the half types rounded once.
///
/// A window is that part of the whole, exactly. Its time is that of its columns (rows, if these are orthonormal), whole and in
/// units of 64. Beside the output it needs up to twice the memory of the output, or of 16 times 64 such columns.
///
/// # Errors
/// [`Error::Value`], before anything is written, where `out` has not the shape of the window or there is no such axis;
/// [`Error::Memory`]; [`Error::Interrupted`] where the options say so.
pub fn orthogonal<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    column_axis: usize,
    key: Key,
    gain: f64,
    options: &Options<'_>,
) -> Result<()> {
    let _environment = DefaultEnvironment::enter();
    if column_axis >= window.shape().len() {
        let shape = window.shape();
        return Err(Error::value(format!("there is no axis {column_axis} in shape {shape:?}")));
    }
    window.check_output(out.shape())?;
    if window.is_empty() {
        return Ok(());
    }
    let columns = window.shape()[column_axis];
    let rows = window.logical_len() / columns;
    let level = options.level.unwrap_or_else(Level::current);
    let matrix = Matrix::new(out, window, column_axis)?;
    if T::DTYPE == Dtype::F64 {
        Job::<T, f64>::new(&matrix, rows, columns, key, gain, level)?.run(options)
    } else {
        Job::<T, f32>::new(&matrix, rows, columns, key, gain, level)?.run(options)
    }
}

/// One matrix, or a part of it, standing upright: what has no fewer rows than columns.
struct Job<'a, T, R> {
    matrix: &'a Matrix<'a, T>,
    rows: usize,
    columns: usize,
    /// The rows and the columns that are wanted, ascending.
    wanted_rows: &'a [Place],
    wanted_columns: &'a [Place],
    key: Key,
    gain: R,
    level: Level,
}

impl<'a, T: Element, R: Real> Job<'a, T, R> {
    fn new(
        matrix: &'a Matrix<'a, T>,
        rows: u64,
        columns: u64,
        key: Key,
        gain: f64,
        level: Level,
    ) -> Result<Job<'a, T, R>> {
        let upright = rows >= columns;
        let (long, short) = if upright { (rows, columns) } else { (columns, rows) };
        let (wanted_rows, wanted_columns) =
            if upright { (&matrix.rows, &matrix.columns) } else { (&matrix.columns, &matrix.rows) };
        // A strip must fit the memory in any case.
        let long = usize::try_from(long).map_err(|_| Error::Memory { bytes: usize::MAX })?;
        let gain = R::from_f64(gain);
        let columns = short as usize;
        Ok(Job { matrix, rows: long, columns, wanted_rows, wanted_columns, key, gain, level })
    }

    /// How many threads some work is worth: so many panels that act on so many strips each.
    fn threads(&self, panels: usize, strips: usize) -> usize {
        self.rows.saturating_mul(4 * WIDTH * WIDTH).saturating_mul(panels).saturating_mul(strips)
            / OPERATIONS_PER_THREAD
    }

    /// Strips that are made together share their panels, and take as much memory as they have columns, whole. So of a window of
    /// few rows no more are made at a time than the output has room for, or [`GROUP`]; the next ones make their panels again.
    fn run(&self, options: &Options<'_>) -> Result<()> {
        let strip = self.rows.saturating_mul(WIDTH);
        let room = (self.wanted_rows.len() * self.wanted_columns.len()).div_ceil(strip);
        let group = room.max(GROUP).saturating_mul(WIDTH);
        self.wanted_columns.chunks(group).try_for_each(|columns| self.group(columns, options))
    }

    /// Makes these columns.
    fn group(&self, wanted: &[Place], options: &Options<'_>) -> Result<()> {
        let strips: Vec<_> = wanted.chunks(WIDTH).map(|_| Mutex::new(None)).collect();
        let last = wanted.last().map_or(0, |column| column.index as usize);
        // Panels take as much memory as strips; two at a time are made while one is applied to few strips.
        let batch = strips.len().clamp(2, BATCH);
        let mut end = last / WIDTH + 1;
        while end > 0 {
            let begin = end.saturating_sub(batch);
            let panels: Vec<_> = (begin..end).map(|_| OnceLock::new()).collect();
            in_turns(panels.len(), self.threads(panels.len(), 1), options, |turn, pulse| {
                let first = (begin + turn) * WIDTH;
                let panel = Panel::new(self.level, self.key, self.rows, self.columns, first, pulse)?;
                panels[turn].get_or_init(|| panel);
                Ok(())
            })?;
            let panels: Vec<_> = panels.into_iter().filter_map(OnceLock::into_inner).collect();
            in_turns(strips.len(), self.threads(panels.len(), strips.len()), options, |turn, pulse| {
                // The last ones have the most to do.
                let number = strips.len() - 1 - turn;
                let columns = &wanted[number * WIDTH..];
                let columns = &columns[..columns.len().min(WIDTH)];
                let mut place = strips[number].lock().unwrap_or_else(PoisonError::into_inner);
                let mut strip = match place.take() {
                    Some(strip) => strip,
                    None => Rows::new(self.rows)?,
                };
                panel::apply(self.level, &panels, columns, &mut strip, pulse);
                if pulse.stopped() {
                    return Ok(());
                }
                if begin == 0 {
                    self.emit(columns, &strip, pulse);
                } else {
                    *place = Some(strip);
                }
                Ok(())
            })?;
            end = begin;
        }
        Ok(())
    }

    /// Writes a finished strip to its columns.
    fn emit(&self, columns: &[Place], strip: &Rows<R, WIDTH>, pulse: &Pulse<'_>) {
        let write = |offset: isize, x: R| {
            // SAFETY: the places are those of the matrix, and this strip alone has these columns.
            unsafe { self.matrix.write(offset, T::from_f64(x.times(self.gain).to_f64())) };
        };
        let side_by_side = columns.windows(2).all(|pair| pair[1].offset - pair[0].offset == 1);
        for rows in self.wanted_rows.chunks(WIDTH) {
            // Memory that was never touched comes slowly.
            if pulse.stopped() {
                return;
            }
            if side_by_side {
                for row in rows {
                    let values = &strip[row.index as usize][..columns.len()];
                    let start = row.offset + columns[0].offset;
                    values.iter().zip(start..).for_each(|(&x, offset)| write(offset, x));
                }
            } else {
                for (place, column) in columns.iter().enumerate() {
                    rows.iter()
                        .for_each(|row| write(row.offset + column.offset, strip[row.index as usize][place]));
                }
            }
        }
    }
}
