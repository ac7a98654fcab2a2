//! Plans: an initializer for one shape and dtype, with all checks done.

use super::{Contents, Initializer, Orthogonal};
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::buffer::Scratch;
use crate::fill::limits::check_memory;
use crate::fill::threads::default_threads;
use crate::fill::{self, Options};
use crate::seed::Key;
use crate::shape::{Blocks, Window, axis_in, check_shape, elements};
use crate::simd::DefaultEnvironment;
use ndarray::{ArrayViewMut, ArrayViewMutD, Dimension};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Range;

/// An [`Initializer`] for tensors of one logical shape and dtype: parameters and shape have been checked,
/// fans and distributions computed.
///
/// ```
/// use fastinit::{Dtype, Initializer, Key, Options, VarianceScaling, Window};
/// use ndarray::Array2;
///
/// let plan = Initializer::from(VarianceScaling::he_normal()).plan(&[1 << 20, 2048], Dtype::F32)?;
/// // A hundred rows of a tensor of 8 GiB.
/// let rows = Window::new(plan.shape(), &[200_000, 0], &[100, 2048])?;
/// let mut shard = Array2::<f32>::zeros((100, 2048));
/// plan.fill(shard.view_mut(), Key::new(42), &rows, &Options::default())?;
/// # Ok::<(), fastinit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    shape: Vec<u64>,
    dtype: Dtype,
    cut: Cut,
}

/// The blocks of a tensor and their contents: a [`Plan`] without shape and dtype, for callers that have them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cut {
    /// A tensor without blocks.
    Whole(Contents),
    /// Equal blocks along an axis.
    Equal { axis: usize, size: u64, contents: Contents },
    /// Blocks along an axis. Block `i` ends at `ends[i]` and has the contents `different[kinds[i]].1`; the
    /// numbers in `different` are those of the elements.
    Listed { axis: usize, ends: Vec<u64>, kinds: Vec<usize>, different: Vec<(u64, Contents)> },
}

impl Plan {
    /// See [`Initializer::plan`].
    pub(super) fn new(initializer: &Initializer, shape: &[u64], dtype: Dtype) -> Result<Plan> {
        check_shape(shape)?;
        Ok(Plan { shape: shape.to_vec(), dtype, cut: Cut::new(initializer, shape, dtype)? })
    }

    /// The shape of the logical tensor.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The contents of the tensor and the number of elements: one item, or, if there are blocks, one for each
    /// different contents of blocks.
    pub fn contents(&self) -> impl Iterator<Item = (u64, Contents)> {
        let all = self.elements();
        let (one, several) = match &self.cut {
            Cut::Whole(contents) | Cut::Equal { contents, .. } => (Some((all, *contents)), &[][..]),
            Cut::Listed { different, .. } => (None, &different[..]),
        };
        one.into_iter().chain(several.iter().copied())
    }

    /// The number of elements of the logical tensor.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// Fills `out` with the part of the tensor that `window` names. `out` must have the shape of the window,
    /// and may have any strides.
    ///
    /// The result equals that part of the whole tensor bit by bit. All memory is allocated before the first
    /// write.
    ///
    /// # Errors
    /// [`Error::PlannedShape`], [`Error::PlannedDtype`] or [`Error::OutputShape`] where `window` or `out`
    /// does not fit the plan, and [`Error::Memory`]; nothing has been written in these cases.
    /// [`Error::Interrupted`] where the options' `interrupt` returned true; `out` is partly written.
    pub fn fill<T: Element, D: Dimension>(
        &self,
        out: ArrayViewMut<'_, T, D>,
        key: Key,
        window: &Window,
        options: &Options<'_>,
    ) -> Result<()> {
        if T::DTYPE != self.dtype {
            return Err(Error::PlannedDtype { dtype: T::DTYPE, planned: self.dtype });
        }
        if window.shape() != self.shape {
            return Err(Error::PlannedShape { shape: window.shape().to_vec(), planned: self.shape.clone() });
        }
        self.cut.fill(fill::as_uninit(out.into_dyn()), key, window, options)
    }
}

impl Cut {
    /// As [`Initializer::plan`], for a shape that has passed [`check_shape`].
    pub(crate) fn new(initializer: &Initializer, shape: &[u64], dtype: Dtype) -> Result<Cut> {
        let _environment = DefaultEnvironment::enter();
        match initializer {
            Initializer::Blocks { each, blocks, axis } => {
                initializer.validate()?;
                Cut::in_blocks(each, blocks, *axis, shape, dtype)
            }
            _ => Ok(Cut::Whole(Contents::new(initializer, shape, dtype)?)),
        }
    }

