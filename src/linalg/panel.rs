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
use std::ops::Range;

/// The columns of a panel, and of a strip.
pub(super) const WIDTH: usize = 64;

/// A row of a panel or strip.
pub(super) type Row<R> = [R; WIDTH];

/// Rows of sums that are kept in registers at a time.
pub(super) const TILE: usize = 4;

/// Samples between two checks for an interrupt: some ten microseconds.
const PACE: usize = 1 << 14;

/// Rows of sums that are one piece of work where zeros are passed over.
pub(super) const PIECE: usize = 16;

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

    /// Makes the sums with the columns that begin with the panel, a column for each, from the vectors as rows:
    /// those from their diagonal up to the width, zeros elsewhere.
    pub fn begin(&self, vectors: &mut [Row<R>]) {
        for (j, row) in vectors.iter_mut().enumerate() {
            row[j] = self.pivot[j];
            for (x, &sign) in row.iter_mut().zip(&self.sign) {
                // A sum begins with +0, so that it is never -0.
                *x = if *x == R::default() { R::default() } else { x.times(sign) };
            }
        }
    }

    /// Takes from what [`begin`](Self::begin) made the sums with a strip, of which no other columns have begun.
    /// Their numbers are distinct and ascend.
    pub fn begun(&self, from: &[Row<R>], columns: impl Iterator<Item = usize> + Clone, sums: &mut [Row<R>]) {
        let begun = columns.clone().skip_while(|&column| column < self.first);
        let (count, place) = (begun.clone().count(), columns.count() - begun.clone().count());
        let numbers = |column: usize| column - self.first;
        let first = begun.clone().next().map_or(0, numbers);
        let consecutive = begun.clone().last().map_or(0, numbers) - first + 1 == count;
        for (sums, from) in sums.iter_mut().zip(from) {
            let sums = &mut sums[place..place + count];
            if consecutive {
                sums.copy_from_slice(&from[first..first + count]);
            } else {
                sums.iter_mut().zip(begun.clone()).for_each(|(sum, column)| *sum = from[numbers(column)]);
            }
        }
    }

    /// See [`Ends`]: the sums of a column that begins with the panel are zero from its own number on. The
    /// numbers of the columns ascend; places beyond them count as the last one.
    pub fn ends(&self, columns: impl Iterator<Item = usize>) -> Ends {
        let (mut ends, mut last) = ([0; WIDTH], 0);
        let mut columns = columns.map(|column| (column + 1).saturating_sub(self.first).min(self.width));
        for end in &mut ends {
            last = columns.next().unwrap_or(last);
            *end = last;
        }
        ends
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
    /// What [`Head::begin`] made.
    begin: &'a [Row<R>],
}

impl<'a, R: Real> Panel<'a, R> {
    /// The rows of memory that a panel needs whose first column has this length.
    pub fn memory(length: usize) -> usize {
        // The vectors, their products, the sums of columns that begin, and one column.
        let square = 2 * WIDTH.min(length).next_multiple_of(TILE);
        length.saturating_add(square).saturating_add(length.div_ceil(WIDTH))
    }

    /// The panel that begins with column `first` of a matrix of `rows` rows and `columns` columns, in memory of
    /// [`Panel::memory`] rows.
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
        let (products, memory) = memory.split_at_mut(WIDTH.min(length).next_multiple_of(TILE));
        let (begin, scratch) = memory.split_at_mut(products.len());
        let begin = &mut begin[..width];
        // The rest of the vectors is written below.
        vectors[..if width < WIDTH { length } else { WIDTH }].fill([R::default(); WIDTH]);
        begin.fill([R::default(); WIDTH]);
        let scratch = &mut scratch.as_flattened_mut()[..length];
        let mut head = Head::new(first, width);
        let mut lengths = [0.0; WIDTH];
        let mut pace = 0;
        // A small matrix is one panel, whose columns are shorter than a group of blocks: they are sampled
        // together, in the memory of the products, which are computed afterwards.
        let together = rows <= WIDTH;
        if together {
            R::normals(level, key, 0, &mut products.as_flattened_mut()[..width * rows]);
        }
        for j in 0..width {
            pace += length;
            if pace >= PACE {
                if pulse.stopped() {
                    return Err(Error::Interrupted);
                }
                pace = 0;
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
            lengths[j] = squares.sum();
            vectors[j][j] = column[0];
            for (row, &x) in vectors[j + 1..].iter_mut().zip(&column[1..]) {
                row[j] = x;
            }
            begin[j][j..width].copy_from_slice(&column[..width - j]);
        }
        for j in 0..width {
            head.set(j, vectors[j][j], lengths[j], length - j == 1);
            vectors[j][j] = head.pivot[j];
        }
        head.begin(begin);
        products.fill([R::default(); WIDTH]);
        level.run(Products { vectors, width, sums: products, pulse });
        Ok(Panel { head, vectors, products, begin })
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
        if !rest.is_empty() {
            // Squares of zeros change no sum.
            let mut padded = [R::default(); 16];
            padded[..rest.len()].copy_from_slice(rest);
            for (sum, x) in sums.iter_mut().zip(padded) {
                *sum += x.to_f64() * x.to_f64();
            }
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
        let (s, step) = wide::<S, R>(s);
        let Products { vectors, width, sums, pulse } = self;
        let rows_of_block = block::<R>();
        let sums = &mut sums[..width.next_multiple_of(TILE)];
        for (number, block) in vectors.chunks(rows_of_block).enumerate() {
            if pulse.stopped() {
                return;
            }
            for (piece, sums) in sums.chunks_mut(PIECE).enumerate() {
                let column = piece * PIECE;
                for lane in (column / step * step..width).step_by(step) {
                    // A vector is zero in the rows above its number.
                    let zeros = column.max(lane).saturating_sub(number * rows_of_block);
                    let block = &block[zeros.min(block.len())..];
                    add_products(s, block, block, column, lane..lane + step, sums);
                }
            }
        }
    }
}

/// Solves the triangular system of a panel, of which the vectors are not needed, for the first `lanes` columns
/// of `sums`.
pub(super) fn solve<R: Real>(
    level: Level,
    head: &Head<R>,
    products: &[Row<R>],
    lanes: usize,
    sums: &mut [Row<R>; WIDTH],
) {
    level.run(Solve { head, products, lanes, sums });
}

/// See [`solve`].
struct Solve<'a, R> {
    head: &'a Head<R>,
    products: &'a [Row<R>],
    lanes: usize,
    sums: &'a mut [Row<R>; WIDTH],
}

