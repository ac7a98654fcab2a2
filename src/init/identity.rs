//! The identity matrix, of any aspect.

use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::fill::{self, Options};
use crate::shape::Window;
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

pub(super) fn check_shape(shape: &[u64]) -> Result<()> {
    match shape {
        [_, _] => Ok(()),
        _ => Err(Error::value(format!("identity needs a shape of 2 dimensions, got shape {shape:?}"))),
    }
}

/// Writes the part of the identity that `window` names; both have passed [`check_shape`].
pub(super) fn fill<T: Element>(
    mut out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    gain: T,
    options: &Options<'_>,
) -> Result<()> {
    fill::constant(out.view_mut(), T::from_f64(0.0), options)?;
    let (rows, columns) = (window.range(0), window.range(1));
    for i in rows.start.max(columns.start)..rows.end.min(columns.end) {
        out[[(i - rows.start) as usize, (i - columns.start) as usize]].write(gain);
    }
    Ok(())
}
