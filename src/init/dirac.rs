//! The convolution kernel that passes its input through.

use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::fill::{self, Options};
use crate::shape::Window;
use ndarray::{ArrayViewMutD, IxDyn};
use std::mem::MaybeUninit;

pub(super) fn check_groups(groups: u64) -> Result<()> {
    if groups == 0 {
        return Err(Error::value("groups must be at least 1, got 0"));
    }
    Ok(())
}

pub(super) fn check_shape(shape: &[u64], groups: u64) -> Result<()> {
    let (3..=5, [.., outputs]) = (shape.len(), shape) else {
        return Err(Error::value(format!(
            "dirac needs a shape of 3, 4 or 5 dimensions (k.., in / groups, out), got shape {shape:?}"
        )));
    };
    if outputs % groups != 0 {
        return Err(Error::value(format!(
            "the outputs must be divisible by groups; got {outputs} outputs in shape {shape:?} and groups={groups}"
        )));
    }
    Ok(())
}

/// Writes the part of the kernel that `window` names; shape and groups have passed [`check_shape`].
pub(super) fn fill<T: Element>(
    mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    groups: u64,
    options: &Options<'_>,
) -> Result<()> {
    fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
    if window.is_empty() {
        return Ok(());
    }
    let spatial = window.shape().len() - 2;
    let (inputs, outputs) = (window.range(spatial), window.range(spatial + 1));
    // The centre tap, relative to the window; without it the window has no ones.
    let mut place = vec![0; spatial + 2];
    for (axis, index) in place.iter_mut().enumerate().take(spatial) {
        let centre = window.shape()[axis] / 2;
        let Some(place) = window.place(axis, centre) else { return Ok(()) };
        *index = place;
    }
    let outputs_per_group = window.shape()[spatial + 1] / groups;
    for output in outputs.clone() {
        let input = output % outputs_per_group;
        if inputs.contains(&input) {
            place[spatial] = (input - inputs.start) as usize;
            place[spatial + 1] = (output - outputs.start) as usize;
            out[IxDyn(&place)].write(T::from_f64(1.0));
        }
    }
    Ok(())
}
