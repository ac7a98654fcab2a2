//! The quantile function (inverse of the cumulative distribution function) of the standard normal
//! distribution.
//!
//! Throughout, y is the probability of falling between -x and x, with the sign of x: `y = erf(x / sqrt 2)`,
//! and w is `-ln(1 - y^2)`, the variable in which the quantile is smooth (Giles, Approximating the erfinv
//! function, GPU Computing Gems Jade Edition, 2011). The double-precision form has the regions of Wichura's
//! AS 241 (Applied Statistics 37, 1988). All coefficients were fitted for this crate.

use super::{fours_f32, fours_f64, horner_f32, horner_f64, log::minus_ln_coarse};
use crate::simd::Simd;

/// `x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 2]. Numerator. Relative error 1.0e-7.
const QUANTILE_CENTRE_F32_P: [f32; 5] =
    [3.1021075e+00, 1.271002e+02, 7.070975e+02, 6.714293e+02, 5.9727818e+01];

/// `x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 2]. Denominator. Relative error 1.0e-7.
const QUANTILE_CENTRE_F32_Q: [f32; 5] = [1e+00, 5.5722015e+01, 4.2543845e+02, 6.2855457e+02, 1.4073253e+02];

/// `x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 3]. Numerator. Relative error 5.3e-8.
const QUANTILE_TO_3_F32_P: [f32; 8] = [
    3.8680215e+00,
    3.372969e+03,
    4.6247878e+05,
    1.5701239e+07,
    1.5039802e+08,
    4.0049834e+08,
    2.454855e+08,
    1.6417453e+07,
];

/// `x / y` in powers of 1 - y^2, where P(|X| < x) = y, for x in [0, 3]. Denominator. Relative error 5.3e-8.
const QUANTILE_TO_3_F32_Q: [f32; 8] = [
    1e+00,
    1.0486143e+03,
    1.6798373e+05,
    6.7404565e+06,
    7.904697e+07,
    2.7600918e+08,
    2.5681883e+08,
    4.2635012e+07,
];

/// `x / y` in powers of w - 2.5, for w in [0, 5]. Relative error 1.1e-7.
const QUANTILE_F32: [f32; 9] = [
    2.1233137e+00,
    3.488024e-01,
    -5.9082853e-03,
    -1.772755e-03,
    3.092046e-04,
    -6.2872123e-06,
    -5.001948e-06,
    4.918119e-07,
    4.1194898e-08,
];

/// `x / y` in powers of sqrt(w) - 3.5, for w in [5, 21]. Relative error 9.5e-9.
const QUANTILE_TAIL_F32: [f32; 11] = [
    4.717089e+00,
    1.4246348e+00,
    4.632742e-03,
    -2.9215983e-03,
    1.5568023e-03,
    -9.4165886e-04,
    5.822942e-04,
    -3.5920198e-04,
    1.4116392e-04,
    2.9727687e-05,
    -3.4459e-05,
];

/// `x / y` in powers of w, for w in [0, 32]. Numerator. Relative error 4.7e-8.
const QUANTILE_ANY_F32_P: [f32; 7] =
    [1.2533141e+00, 4.5598555e-01, 9.476914e-02, 1.3365375e-02, 1.2617739e-03, 7.317681e-05, 4.2861578e-07];

/// `x / y` in powers of w, for w in [0, 32]. Denominator. Relative error 4.7e-8.
const QUANTILE_ANY_F32_Q: [f32; 7] =
    [1e+00, 1.0202376e-01, 3.5876058e-02, 2.5719593e-03, 2.8329858e-04, 5.510938e-06, 6.5301293e-09];

/// `x / y` in powers of 1 - y^2, for x in [0, 2]. Numerator. Relative error 6.5e-17.
const QUANTILE_TO_2_F64_P: [f64; 11] = [
    3.569344994120909e+00,
    1.070540836058957e+03,
    6.82271989419525e+04,
    1.5124332019269983e+06,
    1.405002149998291e+07,
    5.9144795751399614e+07,
    1.1477341683036636e+08,
    9.907372572009942e+07,
    3.4193634858395934e+07,
    3.6631893442509784e+06,
    5.474993986351956e+04,
];

/// `x / y` in powers of 1 - y^2, for x in [0, 2]. Denominator. Relative error 6.5e-17.
const QUANTILE_TO_2_F64_Q: [f64; 11] = [
    1e+00,
    3.636473393078189e+02,
    2.6779000173984674e+04,
    6.791727858696255e+05,
    7.245137805753463e+06,
    3.5487439296461806e+07,
    8.205430079889476e+07,
    8.78166738409038e+07,
    4.031508530579136e+07,
    6.66001215195332e+06,
    2.5248362504809885e+05,
];

/// `x / y` in powers of 0.7225 - y^2, for |y| up to 0.85. Numerator. Relative error 1.3e-16.
const QUANTILE_CENTRE_F64_P: [f64; 8] = [
    1.6935664363981833e+00,
    1.6621947111428934e+01,
    6.144290308499812e+01,
    1.0678953046750847e+02,
    8.908584043895866e+01,
    3.2536793438926274e+01,
    4.030050447106392e+00,
    7.53461972397422e-02,
];

