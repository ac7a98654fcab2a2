//! Fills: samples to their places in memory, on several threads.
//!
//! The value of an element depends on the key, the distribution and its C-order index in the logical tensor;
//! neither the number of threads, nor how the work is split, nor where an element is stored changes it. No
//! temporary memory of the size of the output is used.

use crate::distr::Distribution;
use crate::dtype::Element;
use crate::error::Result;
use crate::rng::Substream;
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::{DefaultEnvironment, Detected, Level, Number};
use buffer::Untouched;
use ndarray::ArrayViewMutD;
use place::{Line, Places};
use run::{Run, Source};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;
use threads::{BYTES_PER_THREAD, Countdown, FAR, Pulse, how_many, in_parts};

pub(crate) mod blocks;
pub mod buffer;
mod diagonal;
mod emit;
mod kernels;
pub(crate) mod limits;
pub(crate) mod place;
mod run;
mod sparse;
pub mod threads;

pub use diagonal::diagonal;
pub use sparse::sparse;

/// How a fill is carried out. No option changes a value.
///
/// ```
/// use std::num::NonZeroUsize;
/// let options = fastinit::Options::default().threads(NonZeroUsize::MIN).level(fastinit::Level::Scalar);
/// ```
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The most threads to use; `None` stands for [`default_threads`](crate::default_threads).
    pub threads: Option<NonZeroUsize>,
    /// Called every few milliseconds on the calling thread; when it returns true, the fill ends with
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub interrupt: Option<&'a (dyn Fn() -> bool + 'a)>,
    /// The level to use; `None` stands for [`Level::current`].
    pub level: Option<Level>,
    /// Proof that the system has zeroed the output and nothing has been written to it since: zeros need not
    /// be stored.
    pub(crate) untouched: Option<Untouched>,
}

impl<'a> Options<'a> {
    /// Uses at most this many threads.
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Options { threads: Some(threads), ..self }
    }

    /// Stops when this function returns true.
    pub fn interrupt(self, interrupt: &'a (dyn Fn() -> bool + 'a)) -> Self {
        Options { interrupt: Some(interrupt), ..self }
    }

    /// Uses this level.
    pub fn level(self, level: Level) -> Self {
        Options { level: Some(level), ..self }
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("threads", &self.threads)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The standard normal elements of [`Substream::Matrix`] from number `first` on, on the calling thread.
pub(crate) fn normals<T: Element + Number>(level: Level, key: Key, first: u64, out: &mut [T]) {
    let source = Source::samples(&Distribution::Normal { mean: 0.0, stddev: 1.0 }, T::DTYPE);
    let out = bytes_of_numbers(out);
    Run { source: &source, key, substream: Substream::Matrix, first, out, stream: false }.at(level.detect());
}

/// The memory of numbers as what [`Run`] writes to.
fn bytes_of_numbers<T: Number>(numbers: &mut [T]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same memory under the same borrow. `Run` writes only initialized bytes, and any bytes are a
    // number.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// An initialized view in the form that the functions of this module take. They write only initialized values
/// through it, and other code must too.
pub(crate) fn as_uninit<T: Element>(mut out: ArrayViewMutD<'_, T>) -> ArrayViewMutD<'_, MaybeUninit<T>> {
    // SAFETY: the same elements under the same borrow, since `out` is given up; `MaybeUninit<T>` has the
    // layout of `T`, and only initialized values are written, as said above.
    unsafe { out.raw_view_mut().cast().deref_into_view_mut() }
}

/// Samples `distribution`: each element of the window goes to its place in `out`.
///
/// # Errors
/// [`Error::OutputShape`](crate::Error::OutputShape), before anything is written, where `out` does not have
/// the shape of the window; [`Error::Interrupted`](crate::Error::Interrupted) where the options' `interrupt`
/// returned true.
pub fn sample<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    key: Key,
    distribution: &Distribution,
    options: &Options<'_>,
) -> Result<()> {
    let _environment = DefaultEnvironment::enter();
    Fill { window, key, options }.make(out, Source::samples(distribution, T::DTYPE))
}

/// Stores one value in every element.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted) where the options' `interrupt` returned true.
pub fn constant<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    value: T,
    options: &Options<'_>,
) -> Result<()> {
    let _environment = DefaultEnvironment::enter();
    if options.untouched.is_some() && value.to_bits() == 0 {
        return Ok(());
    }
    let window = Window::whole(out.shape())?;
    let pattern = match size_of::<T>() {
        2 => value.to_bits() * 0x0001_0001_0001_0001,
        4 => value.to_bits() * 0x0000_0001_0000_0001,
        _ => value.to_bits(),
    };
    Fill { window: &window, key: Key::default(), options }.make(out, Source::Constant(pattern))
}

/// The raw words, one for each element: element *i* is word `i & 3` of block `i >> 2`.
///
/// # Errors
/// As [`sample`].
#[cfg(any(test, feature = "python"))]
pub fn bits_u32(
    out: ArrayViewMutD<'_, MaybeUninit<u32>>,
    window: &Window,
    key: Key,
    options: &Options<'_>,
) -> Result<()> {
    if options.untouched.is_some() {
        limits::check_memory(size_of::<u32>() * out.len())?;
    }
    Fill { window, key, options }.make(out, Source::words(4))
}

/// The raw words, two for each element: the low half of element *i* is word `2 (i & 1)` of block `i >> 1`,
/// the high half the next.
///
/// # Errors
/// As [`sample`].
#[cfg(any(test, feature = "python"))]
pub fn bits_u64(
    out: ArrayViewMutD<'_, MaybeUninit<u64>>,
    window: &Window,
    key: Key,
    options: &Options<'_>,
) -> Result<()> {
    if options.untouched.is_some() {
        limits::check_memory(size_of::<u64>() * out.len())?;
    }
    Fill { window, key, options }.make(out, Source::words(2))
}

/// The memory of elements, which must have no padding.
fn bytes_of<T: Copy>(elements: &mut [MaybeUninit<T>]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same memory under the same borrow; bytes need no alignment.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size_of_val(elements)) }
}

