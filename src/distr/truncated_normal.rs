//! The truncated normal distribution, by the inverse of its distribution function: one word, one element, no
//! rejection.
//!
//! Bounds within a few standard deviations have forms without branches: [`Central`] for symmetric ones of up
//! to two standard deviations in single precision, [`Single`] for others in single precision,
//! [`CentralF64`] for bounds within two standard deviations in double precision. [`Single`] and
//! [`CentralF64`] take the area beyond the element from its distance to the nearer bound, which keeps the
//! relative precision of the tails. If the bounds are symmetric in single precision, the sign bit of the word
//! is the sign of the element; otherwise elements increase with the word.
//!
//! All other bounds use [`General`], which computes in double precision, in the nearer tail, with the
//! logarithm of its area relative to the bound. It is accurate for deep, narrow and one-sided bounds.
//!
//! Every form finally clamps the result to the bounds, which only rounding can exceed.

use super::{SampleF32, SampleF64, Sampler, Steps};
use crate::math::log::ln_f64;
use crate::math::normal::{area_above, area_from_zero, exp, expm1, ln, minus_ln_area_above};
use crate::math::quantile::{
    CENTRE, quantile_any_f32, quantile_centre_f32, quantile_centre_f64, quantile_f32, quantile_tail_f64,
    quantile_to_2_f64, quantile_to_3_f32,
};
use crate::math::{TWO_52, horner_f64, u32_to_f64};
use crate::simd::{Scalar, Simd, fma_f64};

/// The range that elements are clamped to.
#[derive(Clone, Copy, Debug)]
struct Bounds<T> {
    low: T,
    high: T,
}

impl Bounds<f64> {
    fn new(mean: f64, stddev: f64, lower: f64, upper: f64) -> Bounds<f64> {
        Bounds { low: fma_f64(stddev, lower, mean), high: fma_f64(stddev, upper, mean) }
    }

    #[inline(always)]
    fn hold<S: Simd>(&self, s: S, x: S::F64) -> S::F64 {
        s.min_f64(s.max_f64(x, s.splat_f64(self.low)), s.splat_f64(self.high))
    }
}

impl Bounds<f32> {
    /// The bounds are rounded inwards, so that no element lies outside the exact ones.
    fn new(mean: f64, stddev: f64, lower: f64, upper: f64) -> Bounds<f32> {
        let Bounds { low, high } = Bounds::<f64>::new(mean, stddev, lower, upper);
        let (mut low32, mut high32) = (low as f32, high as f32);
        if (low32 as f64) < low {
            low32 = low32.next_up();
        }
        if high32 as f64 > high {
            high32 = high32.next_down();
        }
        // With no single-precision number between the bounds, the nearest one.
        Bounds { low: low32.min(high32), high: high32 }
    }

    #[inline(always)]
    fn hold<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        s.min_f32(s.max_f32(x, s.splat_f32(self.low)), s.splat_f32(self.high))
    }
}

/// `mean + stddev * z`, clamped to the bounds.
#[derive(Clone, Copy, Debug)]
struct Scale {
    mean: f32,
    stddev: f32,
    bounds: Bounds<f32>,
}

impl Scale {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, z: S::Int) -> S::F32 {
        let z = s.f32_from_bits(z);
        self.bounds.hold(s, s.mul_add_f32(z, s.splat_f32(self.stddev), s.splat_f32(self.mean)))
    }
}

/// `2.0 * area_from_zero(2.0)`. These bounds are the usual ones, and the integral takes longer than a fill of
/// a small tensor.
const WITHIN_TWO: f64 = 0.954_499_736_103_641_7;

