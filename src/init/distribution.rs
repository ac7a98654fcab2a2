//! The ranges of the parameters of a distribution, in a given dtype.
//!
//! Samples of `float32`, `float16` and `bfloat16` are computed in `float32`, so the rules apply to the
//! parameters rounded to it. A spread must be a normal number, since with a subnormal one the samples would
//! lose precision.

use crate::distr::Distribution;
use crate::dtype::{Bf16, Dtype, Element, F16};
use crate::error::{Error, Result};
use crate::simd::fma_f64;

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
        Distribution::Normal { mean, stddev } => {
            check_normal(mean, stddev, dtype)?;
            let reach = stddev * if dtype == Dtype::F64 { REACH_F64 } else { REACH_F32 };
            if stored(mean - reach, dtype).is_finite() && stored(mean + reach, dtype).is_finite() {
                return Ok(());
            }
            Err(Error::parameter(
                "the largest element",
                format!("be finite in {dtype}"),
                format!("mean={mean:?} and stddev={stddev:?}"),
            ))
        }
        Distribution::TruncatedNormal { mean, stddev, lower, upper } => {
            check_normal(mean, stddev, dtype)?;
            if lower >= upper || lower.is_nan() || upper.is_nan() {
                let value = format!("lower={lower:?} and upper={upper:?}");
                return Err(Error::parameter("lower", "be less than upper", value));
            }
            let refused = |name, rule: &str| {
                let value =
                    format!("lower={lower:?} and upper={upper:?}, mean={mean:?} and stddev={stddev:?}");
                Err(Error::parameter(name, rule, value))
            };
            // A word is at least 2^-33 (2^-64) of the area between the bounds away from either of them, and
            // the area above x is at most exp((a^2 - x^2) / 2) of that above a, for 0 <= a <= x.
            let bits = if dtype == Dtype::F64 { 64.0 } else { 33.0 };
            let tail = (2.0 * bits * std::f64::consts::LN_2).sqrt();
            let least = lower.max(-(-upper).max(0.0).hypot(tail));
            let greatest = upper.min(lower.max(0.0).hypot(tail));
            let [least, greatest] = [least, greatest].map(|z| stored(fma_f64(stddev, z, mean), dtype));
            if !(least.is_finite() && greatest.is_finite()) {
                return refused("the elements", &format!("be finite in {dtype}"));
            }
            let low = inwards(fma_f64(stddev, lower, mean), dtype, 1.0);
            let high = inwards(fma_f64(stddev, upper, mean), dtype, -1.0);
            if stored(low, dtype) < stored(high, dtype) {
                return Ok(());
            }
            refused("the bounds", &format!("have two numbers of {dtype} between them"))
        }
    }
}

/// The greatest element of a normal distribution in standard deviations, rounded up: the square root of
/// `2 * 31 ln 2` and of `2 * 64 ln 2`.
const REACH_F32: f64 = 6.5556;
const REACH_F64: f64 = 9.4194;

/// The nearest number of the precision of `dtype` that is not beyond a bound; `side` is the sign of the
/// direction in which the elements lie.
fn inwards(bound: f64, dtype: Dtype, side: f64) -> f64 {
    if precision(dtype) == Dtype::F64 {
        return bound;
    }
    let near = bound as f32;
    let beyond = side * (bound - f64::from(near)) > 0.0;
    f64::from(match (beyond, side > 0.0) {
        (false, _) => near,
        (true, true) => near.next_up(),
        (true, false) => near.next_down(),
    })
}

/// Checks that a number is finite, also as an element of `dtype`.
pub(super) fn check_finite(name: &'static str, value: f64, dtype: Dtype) -> Result<()> {
    if !value.is_finite() {
        return Err(Error::parameter(name, "be finite", format!("{value:?}")));
    }
    for (seen, dtype) in [(round(value, dtype), precision(dtype)), (stored(value, dtype), dtype)] {
        if !seen.is_finite() {
            return Err(Error::parameter(name, format!("be finite in {dtype}"), format!("{value:?}")));
        }
    }
    Ok(())
}

/// Checks that a standard deviation is positive and finite, also in the precision in which `dtype` is
/// computed.
fn check_stddev(stddev: f64, dtype: Dtype) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distr::{Normal, SampleF32, SampleF64, Steps};
    use crate::simd::{Kernel, Level, Simd, store};

    /// The greatest standard normal samples in single and in double precision: the first word is 0, which gives
    /// the greatest radius, and the angle is one of those next to an axis.
    struct Greatest;

    impl Kernel for Greatest {
        type Output = [f64; 2];

        fn run<S: Simd>(self, s: S) -> [f64; 2] {
            let (mut greatest, mut single, mut double) = ([0.0_f64; 2], [0.0_f32; 2], [0.0_f64; 1]);
            for quarter in 0..4_u64 {
                for angle in [quarter << 62, (quarter << 62) + (u64::MAX >> 2)] {
                    let normal = Normal { mean: 0.0_f32, stddev: 1.0 };
                    let (radius, angle_32) =
                        normal.steps(s, s.splat_u32(0), s.splat_u32((angle >> 32) as u32));
                    let (a, b) = SampleF32::sample(&normal, s, radius, angle_32);
                    for x in [a, b] {
                        store(s, &mut single, s.f32_to_bits(x));
                        greatest[0] = greatest[0].max(f64::from(single[0])).max(f64::from(single[1]));
                    }
                    let normal = Normal { mean: 0.0, stddev: 1.0 };
                    let (radius, angle) = normal.steps(s, s.splat_u64(0), s.splat_u64(angle));
                    let (a, b) = SampleF64::sample(&normal, s, radius, angle);
                    for x in [a, b] {
                        store(s, &mut double, s.f64_to_bits(x));
                        greatest[1] = greatest[1].max(double[0]);
                    }
                }
            }
            greatest
        }
    }

    #[test]
    fn reach_is_that_of_the_greatest_sample() {
        let [single, double] = Level::Scalar.run(Greatest);
        for (greatest, reach) in [(single, REACH_F32), (double, REACH_F64)] {
            assert!((0.0..2e-4).contains(&(reach - greatest)), "{greatest} is reached, not {reach}");
        }
    }
}
