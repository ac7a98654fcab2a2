//! Orthogonal matrices, in blocks too, and the convolutions that are made of one.

use super::distribution;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::threads::in_turns;
use crate::fill::{self, Options};
use crate::linalg;
use crate::seed::Key;
use crate::shape::{Window, resolve_axis};
use ndarray::{ArrayViewMutD, Axis, Slice};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Orthogonal matrices: see [`Initializer::Orthogonal`](super::Initializer::Orthogonal).
#[derive(Clone, Debug, PartialEq)]
pub struct Orthogonal {
    /// What the matrix is multiplied by; finite.
    pub gain: f64,
    /// The axis along which the columns of the matrix are; all others are its rows. Negative ones count from the end.
    pub column_axis: i64,
    /// In how many equal blocks the tensor is cut, each a matrix of its own; at least 1, and a divisor of the size of `block_axis`.
    pub blocks: u64,
    /// The axis along which it is cut; `None` for `column_axis`.
    pub block_axis: Option<i64>,
}

impl Default for Orthogonal {
    /// One matrix with its columns along the last axis.
    fn default() -> Self {
        Orthogonal { gain: 1.0, column_axis: -1, blocks: 1, block_axis: None }
    }
}

impl Orthogonal {
    pub(super) fn validate(&self) -> Result<()> {
        if self.blocks == 0 {
            return Err(Error::value("blocks must be at least 1, got 0"));
        }
        distribution::check_finite("gain", self.gain, Dtype::F64)
    }

    pub(super) fn check(&self, shape: &[u64], dtype: Dtype) -> Result<()> {
        distribution::check_finite("gain", self.gain, dtype)?;
        let (_, block_axis) = self.axes(shape)?;
        let (blocks, size) = (self.blocks, shape[block_axis]);
        if size % blocks != 0 {
            return Err(Error::value(format!(
                "blocks must divide the axis that is cut; got blocks={blocks} and size {size} of axis {block_axis} in shape {shape:?}"
            )));
        }
        Ok(())
    }

    /// The axes of the columns and of the blocks.
    fn axes(&self, shape: &[u64]) -> Result<(usize, usize)> {
        if shape.len() < 2 {
            return Err(Error::value(format!(
                "orthogonal needs a shape of at least 2 dimensions, got shape {shape:?}"
            )));
        }
        let resolve = |name, axis| {
            let ndim = shape.len();
            resolve_axis(axis, ndim).filter(|&axis| axis < ndim).ok_or_else(|| {
                Error::value(format!("{name} must lie in [-{ndim}, {ndim}) for shape {shape:?}, got {axis}"))
            })
        };
        let column_axis = resolve("column_axis", self.column_axis)?;
        let block_axis = self.block_axis.map_or(Ok(column_axis), |axis| resolve("block_axis", axis))?;
        Ok((column_axis, block_axis))
    }

    /// Writes the part of the tensor that `window` names; the shape has passed [`Orthogonal::check`].
    pub(super) fn fill<T: Element>(
        &self,
        out: ArrayViewMutD<'_, MaybeUninit<T>>,
        window: &Window,
        key: Key,
        options: &Options<'_>,
    ) -> Result<()> {
        let (column_axis, block_axis) = self.axes(window.shape())?;
        if self.blocks == 1 || window.is_empty() {
            return linalg::orthogonal(out, window, column_axis, key, self.gain, options);
        }
        let fill = |block: Block<'_, T>, options: &Options<'_>| {
            let key = key.block(block.number);
            linalg::orthogonal(block.out, &block.window, column_axis, key, self.gain, options)
        };
        let mut blocks = self.cut(out, window, block_axis);
        if window.logical_len() / self.blocks > SMALL {
            return blocks.try_for_each(|block| fill(block?, options));
        }
        // Small matrices: each on one thread.
        let level = options.level;
        loop {
            let batch = blocks.by_ref().take(BATCH).map(|block| Ok(Mutex::new(Some(block?))));
            let batch = batch.collect::<Result<Vec<_>>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            let threads = batch.len().saturating_mul(window.len() / ELEMENTS_PER_THREAD);
            in_turns(batch.len(), threads, options, |turn, _| {
                let block = batch[turn].lock().unwrap_or_else(PoisonError::into_inner).take();
                let alone = Options { threads: NonZeroUsize::new(1), level, ..Options::default() };
                block.map_or(Ok(()), |block| fill(block, &alone))
            })?;
        }
    }