/// The form for these bounds in single precision. Bounds in standard deviations; `lower < upper`.
pub(super) fn sampler_f32(mean: f64, stddev: f64, lower: f64, upper: f64) -> Sampler {
    let bounds = Bounds::<f32>::new(mean, stddev, lower, upper);
    let scale = Scale { mean: mean as f32, stddev: stddev as f32, bounds };
    let is_symmetric = lower == -upper;
    if is_symmetric && upper <= 2.0 {
        let inside = if upper == 2.0 { WITHIN_TWO } else { 2.0 * area_from_zero(upper) };
        return Sampler::Central(Central { step: (inside / TWO_31) as f32, scale });
    }
    // The bound that is nearer to zero, if both are on one side.
    let nearer = lower.max(-upper);
    if nearer > SINGLE || upper - lower < nearer.max(TINY) / 16.0 {
        return Sampler::GeneralF32(General { quantile: Quantile::new(lower, upper), mean, stddev, bounds });
    }
    let within_three = lower >= -3.0 && upper <= 3.0;
    match (is_symmetric, within_three) {
        (true, true) => Sampler::SymmetricTo3(Single::new(lower, upper, scale)),
        (true, false) => Sampler::Symmetric(Single::new(lower, upper, scale)),
        (false, true) => Sampler::To3(Single::new(lower, upper, scale)),
        (false, false) => Sampler::Single(Single::new(lower, upper, scale)),
    }
}

/// 2^31
const TWO_31: f64 = 2_147_483_648.0;

/// Narrower intervals are left to [`General`], so that no step underflows.
const TINY: f64 = 1e-20;

/// Intervals that begin further out than this on one side of zero are left to [`General`].
const SINGLE: f64 = 4.0;

/// Symmetric bounds of up to two standard deviations, in single precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Central {
    /// The area between the bounds over 2^31.
    step: f32,
    scale: Scale,
}

impl Central {
    #[inline(always)]
    fn quantile<S: Simd>(&self, s: S, words: S::Int) -> S::Int {
        let k = s.i32_to_f32(s.or(words, s.splat_u32(1)));
        let y = s.mul_f32(k, s.splat_f32(self.step));
        s.f32_to_bits(quantile_centre_f32(s, y))
    }
}

impl Steps for Central {
    const STEPS: usize = 1;

    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, [even, odd, ..]: [S::Int; 4]) -> [S::Int; 4] {
        let (even, odd) = (self.quantile(s, even), self.quantile(s, odd));
        [even, odd, even, odd]
    }
}

impl SampleF32 for Central {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (self.scale.apply(s, even), self.scale.apply(s, odd))
    }
}

/// Bounds that are neither deep nor narrow, in single precision; with `TO_3`, within three standard
/// deviations.
///
/// The elements are counted from the left, from 0 to 2^31 - 1, so that each is half a step from the next edge;
/// with `SYMMETRIC`, from zero to both sides, so that the distribution is symmetric to the bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single<const SYMMETRIC: bool, const TO_3: bool> {
    /// The number of the element that is nearest to zero: counted from there, y is precise near zero.
    origin: u32,
    /// The step of y, which is as in [`crate::math::quantile`], from one element to the next; with
    /// `SYMMETRIC`, half of that.
    step: f32,
    /// y of element `origin`.
    y: f32,
    /// `1 + y` of the first element and `1 - y` of the last one, with full relative precision.
    below: f32,
    above: f32,
    scale: Scale,
}

impl<const SYMMETRIC: bool, const TO_3: bool> Single<SYMMETRIC, TO_3> {
    fn new(lower: f64, upper: f64, scale: Scale) -> Self {
        let (y_lower, y_upper) = (2.0 * area_from_zero(lower), 2.0 * area_from_zero(upper));
        // Of symmetric bounds an element is an odd number of steps from zero.
        let (step, half) =
            if SYMMETRIC { (y_upper / TWO_31, 0.0) } else { ((y_upper - y_lower) / TWO_31, 0.5) };
        let origin = (-y_lower / step).floor().clamp(0.0, TWO_31);
        Single {
            origin: origin as u32,
            step: step as f32,
            y: fma_f64(step, origin + half, y_lower) as f32,
            below: fma_f64(step, half, 2.0 * area_below(lower)) as f32,
            above: fma_f64(step, half, 2.0 * area_below(-upper)) as f32,
            scale,
        }
    }

    /// `n` steps and `end`.
    #[inline(always)]
    fn area<S: Simd>(&self, s: S, n: S::Int, end: f32) -> S::F32 {
        s.mul_add_f32(s.i32_to_f32(n), s.splat_f32(self.step), s.splat_f32(end))
    }

