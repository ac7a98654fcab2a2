//! The contents of one block: an initializer for one shape and dtype.

use super::{Initializer, distribution, nested_blocks};
use crate::distr::Distribution;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::buffer::Scratch;
use crate::fill::{self, Options};
use crate::linalg;
use crate::seed::Key;
use crate::shape::{Window, axis_in, check_groups};
use ndarray::{ArrayViewMutD, Axis, Slice};
use std::mem::MaybeUninit;

/// What a tensor, or each of several blocks of it, contains.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Contents {
    /// One value in every element.
    Constant {
        /// The value.
        value: f64,
    },
    /// Independent samples.
    Random(Distribution),
    /// A matrix with one value on its diagonal and zeros elsewhere.
    Identity {
        /// The value on the diagonal.
        gain: f64,
        /// The rows.
        rows: u64,
        /// The columns.
        columns: u64,
    },
    /// A convolution kernel of ones and zeros that returns its input.
    Dirac {
        /// The groups of the convolution.
        groups: u64,
        /// The number of ones.
        ones: u64,
        /// The number of elements.
        size: u64,
    },
    /// A matrix with orthonormal rows or columns, whichever are fewer, times the gain.
    Orthogonal {
        /// The factor.
        gain: f64,
        /// The axis along which the columns lie.
        column_axis: usize,
        /// The rows.
        rows: u64,
        /// The columns.
        columns: u64,
    },
    /// A convolution kernel that is zero except for one tap, which has orthonormal rows, times the gain.
    DeltaOrthogonal {
        /// The factor.
        gain: f64,
        /// The inputs: the rows of the tap.
        inputs: u64,
        /// The outputs: the columns of the tap.
        outputs: u64,
        /// The number of taps.
        taps: u64,
    },
    /// A matrix of normal samples with mean 0 and the same number of zeros in every column.
    Sparse {
        /// The zeros of each column.
        zeros: u64,
        /// The rows.
        rows: u64,
        /// The standard deviation of the samples.
        stddev: f64,
    },
}

impl Contents {
    /// The contents of a tensor or block of this shape, which has passed
    /// [`check_shape`](crate::shape::check_shape).
    ///
    /// # Errors
    /// As [`Initializer::plan`].
    pub(super) fn new(initializer: &Initializer, shape: &[u64], dtype: Dtype) -> Result<Contents> {
        initializer.check_parameters(dtype)?;
        match *initializer {
            Initializer::Constant(value) => Ok(Contents::Constant { value }),
            Initializer::Random(distribution) => Ok(Contents::Random(distribution)),
            Initializer::VarianceScaling(ref scaling) => {
                let distribution = scaling.distribution_of(shape)?;
                distribution::check(&distribution, dtype)?;
                Ok(Contents::Random(distribution))
            }
            Initializer::Identity { gain } => {
                let [rows, columns] = matrix("identity", shape)?;
                Ok(Contents::Identity { gain, rows, columns })
            }
            Initializer::Dirac { groups } => {
                check_groups(groups)?;
                let (taps, inputs, outputs) = convolution("dirac", "(k.., in / groups, out)", shape)?;
                if outputs % groups != 0 {
                    return Err(Error::Groups { groups, outputs: outputs.into(), shape: shape.to_vec() });
                }
                let ones = if taps == 0 { 0 } else { inputs.min(outputs / groups).saturating_mul(groups) };
                Ok(Contents::Dirac {
                    groups,
                    ones,
                    size: taps.saturating_mul(inputs).saturating_mul(outputs),
                })
            }
            Initializer::Orthogonal(ref orthogonal) => {
                if shape.len() < 2 {
                    return Err(Error::shape("orthogonal needs a shape of at least 2 dimensions", shape));
                }
                let column_axis = axis_in("column_axis", orthogonal.column_axis, shape)?;
                let columns = shape[column_axis];
                let others = shape.iter().enumerate().filter(|&(axis, _)| axis != column_axis);
                let rows = others.map(|(_, &size)| size).fold(1, u64::saturating_mul);
                Ok(Contents::Orthogonal { gain: orthogonal.gain, column_axis, rows, columns })
            }
            Initializer::DeltaOrthogonal { gain } => {
                let (taps, inputs, outputs) = convolution("delta_orthogonal", "(k.., in, out)", shape)?;
                if inputs > outputs {
                    let rule = format!(
                        "delta_orthogonal needs no more inputs than outputs, got {inputs} inputs and {outputs} outputs in shape \
                         {shape:?}"
                    );
                    return Err(Error::Shape { rule, shape: shape.to_vec() });
                }
                Ok(Contents::DeltaOrthogonal { gain, inputs, outputs, taps })
            }
            Initializer::Sparse { sparsity, stddev } => {
                let [rows, _] = matrix("sparse", shape)?;
                // Above 2^53 rows the product is rounded, possibly up.
                let zeros = ((sparsity * rows as f64).ceil() as u64).min(rows);
                Ok(Contents::Sparse { zeros, rows, stddev })
            }
            Initializer::Blocks { .. } => Err(nested_blocks()),
        }
    }