/// Elements between two checks for an interrupt: 256 KiB to 1 MiB, well under a millisecond.
const PIECE: usize = 1 << 17;

/// Elements of a strided line that are computed at a time.
const SCRATCH: usize = 256;

/// Adjacent strided lines that are computed together.
const TILE: usize = 16;

/// Parts begin at multiples of this many elements, so that no two threads write to the same page of
/// page-aligned memory.
const GRAIN: usize = 4096;

/// Outputs of at least this many bytes are written with non-temporal stores: they would not stay in the
/// caches, and an ordinary store to a line outside the caches reads the line first. Untouched memory is an
/// exception: the system has just zeroed its lines, so they are in a cache.
const STREAM_FROM: usize = 32 << 20;

/// What all parts of a fill share.
struct Fill<'a> {
    window: &'a Window,
    key: Key,
    options: &'a Options<'a>,
}

impl Fill<'_> {
    /// Fills `out` from `source`, whose elements have the type `T`.
    fn make<T: Copy + Send>(&self, mut out: ArrayViewMutD<'_, MaybeUninit<T>>, source: Source) -> Result<()> {
        if self.options.untouched.is_none() {
            buffer::prefer_huge_pages(&mut out);
        }
        let start = out.is_standard_layout().then(|| out.as_ptr().addr());
        let places = Places::new(out, self.window)?;
        if self.window.is_empty() {
            return Ok(());
        }
        let length = self.window.len();
        let bytes = length * size_of::<T>();
        let level = self.options.level.unwrap_or_else(Level::current).detect();
        let stream = bytes >= STREAM_FROM && self.options.untouched.is_none();
        let key = self.key;
        let threads = how_many(bytes / BYTES_PER_THREAD, self.options);
        let grain = places.grain(length.div_ceil(threads));
        let part = |range: Range<usize>, pulse: &Pulse<'_>| {
            if let Some(start) = start {
                buffer::populate(start + range.start * size_of::<T>(), range.len() * size_of::<T>());
            }
            let (pace, far) = (Pace { pulse, elements: 0 }, Countdown::new(pulse));
            Part { source: &source, key, level, stream, pace, far }.fill(&places, range);
        };
        in_parts(length, grain, bytes, self.options, part)
    }
}

/// The part of a fill that one thread does.
struct Part<'a> {
    source: &'a Source,
    key: Key,
    level: Detected,
    stream: bool,
    pace: Pace<'a>,
    far: Countdown<'a>,
}

