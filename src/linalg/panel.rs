//! Panels: the reflectors of [`WIDTH`] columns, and their application to a strip of as many columns.
//!
//! The product of the reflectors `I - tau_j v_j v_j^T` of a panel is `I - V T V^T` with an upper triangular T
//! (the compact WY form: Schreiber and Van Loan, SIAM Journal on Scientific and Statistical Computing 10,
//! 1989), whose inverse has `1 / tau` on its diagonal and the products of the columns of V above it (the UT
//! form: Joffrain et al., ACM Transactions on Mathematical Software 32, 2006). So T itself is never computed:
//! multiplying by it means solving a triangular system.
//!
//! The bits do not depend on the level or on how the work is split: every element of a product is one chain
//! of fused multiply-adds over an ascending index, and a sum of squares has sixteen fixed parts.

use super::real::Real;
use crate::error::{Error, Result};
use crate::fill::place::Place;
use crate::fill::threads::Pulse;
use crate::seed::Key;
use crate::simd::{Kernel, Level, Simd};

/// The columns of a panel, and of a strip.
pub(super) const WIDTH: usize = 64;

/// A row of a panel or strip.
pub(super) type Row<R> = [R; WIDTH];

/// Rows of sums that are kept in registers at a time.
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
pub(super) struct Panel<'a, R> {
    /// The first column, and the first row that the reflectors touch.
    first: usize,
    /// How many columns.
    width: usize,
    /// The vectors as columns; rows from `first` on. Zero above the diagonal and in columns beyond `width`.
    vectors: &'a [Row<R>],
    /// The products of the vectors with each other; only those above the diagonal are used.
    products: &'a [Row<R>],
    /// `2 / |v|^2`.
    tau: Row<R>,
    /// 1 or -1: the diagonal element of the column of the identity. It makes the diagonal of the triangular
    /// factor, which is not computed, positive.
    sign: Row<R>,
}

impl<'a, R: Real> Panel<'a, R> {
    /// The rows of memory that a panel needs whose first column has this length.
    pub fn memory(length: usize) -> usize {
        // The vectors, their products, and one column.
        length.saturating_add(WIDTH).saturating_add(length.div_ceil(WIDTH))
    }

    /// The panel that begins with column `first` of a matrix of `rows` rows and `columns` columns, in memory
    /// that is zero and has [`Panel::memory`] rows.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the pulse has stopped.
    pub fn new(
        level: Level,
        key: Key,
        rows: usize,
        columns: usize,
        first: usize,
        memory: &'a mut [Row<R>],
        pulse: &Pulse<'_>,
    ) -> Result<Panel<'a, R>> {
        let (width, length) = (WIDTH.min(columns - first), rows - first);
        let (vectors, memory) = memory.split_at_mut(length);
        let (products, scratch) = memory.split_at_mut(WIDTH);
        let scratch = &mut scratch.as_flattened_mut()[..length];
        let (mut tau, mut sign) = ([R::default(); WIDTH], [R::default(); WIDTH]);
        // A small matrix is one panel, whose columns are shorter than a group of blocks: they are sampled
        // together, in the memory of the products, which are computed afterwards.
        let together = rows <= WIDTH;
        if together {
            R::normals(level, key, 0, &mut products.as_flattened_mut()[..width * rows]);
        }
        for j in 0..width {
            if pulse.stopped() {
                return Err(Error::Interrupted);
            }
            let column = if together {
                &products.as_flattened()[j * rows + j..(j + 1) * rows]
            } else {
                let column = &mut scratch[j..];
                R::normals(level, key, ((first + j) as u64) * rows as u64 + (first + j) as u64, column);
                &*column
            };
            let (head, rest) = (column[0].to_f64(), sum_of_squares(&column[1..]));
            let norm = (head * head + rest).sqrt();
            let one = if head < 0.0 { -1.0 } else { 1.0 };
            // Added with the sign of the head, so that nothing cancels. A single element must be exactly 1 or
            // -1.
            let pivot = R::from_f64(if column.len() == 1 { 1.0 } else { head + one * norm });
            tau[j] = R::from_f64(2.0 / (pivot.to_f64() * pivot.to_f64() + rest));
            sign[j] = R::from_f64(-one);
            vectors[j][j] = pivot;
            for (row, &x) in vectors[j + 1..].iter_mut().zip(&column[1..]) {
                row[j] = x;
            }
        }
        if together {
            products.as_flattened_mut().fill(R::default());
        }
        level.run(Products { vectors, width, sums: products });
        Ok(Panel { first, width, vectors, products, tau, sign })
    }
}

