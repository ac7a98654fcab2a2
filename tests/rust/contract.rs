//! The promises of the documentation of `distr`, checked by computing elements from the words in double
//! precision with the platform's functions: each word has the right role, and the error is bounded in units
//! in the last place.

use super::common::{
    BOUNDS, KEY, at, extreme_words, levels, sample, sample_of_words_f32, sample_of_words_f64, ulps,
};
use super::oracle;
use crate::distr::{Distribution, Sampler};
use crate::rng::philox::block_words;
use crate::{Dtype, Element};
use std::f64::consts::FRAC_PI_4;

const TWO_31: f64 = (1_u64 << 31) as f64;
const TWO_32: f64 = (1_u64 << 32) as f64;
const TWO_63: f64 = (1_u64 << 63) as f64;
const TWO_64: f64 = TWO_32 * TWO_32;

/// The greatest error of an element. In single precision the errors of the radius and of the point on the
/// circle add up; and near a bound one step of the rounded probability is several steps of the element.
const UNIFORM_F32: f64 = 2.0;
const NORMAL_F32: f64 = 6.5;
const TRUNCATED_F32: f64 = 9.0;
const ULPS_F64: f64 = 16.0;

/// Bounds at which a form begins, ends, or changes its method: narrow, just on one side, about where tails become
/// deep, and very deep.
const ODD_BOUNDS: [(f64, f64); 22] = [
    (1e-3, 2e-3),
    (-1e-9, 2e-9),
    (0.3, 0.30001),
    (0.3, 0.31),
    (0.3, 0.32),
    (2.0, 2.0 + 1e-9),
    (2.0 - 1e-8, 2.0),
    (-1e-12, 9.0),
    (-1e-22, 1e-21),
    (-2.0, 1e-5),
    (1.0, 2.0),
    (-3.0, 3.5),
    (-f64::INFINITY, -1.0),
    (4.0, f64::INFINITY),
    (4.0 + 1e-9, f64::INFINITY),
    (-1e100, 1e100),
    (1.4, 8.0),
    (29.5, 30.5),
    (30.0, 30.001),
    (200.0, f64::INFINITY),
    (-1e6 - 1.0, -1e6),
    (-1e100, 2.0),
];

/// The word of an element in single precision, and that of the other element of its pair.
fn words_32(i: u64) -> [u32; 2] {
    let words = block_words(KEY, i >> 2);
    [words[(i & 3) as usize], words[(i & 3 ^ 1) as usize]]
}

/// The same in double precision.
fn words_64(i: u64) -> [u64; 2] {
    let [a, b, c, d] = block_words(KEY, i >> 1).map(u64::from);
    let words = [a | b << 32, c | d << 32];
    [words[(i & 1) as usize], words[(i & 1 ^ 1) as usize]]
}

/// The word, as a signed fraction, without the bits that are ignored if the interval is not symmetric about
/// zero: 8 of 32, 11 of 64.
fn counted_32(low: f64, high: f64, word: u32) -> f64 {
    (if low == -high { word } else { word & !0xff }) as i32 as f64 / TWO_32
}

fn counted_64(low: f64, high: f64, word: u64) -> f64 {
    (if low == -high { word } else { word & !0x7ff }) as i64 as f64 / TWO_64
}

/// The uniform element of a word, given as a signed fraction.
fn uniform(low: f64, high: f64, signed: f64) -> f64 {
    0.5 * low + 0.5 * high + signed * (high - low)
}

/// The two standard normal elements of a radius and the words of an angle: the signed part of an eighth of a
/// turn from the half-axis, and the two bits that say which half-axis.
fn on_circle(radius: f64, y: f64, negative: bool, swap: bool) -> [f64; 2] {
    let (across, along) = (y * FRAC_PI_4).sin_cos();
    let along = if negative { -along } else { along };
    if swap { [radius * across, radius * along] } else { [radius * along, radius * across] }
}

fn normal_32(radius: u32, angle: u32) -> [f64; 2] {
    let k = (radius >> 1 | 1) as f64;
    // Close to one, the logarithm is computed from the difference to one.
    let ln = if k > 0.5 * TWO_31 { (-(TWO_31 - k) / TWO_31).ln_1p() } else { (k / TWO_31).ln() };
    let y = (angle << 2 | 2) as i32 as f64 / TWO_31;
    on_circle((-2.0 * ln).sqrt(), y, angle >> 31 == 1, angle >> 30 & 1 == 1)
}

fn normal_64(radius: u64, angle: u64) -> [f64; 2] {
    let k = radius | 1;
    let ln =
        if k >> 63 == 1 { (-(k.wrapping_neg() as f64) / TWO_64).ln_1p() } else { (k as f64 / TWO_64).ln() };
    let y = (angle << 2 | 2) as i64 as f64 / TWO_63;
    on_circle((-2.0 * ln).sqrt(), y, angle >> 63 == 1, angle >> 62 & 1 == 1)
}

