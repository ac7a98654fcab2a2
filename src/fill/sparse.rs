//! Sparse matrices: normal values with the same number of zeros in every column.

use super::place::Matrix;
use super::run::{Run, Source};
use super::threads::in_parts;
use super::{Options, bytes_of_numbers, sample};
use crate::distr::Distribution;
use crate::dtype::Element;
use crate::error::Result;
use crate::rng::Substream;
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::Level;
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

/// Columns that are processed together.
const COLUMNS: usize = 256;

/// Normal values with mean 0, of which exactly `zeros_per_column` in each column of the logical matrix are
/// zero; all choices are equally likely. The matrix must have at least as many rows.
///
/// The zeros are chosen by selection sampling (Fan, Muller, Rezucha: Development of sampling plans by using
/// sequential (item by item) selection techniques; Journal of the American Statistical Association 57, 1962):
/// from the top of a column down, an element becomes zero with the probability (zeros left to place) / (rows
/// left). The word for element *i* is word *i* of sub-stream 1. A window needs the words of all elements in
/// its columns from the first row of the matrix to its own last row. No memory is needed besides the output.
///
/// # Errors
/// As [`sample`].
pub fn sparse<T: Element>(
    mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    key: Key,
    stddev: f64,
    zeros_per_column: u64,
    options: &Options<'_>,
) -> Result<()> {
    sample(out.view_mut(), window, key, &Distribution::Normal { mean: 0.0, stddev }, options)?;
    if window.is_empty() || zeros_per_column == 0 {
        return Ok(());
    }
    let (rows, columns) = (window.shape()[0], window.shape()[1]);
    let (start_row, start_column) = (window.start()[0], window.start()[1]);
    let level = options.level.unwrap_or_else(Level::current).detect();
    let end_row = start_row + window.extent()[0] as u64;
    let matrix = Matrix::new(out, window, 1)?;
    let words_in_all = (end_row as usize).saturating_mul(window.extent()[1]).saturating_mul(size_of::<u32>());
    in_parts(window.extent()[1], COLUMNS, words_in_all, options, |range, pulse| {
        for from in range.clone().step_by(COLUMNS) {
            let (places, width) = matrix.columns.some::<COLUMNS>(from..range.end);
            let mut to_place = [zeros_per_column; COLUMNS];
            let mut words = [0_u32; COLUMNS];
            for row in 0..end_row {
                if row % 1024 == 0 && pulse.stopped() {
                    return;
                }
                Run {
                    source: &Source::words(4),
                    key,
                    substream: Substream::Mask,
                    first: row * columns + start_column + from as u64,
                    out: bytes_of_numbers(&mut words[..width]),
                    stream: false,
                }
                .at(level);
                for (i, (&word, to_place)) in words[..width].iter().zip(&mut to_place).enumerate() {
                    let chosen = ((word as u128 * (rows - row) as u128) >> 32) < *to_place as u128;
                    *to_place -= chosen as u64;
                    if chosen && row >= start_row {
                        let row = matrix.rows.at((row - start_row) as usize);
                        // SAFETY: the row and the column lie in the window, and this part alone has the
                        // column.
                        unsafe { matrix.write(row.offset + places[i].offset, T::default()) };
                    }
                }
            }
        }
    })
}
