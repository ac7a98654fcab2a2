//! Whether the parameters of a distribution make sense, in general and in a given dtype.
//!
//! Samples of `float32`, `float16` and `bfloat16` are computed in `float32`, so what counts is the parameter
//! rounded to it. A spread below the smallest normal number would make the samples depend on whether the
//! processor keeps subnormals.

use crate::distr::Distribution;
use crate::dtype::{Bf16, Dtype, Element, F16};
use crate::error::{Error, Result};

/// Checks the parameters of `distribution` for samples of `dtype`.
pub(super) fn check(distribution: &Distribution, dtype: Dtype) -> Result<()> {
    match *distribution {
        Distribution::Uniform { low, high } => {
            check_finite("minval", low, dtype)?;
            check_finite("maxval", high, dtype)?;
            if low >= high {
                return Err(Error::value(format!(
                    "minval must be less than maxval, got minval={low:?} and maxval={high:?}"
                )));
            }
            let width = round(round(high, dtype) - round(low, dtype), dtype);
            check_normal_number("maxval - minval", width, high - low, dtype)?;
            // The halves are coarser than the float32 in which they are computed.
            if stored(low, dtype) >= stored(high, dtype) {
                return Err(Error::value(format!(
                    "minval and maxval must differ in {dtype}, got minval={low:?} and maxval={high:?}"
                )));
            }
            Ok(())
        }
        Distribution::Normal { mean, stddev } => check_normal(mean, stddev, dtype),
        Distribution::TruncatedNormal { mean, stddev, lower, upper } => {
            check_normal(mean, stddev, dtype)?;
            // A NaN is not less than anything.
            if lower < upper {
                return Ok(());
            }
            Err(Error::value(format!(
                "lower must be less than upper, got lower={lower:?} and upper={upper:?}"
            )))
        }
    }
}

/// Checks that a number is finite, also in the precision in which `dtype` is computed.
pub(super) fn check_finite(name: &str, value: f64, dtype: Dtype) -> Result<()> {
    if !value.is_finite() {
        return Err(Error::value(format!("{name} must be finite, got {value:?}")));
    }
    if !round(value, dtype).is_finite() {
        return Err(Error::value(format!("{name} must be finite in {}, got {value:?}", precision(dtype))));
    }
    Ok(())
}

/// Checks that a standard deviation is positive and finite, also in the precision in which `dtype` is
/// computed.
pub(super) fn check_stddev(stddev: f64, dtype: Dtype) -> Result<()> {
    if !(stddev > 0.0 && stddev.is_finite()) {
        return Err(Error::value(format!("stddev must be positive and finite, got {stddev:?}")));
    }
    check_normal_number("stddev", round(stddev, dtype), stddev, dtype)
}

fn check_normal(mean: f64, stddev: f64, dtype: Dtype) -> Result<()> {
    check_finite("mean", mean, dtype)?;
    check_stddev(stddev, dtype)
}

/// Checks that `seen`, what the dtype makes of `given`, is a positive normal number.
fn check_normal_number(name: &str, seen: f64, given: f64, dtype: Dtype) -> Result<()> {
    let (least, range) = match dtype {
        Dtype::F64 => (f64::MIN_POSITIVE, "2.2e-308 to 1.8e308"),
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => (f64::from(f32::MIN_POSITIVE), "1.2e-38 to 3.4e38"),
    };
    if seen >= least && seen.is_finite() {
        return Ok(());
    }
    Err(Error::value(format!(
        "{name} must be a normal number of {} ({range}), got {given:?}",
        precision(dtype)
    )))
}

/// The name of the dtype in which samples of `dtype` are computed.
fn precision(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F64 => Dtype::F64,
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => Dtype::F32,
    }
}

/// `value` in that precision.
fn round(value: f64, dtype: Dtype) -> f64 {
    match precision(dtype) {
        Dtype::F64 => value,
        _ => f64::from(value as f32),
    }
}

/// What an element of `dtype` holds of `value`.
fn stored(value: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => F16::from_f64(value).to_f64(),
        Dtype::Bf16 => Bf16::from_f64(value).to_f64(),
        Dtype::F32 | Dtype::F64 => round(value, dtype),
    }
}
