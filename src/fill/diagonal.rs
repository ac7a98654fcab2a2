//! The ones of identities and Dirac kernels.

use super::Options;
use super::place::Matrix;
use super::threads::{Countdown, in_parts};
use crate::dtype::Element;
use crate::error::Result;
use crate::shape::Window;
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

/// As many bytes as an element of a diagonal counts for when the work is split: each may be the first one on
/// its page.
const PAGE: usize = 4096;

/// Writes `value` to the elements of a matrix whose row is the column modulo `period`: to one diagonal, or to
/// one for each `period` columns. The matrix is the last two axes; all others must have size 1.
///
/// # Errors
/// As [`sample`](super::sample).
pub fn diagonal<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    period: u64,
    value: T,
    options: &Options<'_>,
) -> Result<()> {
    let column_axis = window.shape().len() - 1;
    let (rows, columns) = (window.range(column_axis - 1), window.range(column_axis));
    let matrix = Matrix::new(out, window, column_axis)?;
    if window.is_empty() {
        return Ok(());
    }
    // Without a second period only the columns beside the rows have an element.
    let last = if columns.end <= period { columns.end.min(rows.end) } else { columns.end };
    let length = last.saturating_sub(columns.start) as usize;
    let bytes = length.saturating_mul(PAGE).min(window.len() * size_of::<T>());
    in_parts(length, 1, bytes, options, |part, pulse| {
        let mut countdown = Countdown::new(pulse);
        let (mut column, end) = (columns.start + part.start as u64, columns.start + part.end as u64);
        while column < end {
            let row = column % period;
            if row >= rows.end {
                column += period - row;
            } else if row < rows.start {
                column += rows.start - row;
                continue;
            } else {
                let row = matrix.rows.at((row - rows.start) as usize);
                let place = matrix.columns.at((column - columns.start) as usize);
                // SAFETY: the row and the column lie in the window, and this part alone has the column.
                unsafe { matrix.write(row.offset + place.offset, value) };
                column += 1;
            }
            if !countdown.goes_on(1) {
                return;
            }
        }
    })
}