/// With symmetric bounds the word is a signed fraction, with others the part of the area on the left, of which the
/// general form uses every bit.
fn truncated_32(bounds: (f64, f64), word: u32) -> f64 {
    if bounds.0 == -bounds.1 {
        let y = (word | 1) as i32 as f64 / TWO_31;
        return oracle::quantile(bounds, 0.5 * (1.0 + y), 0.5 * (1.0 - y), y);
    }
    let distribution =
        Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower: bounds.0, upper: bounds.1 };
    let is_general = matches!(Sampler::new(&distribution, Dtype::F32), Sampler::GeneralF32(_));
    let left = if is_general { word as f64 + 0.5 } else { (word | 1) as f64 } / TWO_32;
    oracle::quantile(bounds, left, 1.0 - left, left - (1.0 - left))
}

fn truncated_64(bounds: (f64, f64), word: u64) -> f64 {
    let k = word | 1;
    let signed = (k ^ 1 << 63) as i64;
    oracle::quantile(bounds, k as f64 / TWO_64, k.wrapping_neg() as f64 / TWO_64, signed as f64 / TWO_63)
}

/// The scale of the error of a standard element: near zero an element is a difference, unless the bounds are
/// symmetric, and only as precise as its terms.
fn size_of_quantile((lower, upper): (f64, f64), z: f64) -> f64 {
    if lower == -upper { z.abs() } else { z.abs().max(lower.abs().max(upper.abs()).min(0.5)) }
}

/// The worst error of a case so far, in ulp, and where it was.
struct Worst {
    limit: f64,
    ulps: f64,
}

impl Worst {
    fn new(limit: f64) -> Worst {
        Worst { limit, ulps: 0.0 }
    }

    fn see<T: Element>(&mut self, got: T, exact: f64, scale: f64, what: impl Fn() -> String) {
        let error = ulps(got, exact, scale);
        assert!(error <= self.limit, "{}: {got:?} and not {exact:e}, {error} ulp off", what());
        self.ulps = self.ulps.max(error);
    }
}

/// The exact value of an element, and the size of the largest term in it.
type Exact = (f64, f64);

/// Compares fills with the exact elements.
fn fills_match<T: Element>(limit: f64, distribution: &Distribution, exact: impl Fn(u64) -> Exact) {
    let mut worst = Worst::new(limit);
    for first in [0, (1 << 34) - 700, (1 << 40) + 1] {
        let level = *levels().last().unwrap();
        for (i, got) in sample::<T>(first, 1500, distribution, &at(level)).into_iter().enumerate() {
            let (exact, scale) = exact(first + i as u64);
            worst
                .see(got, exact, scale, || format!("{distribution:?} {} element {i} from {first}", T::DTYPE));
        }
    }
    println!("{:5.2} ulp  {} {distribution:?}", worst.ulps, T::DTYPE);
}

#[test]
fn uniform_fills_match_the_contract() {
    for (low, high) in [(0.0, 1.0), (-0.05, 0.05), (1.0, 1.5), (-3.0, -1.0), (-1e-3, 2e5)] {
        let distribution = Distribution::Uniform { low, high };
        fills_match::<f64>(ULPS_F64, &distribution, |i| {
            let exact = uniform(low, high, counted_64(low, high, words_64(i)[0]));
            (exact, 0.5 * (low + high))
        });
        // Single precision has bounds of its own.
        let (low, high) = (low as f32 as f64, high as f32 as f64);
        fills_match::<f32>(UNIFORM_F32, &distribution, |i| {
            let exact = uniform(low, high, counted_32(low, high, words_32(i)[0]));
            (exact, 0.5 * (low + high))
        });
    }
}

#[test]
fn normal_fills_match_the_contract() {
    for (mean, stddev) in [(0.0, 1.0), (0.0, 0.02), (-1.5, 0.3), (10.0, 1e-3)] {
        let distribution = Distribution::Normal { mean, stddev };
        let scaled = |z: f64| (mean + stddev * z, mean.abs().max(stddev * z.abs()));
        fills_match::<f64>(ULPS_F64, &distribution, |i| {
            let [own, other] = words_64(i);
            scaled(if i & 1 == 0 { normal_64(own, other)[0] } else { normal_64(other, own)[1] })
        });
        fills_match::<f32>(NORMAL_F32, &distribution, |i| {
            let [own, other] = words_32(i);
            scaled(if i & 1 == 0 { normal_32(own, other)[0] } else { normal_32(other, own)[1] })
        });
    }
}