    /// y and `1 - y^2` of words.
    #[inline(always)]
    fn place<S: Simd>(&self, s: S, words: S::Int) -> [S::Int; 2] {
        let (y, beyond);
        if SYMMETRIC {
            let k = s.or(words, s.splat_u32(1));
            y = s.mul_f32(s.i32_to_f32(k), s.splat_f32(self.step));
            beyond = self.area(s, s.sub_u32(s.splat_u32(1 << 31), s.abs_i32(k)), self.above);
        } else {
            let i = s.shr_u32(words, 1);
            y = self.area(s, s.sub_u32(i, s.splat_u32(self.origin)), self.y);
            let last = s.xor(i, s.splat_u32(0x7fff_ffff));
            beyond = s.min_f32(self.area(s, i, self.below), self.area(s, last, self.above));
        }
        let q = s.neg_mul_add_f32(beyond, beyond, s.add_f32(beyond, beyond));
        [s.f32_to_bits(y), s.f32_to_bits(q)]
    }

    #[inline(always)]
    fn quantile<S: Simd>(&self, s: S, y: S::Int, q: S::Int) -> S::Int {
        let (y, q) = (s.f32_from_bits(y), s.f32_from_bits(q));
        s.f32_to_bits(match (TO_3, SYMMETRIC) {
            (true, _) => quantile_to_3_f32(s, y, q),
            (false, true) => quantile_f32(s, y, q),
            (false, false) => quantile_any_f32(s, y, q),
        })
    }
}

impl<const SYMMETRIC: bool, const TO_3: bool> Steps for Single<SYMMETRIC, TO_3> {
    const STEPS: usize = 2;

    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, [a, b, c, d]: [S::Int; 4]) -> [S::Int; 4] {
        if STEP == 0 {
            let ([y_even, q_even], [y_odd, q_odd]) = (self.place(s, a), self.place(s, b));
            return [y_even, y_odd, q_even, q_odd];
        }
        let (even, odd) = (self.quantile(s, a, c), self.quantile(s, b, d));
        [even, odd, even, odd]
    }
}

impl<const SYMMETRIC: bool, const TO_3: bool> SampleF32 for Single<SYMMETRIC, TO_3> {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (self.scale.apply(s, even), self.scale.apply(s, odd))
    }
}

/// The area below x.
fn area_below(x: f64) -> f64 {
    if x < 0.0 { area_above(-x) } else { 0.5 + area_from_zero(x) }
}

/// Any bounds, computed in double precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct General<T> {
    quantile: Quantile,
    mean: f64,
    stddev: f64,
    bounds: Bounds<T>,
}

impl<T> General<T> {
    /// The element with these parts of the area on either side: see [`Quantile::evaluate`].
    #[inline(always)]
    fn element<S: Simd>(&self, s: S, left: S::F64, right: S::F64, difference: S::F64) -> S::F64 {
        let z = self.quantile.evaluate(s, left, right, difference);
        s.mul_add_f64(z, s.splat_f64(self.stddev), s.splat_f64(self.mean))
    }
}

impl General<f32> {
    /// The element of a word. Half a step is added, so that both bounds are equally far away. `left` and
    /// `right` are exact.
    #[inline(always)]
    fn of_word<S: Simd>(&self, s: S, word: S::Int) -> S::F64 {
        let left = s.mul_add_f64(u32_to_f64(s, word), s.splat_f64(UNIT_32), s.splat_f64(0.5 * UNIT_32));
        let right = s.sub_f64(s.splat_f64(1.0), left);
        self.element(s, left, right, s.sub_f64(left, right))
    }

    #[inline(always)]
    fn one<S: Simd>(&self, s: S, words: S::Int) -> S::F32 {
        let even = self.of_word(s, s.and(words, s.splat_u64(0xffff_ffff)));
        let odd = self.of_word(s, s.shr_u64(words, 32));
        self.bounds.hold(s, s.pair_f64_to_f32(even, odd))
    }
}

impl<T: Copy> Steps for General<T> {}

