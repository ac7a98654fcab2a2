//! Sparse matrices: normal values with the same number of zeros in every column.

use super::batch::{BLOCKS, Batch, Memory};
use super::buffer::prefer_huge_pages;
use super::place::Matrix;
use super::run::Source;
use super::threads::in_parts;
use super::{Options, sample};
use crate::distr::Distribution;
use crate::dtype::Element;
use crate::error::Result;
use crate::rng::Substream;
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::{DefaultEnvironment, Kernel, Level, Simd};
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

/// Columns that are processed together, and rows. Their elements fit a batch.
const COLUMNS: usize = 256;
const ROWS: usize = 7;
const _: () = assert!(ROWS * Batch::blocks_of(COLUMNS, 2) <= BLOCKS);

/// The parts of threads begin at multiples of this many columns.
const GRAIN: usize = 64;

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
    let distribution = Distribution::Normal { mean: 0.0, stddev };
    if window.is_empty() || zeros_per_column == 0 {
        return sample(out, window, key, &distribution, options);
    }
    let _environment = DefaultEnvironment::enter();
    if options.untouched.is_none() {
        prefer_huge_pages(&mut out);
    }
    let (rows, columns) = (window.shape()[0], window.shape()[1]);
    let (start_row, start_column) = (window.start()[0], window.start()[1]);
    let level = options.level.unwrap_or_else(Level::current).detect();
    let end_row = start_row + window.extent()[0] as u64;
    let matrix = Matrix::new(out, window, 1)?;
    let bytes = (end_row as usize).saturating_mul(window.extent()[1]).saturating_mul(size_of::<u32>());
    let (words, values) = (Source::words(4), Source::samples(&distribution, T::DTYPE));
    in_parts(window.extent()[1], GRAIN, bytes, options, |range, pulse| {
        let (mut memory, mut memory_of_values) = (Memory::new(), Memory::new());
        let mut words = Batch::new(&words, key, Substream::Mask, level, usize::MAX, &mut memory);
        let mut values =
            Batch::new(&values, key, Substream::Values, level, usize::MAX, &mut memory_of_values);
        for from in range.clone().step_by(COLUMNS) {
            let (places, width) = matrix.columns.some::<COLUMNS>(from..range.end);
            let adjacent = places[..width].windows(2).all(|pair| pair[1].offset - pair[0].offset == 1);
            let mut to_place = [i64::try_from(zeros_per_column).unwrap_or(i64::MAX); COLUMNS];
            let mut row = 0;
            while row < end_row {
                if pulse.stopped() {
                    return;
                }
                // Rows above the window have no values.
                let until = if row < start_row { start_row } else { end_row };
                let together = until.min(row + ROWS as u64);
                let (mut of_words, mut of_values) = ([0; ROWS], [0; ROWS]);
                for (i, row) in (row..together).enumerate() {
                    let first = row * columns + start_column + from as u64;
                    of_words[i] = words.add(first, width);
                    if row >= start_row {
                        of_values[i] = values.add(first, width);
                    }
                }
                let (words, values) = (words.compute().cast::<u32>(), values.compute().cast::<T>());
                for (i, row) in (row..together).enumerate() {
                    // SAFETY: the batch has the words of a row from here on.
                    let words = unsafe { std::slice::from_raw_parts(words.add(of_words[i]), width) };
                    let mut keep = [0; COLUMNS];
                    let rows_left = rows - row;
                    level.run(Choose { words, to_place: &mut to_place, keep: &mut keep, rows_left });
                    if row < start_row {
                        continue;
                    }
                    // SAFETY: the batch has the values of a row from here on.
                    let values = unsafe { std::slice::from_raw_parts(values.add(of_values[i]), width) };
                    let mut kept = [T::default(); COLUMNS];
                    for ((kept, &value), &keep) in kept.iter_mut().zip(values).zip(&keep) {
                        *kept = if keep == 0 { T::default() } else { value };
                    }
                    let start = matrix.rows.at((row - start_row) as usize).offset;
                    // SAFETY: the row and the columns lie in the window, and this part alone has the columns.
                    unsafe {
                        if adjacent {
                            matrix.write_all(start + places[0].offset, &kept[..width]);
                        } else {
                            for (place, &value) in places.iter().zip(&kept[..width]) {
                                matrix.write(start + place.offset, value);
                            }
                        }
                    }
                }
                row = together;
            }
        }
    })
}

/// Decides which elements of a row become zero. Plain Rust, which the compiler vectorizes for each level.
struct Choose<'a> {
    words: &'a [u32],
    /// The zeros that each column still needs, at most 2^63 - 1.
    to_place: &'a mut [i64; COLUMNS],
    /// Becomes 0 where an element becomes zero, else 1.
    keep: &'a mut [u32; COLUMNS],
    /// The rows from this one on.
    rows_left: u64,
}

impl Choose<'_> {
    #[inline(always)]
    fn choose(self, high: u64, low: u64) {
        for ((&word, to_place), keep) in self.words.iter().zip(self.to_place).zip(self.keep) {
            // The product of the word and the rows, without its 32 lowest bits.
            let product = word as u64 * high + ((word as u64 * low) >> 32);
            let kept = (product as i64) >= *to_place;
            *to_place -= i64::from(!kept);
            *keep = u32::from(kept);
        }
    }
}

impl Kernel for Choose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (high, low) = (self.rows_left >> 32, self.rows_left & 0xffff_ffff);
        // A constant zero saves a multiplication, of which no level has 64 bits.
        if high == 0 { self.choose(0, low) } else { self.choose(high, low) }
    }
}