    /// As [`Plan::fill`], for memory that may be uninitialized and a window of the planned shape. Without an
    /// error all of `out` is initialized afterwards.
    pub(crate) fn fill<T: Element>(
        &self,
        out: ArrayViewMutD<'_, MaybeUninit<T>>,
        key: Key,
        window: &Window,
        options: &Options<'_>,
    ) -> Result<()> {
        let _environment = DefaultEnvironment::enter();
        window.check_output(out.shape())?;
        // The memory depends on the number of threads, which another thread may change.
        let threads = options.threads.unwrap_or_else(default_threads);
        let options = &Options { threads: Some(threads), ..*options };
        let (shape, dtype) = (window.shape(), T::DTYPE);
        let (axis, numbers) = match self {
            Cut::Whole(contents) => {
                let bytes = contents.scratch_bytes(dtype, shape, window.extent(), options);
                let new = options.untouched.map_or(0, |_| contents.written(dtype, window.extent()));
                check_memory(new.saturating_add(bytes))?;
                return contents.fill(out, window, key, &mut Scratch::new(bytes)?, options);
            }
            Cut::Equal { axis, .. } | Cut::Listed { axis, .. } if !window.is_empty() => {
                let range = window.range(*axis);
                (*axis, self.number(range.start)..self.number(range.end - 1) + 1)
            }
            _ => return Ok(()),
        };
        // The part in the window of block number `number` along the axis, the whole block, and its contents.
        let block = |number: u64| {
            let (block, contents) = self.block(number);
            let range = window.range(axis);
            (block.start.max(range.start)..block.end.min(range.end), block, contents)
        };
        // Only one block of each kind: all but the first and the last lie inside the window.
        let mut need = Need::default();
        let mut seen = None;
        for number in self.representatives(&numbers) {
            let (part, block, contents) = block(number);
            let kind = (part.end.saturating_sub(part.start), block.end - block.start);
            if seen.replace(kind) != Some(kind) {
                let (mut shape, mut extent) = (shape.to_vec(), window.extent().to_vec());
                (shape[axis], extent[axis]) = (kind.1, kind.0 as usize);
                need.include(contents, dtype, &shape, &extent, options);
            }
        }
        let first = numbers.start;
        let blocks = fill::blocks::Blocks {
            out,
            axis,
            count: (numbers.end - first) as usize,
            range: |i| {
                let (part, ..) = block(first + i as u64);
                let start = window.start()[axis];
                let begin = (part.start - start) as usize;
                begin..begin + part.end.saturating_sub(part.start) as usize
            },
            bytes: need.bytes,
            effort: need.effort,
            writes: need.writes,
            scratch: need.scratch,
            single: need.single,
        };
        blocks.fill(options, |i, out, scratch, options| {
            let number = first + i as u64;
            let (part, block, contents) = block(number);
            if part.is_empty() {
                return Ok(());
            }
            let (mut shape, mut start) = (shape.to_vec(), window.start().to_vec());
            shape[axis] = block.end - block.start;
            start[axis] = part.start - block.start;
            let window = Window::new(&shape, &start, out.shape())?;
            contents.fill(out, &window, key.block(number), scratch, options)
        })
    }
}

/// The greatest needs of any block.
#[derive(Default)]
struct Need {
    /// Whether anything is written to untouched memory.
    writes: bool,
    bytes: usize,
    effort: usize,
    /// The scratch memory of a block that all threads fill.
    scratch: usize,
    /// That of a block that one thread fills.
    single: usize,
}

impl Need {
    fn include(
        &mut self,
        contents: &Contents,
        dtype: Dtype,
        shape: &[u64],
        extent: &[usize],
        options: &Options<'_>,
    ) {
        self.bytes = self.bytes.max(extent.iter().product::<usize>() * dtype.size());
        self.writes |= contents.written(dtype, extent) > 0;
        self.effort = self.effort.max(contents.effort(dtype));
        self.scratch = self.scratch.max(contents.scratch_bytes(dtype, shape, extent, options));
        let single = Options { threads: NonZeroUsize::new(1), ..*options };
        self.single = self.single.max(contents.scratch_bytes(dtype, shape, extent, &single));
    }
}

