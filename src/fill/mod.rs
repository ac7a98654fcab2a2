//! Fills: samples to their places in memory, on all cores.
//!
//! The value of an element depends on the key, the distribution and its C-order index in the logical tensor; nothing here, not the
//! number of threads nor how the work is cut nor where an element is stored, changes it. No memory of the size of the output is used
//! but the output.

use crate::distr::{Distribution, General, Normal, TruncatedNormalF32, Uniform};
use crate::dtype::{Bf16, Dtype, Element, F16};
use crate::error::{Error, Result};
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::{DefaultEnvironment, Kernel, Level, Simd};
use emit::{AsBf16, AsF16, AsF32, AsF64, Emit, Repeat, Words};
use ndarray::ArrayViewMutD;
use place::{Line, Places};
use run::Run;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;
use threads::{Pulse, in_parts};

pub mod buffer;
mod emit;
mod place;
mod run;
mod sparse;
pub mod threads;

pub use sparse::sparse;

/// How a fill is carried out; nothing here changes a value.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// How many threads to use at most; `None` takes [`threads::default_threads`].
    pub threads: Option<NonZeroUsize>,
    /// Asked every few milliseconds on the calling thread; where it returns true, the fill ends with [`Error::Interrupted`].
    pub interrupt: Option<&'a (dyn Fn() -> bool + 'a)>,
    /// The level to use; `None` takes [`Level::current`].
    pub level: Option<Level>,
    /// Whether the output is memory that came zeroed from the system and was never touched, as [`Buffer::comes_zeroed`] says: zeros
    /// need then not be stored.
    ///
    /// [`Buffer::comes_zeroed`]: buffer::Buffer::comes_zeroed
    pub untouched: bool,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("threads", &self.threads)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// An initialized view as one that may be written to without being read: what the functions here take.
pub fn as_uninit<T: Element>(out: ArrayViewMutD<'_, T>) -> ArrayViewMutD<'_, MaybeUninit<T>> {
    // SAFETY: `MaybeUninit<T>` has the layout of `T`, and this module writes nothing uninitialized through the result.
    unsafe { cast(out) }
}

/// Samples `distribution`: each element of the window goes to its place in `out`.
///
/// # Errors
/// [`Error::Value`], before anything is written, where the shape of `out` is not that of the window, or the interval of a uniform
/// distribution has no two numbers in the format; [`Error::Interrupted`] where the options say so.
pub fn sample<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    key: Key,
    distribution: &Distribution,
    options: &Options<'_>,
) -> Result<()> {
    let _environment = DefaultEnvironment::enter();
    let fill = Fill { window, key, substream: 0, options };
    match *distribution {
        Distribution::Uniform { low, high } => {
            if T::from_f64(low).to_f64() >= T::from_f64(high).to_f64() {
                let rounded = T::from_f64(low).to_f64();
                return Err(Error::value(format!(
                    "a uniform distribution needs low < high as {}: {low} and {high} are both {rounded}",
                    T::DTYPE
                )));
            }
            match T::DTYPE {
                Dtype::F64 => fill.emit(retype(out), AsF64(Uniform::new_f64(low, high))),
                dtype => fill.single(out, Uniform::new_f32(low, high, dtype)),
            }
        }
        Distribution::Normal { mean, stddev } => match T::DTYPE {
            Dtype::F64 => fill.emit(retype(out), AsF64(Normal { mean, stddev })),
            _ => fill.single(out, Normal { mean: mean as f32, stddev: stddev as f32 }),
        },
        Distribution::TruncatedNormal { mean, stddev, lower, upper } => match T::DTYPE {
            Dtype::F64 => fill.emit(retype(out), AsF64(General::<f64>::new(mean, stddev, lower, upper))),
            _ => match TruncatedNormalF32::new(mean, stddev, lower, upper) {
                TruncatedNormalF32::Central(kernel) => fill.single(out, kernel),
                TruncatedNormalF32::Symmetric(kernel) => fill.single(out, kernel),
                TruncatedNormalF32::General(kernel) => fill.single(out, kernel),
            },
        },
    }
}

/// Stores one value in every element.
///
/// # Errors
/// [`Error::Interrupted`] where the options say so.
pub fn constant<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    value: T,
    options: &Options<'_>,
) -> Result<()> {
    if options.untouched && value.to_bits() == 0 {
        return Ok(());
    }
    let window = Window::whole(out.shape())?;
    let fill = Fill { window: &window, key: Key::default(), substream: 0, options };
    fill.emit(out, Repeat::new(value.to_bits()))
}

/// The raw words, one for each element: element *i* is word `i & 3` of block `i >> 2`.
///
/// # Errors
/// As [`sample`].
pub fn bits_u32(
    out: ArrayViewMutD<'_, MaybeUninit<u32>>,
    window: &Window,
    key: Key,
    options: &Options<'_>,
) -> Result<()> {
    Fill { window, key, substream: 0, options }.emit(out, Words::<u32>(PhantomData))
}

/// The raw words, two for each element: the low half of element *i* is word `2 (i & 1)` of block `i >> 1`, the high half the next.
///
/// # Errors
/// As [`sample`].
pub fn bits_u64(
    out: ArrayViewMutD<'_, MaybeUninit<u64>>,
    window: &Window,
    key: Key,
    options: &Options<'_>,
) -> Result<()> {
    Fill { window, key, substream: 0, options }.emit(out, Words::<u64>(PhantomData))
}