#[test]
fn truncated_normal_fills_match_the_contract() {
    for (mean, stddev) in [(0.0, 1.0), (0.1, 0.7)] {
        for (lower, upper) in BOUNDS.into_iter().chain(ODD_BOUNDS) {
            let distribution = Distribution::TruncatedNormal { mean, stddev, lower, upper };
            let scaled =
                |z: f64| (mean + stddev * z, mean.abs().max(stddev * size_of_quantile((lower, upper), z)));
            fills_match::<f64>(ULPS_F64, &distribution, |i| {
                scaled(truncated_64((lower, upper), words_64(i)[0]))
            });
            fills_match::<f32>(TRUNCATED_F32, &distribution, |i| {
                scaled(truncated_32((lower, upper), words_32(i)[0]))
            });
        }
    }
}

#[test]
fn uniform_samples_of_extreme_words_match_the_contract() {
    let (low, high) = (-0.25, 1.0);
    let mut worst = [Worst::new(UNIFORM_F32), Worst::new(ULPS_F64)];
    for &level in levels() {
        let uniform_32 = Sampler::new(&Distribution::Uniform { low, high }, Dtype::F32);
        for word in extreme_words(32).into_iter().map(|word| word as u32) {
            let [got, _] = sample_of_words_f32(level, &uniform_32, [word, word]);
            let exact = uniform(low, high, counted_32(low, high, word));
            worst[0].see(got, exact, 0.375, || format!("{level:?} {word:x}"));
            assert!((low..high).contains(&(got as f64)), "{level:?} {word:x}: {got:e} is outside");
        }
        let uniform_64 = Sampler::new(&Distribution::Uniform { low, high }, Dtype::F64);
        for word in extreme_words(64) {
            let [got, _] = sample_of_words_f64(level, &uniform_64, [word, word]);
            worst[1].see(got, uniform(low, high, counted_64(low, high, word)), 0.375, || {
                format!("{level:?} {word:x}")
            });
            assert!((low..high).contains(&got), "{level:?} {word:x}: {got:e} is outside");
        }
    }
    println!("{:.2} ulp in single, {:.2} in double precision", worst[0].ulps, worst[1].ulps);
}

#[test]
fn normal_samples_of_extreme_words_match_the_contract() {
    let mut worst = [Worst::new(NORMAL_F32), Worst::new(ULPS_F64)];
    for &level in levels() {
        let normal = Sampler::new(&Distribution::Normal { mean: 0.0, stddev: 1.0 }, Dtype::F32);
        for radius in extreme_words(32).into_iter().map(|word| word as u32) {
            for angle in extreme_words(32).into_iter().map(|word| word as u32) {
                let got = sample_of_words_f32(level, &normal, [radius, angle]);
                for (got, exact) in got.into_iter().zip(normal_32(radius, angle)) {
                    worst[0].see(got, exact, exact, || format!("{level:?} {radius:x} {angle:x}"));
                }
            }
        }
        let normal = Sampler::new(&Distribution::Normal { mean: 0.0, stddev: 1.0 }, Dtype::F64);
        for radius in extreme_words(64) {
            for angle in extreme_words(64) {
                let got = sample_of_words_f64(level, &normal, [radius, angle]);
                for (got, exact) in got.into_iter().zip(normal_64(radius, angle)) {
                    worst[1].see(got, exact, exact, || format!("{level:?} {radius:x} {angle:x}"));
                }
            }
        }
    }
    println!("{:.2} ulp in single, {:.2} in double precision", worst[0].ulps, worst[1].ulps);
}

#[test]
fn truncated_normal_samples_of_extreme_words_match_the_contract() {
    for bounds @ (lower, upper) in BOUNDS.into_iter().chain(ODD_BOUNDS) {
        let distribution = Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower, upper };
        let [single, double] = [Dtype::F32, Dtype::F64].map(|dtype| Sampler::new(&distribution, dtype));
        let mut worst = [Worst::new(TRUNCATED_F32), Worst::new(ULPS_F64)];
        for &level in levels() {
            for word in extreme_words(32).into_iter().map(|word| word as u32) {
                let [got, _] = sample_of_words_f32(level, &single, [word, word]);
                let exact = truncated_32(bounds, word);
                let what = || format!("{level:?} {bounds:?} {word:x}");
                worst[0].see(got, exact, size_of_quantile(bounds, exact), what);
                assert!((lower..=upper).contains(&(got as f64)), "{}: {got:e} is outside", what());
            }
            for word in extreme_words(64) {
                let [got, _] = sample_of_words_f64(level, &double, [word, word]);
                let exact = truncated_64(bounds, word);
                let what = || format!("{level:?} {bounds:?} {word:x}");
                worst[1].see(got, exact, size_of_quantile(bounds, exact), what);
                assert!((lower..=upper).contains(&got), "{}: {got:e} is outside", what());
            }
        }
        println!("{bounds:?}: {:.2} ulp in single, {:.2} in double precision", worst[0].ulps, worst[1].ulps);
    }
}