/// `x / y` in powers of 0.7225 - y^2, for |y| up to 0.85. Denominator. Relative error 1.3e-16.
const QUANTILE_CENTRE_F64_Q: [f64; 8] = [
    1e+00,
    1.0566073708407298e+01,
    4.2840002744627114e+01,
    8.393024801537308e+01,
    8.235348234463883e+01,
    3.8058132493521846e+01,
    6.934455115742947e+00,
    3.1437423519527063e-01,
];

/// The upper quantile in powers of r - 1.6, where the tail is exp(-r^2), r in [1.6, 5]. Numerator. Relative
/// error 5.8e-17.
const QUANTILE_TAIL_F64_P: [f64; 8] = [
    1.4234371107496837e+00,
    4.634778724657046e+00,
    5.783106490326292e+00,
    3.6629654790233723e+00,
    1.2782132703641842e+00,
    2.436750482565149e-01,
    2.2923914113476152e-02,
    7.811440934512869e-04,
];

/// The upper quantile in powers of r - 1.6, where the tail is exp(-r^2), r in [1.6, 5]. Denominator. Relative
/// error 5.8e-17.
const QUANTILE_TAIL_F64_Q: [f64; 8] = [
    1e+00,
    2.056311454318919e+00,
    1.6822027108400648e+00,
    6.93677323227682e-01,
    1.4924171988140325e-01,
    1.5332715337854845e-02,
    5.52259734682202e-04,
    1.0506052074993783e-09,
];

/// The same in powers of r - 5, r in [5, 24]. Numerator. Relative error 4.0e-17.
const QUANTILE_FAR_F64_P: [f64; 8] = [
    6.657904643501103e+00,
    5.477388448042676e+00,
    1.7950815756835046e+00,
    2.995554734697449e-01,
    2.695901518606376e-02,
    1.27320486414496e-03,
    2.811666096109006e-05,
    2.1209109468257296e-07,
];

/// The same in powers of r - 5, r in [5, 24]. Denominator. Relative error 4.0e-17.
const QUANTILE_FAR_F64_Q: [f64; 8] = [
    1e+00,
    6.018754224934771e-01,
    1.3801898977714985e-01,
    1.5087363501137933e-02,
    8.051482032744777e-04,
    1.913200575819903e-05,
    1.4997000698874575e-07,
    2.386745593988961e-15,
];

/// x for |x| up to 2, to 10 ulp (near |x| = 2, where the rounding of y alone costs that much). A rational
/// function of `1 - y^2` with positive coefficients only, so that nothing cancels.
#[inline(always)]
pub fn quantile_centre_f32<S: Simd>(s: S, y: S::F32) -> S::F32 {
    let t = s.neg_mul_add_f32(y, y, s.splat_f32(1.0));
    let p = horner_f32(s, t, &QUANTILE_CENTRE_F32_P);
    s.mul_f32(y, s.div_f32(p, horner_f32(s, t, &QUANTILE_CENTRE_F32_Q)))
}

/// x for |x| up to 3, to 6 ulp; `q` is `1 - y^2`, whose relative precision the tails need.
#[inline(always)]
pub fn quantile_to_3_f32<S: Simd>(s: S, y: S::F32, q: S::F32) -> S::F32 {
    let p = fours_f32(s, q, &QUANTILE_TO_3_F32_P);
    s.mul_f32(y, s.div_f32(p, fours_f32(s, q, &QUANTILE_TO_3_F32_Q)))
}

/// x for |x| up to 6.3, to 6 ulp; `q` is `1 - y^2`, whose relative precision the tails need.
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

/// The same without a branch, for q from exp(-32) on, to 8 ulp.
#[inline(always)]
pub fn quantile_any_f32<S: Simd>(s: S, y: S::F32, q: S::F32) -> S::F32 {
    let w = minus_ln_coarse(s, q);
    let p = fours_f32(s, w, &QUANTILE_ANY_F32_P);
    s.mul_f32(y, s.div_f32(p, fours_f32(s, w, &QUANTILE_ANY_F32_Q)))
}

/// x for |x| up to 2, to 6 ulp; `q` is `1 - y^2`.
#[inline(always)]
pub fn quantile_to_2_f64<S: Simd>(s: S, y: S::F64, q: S::F64) -> S::F64 {
    let p = fours_f64(s, q, &QUANTILE_TO_2_F64_P);
    s.mul_f64(y, s.div_f64(p, fours_f64(s, q, &QUANTILE_TO_2_F64_Q)))
}

/// The central form is for |y| up to this.
pub const CENTRE: f64 = 0.85;

/// x for |y| up to [`CENTRE`], to 4 ulp.
#[inline(always)]
pub fn quantile_centre_f64<S: Simd>(s: S, y: S::F64) -> S::F64 {
    let z = s.neg_mul_add_f64(y, y, s.splat_f64(CENTRE * CENTRE));
    let p = horner_f64(s, z, &QUANTILE_CENTRE_F64_P);
    s.mul_f64(y, s.div_f64(p, horner_f64(s, z, &QUANTILE_CENTRE_F64_Q)))
}

/// The x above which the probability is `exp(-w)`, for w from 2.589 (where |y| is [`CENTRE`]) to 576 (x =
/// 33.8), to 3 ulp.
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