/// A view of `T` as one of `U`, which must be the same type: for code that has looked at `T::DTYPE`.
fn retype<T: Element, U: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
) -> ArrayViewMutD<'_, MaybeUninit<U>> {
    assert_eq!(T::DTYPE, U::DTYPE);
    // SAFETY: the types are the same, as just asserted.
    unsafe { cast(out) }
}

/// The same elements under the same borrow, seen as another type.
///
/// # Safety
/// The types must have the same layout, and what is written through the result must be valid as an `A`.
unsafe fn cast<A, B>(mut out: ArrayViewMutD<'_, A>) -> ArrayViewMutD<'_, B> {
    // SAFETY: the raw view has the shape, the strides and the memory of `out`, which is given up for it.
    unsafe { out.raw_view_mut().cast().deref_into_view_mut() }
}

/// Elements between two looks at whether to go on: a quarter of a MiB to one MiB, well under a millisecond.
const PIECE: usize = 1 << 17;

/// Elements that are made in one go for places that are not consecutive.
const SCRATCH: usize = 512;

/// Parts begin at multiples of so many elements, so that no two threads write to a page, let alone a cache line.
const GRAIN: usize = 4096;

/// Outputs of at least so many bytes are stored past the caches, for they would not stay there, and storing to a line
/// that is not in a cache reads it first. Memory that was never touched is another matter: the system has just put zeros in
/// its lines, so they are in a cache.
const STREAM_FROM: usize = 32 << 20;

/// A fill: where from, and how.
struct Fill<'a> {
    window: &'a Window,
    key: Key,
    substream: u64,
    options: &'a Options<'a>,
}

impl Fill<'_> {
    /// Single-precision samples, stored as the format says.
    fn single<T: Element, D: crate::distr::SampleF32>(
        &self,
        out: ArrayViewMutD<'_, MaybeUninit<T>>,
        distribution: D,
    ) -> Result<()> {
        match T::DTYPE {
            Dtype::F16 => self.emit::<AsF16<D>>(retype::<T, F16>(out), AsF16(distribution)),
            Dtype::Bf16 => self.emit::<AsBf16<D>>(retype::<T, Bf16>(out), AsBf16(distribution)),
            _ => self.emit::<AsF32<D>>(retype::<T, f32>(out), AsF32(distribution)),
        }
    }

    /// Stores what `emit` makes.
    fn emit<E: Emit>(&self, out: ArrayViewMutD<'_, MaybeUninit<E::Item>>, emit: E) -> Result<()> {
        let places = Places::new(out, self.window)?;
        if self.window.is_empty() {
            return Ok(());
        }
        let length = self.window.len();
        let bytes = length * size_of::<E::Item>();
        let level = self.options.level.unwrap_or_else(Level::current);
        let stream = bytes >= STREAM_FROM && !self.options.untouched;
        let (key, substream) = (self.key, self.substream);
        let part = |range: Range<usize>, pulse: &Pulse<'_>| {
            level.run(Part { emit, key, substream, places: &places, range, pulse, stream });
        };
        in_parts(length, GRAIN, bytes, self.options, part)
    }
}

/// The part of a fill that one thread does.
struct Part<'a, E: Emit> {
    emit: E,
    key: Key,
    substream: u64,
    places: &'a Places<'a, E::Item>,
    range: Range<usize>,
    pulse: &'a Pulse<'a>,
    stream: bool,
}

impl<E: Emit> Kernel for Part<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut since_pulse = 0;
        let mut scratch = [MaybeUninit::<E::Item>::uninit(); SCRATCH];
        self.places.lines(
            self.range,
            #[inline(always)]
            |line: Line<E::Item>| {
                // A line is cut into pieces: between them the thread asks whether to go on.
                let most = if line.stride == 1 { PIECE } else { SCRATCH };
                let mut done = 0;
                while done < line.length {
                    let length = most.min(line.length - done);
                    // SAFETY: the elements of a line are places of a view that is borrowed for the fill, each in one line of one
                    // part, so no other code reads or writes them.
                    unsafe {
                        let to = line.start.offset(done as isize * line.stride);
                        let consecutive = line.stride == 1;
                        let out = if consecutive {
                            std::slice::from_raw_parts_mut(to.cast(), length)
                        } else {
                            &mut scratch[..length]
                        };
                        let first = line.first + done as u64;
                        let (emit, key, substream, stream) =
                            (self.emit, self.key, self.substream, self.stream);
                        Run { emit, key, substream, first, out, stream: stream && consecutive }.run(s);
                        if !consecutive {
                            for (i, item) in scratch[..length].iter().enumerate() {
                                to.offset(i as isize * line.stride)
                                    .cast::<MaybeUninit<E::Item>>()
                                    .write(*item);
                            }
                        }
                    }
                    done += length;
                    since_pulse += length;
                    if since_pulse >= PIECE {
                        since_pulse = 0;
                        if self.pulse.stopped() {
                            return false;
                        }
                    }
                }
                true
            },
        );
    }
}