impl SampleF32 for General<f32> {
    const BRANCHES: bool = true;

    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (self.one(s, even), self.one(s, odd))
    }
}

/// The form for these bounds in double precision.
pub(super) fn sampler_f64(mean: f64, stddev: f64, lower: f64, upper: f64) -> Sampler {
    let bounds = Bounds::<f64>::new(mean, stddev, lower, upper);
    if lower < -2.0 || upper > 2.0 || upper - lower < TINY {
        return Sampler::GeneralF64(General { quantile: Quantile::new(lower, upper), mean, stddev, bounds });
    }
    let area = area_from_zero(upper) - area_from_zero(lower);
    Sampler::CentralF64(CentralF64 {
        step: 2.0 * area * UNIT_64,
        centre: area_from_zero(upper) + area_from_zero(lower),
        below: 2.0 * area_below(lower),
        above: 2.0 * area_below(-upper),
        mean,
        stddev,
        bounds,
    })
}

/// Bounds within two standard deviations, in double precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CentralF64 {
    /// Twice the area between the bounds over 2^64: the step of y, as in [`crate::math::quantile`].
    step: f64,
    /// y in the middle of the words.
    centre: f64,
    /// `1 + y` of the lower bound and `1 - y` of the upper one.
    below: f64,
    above: f64,
    mean: f64,
    stddev: f64,
    bounds: Bounds<f64>,
}

impl CentralF64 {
    /// `n` steps and `end`.
    #[inline(always)]
    fn area<S: Simd>(&self, s: S, n: S::F64, end: f64) -> S::F64 {
        s.mul_add_f64(n, s.splat_f64(self.step), s.splat_f64(end))
    }

    /// y and `1 - y^2` of a word.
    #[inline(always)]
    fn place<S: Simd>(&self, s: S, word: S::Int) -> [S::Int; 2] {
        let [left, right, difference] = parts(s, word);
        let y = self.area(s, difference, self.centre);
        let beyond = s.min_f64(self.area(s, left, self.below), self.area(s, right, self.above));
        let q = s.neg_mul_add_f64(beyond, beyond, s.add_f64(beyond, beyond));
        [s.f64_to_bits(y), s.f64_to_bits(q)]
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, z: S::Int) -> S::F64 {
        let z = s.f64_from_bits(z);
        self.bounds.hold(s, s.mul_add_f64(z, s.splat_f64(self.stddev), s.splat_f64(self.mean)))
    }
}

impl Steps for CentralF64 {
    const STEPS: usize = 2;

    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, s: S, [a, b, c, d]: [S::Int; 4]) -> [S::Int; 4] {
        if STEP == 0 {
            let ([y, q], [y_2, q_2]) = (self.place(s, a), self.place(s, b));
            return [y, y_2, q, q_2];
        }
        let z = quantile_to_2_f64(s, s.f64_from_bits(a), s.f64_from_bits(c));
        let z_2 = quantile_to_2_f64(s, s.f64_from_bits(b), s.f64_from_bits(d));
        let (a, b) = (s.f64_to_bits(z), s.f64_to_bits(z_2));
        [a, b, a, b]
    }
}

impl SampleF64 for CentralF64 {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64) {
        (self.scale(s, first), self.scale(s, second))
    }
}

impl General<f64> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, word: S::Int) -> S::F64 {
        let [left, right, difference] = parts(s, word);
        let left = s.mul_f64(left, s.splat_f64(UNIT_64));
        let right = s.mul_f64(right, s.splat_f64(UNIT_64));
        let difference = s.mul_f64(difference, s.splat_f64(2.0 * UNIT_64));
        self.bounds.hold(s, self.element(s, left, right, difference))
    }
}