impl Part<'_> {
    /// Fills the places of these elements.
    fn fill<T: Copy>(&mut self, places: &Places<'_, T>, range: Range<usize>) {
        let mut tile = Tile::default();
        places.lines(range, |line| {
            if line.stride == 1 {
                return self.consecutive(&line);
            }
            let goes_on = tile.takes(&line) || self.scatter(&tile);
            tile.put(&line);
            goes_on
        });
        self.scatter(&tile);
    }

    /// Fills a line whose places are consecutive, in pieces; returns whether to go on.
    fn consecutive<T: Copy>(&mut self, line: &Line<T>) -> bool {
        let mut done = 0;
        while done < line.length {
            let length = PIECE.min(line.length - done);
            // SAFETY: the elements of a line are places of a view that is mutably borrowed for the fill. Each
            // is in one line of one part, so no other code reads or writes it.
            let out: &mut [MaybeUninit<T>] =
                unsafe { std::slice::from_raw_parts_mut(line.start.add(done).cast(), length) };
            self.make(line.first + done as u64, out, self.stream);
            done += length;
            if !self.pace.goes_on(length) {
                return false;
            }
        }
        self.far.goes_on(1)
    }

    /// Fills the lines of a tile through a buffer; returns whether to go on. Adjacent lines, such as those of
    /// a transposed matrix, are so stored a cache line at a time instead of an element at a time.
    fn scatter<T: Copy>(&mut self, tile: &Tile<T>) -> bool {
        let mut scratch = [[MaybeUninit::<T>::uninit(); SCRATCH]; TILE];
        let far = tile.stride.unsigned_abs() * size_of::<T>() >= FAR;
        let mut done = 0;
        while done < tile.length {
            let length = SCRATCH.min(tile.length - done);
            for (first, row) in tile.first[..tile.lines].iter().zip(&mut scratch) {
                self.make(first + done as u64, &mut row[..length], false);
            }
            for i in 0..length {
                for (line, row) in scratch[..tile.lines].iter().enumerate() {
                    // SAFETY: the places of the lines, `stride` elements apart along each and one from line
                    // to line; else as above.
                    unsafe {
                        tile.start
                            .offset((done + i) as isize * tile.stride)
                            .add(line)
                            .cast::<MaybeUninit<T>>()
                            .write(row[i])
                    };
                }
                if far && !self.far.goes_on(1) {
                    return false;
                }
            }
            done += length;
            if !self.pace.goes_on(length * tile.lines) {
                return false;
            }
        }
        self.far.goes_on(1)
    }

    /// Computes the elements from `first` on.
    fn make<T: Copy>(&self, first: u64, out: &mut [MaybeUninit<T>], stream: bool) {
        let Part { source, key, level, .. } = *self;
        Run { source, key, substream: Substream::Values, first, out: bytes_of(out), stream }.at(level);
    }
}

/// Lines of the same length and stride that are adjacent in memory.
struct Tile<T> {
    lines: usize,
    /// The logical index of the first element of each.
    first: [u64; TILE],
    /// The place of the first element of the first line.
    start: *mut T,
    length: usize,
    stride: isize,
}

impl<T> Default for Tile<T> {
    fn default() -> Self {
        Tile { lines: 0, first: [0; TILE], start: std::ptr::null_mut(), length: 0, stride: 0 }
    }
}

impl<T> Tile<T> {
    /// Whether the line belongs to the tile: it is adjacent to the last one, and there is room.
    fn takes(&self, line: &Line<T>) -> bool {
        (1..TILE).contains(&self.lines)
            && line.start == self.start.wrapping_add(self.lines)
            && (line.length, line.stride) == (self.length, self.stride)
    }

    /// Adds the line, or begins a new tile with it if it does not belong to this one.
    fn put(&mut self, line: &Line<T>) {
        if !self.takes(line) {
            (self.lines, self.start, self.length, self.stride) = (0, line.start, line.length, line.stride);
        }
        self.first[self.lines] = line.first;
        self.lines += 1;
    }
}

/// Counts elements, to check for an interrupt every [`PIECE`].
struct Pace<'a> {
    pulse: &'a Pulse<'a>,
    elements: usize,
}

impl Pace<'_> {
    /// Counts `elements` more; returns whether to go on.
    fn goes_on(&mut self, elements: usize) -> bool {
        self.elements += elements;
        if self.elements < PIECE {
            return true;
        }
        self.elements = 0;
        !self.pulse.stopped()
    }
}
