//! A slow reference for quantiles of truncated normal distributions, in double precision: Newton's method on
//! the error function of an independent library. It shares no code or coefficients with the code under test,
//! and is itself compared with mpmath.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The density at x.
pub fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// The area under the density between 0 and x, with the sign of x.
pub fn area_from_zero(x: f64) -> f64 {
    0.5 * libm::erf(x * FRAC_1_SQRT_2)
}

/// The area above x.
pub fn area_above(x: f64) -> f64 {
    0.5 * libm::erfc(x * FRAC_1_SQRT_2)
}

/// Mills' ratio, the area above x over the density at x.
fn mills(x: f64) -> f64 {
    if x < 3.0 {
        return area_above(x) / density(x);
    }
    // Laplace's continued fraction.
    1.0 / (1..=100).rev().fold(x, |denominator, n| x + n as f64 / denominator)
}

/// The logarithm of the area above x over that above a, for x from a on.
fn ln_ratio(x: f64, a: f64) -> f64 {
    if x == f64::INFINITY {
        return f64::NEG_INFINITY;
    }
    -0.5 * (x - a) * (x + a) + (mills(x) / mills(a)).ln()
}

/// The x whose area above is `exp(ln)` of that above a.
fn tail_quantile(a: f64, ln: f64) -> f64 {
    // The logarithm of the area is concave and falls faster than that of the density, so from here on
    // Newton's method descends to the solution and never passes it.
    let mut x = (a * a - 2.0 * ln).sqrt();
    for _ in 0..60 {
        let step = (ln_ratio(x, a) - ln) * mills(x);
        x += step;
        if step.abs() <= 1e-17 * x {
            break;
        }
    }
    x
}

/// The x with this area between 0 and it, in the middle of the distribution.
fn central_quantile(area: f64) -> f64 {
    let mut x = area * (2.0 * PI).sqrt();
    for _ in 0..12 {
        x += (area - area_from_zero(x)) / density(x);
    }
    x
}

/// The x between the bounds with the part `left` of the area between them on its left and the part `right` on
/// its right. Both and their difference are given, because near a bound only one of them is precise.
pub fn quantile((lower, upper): (f64, f64), left: f64, right: f64, difference: f64) -> f64 {
    if lower + upper < 0.0 {
        return -quantile((-upper, -lower), right, left, -difference);
    }
    let (a, b) = (area_from_zero(lower), area_from_zero(upper));
    let area = b - a;
    // The area from zero, by the sum whose terms are smallest.
    let from_zero = if lower == -upper {
        0.5 * difference * area
    } else if a.abs() + left * area < b.abs() + right * area {
        a + left * area
    } else {
        b - right * area
    };
    if lower < 0.5 && from_zero.abs() < 0.3 {
        central_quantile(from_zero)
    } else if from_zero < 0.0 {
        -tail_quantile(0.0, (2.0 * (area_above(-lower) + left * area)).ln())
    } else if lower <= 0.0 {
        tail_quantile(0.0, (2.0 * (area_above(upper) + right * area)).ln())
    } else {
        // Relative to the area above the lower bound, which may underflow.
        let ln_end = ln_ratio(upper, lower);
        let ln =
            if left < 0.5 { (left * ln_end.exp_m1()).ln_1p() } else { (right + left * ln_end.exp()).ln() };
        tail_quantile(lower, ln)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (bounds, part on the left, part on the right, quantile), computed with mpmath to 60 digits by
    /// bisection.
    const QUANTILES: [((f64, f64), f64, f64, f64); 26] = [
        ((-2.0, 2.0), 9.094947017729282e-13, 0.9999999999990905, -1.999999999983921),
        ((-2.0, 2.0), 0.1875, 0.8125, -0.8354974804921245),
        ((-2.0, 2.0), 0.5000009536743164, 0.4999990463256836, 2.2817383066628384e-06),
        ((-2.0, 2.0), 0.9999999999999991, 8.881784197001252e-16, 1.9999999999999842),
        ((-3.0, 3.0), 0.1875, 0.8125, -0.8840163764939457),
        ((-3.0, 3.0), 0.9999999999999991, 8.881784197001252e-16, 2.9999999999998),
        ((f64::NEG_INFINITY, f64::INFINITY), 9.094947017729282e-13, 0.9999999999990905, -7.047700256664409),
        ((f64::NEG_INFINITY, f64::INFINITY), 0.9999999999999991, 8.881784197001252e-16, 7.956038125481531),
        ((0.0, f64::INFINITY), 9.094947017729282e-13, 0.9999999999990905, 1.1398825675455558e-12),
        ((0.0, f64::INFINITY), 0.1875, 0.8125, 0.23720210932878769),
        ((0.0, f64::INFINITY), 0.5000009536743164, 0.4999990463256836, 0.6744912507390434),
        ((0.0, f64::INFINITY), 0.9999999999999991, 8.881784197001252e-16, 8.041399959096543),
        ((5.0, 6.0), 9.094947017729282e-13, 0.9999999999990905, 5.000000000000175),
        ((5.0, 6.0), 0.5000009536743164, 0.4999990463256836, 5.131372119773019),
        ((5.0, 6.0), 0.9999999999999991, 8.881784197001252e-16, 5.999999999999958),
        ((-6.0, -5.0), 0.1875, 0.8125, -5.310879342761796),
        ((-0.01, 0.01), 0.1875, 0.8125, -0.006249936523521814),
        ((-0.01, 0.01), 0.9999999999999991, 8.881784197001252e-16, 0.009999999999999983),
        ((8.0, f64::INFINITY), 0.1875, 0.8125, 8.025527496561264),
        ((8.0, f64::INFINITY), 0.9999999999999991, 8.881784197001252e-16, 11.515274986745114),
        ((-1.0, 3.0), 9.094947017729282e-13, 0.9999999999990905, -0.9999999999968427),
        ((-1.0, 3.0), 0.5000009536743164, 0.4999990463256836, 0.19844994754864348),
        ((-1.0, 3.0), 0.9999999999999991, 8.881784197001252e-16, 2.9999999999998317),
        ((40.0, 41.0), 0.1875, 0.8125, 40.005187409872505),
        ((40.0, 41.0), 0.5000009536743164, 0.4999990463256836, 40.017314174398074),
        ((40.0, 41.0), 0.9999999999999991, 8.881784197001252e-16, 40.85666085172176),
    ];

    #[test]
    fn the_reference_agrees_with_mpmath() {
        for (bounds, left, right, expected) in QUANTILES {
            for (bounds, left, right, expected) in
                [(bounds, left, right, expected), ((-bounds.1, -bounds.0), right, left, -expected)]
            {
                let got = quantile(bounds, left, right, left - right);
                let error = (got / expected - 1.0).abs();
                assert!(error < 5e-16, "{bounds:?} {left:e}: {got:e} and not {expected:e}, off by {error:e}");
            }
        }
    }
}
