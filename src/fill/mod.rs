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
use crate::simd::{DefaultEnvironment, Level, Number};
use buffer::Untouched;
use ndarray::{ArrayViewMutD, Axis};
use part::Part;
use place::Places;
use run::{Run, Source};
use std::cmp::Reverse;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;
use threads::{Pulse, in_parts};

mod batch;
pub(crate) mod blocks;
pub mod buffer;
mod diagonal;
mod emit;
mod kernels;
pub(crate) mod limits;
mod part;
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
    Fill { key, options }.make(out, Some(window), Source::samples(distribution, T::DTYPE))
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
    let out = in_memory_order(out);
    let pattern = match size_of::<T>() {
        2 => value.to_bits() * 0x0001_0001_0001_0001,
        4 => value.to_bits() * 0x0000_0001_0000_0001,
        _ => value.to_bits(),
    };
    Fill { key: Key::default(), options }.make(out, None, Source::Constant(pattern))
}

/// The same elements with axes in the order of their strides, none of which is negative.
fn in_memory_order<T>(mut out: ArrayViewMutD<'_, T>) -> ArrayViewMutD<'_, T> {
    if out.is_standard_layout() {
        return out;
    }
    for axis in 0..out.ndim() {
        if out.strides()[axis] < 0 {
            out.invert_axis(Axis(axis));
        }
    }
    let mut order: Vec<usize> = (0..out.ndim()).collect();
    order.sort_by_key(|&axis| Reverse(out.strides()[axis]));
    out.permuted_axes(order)
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
    Fill { key, options }.make(out, Some(window), Source::words(4))
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
    Fill { key, options }.make(out, Some(window), Source::words(2))
}

/// Outputs of at least this many bytes are written with non-temporal stores: they would not stay in the
/// caches, and an ordinary store to a line outside the caches reads the line first. Untouched memory is an
/// exception: the system has just zeroed its lines, so they are in a cache.
const STREAM_FROM: usize = 32 << 20;

/// What all parts of a fill share.
struct Fill<'a> {
    key: Key,
    options: &'a Options<'a>,
}

impl Fill<'_> {
    /// Fills `out`, which is this window or, without one, a whole tensor, from `source`, whose elements have the
    /// type `T`.
    fn make<T: Copy + Send>(
        &self,
        mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
        window: Option<&Window>,
        source: Source,
    ) -> Result<()> {
        if self.options.untouched.is_none() {
            buffer::prefer_huge_pages(&mut out);
        }
        let start = out.is_standard_layout().then(|| out.as_ptr().addr());
        let places = Places::new(out, window)?;
        if places.len() == 0 {
            return Ok(());
        }
        let bytes = places.len() * size_of::<T>();
        let level = self.options.level.unwrap_or_else(Level::current).detect();
        let stream = bytes >= STREAM_FROM && self.options.untouched.is_none();
        let key = self.key;
        let part = |range: Range<usize>, pulse: &Pulse<'_>| {
            if let (Some(start), None) = (start, places.tiling()) {
                buffer::populate(start + range.start * size_of::<T>(), range.len() * size_of::<T>());
            }
            Part { source: &source, key, level, stream, pulse }.fill(&places, range);
        };
        let (length, grain) = places.to_split();
        in_parts(length, grain, bytes, self.options, part)
    }
}
