//! Panels: the reflectors of [`WIDTH`] columns, and what they do to a strip of as many columns.
//!
//! The product of the reflectors `I - tau_j v_j v_j^T` of a panel is `I - V T V^T` with an upper triangular T (the compact WY form:
//! Schreiber and Van Loan, SIAM Journal on Scientific and Statistical Computing 10, 1989), whose inverse has `1 / tau` on its
//! diagonal and the products of the columns of V above it (the UT form: Joffrain et al., ACM Transactions on Mathematical Software 32, 2006).
//! So T itself is never made: multiplying by it is to solve a triangular system.
//!
//! What makes the bits independent of the level and of the way the work is cut: every element of a product is one chain
//! of fused multiply-adds over an index that ascends, and sums of squares are kept in sixteen parts.

use super::real::Real;
use crate::error::Result;
use crate::fill::buffer::{Buffer, Rows};
use crate::seed::Key;
use crate::simd::{Kernel, Level, Simd};
use std::mem::MaybeUninit;

/// The columns of a panel, and of a strip.
pub(super) const WIDTH: usize = 64;

/// A row of a panel or strip.
pub(super) type Row<R> = [R; WIDTH];

/// Rows that are worked on together, so that those of the strip stay in the first cache while all of the panel's columns see them.
const BLOCK: usize = 64;

/// Sums that are kept side by side in registers, each a row of a strip.
const TILE: usize = 4;

/// A square of sums, a row for each column of a panel. Aligned like the registers.
#[repr(align(64))]
struct Square<R>([Row<R>; WIDTH]);

impl<R: Real> Square<R> {
    #[inline(always)]
    fn zero() -> Square<R> {
        Square([[R::default(); WIDTH]; WIDTH])
    }
}

/// The reflectors of up to [`WIDTH`] consecutive columns.
pub(super) struct Panel<R> {
    /// The first column, and the first row that the reflectors touch.
    pub first: usize,
    /// How many columns.
    pub width: usize,
    /// The vectors, side by side; rows from `first` on. Columns beyond `width` are zero, and above the diagonal all are.
    vectors: Rows<R, WIDTH>,
    /// The products of the vectors: above the diagonal those of the reflectors, the rest is not used.
    products: Square<R>,
    /// `2 / |v|^2`.
    tau: Row<R>,
    /// 1 or -1: what a column of the identity begins with, so that the diagonal of the triangular factor, which nobody
    /// computes, would be positive.
    pub sign: Row<R>,
}

impl<R: Real> Panel<R> {
    /// The panel that begins with column `first` of a matrix of `rows` rows and `columns` columns.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory)
    pub fn new(level: Level, key: Key, rows: usize, columns: usize, first: usize) -> Result<Panel<R>> {
        let (width, length) = (WIDTH.min(columns - first), rows - first);
        let mut vectors = Rows::new(length)?;
        let (mut tau, mut sign) = ([R::default(); WIDTH], [R::default(); WIDTH]);
        let mut scratch = Buffer::new(length.saturating_mul(size_of::<R>()))?;
        for j in 0..width {
            let column = &mut scratch.as_uninit_slice::<R>()[j..];
            R::normals(level, key, ((first + j) as u64) * rows as u64 + (first + j) as u64, column);
            // SAFETY: `normals` has written all of it.
            let column = unsafe { &*(column as *mut [MaybeUninit<R>] as *mut [R]) };
            let (head, rest) = (column[0].to_f64(), sum_of_squares(&column[1..]));
            let norm = (head * head + rest).sqrt();
            let one = if head < 0.0 { -1.0 } else { 1.0 };
            // Added with the sign of the head, so that nothing cancels.
            let pivot = R::from_f64(head + one * norm);
            tau[j] = R::from_f64(2.0 / (pivot.to_f64() * pivot.to_f64() + rest));
            sign[j] = R::from_f64(-one);
            vectors[j][j] = pivot;
            for (row, &x) in vectors[j + 1..].iter_mut().zip(&column[1..]) {
                row[j] = x;
            }
        }
        let mut products = Square::zero();
        level.run(Products { vectors: &vectors, strip: &vectors, width, sums: &mut products });
        Ok(Panel { first, width, vectors, products, tau, sign })
    }

    /// Multiplies a strip by the panel, from the left; the rows of the strip are all of the matrix.
    pub fn apply(&self, level: Level, strip: &mut [Row<R>]) {
        level.run(Apply { panel: self, strip: &mut strip[self.first..] });
    }
}