impl<R: Real> Kernel for Solve<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        solve_in_place(s.wide(), self.head, self.products, self.lanes, self.sums);
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
        let (s, _) = wide::<S, R>(s);
        let Apply { panels, columns, strip, pulse } = self;
        let (lanes, rows_of_block) = (columns.len(), block::<R>());
        // What is still to be subtracted. It is subtracted from a block just before the next panel is
        // multiplied with the block, so that each panel passes over the strip once.
        let mut pending: Option<(&Panel<'_, R>, Ends)> = None;
        let (mut one, mut other) = (Square::zero(), Square::zero());
        let (mut sums, mut last_sums) = (&mut one.0, &mut other.0);
        for panel in panels.iter().rev() {
            if pulse.stopped() {
                return;
            }
            let (head, vectors) = (&panel.head, panel.vectors);
            let before = |number: usize| columns.partition_point(|column| (column.index as usize) < number);
            // The columns that begin with this panel. Those after them have begun with an earlier one.
            let new = before(head.first)..before(head.first + head.width);
            if new.start == lanes {
                continue;
            }
            for place in new.clone() {
                let number = columns[place].index as usize;
                strip[number][place] = head.sign[number - head.first];
            }
            sums[..head.width].fill([R::default(); WIDTH]);
            if new.end == lanes {
                head.begun(panel.begin, columns.iter().map(|column| column.index as usize), sums);
            } else {
                // In the rows of this panel's columns, other columns are still zero.
                let zeros = if new.is_empty() { WIDTH } else { 0 };
                let strip = strip[head.first + zeros..].chunks_mut(rows_of_block);
                for (number, (strip, block)) in strip.zip(vectors[zeros..].chunks(rows_of_block)).enumerate()
                {
                    if pulse.stopped() {
                        return;
                    }
                    let row = zeros + number * rows_of_block;
                    if let Some((last, ends)) = &pending
                        && row >= WIDTH
                    {
                        let vectors = &last.vectors[row - WIDTH..];
                        subtract_products(s, vectors, row - WIDTH, last_sums, ends, lanes, strip);
                    }
                    let width = head.width.next_multiple_of(TILE);
                    add_products(s, block, strip, 0, 0..lanes, &mut sums[..width]);
                }
            }
            solve_in_place(s, head, panel.products, lanes, sums);
            let ends = head.ends(columns.iter().map(|column| column.index as usize));
            pending = Some((panel, ends));
            std::mem::swap(&mut sums, &mut last_sums);
        }
        if let Some((last, ends)) = &pending {
            let strip = &mut strip[last.head.first..];
            subtract_products(s, last.vectors, 0, last_sums, ends, lanes, strip);
        }
    }
}

/// The rows that are processed together, few enough that those of a strip and of a panel stay in the
/// first-level cache. Divides [`WIDTH`], so that each panel begins at a block of the previous one.
pub(super) const fn block<R>() -> usize {
    WIDTH * 4 / size_of::<R>()
}

/// A level's wide registers, and how many numbers one has.
#[inline(always)]
pub(super) fn wide<S: Simd, R: Real>(s: S) -> (S::Wide, usize) {
    (s.wide(), R::lanes::<S::Wide>())
}

