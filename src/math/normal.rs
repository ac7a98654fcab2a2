//! Areas under the normal density, for the preparation of a truncated normal distribution. Scalar, and as
//! reproducible as the kernels.

use super::horner_f64;
use super::log::ln_f64;
use crate::simd::{Scalar, fma_f64};

/// `1 / sqrt(2 pi)`
const INV_SQRT_TAU: f64 = 0.398_942_280_401_432_7;
/// `ln sqrt(2 pi)`
const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_8;

/// `ln x` for x from 2^-1000 on, to 3 ulp or an absolute error of 1e-16.
pub fn ln(x: f64) -> f64 {
    ln_f64(Scalar, x)
}

/// (2^k, `exp(r) - 1`) with `x = k ln 2 + r`, for x from -700 to 0.
fn split_exp(x: f64) -> (f64, f64) {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // |r| is at most half of ln 2; adding and subtracting 1.5 * 2^52 rounds to an integer.
    let shift = 6_755_399_441_055_744.0;
    let k = (x * std::f64::consts::LOG2_E + shift) - shift;
    let r = fma_f64(-k, LN_2_LOW, fma_f64(-k, LN_2_HIGH, x));
    // r + r^2/2! + ...; with 15 terms the error is below 1e-17.
    let mut sum = 0.0;
    for n in (1..=15).rev() {
        sum = r * (1.0 + sum) / n as f64;
    }
    (f64::from_bits(((k as i64 + 1023) as u64) << 52), sum)
}

/// `exp(x) - 1` for x from -700 to 0, to a few ulp.
pub fn expm1(x: f64) -> f64 {
    let (power, sum) = split_exp(x);
    fma_f64(power, sum, power - 1.0)
}

/// `exp(x)` for x from -700 to 0, to a few ulp; zero below.
pub fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let (power, sum) = split_exp(x);
    fma_f64(power, sum, power)
}

/// The area under the normal density between 0 and x, over x, in powers of x^2 - 2, for x in [0, 2].
/// Numerator. Relative error 9.2e-17.
const AREA_P: [f64; 8] = [
    2.9793972260301205e-01,
    3.0900154425149342e-02,
    3.5546205919119436e-03,
    1.359597732081903e-04,
    6.219502140734676e-06,
    9.363478381773597e-08,
    1.7562520916546363e-09,
    1.565044542033867e-12,
];

/// The area under the normal density between 0 and x, over x, in powers of x^2 - 2, for x in [0, 2].
/// Denominator. Relative error 9.2e-17.
const AREA_Q: [f64; 8] = [
    1e+00,
    2.3056482258325398e-01,
    2.4395759070881897e-02,
    1.5430807982348077e-03,
    6.336932745002511e-05,
    1.7006470890915095e-06,
    2.782773708535791e-08,
    2.161037723773651e-10,
];

/// Mills' ratio at x in powers of x - 4, for x in [2, 8]. Numerator. Relative error 8.8e-16.
const MILLS_P: [f64; 8] = [
    2.3665238291356067e-01,
    1.890031145676157e-01,
    6.494418565725424e-02,
    1.2253020562852737e-02,
    1.336822334941612e-03,
    7.991374434303497e-05,
    2.0446865371819633e-06,
    -1.0382021252450814e-14,
];

/// Mills' ratio at x in powers of x - 4, for x in [2, 8]. Denominator. Relative error 8.8e-16.
const MILLS_Q: [f64; 8] = [
    1e+00,
    1.02426005573715e+00,
    4.5672329027477115e-01,
    1.1500200028483527e-01,
    1.7672049505186492e-02,
    1.6585217035958847e-03,
    8.809250553327352e-05,
    2.0446859525282317e-06,
];

/// The quotient of two polynomials.
fn rational<const N: usize>(x: f64, numerator: &[f64; N], denominator: &[f64; N]) -> f64 {
    horner_f64(Scalar, x, numerator) / horner_f64(Scalar, x, denominator)
}

/// Mills' ratio, the area above x over the density at x, for x from 2 on, to a few ulp.
fn mills(x: f64) -> f64 {
    if x <= 8.0 {
        return rational(x - 4.0, &MILLS_P, &MILLS_Q);
    }
    // 1 / (x + 1 / (x + 2 / (x + 3 / ...))) (Abramowitz and Stegun, 26.2.14), from a depth that suffices at
    // 8.
    let mut denominator = x;
    for n in (1..=40).rev() {
        denominator = x + n as f64 / denominator;
    }
    1.0 / denominator
}

/// The area between 0 and x, with the sign of x, to a few ulp.
pub fn area_from_zero(x: f64) -> f64 {
    let size = x.abs();
    let area = if size < 2.0 {
        size * rational(size * size - 2.0, &AREA_P, &AREA_Q)
    } else {
        0.5 - area_above(size)
    };
    area.copysign(x)
}

/// The area above x, for x at least 0: from 0.5 down; to a few ulp, or zero where it is below 1e-300.
pub fn area_above(x: f64) -> f64 {
    if x < 2.0 {
        0.5 - area_from_zero(x)
    } else if x < 37.0 {
        density(x) * mills(x)
    } else {
        0.0
    }
}

/// `-ln` of the area above x, for x from 0 to 1e100.
pub fn minus_ln_area_above(x: f64) -> f64 {
    if x < 2.0 { -ln(area_above(x)) } else { 0.5 * x * x + LN_SQRT_TAU - ln(mills(x)) }
}

/// The density at x.
fn density(x: f64) -> f64 {
    INV_SQRT_TAU * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with mpmath to 30 digits: (x, area above x).
    const AREAS: [(f64, f64); 9] = [
        (0.0, 0.5),
        (0.01, 0.496_010_643_685_368_4),
        (1.0, 0.158_655_253_931_457_05),
        (1.999, 0.022_804_176_932_658_89),
        (2.0, 0.022_750_131_948_179_21),
        (5.0, 2.866_515_718_791_939e-7),
        (8.0, 6.220_960_574_271_785e-16),
        (8.5, 9.479_534_822_203_318e-18),
        (30.0, 4.906_713_927_148_187e-198),
    ];

    #[test]
    fn areas_agree_with_mpmath() {
        for (x, area) in AREAS {
            assert!((area_above(x) / area - 1.0).abs() < 1e-13, "{x}: {:e}", area_above(x));
            assert!((area_from_zero(x) + area - 0.5).abs() < 2e-16, "{x}");
            assert!((minus_ln_area_above(x) + area.ln()).abs() < 1e-13 * (1.0 + x * x), "{x}");
            assert_eq!(area_from_zero(-x), -area_from_zero(x));
        }
    }

    #[test]
    fn exponential_and_logarithm_agree_with_libm() {
        for i in 0..7000 {
            let x = -0.1 * i as f64 - 1e-9 * i as f64;
            assert!((expm1(x) - x.exp_m1()).abs() <= 4e-16 * x.exp_m1().abs(), "{x}");
        }
        for i in 1..7000 {
            let x = (0.1 * (i as f64 - 5000.0)).exp();
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(0.5), "{x:e}");
        }
    }
}
