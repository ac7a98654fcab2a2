//! The quantile function (inverse of the cumulative distribution function) of the standard normal distribution.
//!
//! Throughout, y is the probability of falling between -x and x, with the sign of x: `y = erf(x / sqrt 2)`, and w is
//! `-ln(1 - y^2)`, the variable in which the quantile is smooth (Giles, Approximating the erfinv function, GPU Computing Gems
//! Jade Edition, 2011). The double-precision form has the regions of Wichura's AS 241 (Applied Statistics 37, 1988). All
//! coefficients are our own fits.

use super::{horner_f32, horner_f64, log::minus_ln_coarse};
use crate::simd::Simd;

/// `x / y` in powers of sqrt(1 - y^2) - 0.65, where P(|X| < x) = y, for x in [0, 2]. Relative error 8.4e-8.
const QUANTILE_CENTRE_F32: [f32; 11] = [
    1.54595268e+00,
    -1.07271004e+00,
    8.95447016e-01,
    -8.53978455e-01,
    9.05834556e-01,
    -1.07081985e+00,
    1.33732951e+00,
    -1.19704413e+00,
    1.30244100e+00,
    -5.88352680e+00,
    8.89360905e+00,
];

/// `x / y` in powers of w - 2.5, for w in [0, 5]. Relative error 1.1e-7.
const QUANTILE_F32: [f32; 9] = [
    2.12331367e+00,
    3.48802388e-01,
    -5.90828527e-03,
    -1.77275494e-03,
    3.09204595e-04,
    -6.28721227e-06,
    -5.00194801e-06,
    4.91811875e-07,
    4.11948982e-08,
];

/// `x / y` in powers of sqrt(w) - 3.5, for w in [5, 21]. Relative error 9.5e-9.
const QUANTILE_TAIL_F32: [f32; 11] = [
    4.71708918e+00,
    1.42463481e+00,
    4.63274214e-03,
    -2.92159826e-03,
    1.55680231e-03,
    -9.41658858e-04,
    5.82294189e-04,
    -3.59201978e-04,
    1.41163924e-04,
    2.97276874e-05,
    -3.44590007e-05,
];

/// `x / y` in powers of 0.7225 - y^2, for |y| up to 0.85. Numerator. Relative error 1.3e-16.
const QUANTILE_CENTRE_F64_P: [f64; 8] = [
    1.6935664363981833e+00,
    1.6621947111428934e+01,
    6.1442903084998122e+01,
    1.0678953046750847e+02,
    8.9085840438958655e+01,
    3.2536793438926274e+01,
    4.0300504471063920e+00,
    7.5346197239742202e-02,
];

/// `x / y` in powers of 0.7225 - y^2, for |y| up to 0.85. Denominator. Relative error 1.3e-16.
const QUANTILE_CENTRE_F64_Q: [f64; 8] = [
    1.0000000000000000e+00,
    1.0566073708407298e+01,
    4.2840002744627114e+01,
    8.3930248015373081e+01,
    8.2353482344638834e+01,
    3.8058132493521846e+01,
    6.9344551157429466e+00,
    3.1437423519527063e-01,
];

/// The upper quantile in powers of r - 1.6, where the tail is exp(-r^2), r in [1.6, 5]. Numerator. Relative error 5.8e-17.
const QUANTILE_TAIL_F64_P: [f64; 8] = [
    1.4234371107496837e+00,
    4.6347787246570462e+00,
    5.7831064903262916e+00,
    3.6629654790233723e+00,
    1.2782132703641842e+00,
    2.4367504825651490e-01,
    2.2923914113476152e-02,
    7.8114409345128686e-04,
];

/// The upper quantile in powers of r - 1.6, where the tail is exp(-r^2), r in [1.6, 5]. Denominator. Relative error 5.8e-17.
const QUANTILE_TAIL_F64_Q: [f64; 8] = [
    1.0000000000000000e+00,
    2.0563114543189189e+00,
    1.6822027108400648e+00,
    6.9367732322768205e-01,
    1.4924171988140325e-01,
    1.5332715337854845e-02,
    5.5225973468220205e-04,
    1.0506052074993783e-09,
];