/// Adds the products of the columns of a block of a panel, from column `from` on, with the columns `lanes` of a
/// block of a strip to `sums`, which has a row for each of the columns of the panel, a multiple of [`TILE`].
/// The first of `lanes` must be that of a register.
#[inline(always)]
pub(super) fn add_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    strip: &[Row<R>],
    from: usize,
    lanes: Range<usize>,
    sums: &mut [Row<R>],
) {
    let tiles = sums.as_chunks_mut::<TILE>().0;
    for (tile, sums) in tiles.iter_mut().enumerate() {
        let column = from + tile * TILE;
        for lane in lanes.clone().step_by(R::lanes::<S>()) {
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

/// Solves the triangular system of the panel for the first `lanes` columns of `sums`, from the last row up.
#[inline(always)]
fn solve_in_place<S: Simd, R: Real>(
    s: S,
    head: &Head<R>,
    products: &[Row<R>],
    lanes: usize,
    sums: &mut [Row<R>; WIDTH],
) {
    // Each step of a chain waits for the one before, so as many columns as there are registers for take it
    // together.
    let (step, mut lane) = (R::lanes::<S>(), 0);
    while lane < lanes {
        if lane + 3 * step < lanes && lane + 4 * step <= WIDTH {
            solve_columns::<S, R, 4>(s, head, products, lane, sums);
            lane += 4 * step;
        } else if lane + step < lanes {
            solve_columns::<S, R, 2>(s, head, products, lane, sums);
            lane += 2 * step;
        } else {
            solve_columns::<S, R, 1>(s, head, products, lane, sums);
            lane += step;
        }
    }
}

/// As [`solve_in_place`], for the columns of `GROUPS` registers from number `from` on.
#[inline(always)]
fn solve_columns<S: Simd, R: Real, const GROUPS: usize>(
    s: S,
    head: &Head<R>,
    products: &[Row<R>],
    from: usize,
    sums: &mut [Row<R>; WIDTH],
) {
    let lane = |group: usize| from + group * R::lanes::<S>();
    for i in (0..head.width).rev() {
        let (above, below) = sums.split_at_mut(i + 1);
        let mut x = [R::splat(s, R::default()); GROUPS];
        for group in 0..GROUPS {
            x[group] = R::load(s, &above[i][lane(group)..]);
        }
        for (below, &product) in below[..head.width - i - 1].iter().zip(&products[i][i + 1..]) {
            let product = R::splat(s, product);
            for group in 0..GROUPS {
                x[group] = R::neg_mul_add(s, product, R::load(s, &below[lane(group)..]), x[group]);
            }
        }
        for group in 0..GROUPS {
            let scaled = R::mul(s, x[group], R::splat(s, head.tau[i]));
            R::store(s, &mut above[i][lane(group)..], scaled);
        }
    }
}

/// For each column of a strip, how many of its sums with a panel are not certainly zero.
pub(super) type Ends = [usize; WIDTH];

/// Subtracts `vectors * sums` from the first `lanes` columns of the rows of a strip. The first row has number
/// `first` in the panel.
#[inline(always)]
pub(super) fn subtract_products<S: Simd, R: Real>(
    s: S,
    vectors: &[Row<R>],
    first: usize,
    sums: &[Row<R>; WIDTH],
    ends: &Ends,
    lanes: usize,
    strip: &mut [Row<R>],
) {
    let (tiles, rest) = strip.as_chunks_mut::<TILE>();
    let (vector_tiles, vector_rest) = vectors[..tiles.len() * TILE + rest.len()].as_chunks::<TILE>();
    let mut row = first;
    for (x, v) in tiles.iter_mut().zip(vector_tiles) {
        row += TILE;
        subtract(s, v, sums, row, ends, lanes, x);
    }
    for (x, v) in rest.iter_mut().zip(vector_rest) {
        row += 1;
        subtract(s, std::array::from_ref(v), sums, row, ends, lanes, std::array::from_mut(x));
    }
}

/// Subtracts `v * sums` from the first `lanes` columns of some rows of a strip. From number `end` on, `v` is
/// zero.
#[inline(always)]
fn subtract<S: Simd, R: Real, const ROWS: usize>(
    s: S,
    v: &[Row<R>; ROWS],
    sums: &[Row<R>; WIDTH],
    end: usize,
    ends: &Ends,
    lanes: usize,
    rows: &mut [Row<R>; ROWS],
) {
    for lane in (0..lanes).step_by(R::lanes::<S>()) {
        let end = end.min(ends[lane + R::lanes::<S>() - 1]);
        let mut x = [R::splat(s, R::default()); ROWS];
        for i in 0..ROWS {
            x[i] = R::load(s, &rows[i][lane..]);
        }
        for (k, sum) in sums[..end].iter().enumerate() {
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
