//! Tall matrices, whose panels are not kept: each pass over the rows of a panel samples them again, some
//! hundred at a time.
//!
//! A panel takes three passes. The first one finds the lengths of its vectors; the second one multiplies its
//! columns with each other and with the columns of the result that have begun; the third one subtracts from
//! these columns, and writes them to the output if the panel is the last one. So columns in the first panel
//! need no memory at all. Sampling again takes less time than a pass over memory that is not cached.
//!
//! Every chain of multiply-adds is that of [`panel`](super::panel).

use super::panel::{self, Ends, Head, PIECE, Row, Squares, TILE, WIDTH};
use super::real::Real;
use super::{Job, OPERATIONS_PER_THREAD};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::fill::Options;
use crate::fill::blocks::SPARE;
use crate::fill::place::Matrix;
use crate::fill::threads::{how_many, in_turns};
use crate::simd::{Kernel, Simd};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The rows that are sampled together.
const ROWS: usize = 256;

/// The most pieces that the third pass is cut into.
const PIECES: usize = 1024;

/// The most memory for all threads.
const WORKERS: usize = SPARE / 2;

/// The fewest columns that are computed together, even if they need more memory than allowed: fewer ones would
/// take as long.
const FEWEST: usize = 16;

/// How the memory is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The rows of the matrix.
    rows: usize,
    /// How many columns are computed together, in strips of [`WIDTH`].
    group: usize,
    /// How many of them are kept in memory.
    kept: usize,
    /// How many threads there are.
    workers: usize,
}

impl Layout {
    /// The layout for a part of a matrix of this many rows and columns, of which `wanted` columns are computed,
    /// in `bytes` bytes if possible.
    pub fn new<R: Real>(
        rows: usize,
        columns: usize,
        wanted: usize,
        bytes: usize,
        options: &Options<'_>,
    ) -> Layout {
        let panel = WIDTH.min(columns);
        let operations = rows.saturating_mul(panel * panel.max(PIECE));
        let most = WORKERS / (Layout::WORKER * size_of::<Row<R>>());
        let workers = how_many((operations / OPERATIONS_PER_THREAD).clamp(1, most), options);
        if columns <= WIDTH {
            return Layout { rows, group: wanted, kept: 0, workers };
        }
        // Besides the columns, there are the products of the panel, and the sums of each strip, the last one
        // included.
        let row = size_of::<Row<R>>();
        let room = bytes.saturating_sub((workers * Layout::WORKER + 2 * WIDTH) * row);
        let column = rows.saturating_mul(size_of::<R>()).saturating_add(row);
        let most = (room / column).max(FEWEST);
        // Strips that begin with a panel take less time, but each group samples all panels.
        let even = wanted.div_ceil(wanted.div_ceil(most)).next_multiple_of(WIDTH).min(wanted);
        let group = if even <= most { even } else { most / FEWEST * FEWEST };
        Layout { rows, group, kept: group, workers }
    }

    /// The rows of memory of a thread: those of a panel and of a strip.
    const WORKER: usize = 2 * ROWS;

    /// The rows of memory for everything.
    pub fn memory(&self) -> usize {
        let kept = self.rows.saturating_mul(self.kept).div_ceil(WIDTH);
        kept.saturating_add(self.workers * Layout::WORKER + WIDTH + self.sums())
    }

    /// The rows of memory for the sums of all strips.
    fn sums(&self) -> usize {
        self.group.next_multiple_of(WIDTH)
    }
}

/// The memory of a thread.
struct Worker<'a, R> {
    vectors: &'a mut [Row<R>],
    strip: &'a mut [Row<R>],
}

/// Columns that are computed together.
struct Strip {
    /// Where they are in the window.
    positions: Range<usize>,
    /// Their numbers.
    indices: Vec<usize>,
    /// Where they are in a row of the memory; `None` if they need none.
    kept: Option<usize>,
}

impl Strip {
    fn width(&self) -> usize {
        self.positions.len()
    }

    /// The panel of the last column.
    fn begins(&self) -> usize {
        self.indices[self.width() - 1] / WIDTH
    }
}

/// What the passes over a group share.
struct Group<'a, R> {
    job: &'a Job<R>,
    strips: &'a [Strip],
    /// Columns in each row of the memory.
    kept: usize,
}

