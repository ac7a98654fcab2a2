//! Matrices with a given number of zeros in each column.

use super::distribution;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

pub(super) fn check(sparsity: f64, stddev: f64, dtype: Dtype) -> Result<()> {
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(Error::value(format!("sparsity must lie in [0, 1], got {sparsity:?}")));
    }
    distribution::check_stddev(stddev, dtype)
}

pub(super) fn check_shape(shape: &[u64]) -> Result<()> {
    match shape {
        [_, _] => Ok(()),
        _ => Err(Error::value(format!("sparse needs a shape of 2 dimensions, got shape {shape:?}"))),
    }
}

/// How many elements of each column are zero.
pub(super) fn zeros_per_column(sparsity: f64, shape: &[u64]) -> u64 {
    let rows = shape[0];
    // Above 2^53 rows the product is rounded; it still may not exceed the number of rows.
    ((sparsity * rows as f64).ceil() as u64).min(rows)
}
