//! The ranges of the parameters of a distribution, in a given dtype.
//!
//! Samples of `float32`, `float16` and `bfloat16` are computed in `float32`, so the rules apply to the
//! parameters rounded to it. A spread must be a normal number, since with a subnormal one the samples would
//! lose precision.

use crate::distr::Distribution;
use crate::dtype::{Bf16, Dtype, Element, F16};
use crate::error::{Error, Result};

/// Checks the parameters of `distribution` for samples of `dtype`.
pub(super) fn check(distribution: &Distribution, dtype: Dtype) -> Result<()> {
    match *distribution {
        Distribution::Uniform { low, high } => {
            let interval =
                |name, rule| Error::parameter(name, rule, format!("minval={low:?} and maxval={high:?}"));
            check_finite("minval", low, dtype)?;
            check_finite("maxval", high, dtype)?;
            if low >= high {
                return Err(interval("minval", "be less than maxval"));
            }
            let width = round(round(high, dtype) - round(low, dtype), dtype);
            check_normal_number("maxval - minval", width, high - low, dtype)?;
            // The half types are coarser than the float32 in which they are computed.
            if stored(low, dtype) >= stored(high, dtype) {
                return Err(interval("minval and maxval", &format!("differ in {dtype}")));
            }
            Ok(())
        }
        Distribution::Normal { mean, stddev } => check_normal(mean, stddev, dtype),
        Distribution::TruncatedNormal { mean, stddev, lower, upper } => {
            check_normal(mean, stddev, dtype)?;
            // False for a NaN.
            if lower < upper {
                return Ok(());
            }
            Err(Error::parameter(
                "lower",
                "be less than upper",
                format!("lower={lower:?} and upper={upper:?}"),
            ))
        }
    }
}

/// Checks that a number is finite, also in the precision in which `dtype` is computed.
pub(super) fn check_finite(name: &'static str, value: f64, dtype: Dtype) -> Result<()> {
    if !value.is_finite() {
        return Err(Error::parameter(name, "be finite", format!("{value:?}")));
    }
    if !round(value, dtype).is_finite() {
        return Err(Error::parameter(
            name,
            format!("be finite in {}", precision(dtype)),
            format!("{value:?}"),
        ));
    }
    Ok(())
}

/// Checks that a standard deviation is positive and finite, also in the precision in which `dtype` is
/// computed.
pub(super) fn check_stddev(stddev: f64, dtype: Dtype) -> Result<()> {
    if !(stddev > 0.0 && stddev.is_finite()) {
        return Err(Error::parameter("stddev", "be positive and finite", format!("{stddev:?}")));
    }
    check_normal_number("stddev", round(stddev, dtype), stddev, dtype)
}

fn check_normal(mean: f64, stddev: f64, dtype: Dtype) -> Result<()> {
    check_finite("mean", mean, dtype)?;
    check_stddev(stddev, dtype)
}

/// Checks that `seen`, which is `given` in the precision of `dtype`, is a positive normal number.
fn check_normal_number(name: &'static str, seen: f64, given: f64, dtype: Dtype) -> Result<()> {
    let (least, range) = match dtype {
        Dtype::F64 => (f64::MIN_POSITIVE, "2.2e-308 to 1.8e308"),
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => (f64::from(f32::MIN_POSITIVE), "1.2e-38 to 3.4e38"),
    };
    if seen >= least && seen.is_finite() {
        return Ok(());
    }
    let rule = format!("be a normal number of {} ({range})", precision(dtype));
    Err(Error::parameter(name, rule, format!("{given:?}")))
}

/// The dtype in which samples of `dtype` are computed.
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

/// `value` as an element of `dtype` stores it.
fn stored(value: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => F16::from_f64(value).to_f64(),
        Dtype::Bf16 => Bf16::from_f64(value).to_f64(),
        Dtype::F32 | Dtype::F64 => round(value, dtype),
    }
}