impl<R: Real> Job<R> {
    /// Computes all wanted columns in memory of [`Layout::memory`] rows.
    pub(super) fn streamed<T: Element>(
        &self,
        matrix: &mut Matrix<'_, T>,
        layout: &Layout,
        memory: &mut [Row<R>],
        options: &Options<'_>,
    ) -> Result<()> {
        let (working, memory) = memory.split_at_mut(layout.workers * Layout::WORKER);
        let mut workers: Vec<_> = working
            .chunks_exact_mut(Layout::WORKER)
            .map(|memory| {
                let (vectors, strip) = memory.split_at_mut(ROWS);
                Worker { vectors, strip }
            })
            .collect();
        let (products, memory) = memory.split_at_mut(WIDTH);
        let (sums, memory) = memory.split_at_mut(layout.sums());
        let memory = memory.as_flattened_mut();
        let columns = matrix.columns.len();
        for begin in (0..columns).step_by(layout.group) {
            let end = columns.min(begin + layout.group);
            let mut kept = 0;
            let strips: Vec<_> = (begin..end)
                .step_by(WIDTH)
                .map(|from| {
                    let positions = from..end.min(from + WIDTH);
                    let indices: Vec<_> = positions
                        .clone()
                        .map(|position| matrix.columns.at(position).index as usize)
                        .collect();
                    let mut strip = Strip { positions, indices, kept: None };
                    if strip.begins() > 0 {
                        strip.kept = Some(kept);
                        kept += strip.width();
                    }
                    strip
                })
                .collect();
            let group = Group { job: self, strips: &strips, kept };
            for number in (0..=strips[strips.len() - 1].begins()).rev() {
                group.apply(number, matrix, &mut workers, products, sums, memory, options)?;
            }
        }
        Ok(())
    }

    /// Computes rows `rows` of the vectors of a panel whose first column is `first`; `panel` has the diagonal.
    fn sample(&self, panel: &Head<R>, rows: Range<usize>, vectors: &mut [Row<R>], piece: &mut [R]) {
        for j in 0..panel.width {
            let from = rows.start.max(panel.first + j).min(rows.end);
            let (above, below) = vectors[..rows.len()].split_at_mut(from - rows.start);
            above.iter_mut().for_each(|row| row[j] = R::default());
            let piece = &mut piece[..below.len()];
            let column = (panel.first + j) as u64;
            R::normals(self.level, self.key, column * self.size.rows as u64 + from as u64, piece);
            below.iter_mut().zip(&*piece).for_each(|(row, &x)| row[j] = x);
            if (rows.start..rows.end).contains(&(panel.first + j)) {
                vectors[panel.first + j - rows.start][j] = panel.pivot[j];
            }
        }
        for row in &mut vectors[..rows.len()] {
            row[panel.width..].fill(R::default());
        }
    }
}

/// The chunks of rows from `first` to `end`, which begin at multiples of [`ROWS`] but for the first one.
fn chunks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = rows;
    (start / ROWS..end.div_ceil(ROWS)).map(move |i| start.max(i * ROWS)..end.min((i + 1) * ROWS))
}

/// A piece of work of the second pass: some of the sums of a strip, or of the panel itself.
struct Sums<'a, R> {
    strip: Option<&'a Strip>,
    /// The first column of the panel.
    from: usize,
    rows: &'a mut [Row<R>],
}

