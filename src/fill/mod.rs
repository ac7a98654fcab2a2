//! (skeleton; signatures are final)
use crate::{distr::Distribution, dtype::Element, error::Result, seed::Key, shape::Window};
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

pub mod buffer;
pub mod threads;

/// How a fill is carried out; nothing here changes a value.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// How many threads to use at most; `None` takes [`threads::default_threads`].
    pub threads: Option<std::num::NonZeroUsize>,
    /// Asked now and then on the calling thread; where it returns true the fill ends with `Error::Interrupted`.
    pub interrupt: Option<&'a (dyn Fn() -> bool + 'a)>,
}

/// Samples `distribution`: element i of the logical tensor goes to its place in `out`, whose shape is the window's.
pub fn sample<T: Element>(
    _out: ArrayViewMutD<'_, MaybeUninit<T>>,
    _window: &Window,
    _key: Key,
    _distribution: &Distribution,
    _options: &Options<'_>,
) -> Result<()> {
    todo!()
}

/// Fills with one value.
pub fn constant<T: Element>(
    _out: ArrayViewMutD<'_, MaybeUninit<T>>,
    _value: T,
    _options: &Options<'_>,
) -> Result<()> {
    todo!()
}

/// Normal values, of which in each column of a logical matrix exactly `zeros_per_column` are zero.
pub fn sparse<T: Element>(
    _out: ArrayViewMutD<'_, MaybeUninit<T>>,
    _window: &Window,
    _key: Key,
    _stddev: f64,
    _zeros_per_column: u64,
    _options: &Options<'_>,
) -> Result<()> {
    todo!()
}

/// The raw words: one 32-bit word per element.
pub fn bits_u32(
    _out: ArrayViewMutD<'_, MaybeUninit<u32>>,
    _window: &Window,
    _key: Key,
    _options: &Options<'_>,
) -> Result<()> {
    todo!()
}

/// The raw words: two 32-bit words per element, the first the low one.
pub fn bits_u64(
    _out: ArrayViewMutD<'_, MaybeUninit<u64>>,
    _window: &Window,
    _key: Key,
    _options: &Options<'_>,
) -> Result<()> {
    todo!()
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("threads", &self.threads).finish_non_exhaustive()
    }
}
