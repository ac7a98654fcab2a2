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
pub(super) const TILE: usize = 4;

/// A square of sums, a row for each column of a panel. Aligned like the registers.
#[repr(align(64))]
struct Square<R>([Row<R>; WIDTH]);

impl<R: Real> Square<R> {
    #[inline(always)]
    fn zero() -> Square<R> {
        Square([[R::default(); WIDTH]; WIDTH])
    }
}

/// What a panel has besides its vectors.
pub(super) struct Head<R> {
    /// The first column, and the first row that the reflectors touch.
    pub first: usize,
    /// How many columns.
    pub width: usize,
    /// The diagonal of the vectors.
    pub pivot: Row<R>,
    /// `2 / |v|^2`.
    tau: Row<R>,
    /// 1 or -1: the diagonal element of the column of the identity. It makes the diagonal of the triangular
    /// factor, which is not computed, positive.
    pub sign: Row<R>,
}

impl<R: Real> Head<R> {
    /// A panel of which no vector is known.
    pub fn new(first: usize, width: usize) -> Head<R> {
        let zero = [R::default(); WIDTH];
        Head { first, width, pivot: zero, tau: zero, sign: zero }
    }

    /// Sets what follows from the first element of column `j`, the sum of the squares of the others, and whether
    /// there are no others.
    pub fn set(&mut self, j: usize, top: R, rest: f64, alone: bool) {
        let top = top.to_f64();
        let norm = (top * top + rest).sqrt();
        let one = if top < 0.0 { -1.0 } else { 1.0 };
        // Added with the sign of the first element, so that nothing cancels. A single element must be exactly
        // 1 or -1.
        let pivot = R::from_f64(if alone { 1.0 } else { top + one * norm });
        self.pivot[j] = pivot;
        self.tau[j] = R::from_f64(2.0 / (pivot.to_f64() * pivot.to_f64() + rest));
        self.sign[j] = R::from_f64(-one);
    }
}

/// The reflectors of up to [`WIDTH`] consecutive columns.
pub(super) struct Panel<'a, R> {
    head: Head<R>,
    /// The vectors as columns; rows from the first one on. Zero above the diagonal and in columns beyond the
    /// width.
    vectors: &'a [Row<R>],
    /// The products of the vectors with each other; only those above the diagonal are used.
    products: &'a [Row<R>],
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
        let mut head = Head::new(first, width);
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
            let mut squares = Squares::default();
            level.run(squares.add(&column[1..]));
            head.set(j, column[0], squares.sum(), column.len() == 1);
            vectors[j][j] = head.pivot[j];
            for (row, &x) in vectors[j + 1..].iter_mut().zip(&column[1..]) {
                row[j] = x;
            }
        }
        if together {
            products.as_flattened_mut().fill(R::default());
        }
        level.run(Products { vectors, width, sums: products, pulse });
        Ok(Panel { head, vectors, products })
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

/// The sum of squares in double precision: sixteen sums of every sixteenth square, then their sum by halves. The
/// square of a single-precision number is exact.
#[derive(Default)]
pub(super) struct Squares([f64; 16]);

impl Squares {
    /// Adds the squares of these numbers, which must be a multiple of sixteen unless they are the last ones.
    pub fn add<'a, R: Real>(&'a mut self, numbers: &'a [R]) -> AddSquares<'a, R> {
        AddSquares { sums: &mut self.0, numbers }
    }

    pub fn sum(mut self) -> f64 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                self.0[i] += self.0[i + half];
            }
        }
        self.0[0]
    }
}

/// See [`Squares::add`].
pub(super) struct AddSquares<'a, R> {
    sums: &'a mut [f64; 16],
    numbers: &'a [R],
}

impl<R: Real> Kernel for AddSquares<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut sums = *self.sums;
        let (whole, rest) = self.numbers.as_chunks::<16>();
        for chunk in whole {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x.to_f64() * x.to_f64();
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x.to_f64() * x.to_f64();
        }
        *self.sums = sums;
    }
}

/// The products of the columns of a panel with each other.
struct Products<'a, R> {
    vectors: &'a [Row<R>],
    width: usize,
    sums: &'a mut [Row<R>],
    pulse: &'a Pulse<'a>,
}

impl<R: Real> Kernel for Products<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sums = &mut self.sums[..self.width.next_multiple_of(TILE)];
        for block in self.vectors.chunks(block::<R>()) {
            if self.pulse.stopped() {
                return;
            }
            add_products(s.wide(), block, block, 0, WIDTH, sums);
        }
    }
}

/// Solves the triangular system of a panel, of which the vectors are not needed, for every column of `sums`.
pub(super) fn solve<R: Real>(level: Level, head: &Head<R>, products: &[Row<R>], sums: &mut [Row<R>; WIDTH]) {
    level.run(Solve { head, products, sums });
}

/// See [`solve`].
struct Solve<'a, R> {
    head: &'a Head<R>,
    products: &'a [Row<R>],
    sums: &'a mut [Row<R>; WIDTH],
}