impl<R: Real> Group<'_, R> {
    /// Applies panel number `number` to the strips that have begun, and begins those that begin with it.
    #[expect(clippy::too_many_arguments, reason = "the memory of a group, each part for one purpose")]
    fn apply<T: Element>(
        &self,
        number: usize,
        matrix: &mut Matrix<'_, T>,
        workers: &mut [Worker<'_, R>],
        products: &mut [Row<R>],
        sums: &mut [Row<R>],
        memory: &mut [R],
        options: &Options<'_>,
    ) -> Result<()> {
        let Job { size, level, .. } = *self.job;
        let head = self.lengths(number * WIDTH, workers, options)?;
        // Strips before this one have not begun; those up to `old` begin now.
        let new = self.strips.partition_point(|strip| strip.begins() < number);
        let old = self.strips.partition_point(|strip| strip.begins() <= number);
        let sums = &mut sums[new * WIDTH..self.strips.len() * WIDTH];
        products.fill([R::default(); WIDTH]);
        sums.fill([R::default(); WIDTH]);
        let (new_sums, old_sums) = sums.split_at_mut((old - new) * WIDTH);
        self.products(&head, &self.strips[old..], products, old_sums, memory, workers, options)?;
        self.begin(&head, &self.strips[new..old], new_sums, &mut workers[0]);
        for (strip, sums) in self.strips[new..].iter().zip(sums.as_chunks_mut::<WIDTH>().0) {
            panel::solve(level, &head, products, strip.width(), sums);
        }
        let (strips, sums) = (&self.strips[new..], &*sums);
        if number == 0 {
            return self.emit(&head, strips, sums, memory, matrix, workers, options);
        }
        let length = size.rows - head.first;
        let piece = length.div_ceil(PIECES).next_multiple_of(ROWS);
        let kept = &mut memory[head.first / ROWS * ROWS * self.kept..size.rows * self.kept];
        let pieces: Vec<_> = kept.chunks_mut(piece * self.kept).map(Mutex::new).collect();
        in_turns(pieces.len(), workers, options, |turn, worker, pulse| {
            let mut memory = pieces[turn].lock().unwrap_or_else(PoisonError::into_inner);
            let base = head.first / ROWS * ROWS + turn * piece;
            for rows in chunks(base.max(head.first)..size.rows.min(base + piece)) {
                if pulse.stopped() {
                    return Err(Error::Interrupted);
                }
                self.job.sample(&head, rows.clone(), worker.vectors, worker.strip.as_flattened_mut());
                let chunk = self.chunk(&rows);
                let memory = &mut memory[chunk.start - base * self.kept..chunk.end - base * self.kept];
                for (strip, sums) in strips.iter().zip(sums.as_chunks::<WIDTH>().0) {
                    self.load(&head, strip, &rows, memory, worker.strip);
                    let strip_rows = &mut worker.strip[..rows.len()];
                    level.run(Subtract {
                        vectors: &worker.vectors[..rows.len()],
                        first: rows.start - head.first,
                        sums,
                        ends: &head.ends(strip.indices.iter().copied()),
                        lanes: strip.width(),
                        rows: strip_rows,
                    });
                    self.store(strip, &rows, memory, strip_rows);
                }
            }
            Ok(())
        })
    }

    /// The first pass: the diagonal and the lengths of the vectors of the panel that begins with this column.
    fn lengths(&self, first: usize, workers: &mut [Worker<'_, R>], options: &Options<'_>) -> Result<Head<R>> {
        let Job { size, key, level, .. } = *self.job;
        let mut head = Head::new(first, WIDTH.min(size.columns - first));
        let columns: Vec<_> = (0..head.width).map(|_| Mutex::new((R::default(), 0.0))).collect();
        in_turns(head.width, workers, options, |j, worker, pulse| {
            let piece = worker.strip.as_flattened_mut();
            let (mut number, length) = ((first + j) as u64 * size.rows as u64, size.rows - first - j);
            number += (first + j) as u64;
            R::normals(level, key, number, &mut piece[..1]);
            let (top, mut squares) = (piece[0], Squares::default());
            for from in (1..length).step_by(piece.len()) {
                if pulse.stopped() {
                    return Err(Error::Interrupted);
                }
                let piece = &mut piece[..(length - from).min(ROWS * WIDTH)];
                R::normals(level, key, number + from as u64, piece);
                level.run(squares.add(piece));
            }
            *columns[j].lock().unwrap_or_else(PoisonError::into_inner) = (top, squares.sum());
            Ok(())
        })?;
        for (j, column) in columns.into_iter().enumerate() {
            let (top, rest) = column.into_inner().unwrap_or_else(PoisonError::into_inner);
            head.set(j, top, rest, size.rows - first - j == 1);
        }
        Ok(head)
    }

    /// The second pass: the products of the columns of the panel with each other and with the strips that have
    /// begun before.
    #[expect(clippy::too_many_arguments, reason = "the memory of a group, each part for one purpose")]
    fn products(
        &self,
        head: &Head<R>,
        strips: &[Strip],
        products: &mut [Row<R>],
        sums: &mut [Row<R>],
        memory: &[R],
        workers: &mut [Worker<'_, R>],
        options: &Options<'_>,
    ) -> Result<()> {
        let Job { size, level, .. } = *self.job;
        let own = std::iter::once((None, products));
        let others = strips.iter().map(Some).zip(sums.chunks_mut(WIDTH));
        let mut work: Vec<_> = own
            .chain(others)
            .flat_map(|(strip, rows)| {
                let pieces = rows[..head.width.next_multiple_of(TILE)].chunks_mut(PIECE).enumerate();
                pieces.map(move |(i, rows)| Sums { strip, from: i * PIECE, rows })
            })
            .collect();
        let threads = workers.len().min(work.len());
        let share = work.len().div_ceil(threads);
        let shares: Vec<_> = work.chunks_mut(share).map(Mutex::new).collect();
        in_turns(shares.len(), workers, options, |turn, worker, pulse| {
            let mut work = shares[turn].lock().unwrap_or_else(PoisonError::into_inner);
            for rows in chunks(head.first..size.rows) {
                if pulse.stopped() {
                    return Err(Error::Interrupted);
                }
                self.job.sample(head, rows.clone(), worker.vectors, worker.strip.as_flattened_mut());
                let vectors = &worker.vectors[..rows.len()];
                let mut loaded = None;
                for Sums { strip, from, rows: sums } in work.iter_mut() {
                    let (strip, lanes) = match strip {
                        None => (vectors, *from..head.width),
                        Some(strip) => {
                            if loaded.replace(strip.positions.start) != Some(strip.positions.start) {
                                self.load(head, strip, &rows, &memory[self.chunk(&rows)], worker.strip);
                            }
                            (&worker.strip[..rows.len()], 0..strip.width())
                        }
                    };
                    level.run(AddProducts { vectors, strip, from: *from, lanes, sums });
                }
            }
            Ok(())
        })
    }

    /// The products of the panel with strips that begin with it, which are parts of its rows.
    fn begin(&self, head: &Head<R>, strips: &[Strip], sums: &mut [Row<R>], worker: &mut Worker<'_, R>) {
        let Job { size, key, level, .. } = *self.job;
        let vectors = &mut worker.vectors[..head.width];
        vectors.fill([R::default(); WIDTH]);
        for (j, row) in vectors.iter_mut().enumerate() {
            let column = (head.first + j) as u64;
            R::normals(level, key, column * size.rows as u64 + column, &mut row[j..head.width]);
        }
        head.begin(vectors);
        for (strip, sums) in strips.iter().zip(sums.chunks_mut(WIDTH)) {
            head.begun(vectors, strip.indices.iter().copied(), sums);
        }
    }

    /// The third pass for the last panel: the wanted rows of all strips go to the output.
    #[expect(clippy::too_many_arguments, reason = "the memory of a group, each part for one purpose")]
    fn emit<T: Element>(
        &self,
        head: &Head<R>,
        strips: &[Strip],
        sums: &[Row<R>],
        memory: &[R],
        matrix: &mut Matrix<'_, T>,
        workers: &mut [Worker<'_, R>],
        options: &Options<'_>,
    ) -> Result<()> {
        let Job { size, level, gain, .. } = *self.job;
        let piece = matrix.rows.len().div_ceil(PIECES).next_multiple_of(WIDTH);
        let pieces: Vec<_> = matrix.split_rows(piece).map(Mutex::new).collect();
        in_turns(pieces.len(), workers, options, |turn, worker, pulse| {
            let mut out = pieces[turn].lock().unwrap_or_else(PoisonError::into_inner);
            let mut position = 0;
            while let Some(first) = out.index(position) {
                if pulse.stopped() {
                    return Err(Error::Interrupted);
                }
                // The wanted rows of a chunk.
                let base = first as usize / ROWS * ROWS;
                let rows = first as usize..size.rows.min(base + ROWS);
                let mut end = position + 1;
                while out.index(end).is_some_and(|index| (index as usize) < rows.end) {
                    end += 1;
                }
                let last = out.index(end - 1).unwrap_or(first);
                let rows = rows.start..last as usize + 1;
                self.job.sample(head, rows.clone(), worker.vectors, worker.strip.as_flattened_mut());
                for (strip, sums) in strips.iter().zip(sums.as_chunks::<WIDTH>().0) {
                    self.load(head, strip, &rows, &memory[self.chunk(&rows)], worker.strip);
                    let values = &mut worker.strip[..rows.len()];
                    level.run(Subtract {
                        vectors: &worker.vectors[..rows.len()],
                        first: rows.start - head.first,
                        sums,
                        ends: &head.ends(strip.indices.iter().copied()),
                        lanes: strip.width(),
                        rows: values,
                    });
                    let convert = |x: R| T::from_f64(x.times(gain).to_f64());
                    if !out.write(position..end, strip.positions.clone(), rows.start, values, convert, pulse)
                    {
                        return Err(Error::Interrupted);
                    }
                }
                position = end;
            }
            Ok(())
        })
    }

    /// Where the chunk of these rows is in the memory. Its strips lie one after the other.
    fn chunk(&self, rows: &Range<usize>) -> Range<usize> {
        let base = rows.start / ROWS * ROWS;
        base * self.kept..self.job.size.rows.min(base + ROWS) * self.kept
    }

    /// These rows of a strip before the panel is applied; `memory` is that of their chunk.
    fn load(&self, head: &Head<R>, strip: &Strip, rows: &Range<usize>, memory: &[R], to: &mut [Row<R>]) {
        let width = strip.width();
        let to = &mut to[..rows.len()];
        // Earlier panels touch no row before their first one.
        let zero = if strip.begins() * WIDTH > head.first { head.first + WIDTH } else { rows.end };
        let zero = zero.clamp(rows.start, rows.end) - rows.start;
        to[..zero].fill([R::default(); WIDTH]);
        if let Some(column) = strip.kept.filter(|_| zero < rows.len()) {
            let height = memory.len() / self.kept;
            let from = memory[column * height..][..height * width].chunks_exact(width);
            for (to, from) in to[zero..].iter_mut().zip(from.skip(rows.start % ROWS + zero)) {
                to[..width].copy_from_slice(from);
                to[width..].fill(R::default());
            }
        }
        for (place, &index) in strip.indices.iter().enumerate() {
            if (head.first..head.first + head.width).contains(&index) && rows.contains(&index) {
                to[index - rows.start][place] = head.sign[index - head.first];
            }
        }
    }

    /// The opposite of [`load`](Self::load).
    fn store(&self, strip: &Strip, rows: &Range<usize>, memory: &mut [R], from: &[Row<R>]) {
        let Some(column) = strip.kept else { return };
        let (width, height) = (strip.width(), memory.len() / self.kept);
        let to = memory[column * height..][..height * width].chunks_exact_mut(width);
        for (to, from) in to.skip(rows.start % ROWS).zip(from) {
            to.copy_from_slice(&from[..width]);
        }
    }
}

/// Adds to some sums of a panel with a strip.
struct AddProducts<'a, R> {
    vectors: &'a [Row<R>],
    strip: &'a [Row<R>],
    from: usize,
    lanes: Range<usize>,
    sums: &'a mut [Row<R>],
}

impl<R: Real> Kernel for AddProducts<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AddProducts { vectors, strip, from, lanes, sums } = self;
        let (s, step) = panel::wide::<S, R>(s);
        let lanes = lanes.start / step * step..lanes.end;
        let blocks = vectors.chunks(panel::block::<R>()).zip(strip.chunks(panel::block::<R>()));
        for (vectors, strip) in blocks {
            panel::add_products(s, vectors, strip, from, lanes.clone(), sums);
        }
    }
}