    /// The blocks that the window has a part of.
    fn cut<'a, T>(
        &self,
        out: ArrayViewMutD<'a, MaybeUninit<T>>,
        window: &Window,
        axis: usize,
    ) -> impl Iterator<Item = Result<Block<'a, T>>> {
        let size = window.shape()[axis] / self.blocks;
        let mut shape = window.shape().to_vec();
        shape[axis] = size;
        let wanted = window.range(axis);
        let (mut next, mut left) = (wanted.start, Some(out));
        std::iter::from_fn(move || {
            let out = left.take().filter(|_| next < wanted.end)?;
            let number = next / size;
            let end = wanted.end.min((number + 1) * size);
            let (mut start, mut extent) = (window.start().to_vec(), window.extent().to_vec());
            start[axis] = next - number * size;
            extent[axis] = (end - next) as usize;
            let (part, rest) = out.split_at(Axis(axis), extent[axis]);
            (left, next) = (Some(rest), end);
            Some(Window::new(&shape, &start, &extent).map(|window| Block { number, out: part, window }))
        })
    }
}

/// Matrices of at most so many elements are made side by side, each on one thread: they are over soon, and interrupts are looked for between them.
const SMALL: u64 = 1 << 16;

/// So many blocks are laid out at a time.
const BATCH: usize = 4096;

/// Fewer elements than this are not worth a thread.
const ELEMENTS_PER_THREAD: usize = 1 << 13;

/// One of the blocks, or a part of it.
struct Block<'a, T> {
    number: u64,
    out: ArrayViewMutD<'a, MaybeUninit<T>>,
    window: Window,
}

/// Checks the shape of a kernel whose centre is to be orthogonal.
pub(super) fn check_delta(shape: &[u64]) -> Result<()> {
    let (3..=5, [.., inputs, outputs]) = (shape.len(), shape) else {
        return Err(Error::value(format!(
            "delta_orthogonal needs a shape of 3, 4 or 5 dimensions (k.., in, out), got shape {shape:?}"
        )));
    };
    if inputs > outputs {
        return Err(Error::value(format!(
            "delta_orthogonal needs no more inputs than outputs, got {inputs} inputs and {outputs} outputs in shape {shape:?}"
        )));
    }
    Ok(())
}

/// Writes the part of a kernel that `window` names: zero, but for the tap `(k - 1) / 2` of every spatial axis, which is a
/// matrix of inputs by outputs. The shape has passed [`check_delta`].
pub(super) fn fill_delta<T: Element>(
    mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    key: Key,
    gain: f64,
    options: &Options<'_>,
) -> Result<()> {
    fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
    let spatial = window.shape().len() - 2;
    if window.is_empty() {
        return Ok(());
    }
    for axis in 0..spatial {
        let centre = (window.shape()[axis] - 1) / 2;
        let Some(place) = window.place(axis, centre) else { return Ok(()) };
        out.slice_axis_inplace(Axis(axis), Slice::from(place..place + 1));
    }
    let (mut shape, mut start, mut extent) = (vec![1; spatial], vec![0; spatial], vec![1; spatial]);
    shape.extend(&window.shape()[spatial..]);
    start.extend(&window.start()[spatial..]);
    extent.extend(&window.extent()[spatial..]);
    linalg::orthogonal(out, &Window::new(&shape, &start, &extent)?, spatial + 1, key, gain, options)
}