impl<R: Real> Kernel for Solve<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        solve_in_place(s.wide(), self.head, self.products, self.sums);
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
            let blocks = self.strip[panel.head.first..]
                .chunks_mut(block::<R>())
                .zip(panel.vectors.chunks(block::<R>()));
            for (number, (strip, vectors)) in blocks.enumerate() {
                if self.pulse.stopped() {
                    return;
                }
                let row = panel.head.first + number * block::<R>();
                if let Some((last, sums)) = &pending
                    && row >= last.head.first
                {
                    let vectors = &last.vectors[row - last.head.first..];
                    subtract_products(s, vectors, &sums.0, last.head.width, WIDTH, strip);
                }
                let width = panel.head.width.next_multiple_of(TILE);
                add_products(s, vectors, strip, 0, WIDTH, &mut sums.0[..width]);
            }
            solve_in_place(s, &panel.head, panel.products, &mut sums.0);
            pending = Some((panel, sums));
        }
        if let Some((last, sums)) = &pending {
            let strip = &mut self.strip[last.head.first..];
            subtract_products(s, last.vectors, &sums.0, last.head.width, WIDTH, strip);
        }
    }
}

/// Begins the columns whose numbers are in the panel; returns whether any column has begun.
fn begin<R: Real>(panel: &Panel<'_, R>, columns: &[Place], strip: &mut [Row<R>]) -> bool {
    let from = columns.partition_point(|column| (column.index as usize) < panel.head.first);
    for (place, column) in columns.iter().enumerate().skip(from) {
        let number = column.index as usize - panel.head.first;
        if number < panel.head.width {
            strip[column.index as usize][place] = panel.head.sign[number];
        }
    }
    from < columns.len()
}

/// The rows that are processed together, few enough that those of a strip and of a panel stay in the
/// first-level cache. Divides [`WIDTH`], so that each panel begins at a block of the previous one.
pub(super) const fn block<R>() -> usize {
    WIDTH * 4 / size_of::<R>()
}

/// Adds the products of the columns of a block of a panel, from column `from` on, with the first `lanes` columns of
/// a block of a strip to `sums`, which has a row for each of the columns of the panel, a multiple of [`TILE`].
#[inline(always)]
pub(super) fn add_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    strip: &[Row<R>],
    from: usize,
    lanes: usize,
    sums: &mut [Row<R>],
) {
    let tiles = sums.as_chunks_mut::<TILE>().0;
    for (tile, sums) in tiles.iter_mut().enumerate() {
        let column = from + tile * TILE;
        for lane in (0..lanes).step_by(R::lanes::<S>()) {
            let mut sum = [R::splat(s, R::default()); TILE];
            for i in 0..TILE {
                sum[i] = R::load(s, &sums[i][lane..]);
            }
            for (v, x) in vectors.iter().zip(strip) {
                let x = R::load(s, &x[lane..]);
                let v: &[R; TILE] = v[column..].first_chunk().expect("a column of the panel");
                for i in 0..TILE {
                    sum[i] = R::mul_add(s, R::splat(s, v[i]), x, sum[i]);
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
fn solve_in_place<S: Simd, R: Real>(s: S, head: &Head<R>, products: &[Row<R>], sums: &mut [Row<R>; WIDTH]) {
    for i in (0..head.width).rev() {
        let (above, below) = sums.split_at_mut(i + 1);
        let row = &mut above[i];
        for lane in (0..WIDTH).step_by(R::lanes::<S>()) {
            let mut x = R::load(s, &row[lane..]);
            for (below, &product) in below[..head.width - i - 1].iter().zip(&products[i][i + 1..]) {
                x = R::neg_mul_add(s, R::splat(s, product), R::load(s, &below[lane..]), x);
            }
            R::store(s, &mut row[lane..], R::mul(s, x, R::splat(s, head.tau[i])));
        }
    }
}

/// Subtracts `vectors * sums` from the first `lanes` columns of the rows of a strip.
#[inline(always)]
pub(super) fn subtract_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    sums: &[Row<R>; WIDTH],
    width: usize,
    lanes: usize,
    strip: &mut [Row<R>],
) {
    let (tiles, rest) = strip.as_chunks_mut::<TILE>();
    let (vector_tiles, vector_rest) = vectors[..tiles.len() * TILE + rest.len()].as_chunks::<TILE>();
    for (x, v) in tiles.iter_mut().zip(vector_tiles) {
        subtract(s, v, &sums[..width], lanes, x);
    }
    for (x, v) in rest.iter_mut().zip(vector_rest) {
        subtract(s, std::array::from_ref(v), &sums[..width], lanes, std::array::from_mut(x));
    }
}

/// Subtracts `v * sums` from the first `lanes` columns of some rows of a strip.
#[inline(always)]
fn subtract<S: Simd, R: Real, const ROWS: usize>(
    s: S,
    v: &[Row<R>; ROWS],
    sums: &[Row<R>],
    lanes: usize,
    rows: &mut [Row<R>; ROWS],
) {
    for lane in (0..lanes).step_by(R::lanes::<S>()) {
        let mut x = [R::splat(s, R::default()); ROWS];
        for i in 0..ROWS {
            x[i] = R::load(s, &rows[i][lane..]);
        }
        for (k, sum) in sums.iter().enumerate() {
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