/// Subtracts the products of a panel and the sums of a strip from rows of it.
struct Subtract<'a, R> {
    vectors: &'a [Row<R>],
    /// The number of the first row in the panel.
    first: usize,
    sums: &'a [Row<R>; WIDTH],
    ends: &'a Ends,
    lanes: usize,
    rows: &'a mut [Row<R>],
}

impl<R: Real> Kernel for Subtract<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Subtract { vectors, first, sums, ends, lanes, rows } = self;
        panel::subtract_products(s.wide(), vectors, first, sums, ends, lanes, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_columns_as_fit_are_computed_together() {
        let options = Options::default().threads(std::num::NonZeroUsize::MIN);
        let groups = |rows, wanted| {
            let layout = Layout::new::<f32>(rows, wanted, wanted, SPARE, &options);
            let memory = layout.memory() * size_of::<Row<f32>>();
            assert!(memory <= SPARE || layout.group == FEWEST, "{layout:?}");
            layout.group
        };
        assert_eq!(groups(1 << 15, 60), 60);
        assert_eq!(groups(1 << 15, 100), 100);
        // Of 124 that fit, 64 make no more groups than 112 do.
        assert_eq!(groups(1 << 15, 128), 64);
        assert_eq!(groups(1 << 15, 512), 112);
        assert_eq!(groups(1 << 20, 512), FEWEST);
    }
}