/// With the odd number k of a word: k, `2^64 - k` and `k - 2^63`, each rounded once.
#[inline(always)]
fn parts<S: Simd>(s: S, word: S::Int) -> [S::F64; 3] {
    const TWO_64: f64 = 1.0 / UNIT_64;
    /// A number whose last bit is 2^32.
    const TWO_84: f64 = 1_048_576.0 * TWO_64;
    let k = s.or(word, s.splat_u64(1));
    // The halves in numbers that have room for them: 2^84 + 2^32 high and 2^52 + low. Everything is exact but
    // the last operation of each result.
    let high = s.f64_from_bits(s.or(s.shr_u64(k, 32), s.splat_u64(TWO_84.to_bits())));
    let low = s.f64_from_bits(s.or(s.and(k, s.splat_u64(0xffff_ffff)), s.splat_u64(TWO_52)));
    let both = TWO_84 + f64::from_bits(TWO_52);
    [
        s.add_f64(s.sub_f64(high, s.splat_f64(both)), low),
        s.sub_f64(s.sub_f64(s.splat_f64(both + TWO_64), high), low),
        s.add_f64(s.sub_f64(high, s.splat_f64(both + 0.5 * TWO_64)), low),
    ]
}

impl SampleF64 for General<f64> {
    const BRANCHES: bool = true;

    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64) {
        (self.one(s, first), self.one(s, second))
    }
}

/// 2^-32
const UNIT_32: f64 = 1.0 / 4_294_967_296.0;
/// 2^-64
const UNIT_64: f64 = UNIT_32 * UNIT_32;

/// Bounds on one side and further out than this use the asymptotic series of the tail.
const DEEP: f64 = 30.0;

/// The inverse distribution function between two bounds.
///
/// Bounds on the left of zero are mirrored to the right. Then `right` is the part of the area between the
/// bounds that lies above an element, and the area above the element is `tail_step * right + tail_end`. That
/// is a probability or, if both bounds lie to the right of zero, a part of the area above the lower bound,
/// whose logarithm is `-tail_log`.
#[derive(Clone, Copy, Debug)]
struct Quantile {
    /// The factor of the result: -1 if the bounds are mirrored.
    mirror: f64,
    /// `y = centre_step * (left - right) + centre`, y as in [`crate::math::quantile`].
    centre_step: f64,
    centre: f64,
    /// The area above an element: see above.
    tail_step: f64,
    tail_end: f64,
    tail_log: f64,
    /// The area below, for elements left of zero.
    below_step: f64,
    below_end: f64,
    /// The lower bound, if the interval is deep in a tail.
    deep: Option<f64>,
}

impl Quantile {
    fn new(lower: f64, upper: f64) -> Quantile {
        let mirrored = upper <= 0.0 || (lower < 0.0 && upper < -lower);
        let (a, b) = if mirrored { (-upper, -lower) } else { (lower, upper) };
        let mirror = if mirrored { -1.0 } else { 1.0 };
        let (area_a, area_b) = (area_from_zero(a), area_from_zero(b));
        let area = area_b - area_a;
        if a < 0.0 {
            return Quantile {
                mirror,
                centre_step: area,
                centre: area_a + area_b,
                tail_step: area,
                tail_end: area_above(b),
                tail_log: 0.0,
                below_step: area,
                below_end: area_above(-a),
                deep: None,
            };
        }
        // Beyond 1e100 an element cannot be told from its bound.
        let (a, b) = (a.min(1e100), b.min(1e100));
        let deep = (a >= DEEP).then_some(a);
        // The logarithm of the area above a over that above b.
        let ln_ratio = if b >= 1e100 {
            f64::INFINITY
        } else if deep.is_none() {
            minus_ln_area_above(b) - minus_ln_area_above(a)
        } else {
            0.5 * (b - a) * (b + a) - ln_mills_asymptotic(b) + ln_mills_asymptotic(a)
        };
        // Each is computed by itself, since a small `tail_end` would be lost in `1 - tail_step`.
        let (tail_step, tail_end) =
            if ln_ratio > 700.0 { (1.0, 0.0) } else { (-expm1(-ln_ratio), exp(-ln_ratio)) };
        Quantile {
            mirror,
            centre_step: area,
            centre: area_a + area_b,
            tail_step,
            tail_end,
            tail_log: if deep.is_some() { 0.0 } else { minus_ln_area_above(a) },
            below_step: 0.0,
            below_end: 1.0,
            deep,
        }
    }