/// Sixteen sums of every sixteenth element's square, and their sum by halves. A square of single precision is exact here.
fn sum_of_squares<R: Real>(x: &[R]) -> f64 {
    let mut sums = [0.0_f64; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x.to_f64() * x.to_f64();
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x.to_f64() * x.to_f64();
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// Adds the products of the columns of a panel with those of a strip to `sums`, which has a row for each of the panel's.
struct Products<'a, R> {
    vectors: &'a [Row<R>],
    strip: &'a [Row<R>],
    width: usize,
    sums: &'a mut Square<R>,
}

impl<R: Real> Kernel for Products<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        products(s.wide(), self.vectors, self.strip, self.width, self.sums);
    }
}

#[inline(always)]
fn products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    strip: &[Row<R>],
    width: usize,
    sums: &mut Square<R>,
) {
    // Halves of the block in double precision, whose rows are twice as long.
    let block = BLOCK * 4 / size_of::<R>();
    for (vectors, strip) in vectors.chunks(block).zip(strip.chunks(block)) {
        for (tile, sums) in
            sums.0[..width.next_multiple_of(TILE)].as_chunks_mut::<TILE>().0.iter_mut().enumerate()
        {
            for lane in (0..WIDTH).step_by(R::lanes::<S>()) {
                let mut sum = [R::splat(s, R::default()); TILE];
                for i in 0..TILE {
                    sum[i] = R::load(s, &sums[i][lane..]);
                }
                for (v, x) in vectors.iter().zip(strip) {
                    let x = R::load(s, &x[lane..]);
                    for i in 0..TILE {
                        sum[i] = R::mul_add(s, R::splat(s, v[tile * TILE + i]), x, sum[i]);
                    }
                }
                for i in 0..TILE {
                    R::store(s, &mut sums[i][lane..], sum[i]);
                }
            }
        }
    }
}

/// See [`Panel::apply`]; the strip begins where the panel does.
struct Apply<'a, R> {
    panel: &'a Panel<R>,
    strip: &'a mut [Row<R>],
}

impl<R: Real> Kernel for Apply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (s, Panel { width, vectors, .. }) = (s.wide(), self.panel);
        let mut sums = Square::zero();
        products(s, vectors, self.strip, *width, &mut sums);
        solve(s, self.panel, &mut sums);
        let (tiles, rest) = self.strip.as_chunks_mut::<TILE>();
        let (vector_tiles, vector_rest) = vectors.as_chunks::<TILE>();
        for (x, v) in tiles.iter_mut().zip(vector_tiles) {
            subtract(s, v, &sums, *width, x);
        }
        for (x, v) in rest.iter_mut().zip(vector_rest) {
            subtract(s, std::array::from_ref(v), &sums, *width, std::array::from_mut(x));
        }
    }
}

/// Solves the triangular system of the panel for every column of `sums`, from the last row up.
#[inline(always)]
fn solve<S: Simd, R: Real>(s: S, panel: &Panel<R>, sums: &mut Square<R>) {
    for i in (0..panel.width).rev() {
        let (above, below) = sums.0.split_at_mut(i + 1);
        let row = &mut above[i];
        for lane in (0..WIDTH).step_by(R::lanes::<S>()) {
            let mut x = R::load(s, &row[lane..]);
            for (below, &product) in below[..panel.width - i - 1].iter().zip(&panel.products.0[i][i + 1..]) {
                x = R::neg_mul_add(s, R::splat(s, product), R::load(s, &below[lane..]), x);
            }
            R::store(s, &mut row[lane..], R::mul(s, x, R::splat(s, panel.tau[i])));
        }
    }
}

/// Subtracts `v * sums` from some rows of a strip.
#[inline(always)]
fn subtract<S: Simd, R: Real, const ROWS: usize>(
    s: S,
    v: &[Row<R>; ROWS],
    sums: &Square<R>,
    width: usize,
    rows: &mut [Row<R>; ROWS],
) {
    for lane in (0..WIDTH).step_by(R::lanes::<S>()) {
        let mut x = [R::splat(s, R::default()); ROWS];
        for i in 0..ROWS {
            x[i] = R::load(s, &rows[i][lane..]);
        }
        for (k, sum) in sums.0[..width].iter().enumerate() {
            let sum = R::load(s, &sum[lane..]);
            for i in 0..ROWS {
                x[i] = R::neg_mul_add(s, R::splat(s, v[i][k]), sum, x[i]);
            }
        }
        for i in 0..ROWS {
            R::store(s, &mut rows[i][lane..], x[i]);
        }
    }
}