/// Multiplies a strip by consecutive panels from the left, the last one first. The strip has all rows of the
/// matrix, and the columns with these numbers, in ascending order. A column begins as one of the identity, at
/// the panel that has its number. Returns early where the pulse has stopped.
pub(super) fn apply<R: Real>(
    level: Level,
    panels: &[Panel<'_, R>],
    columns: &[Place],
    strip: &mut [Row<R>],
    pulse: &Pulse<'_>,
) {
    level.run(Apply { panels, columns, strip, pulse });
}

/// The sum of the squares in double precision: sixteen sums of every sixteenth square, then their sum by
/// halves. The square of a single-precision number is exact.
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

/// The products of the columns of a panel with each other.
struct Products<'a, R> {
    vectors: &'a [Row<R>],
    width: usize,
    sums: &'a mut [Row<R>],
}

impl<R: Real> Kernel for Products<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for block in self.vectors.chunks(block::<R>()) {
            add_products(s.wide(), block, block, self.width, self.sums);
        }
    }
}

/// See [`apply`].
struct Apply<'a, R> {
    panels: &'a [Panel<'a, R>],
    columns: &'a [Place],
    strip: &'a mut [Row<R>],
    pulse: &'a Pulse<'a>,
}

impl<R: Real> Kernel for Apply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let s = s.wide();
        // What is still to be subtracted. It is subtracted from a block just before the next panel is
        // multiplied with the block, so that each panel passes over the strip once.
        let mut pending: Option<(&Panel<'_, R>, Square<R>)> = None;
        for panel in self.panels.iter().rev() {
            if self.pulse.stopped() {
                return;
            }
            if !begin(panel, self.columns, self.strip) {
                continue;
            }
            let mut sums = Square::zero();
            let blocks =
                self.strip[panel.first..].chunks_mut(block::<R>()).zip(panel.vectors.chunks(block::<R>()));
            for (number, (strip, vectors)) in blocks.enumerate() {
                if number % 1024 == 1023 && self.pulse.stopped() {
                    return;
                }
                let row = panel.first + number * block::<R>();
                if let Some((last, sums)) = &pending
                    && row >= last.first
                {
                    subtract_products(s, &last.vectors[row - last.first..], sums, last.width, strip);
                }
                add_products(s, vectors, strip, panel.width, &mut sums.0);
            }
            solve(s, panel, &mut sums);
            pending = Some((panel, sums));
        }
        if let Some((last, sums)) = &pending {
            subtract_products(s, last.vectors, sums, last.width, &mut self.strip[last.first..]);
        }
    }
}

/// Begins the columns whose numbers are in the panel; returns whether any column has begun.
fn begin<R: Real>(panel: &Panel<'_, R>, columns: &[Place], strip: &mut [Row<R>]) -> bool {
    let from = columns.partition_point(|column| (column.index as usize) < panel.first);
    for (place, column) in columns.iter().enumerate().skip(from) {
        let number = column.index as usize - panel.first;
        if number < panel.width {
            strip[column.index as usize][place] = panel.sign[number];
        }
    }
    from < columns.len()
}

/// The rows that are processed together, few enough that those of a strip and of a panel stay in the
/// first-level cache. Divides [`WIDTH`], so that each panel begins at a block of the previous one.
const fn block<R>() -> usize {
    WIDTH * 4 / size_of::<R>()
}

/// Adds the products of the columns of a block of a panel with those of a block of a strip to `sums`, which
/// has a row for each column of the panel.
#[inline(always)]
fn add_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    strip: &[Row<R>],
    width: usize,
    sums: &mut [Row<R>],
) {
    let tiles = sums[..width.next_multiple_of(TILE)].as_chunks_mut::<TILE>().0;
    for (tile, sums) in tiles.iter_mut().enumerate() {
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

/// Solves the triangular system of the panel for every column of `sums`, from the last row up.
#[inline(always)]
fn solve<S: Simd, R: Real>(s: S, panel: &Panel<'_, R>, sums: &mut Square<R>) {
    for i in (0..panel.width).rev() {
        let (above, below) = sums.0.split_at_mut(i + 1);
        let row = &mut above[i];
        for lane in (0..WIDTH).step_by(R::lanes::<S>()) {
            let mut x = R::load(s, &row[lane..]);
            for (below, &product) in below[..panel.width - i - 1].iter().zip(&panel.products[i][i + 1..]) {
                x = R::neg_mul_add(s, R::splat(s, product), R::load(s, &below[lane..]), x);
            }
            R::store(s, &mut row[lane..], R::mul(s, x, R::splat(s, panel.tau[i])));
        }
    }
}

/// Subtracts `vectors * sums` from the rows of a strip.
#[inline(always)]
fn subtract_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    sums: &Square<R>,
    width: usize,
    strip: &mut [Row<R>],
) {
    let (tiles, rest) = strip.as_chunks_mut::<TILE>();
    let (vector_tiles, vector_rest) = vectors[..tiles.len() * TILE + rest.len()].as_chunks::<TILE>();
    for (x, v) in tiles.iter_mut().zip(vector_tiles) {
        subtract(s, v, sums, width, x);
    }
    for (x, v) in rest.iter_mut().zip(vector_rest) {
        subtract(s, std::array::from_ref(v), sums, width, std::array::from_mut(x));
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