    /// The quantile, in standard deviations: `left` and `right` are the parts of the area between the bounds
    /// on either side of the element, each with full relative precision, and `difference` is `left - right`.
    #[inline(always)]
    fn evaluate<S: Simd>(&self, s: S, left: S::F64, right: S::F64, difference: S::F64) -> S::F64 {
        let mirror = s.splat_f64(self.mirror);
        // Mirroring exchanges the two parts.
        let (left, right) = if self.mirror < 0.0 { (right, left) } else { (left, right) };
        let above = s.mul_add_f64(right, s.splat_f64(self.tail_step), s.splat_f64(self.tail_end));
        if let Some(a) = self.deep {
            return s.mul_f64(mirror, deep_quantile(s, a, ln_f64(s, above)));
        }
        let y = s.mul_add_f64(
            s.mul_f64(mirror, difference),
            s.splat_f64(self.centre_step),
            s.splat_f64(self.centre),
        );
        let zero = s.splat_f64(0.0);
        let is_left = s.lt_f64(y, zero);
        let size = s.select_f64(is_left, s.sub_f64(zero, y), y);
        let mut x = quantile_centre_f64(s, s.min_f64(size, s.splat_f64(CENTRE)));
        let outer = s.lt_f64(s.splat_f64(CENTRE), size);
        if s.any_f64(outer) {
            let below = s.mul_add_f64(left, s.splat_f64(self.below_step), s.splat_f64(self.below_end));
            let tail = s.select_f64(is_left, below, above);
            let w = s.sub_f64(s.splat_f64(self.tail_log), ln_f64(s, tail));
            x = s.select_f64(outer, quantile_tail_f64(s, w), x);
        }
        s.mul_f64(mirror, s.select_f64(is_left, s.sub_f64(zero, x), x))
    }
}

/// The coefficients of `x M(x) = 1 - 1/x^2 + 3/x^4 - 15/x^6 + 105/x^8 - 945/x^10 + ...`, M being Mills' ratio
/// (Abramowitz and Stegun, 26.2.12), in powers of 1/x^2: from x = 30 on the error is below 2e-14.
const MILLS_SERIES: [f64; 6] = [1.0, -1.0, 3.0, -15.0, 105.0, -945.0];

/// `x M(x)`, from `g = x^2`.
#[inline(always)]
fn mills_series<S: Simd>(s: S, g: S::F64) -> S::F64 {
    horner_f64(s, s.div_f64(s.splat_f64(1.0), g), &MILLS_SERIES)
}

/// `ln M(x)`, for x from [`DEEP`] on.
fn ln_mills_asymptotic(x: f64) -> f64 {
    ln(mills_series(Scalar, x * x)) - ln(x)
}

/// The x above a that leaves the part `exp(ln_part)` of the area above a, for a from [`DEEP`] on.
///
/// With g = x^2 the area is `exp(-g/2) M(x)` up to a factor, so `g = a^2 - 2 ln_part + 2 ln(M(x) / M(a))`,
/// whose right side hardly depends on g: each iteration gains three digits.
#[inline(always)]
fn deep_quantile<S: Simd>(s: S, a: f64, ln_part: S::F64) -> S::F64 {
    let a2 = s.splat_f64(a * a);
    let inverse = s.div_f64(s.splat_f64(1.0), s.mul_f64(mills_series(s, a2), mills_series(s, a2)));
    let start = s.neg_mul_add_f64(s.splat_f64(2.0), ln_part, a2);
    let mut g = start;
    for _ in 0..5 {
        // 2 ln(M(x) / M(a)) = -ln(g / a^2 * (series(a) / series(x))^2)
        let ratio = s.div_f64(g, a2);
        let correction = s.mul_f64(s.mul_f64(mills_series(s, g), mills_series(s, g)), inverse);
        g = s.sub_f64(start, ln_f64(s, s.div_f64(ratio, correction)));
    }
    s.sqrt_f64(g)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_within_two_standard_deviations_is_what_would_be_computed() {
        assert_eq!(WITHIN_TWO.to_bits(), (2.0 * area_from_zero(2.0)).to_bits());
    }
}