    /// The scratch memory that a fill of a window of this extent needs, in bytes.
    pub(super) fn scratch_bytes(
        &self,
        dtype: Dtype,
        shape: &[u64],
        extent: &[usize],
        options: &Options<'_>,
    ) -> usize {
        match *self {
            Contents::Orthogonal { column_axis, .. } => {
                linalg::scratch_bytes(dtype, shape, extent, column_axis, options)
            }
            Contents::DeltaOrthogonal { .. } => {
                let spatial = shape.len() - 2;
                linalg::scratch_bytes(dtype, &shape[spatial..], &extent[spatial..], 1, options)
            }
            _ => 0,
        }
    }

    /// How many bytes of an untouched output of this extent a fill writes to at most, in whole pages.
    pub(super) fn written(&self, dtype: Dtype, extent: &[usize]) -> usize {
        /// The largest page.
        const PAGE: usize = 2 << 20;
        let all = extent.iter().product::<usize>() * dtype.size();
        match *self {
            Contents::Constant { value } if value.to_bits() == 0 => 0,
            Contents::Identity { rows, columns, .. } => {
                usize::try_from(rows.min(columns)).map_or(all, |ones| ones.saturating_mul(PAGE).min(all))
            }
            Contents::Dirac { ones, .. } => {
                usize::try_from(ones).map_or(all, |ones| ones.saturating_mul(PAGE).min(all))
            }
            Contents::DeltaOrthogonal { .. } => {
                let tap = extent[extent.len() - 2..].iter().product::<usize>() * dtype.size();
                tap.saturating_add(2 * PAGE).min(all)
            }
            _ => all,
        }
    }

    /// Roughly how many times longer it takes to compute an element than to store it.
    pub(super) fn effort(&self, dtype: Dtype) -> usize {
        match self {
            Contents::Orthogonal { .. } => 64 / dtype.size(),
            _ => 1,
        }
    }

    /// Writes the part of the tensor that `window` names.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the options' `interrupt` returned true.
    pub(super) fn fill<T: Element>(
        &self,
        mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
        window: &Window,
        key: Key,
        scratch: &mut Scratch,
        options: &Options<'_>,
    ) -> Result<()> {
        match *self {
            Contents::Constant { value } => fill::constant(out, T::from_f64(value), options),
            Contents::Random(ref distribution) => fill::sample(out, window, key, distribution, options),
            Contents::Sparse { zeros, stddev, .. } => fill::sparse(out, window, key, stddev, zeros, options),
            Contents::Orthogonal { gain, column_axis, .. } => {
                linalg::orthogonal(out, window, column_axis, key, gain, scratch, options)
            }
            Contents::Identity { gain, .. } => {
                fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
                fill::diagonal(out, window, u64::MAX, T::from_f64(gain), options)
            }
            Contents::Dirac { groups, .. } => {
                fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
                let Some((tap, window)) = tap(out, window, |size| size / 2)? else { return Ok(()) };
                let outputs = window.shape()[window.shape().len() - 1];
                fill::diagonal(tap, &window, outputs / groups, T::from_f64(1.0), options)
            }
            Contents::DeltaOrthogonal { gain, .. } => {
                fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
                let Some((tap, window)) = tap(out, window, |size| (size - 1) / 2)? else { return Ok(()) };
                linalg::orthogonal(tap, &window, window.shape().len() - 1, key, gain, scratch, options)
            }
        }
    }
}

/// The sizes of a matrix.
fn matrix(name: &str, shape: &[u64]) -> Result<[u64; 2]> {
    shape.try_into().map_err(|_| Error::shape(format!("{name} needs a shape of 2 dimensions"), shape))
}

/// The taps, inputs and outputs of a convolution kernel.
fn convolution(name: &str, axes: &str, shape: &[u64]) -> Result<(u64, u64, u64)> {
    match shape {
        [taps @ .., inputs, outputs] if (1..=3).contains(&taps.len()) => {
            Ok((taps.iter().copied().fold(1, u64::saturating_mul), *inputs, *outputs))
        }
        _ => Err(Error::shape(format!("{name} needs a shape of 3, 4 or 5 dimensions {axes}"), shape)),
    }
}

/// The part in the window of one tap, of which `index` gives the index along a spatial axis of this size: a
/// tensor with spatial axes of size 1.
fn tap<'a, T>(
    mut out: ArrayViewMutD<'a, MaybeUninit<T>>,
    window: &Window,
    index: impl Fn(u64) -> u64,
) -> Result<Option<(ArrayViewMutD<'a, MaybeUninit<T>>, Window)>> {
    if window.is_empty() {
        return Ok(None);
    }
    let spatial = window.shape().len() - 2;
    for axis in 0..spatial {
        let Some(place) = window.place(axis, index(window.shape()[axis])) else { return Ok(None) };
        out.slice_axis_inplace(Axis(axis), Slice::from(place..place + 1));
    }
    let (mut shape, mut start, mut extent) = (vec![1; spatial], vec![0; spatial], vec![1; spatial]);
    shape.extend(&window.shape()[spatial..]);
    start.extend(&window.start()[spatial..]);
    extent.extend(&window.extent()[spatial..]);
    Ok(Some((out, Window::new(&shape, &start, &extent)?)))
}