impl Cut {
    /// The plan of a tensor in blocks.
    fn in_blocks(
        each: &Initializer,
        blocks: &Blocks,
        axis: Option<i64>,
        shape: &[u64],
        dtype: Dtype,
    ) -> Result<Cut> {
        // A single block needs no axis, so only a given one is checked.
        if *blocks == Blocks::Equal(1) {
            axis.map(|axis| axis_in("block_axis", axis, shape)).transpose()?;
            return Ok(Cut::Whole(Contents::new(each, shape, dtype)?));
        }
        let axis = match (axis, each) {
            (Some(axis), _) => axis_in("block_axis", axis, shape)?,
            (None, Initializer::Orthogonal(Orthogonal { column_axis, .. })) => {
                axis_in("column_axis", *column_axis, shape)?
            }
            (None, Initializer::VarianceScaling(scaling)) if scaling.axes.out_axis.len() == 1 => {
                axis_in("out_axis", scaling.axes.out_axis[0], shape)?
            }
            _ => axis_in("block_axis", -1, shape)?,
        };
        let refused = || Error::Blocks { blocks: blocks.clone(), axis, shape: shape.to_vec() };
        let contents_of = |size: u64| {
            let mut shape = shape.to_vec();
            shape[axis] = size;
            Contents::new(each, &shape, dtype)
        };
        match blocks {
            Blocks::Equal(count) => {
                if !shape[axis].is_multiple_of(*count) {
                    return Err(refused());
                }
                let size = shape[axis] / count;
                Ok(Cut::Equal { axis, size, contents: contents_of(size)? })
            }
            Blocks::Sizes(sizes) => {
                let mut end = 0_u64;
                let mut ends = Vec::with_capacity(sizes.len());
                for &size in sizes {
                    end = end.checked_add(size).filter(|&end| end <= shape[axis]).ok_or_else(refused)?;
                    ends.push(end);
                }
                if end != shape[axis] {
                    return Err(refused());
                }
                if let [size] = sizes[..] {
                    return Ok(Cut::Whole(contents_of(size)?));
                }
                let others = shape.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &size)| size);
                let others = others.fold(1, u64::saturating_mul);
                let mut different: Vec<(u64, Contents)> = Vec::new();
                let mut by_size = std::collections::HashMap::new();
                let mut kinds = Vec::with_capacity(sizes.len());
                for &size in sizes {
                    let kind = match by_size.get(&size) {
                        Some(&kind) => kind,
                        None => {
                            let contents = contents_of(size)?;
                            let kind = different.iter().position(|(_, other)| contents == *other);
                            let kind = kind.unwrap_or_else(|| {
                                different.push((0, contents));
                                different.len() - 1
                            });
                            by_size.insert(size, kind);
                            kind
                        }
                    };
                    different[kind].0 += size.saturating_mul(others);
                    kinds.push(kind);
                }
                Ok(Cut::Listed { axis, ends, kinds, different })
            }
        }
    }

    /// The number of the block that has this index along the axis.
    fn number(&self, index: u64) -> u64 {
        match self {
            Cut::Whole(_) => 0,
            Cut::Equal { size, .. } => index / size,
            Cut::Listed { ends, .. } => ends.partition_point(|&end| end <= index) as u64,
        }
    }

    /// Where a block lies along the axis, and what it contains.
    fn block(&self, number: u64) -> (Range<u64>, &Contents) {
        match self {
            Cut::Whole(contents) => (0..0, contents),
            Cut::Equal { size, contents, .. } => (number * size..(number + 1) * size, contents),
            Cut::Listed { ends, kinds, different, .. } => {
                let number = number as usize;
                let start = if number == 0 { 0 } else { ends[number - 1] };
                (start..ends[number], &different[kinds[number]].1)
            }
        }
    }

    /// Some of `numbers`: for every block there is one with the same size and the same size of its part in
    /// the window.
    fn representatives(&self, numbers: &Range<u64>) -> impl Iterator<Item = u64> {
        let (first, last) = (numbers.start, numbers.end - 1);
        let inner = match self {
            Cut::Listed { .. } => first + 1..last,
            // All equal.
            _ => first + 1..last.min(first + 2),
        };
        [first, last].into_iter().chain(inner)
    }
}