/// The same in powers of r - 5, r in [5, 24]. Numerator. Relative error 4.0e-17.
const QUANTILE_FAR_F64_P: [f64; 8] = [
    6.6579046435011033e+00,
    5.4773884480426762e+00,
    1.7950815756835046e+00,
    2.9955547346974493e-01,
    2.6959015186063761e-02,
    1.2732048641449600e-03,
    2.8116660961090059e-05,
    2.1209109468257296e-07,
];

/// The same in powers of r - 5, r in [5, 24]. Denominator. Relative error 4.0e-17.
const QUANTILE_FAR_F64_Q: [f64; 8] = [
    1.0000000000000000e+00,
    6.0187542249347714e-01,
    1.3801898977714985e-01,
    1.5087363501137933e-02,
    8.0514820327447765e-04,
    1.9132005758199031e-05,
    1.4997000698874575e-07,
    2.3867455939889611e-15,
];

/// x for |x| up to 2, to 3 ulp. A square root flattens the logarithm at the end of the interval well enough for one polynomial.
#[inline(always)]
pub fn quantile_centre_f32<S: Simd>(s: S, y: S::F32) -> S::F32 {
    let root = s.sqrt_f32(s.neg_mul_add_f32(y, y, s.splat_f32(1.0)));
    s.mul_f32(y, horner_f32(s, s.sub_f32(root, s.splat_f32(0.65)), &QUANTILE_CENTRE_F32))
}

/// x for |x| up to 6.3, to 4 ulp; `q` is `1 - y^2`, of which the tails need the relative precision.
#[inline(always)]
pub fn quantile_f32<S: Simd>(s: S, y: S::F32, q: S::F32) -> S::F32 {
    let w = minus_ln_coarse(s, q);
    let mut ratio = horner_f32(s, s.sub_f32(w, s.splat_f32(2.5)), &QUANTILE_F32);
    let tail = s.lt_f32(s.splat_f32(5.0), w);
    // One element in 300.
    if s.any_f32(tail) {
        let r = s.sub_f32(s.sqrt_f32(w), s.splat_f32(3.5));
        ratio = s.select_f32(tail, horner_f32(s, r, &QUANTILE_TAIL_F32), ratio);
    }
    s.mul_f32(y, ratio)
}

/// Up to this |y| the central form holds.
pub const CENTRE: f64 = 0.85;

/// x for |y| up to [`CENTRE`], to 4 ulp.
#[inline(always)]
pub fn quantile_centre_f64<S: Simd>(s: S, y: S::F64) -> S::F64 {
    let z = s.neg_mul_add_f64(y, y, s.splat_f64(CENTRE * CENTRE));
    let p = horner_f64(s, z, &QUANTILE_CENTRE_F64_P);
    s.mul_f64(y, s.div_f64(p, horner_f64(s, z, &QUANTILE_CENTRE_F64_Q)))
}

/// The x above which the probability is `exp(-w)`, for w from 2.589 (where |y| is [`CENTRE`]) to 576 (x = 33.8), to 3 ulp.
#[inline(always)]
pub fn quantile_tail_f64<S: Simd>(s: S, w: S::F64) -> S::F64 {
    let r = s.sqrt_f64(w);
    let t = s.sub_f64(r, s.splat_f64(1.6));
    let mut x = s.div_f64(horner_f64(s, t, &QUANTILE_TAIL_F64_P), horner_f64(s, t, &QUANTILE_TAIL_F64_Q));
    let far = s.lt_f64(s.splat_f64(5.0), r);
    if s.any_f64(far) {
        let t = s.sub_f64(r, s.splat_f64(5.0));
        let p = horner_f64(s, t, &QUANTILE_FAR_F64_P);
        x = s.select_f64(far, s.div_f64(p, horner_f64(s, t, &QUANTILE_FAR_F64_Q)), x);
    }
    x
}
