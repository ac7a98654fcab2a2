//! The single-precision kernels of the normal and the truncated normal against double precision: over evenly
//! spaced words in the tests, over all words by
//!
//! ```text
//! cargo test --release -- --ignored --nocapture accuracy
//! ```
//!
//! Words that differ only in bits that a kernel ignores are taken once. A symmetric function is compared with
//! the reference on one side, and its other side bit by bit with that one.

use super::common::ulps;
use super::oracle::{area_above, area_from_zero, density};
use crate::distr::{Distribution, SampleF32, Sampler, Steps, on_circle_f32, radius_f32};
use crate::simd::{self, Kernel, Simd};
use crate::{Dtype, Level};
use std::f64::consts::FRAC_PI_4;
use std::ops::Range;
use std::thread;

/// Words per block.
const BLOCK: usize = 4096;

/// The distance between words in the tests. Odd, so that all bits change.
const SPARSE: u32 = 9973;

const TWO_31: f64 = (1_u64 << 31) as f64;
const TWO_32: f64 = (1_u64 << 32) as f64;

/// The samples of the words `first + i * step`, each of which is both words of a pair.
fn samples<D: SampleF32>(distribution: &D, first: u32, step: u32, out: &mut [[f32; 2]]) {
    struct Samples<'a, D>(&'a D, u32, u32, &'a mut [[f32; 2]]);
    impl<D: SampleF32> Kernel for Samples<'_, D> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let Samples(distribution, first, step, out) = self;
            let (mut order, mut a, mut b) = ([0_u64; 16], [0_u64; 16], [0_u64; 16]);
            simd::store(s, &mut order, s.zip_order());
            for (turn, out) in out.chunks_mut(S::PAIRS).enumerate() {
                let number = s.add_u64(s.splat_u64((turn * S::PAIRS) as u64), s.zip_order());
                let word =
                    s.add_u64(s.mul_even_u32(number, s.splat_u64(step as u64)), s.splat_u64(first as u64));
                let word = s.and(word, s.splat_u64(0xffff_ffff));
                let words = s.or(word, s.shl_u64(word, 32));
                let (even, odd) = distribution.steps(s, words, words);
                let (even, odd) = distribution.sample(s, even, odd);
                simd::store(s, &mut a, s.f32_to_bits(even));
                simd::store(s, &mut b, s.f32_to_bits(odd));
                for (lane, &place) in order[..S::PAIRS].iter().enumerate() {
                    if let Some(out) = out.get_mut(place as usize) {
                        *out = [a[lane], b[lane]].map(|x| f32::from_bits(x as u32));
                    }
                }
            }
        }
    }
    Level::current().run(Samples(distribution, first, step, out));
}

/// The results of a kernel.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    /// The greatest error in ulp and the word that has it.
    worst: (f64, u32),
    /// The greatest step in the wrong direction, in ulp.
    backward: f64,
    /// The greatest result.
    reach: f32,
    count: u64,
    /// The sums of the second and the fourth powers of the results.
    sums: [f64; 2],
}

impl Report {
    fn see(&mut self, word: u32, got: f32, exact: f64) {
        self.see_scaled(word, got, exact, exact);
    }

    /// With the error in ulp of a number of the size of `scale`, if that is greater.
    fn see_scaled(&mut self, word: u32, got: f32, exact: f64, scale: f64) {
        assert!(got.is_finite(), "word {word:x} gives {got}");
        let error = ulps(got, exact, scale);
        if error > self.worst.0 {
            self.worst = (error, word);
        }
        self.reach = self.reach.max(got);
        self.count += 1;
        let square = (got as f64).powi(2);
        self.sums[0] += square;
        self.sums[1] += square * square;
    }

    fn step_back(&mut self, from: f32, to: f32) {
        if to < from {
            self.backward = self.backward.max(ulps(to, from as f64, from as f64));
        }
    }

    fn join(self, other: Report) -> Report {
        Report {
            worst: if other.worst.0 > self.worst.0 { other.worst } else { self.worst },
            backward: self.backward.max(other.backward),
            reach: self.reach.max(other.reach),
            count: self.count + other.count,
            sums: [self.sums[0] + other.sums[0], self.sums[1] + other.sums[1]],
        }
    }

    /// The means of the second and the fourth powers.
    fn moments(&self) -> [f64; 2] {
        self.sums.map(|sum| sum / self.count as f64)
    }
}

/// Calls `look` for blocks of `count` words, on several threads, and joins the reports.
fn in_blocks(count: u64, look: impl Fn(Range<u64>) -> Report + Sync) -> Report {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let blocks = count.div_ceil(BLOCK as u64);
    let part = |thread: u64| {
        (blocks * thread / threads..blocks * (thread + 1) / threads)
            .map(|block| look(block * BLOCK as u64..((block + 1) * BLOCK as u64).min(count)))
            .fold(Report::default(), Report::join)
    };
    thread::scope(|scope| {
        let part = &part;
        let others: Vec<_> = (0..threads).map(|i| scope.spawn(move || part(i))).collect();
        others.into_iter().map(|thread| thread.join().unwrap()).fold(Report::default(), Report::join)
    })
}

/// The radius of a word, twice.
#[derive(Clone, Copy)]
struct Radius;

impl Steps for Radius {}

impl SampleF32 for Radius {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32) {
        (radius_f32(s, even), radius_f32(s, odd))
    }
}

/// The point on the unit circle of a word.
#[derive(Clone, Copy)]
struct Circle;

impl Steps for Circle {}

impl SampleF32 for Circle {
    #[inline(always)]
    fn sample<S: Simd>(&self, s: S, even: S::Int, _odd: S::Int) -> (S::F32, S::F32) {
        on_circle_f32(s, even)
    }
}

/// Every `sparse`-th radius. The two lowest bits of a word are ignored.
fn radii(sparse: u32) -> Report {
    let step = 4 * sparse;
    in_blocks((1 << 30) / sparse as u64, |range| {
        let mut report = Report::default();
        // One more, to see the step to the next block.
        let mut got = vec![[0.0; 2]; (range.end - range.start) as usize + 1];
        let first = (range.start as u32).wrapping_mul(step);
        samples(&Radius, first, step, &mut got);
        for (i, pair) in got.windows(2).enumerate() {
            let word = first + i as u32 * step;
            let k = (word >> 1 | 1) as f64;
            let ln = if k > 0.5 * TWO_31 { (-(TWO_31 - k) / TWO_31).ln_1p() } else { (k / TWO_31).ln() };
            report.see(word, pair[0][0], (-2.0 * ln).sqrt());
            // The radius decreases, except after the last word.
            if word.checked_add(step).is_some() {
                report.step_back(pair[1][0], pair[0][0]);
            }
        }
        report
    })
}

/// Every `sparse`-th point on the circle: first the coordinate along the half-axis, then the one across.
fn circle(sparse: u32) -> [Report; 2] {
    const HALF: u32 = 1 << 29;
    let look = |coordinate: usize| {
        in_blocks((HALF / sparse) as u64, move |range| {
            let mut report = Report::default();
            let length = (range.end - range.start) as usize;
            let first = range.start as u32 * sparse;
            let mut got = vec![[0.0; 2]; length];
            samples(&Circle, first, sparse, &mut got);
            for (i, &place) in got.iter().enumerate() {
                let word = first + i as u32 * sparse;
                let (across, along) = ((word << 2 | 2) as f64 / TWO_31 * FRAC_PI_4).sin_cos();
                report.see(word, place[coordinate], [along, across][coordinate]);
            }
            // The same angle to the other side, and both at the other three half-axes.
            let mut other = vec![[0.0; 2]; length];
            for turned in 1..8 {
                let [opposite, swapped, mirrored] = [4, 2, 1].map(|bit| turned & bit != 0);
                let flip = (opposite as u32) << 31 | (swapped as u32) << 30;
                let (first, step) =
                    if mirrored { (!first & 0x3fff_ffff, sparse.wrapping_neg()) } else { (first, sparse) };
                samples(&Circle, first | flip, step, &mut other);
                for (&[along, across], &other) in got.iter().zip(&other) {
                    let along = if opposite { -along } else { along };
                    let across = if mirrored { -across } else { across };
                    let expected = if swapped { [across, along] } else { [along, across] };
                    assert_eq!(
                        other.map(f32::to_bits),
                        expected.map(f32::to_bits),
                        "not symmetric at {first:x}"
                    );
                }
            }
            report
        })
    };
    [look(0), look(1)]
}

/// Every `sparse`-th positive element between the bounds `-bound` and `bound`. The lowest bit of a word is
/// ignored.
fn truncated(bound: f64, sparse: u32) -> Report {
    let distribution = Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower: -bound, upper: bound };
    match Sampler::new(&distribution, Dtype::F32) {
        Sampler::Central(kernel) => truncated_by(&kernel, bound, sparse),
        Sampler::SymmetricTo3(kernel) => truncated_by(&kernel, bound, sparse),
        Sampler::Symmetric(kernel) => truncated_by(&kernel, bound, sparse),
        _ => unreachable!("the bounds are symmetric"),
    }
}

fn truncated_by<D: SampleF32 + Sync>(kernel: &D, bound: f64, sparse: u32) -> Report {
    let step = 2 * sparse;
    let (inside, outside) = (2.0 * area_from_zero(bound), 2.0 * area_above(bound));
    // One step of Newton's method from the result under test: if that is accurate to seven digits, the step
    // gives fourteen.
    let exact = |word: u32, x: f64| {
        let k = (word | 1) as f64;
        let missing = if k < 0.75 * TWO_31 {
            k / TWO_31 * inside - 2.0 * area_from_zero(x)
        } else {
            2.0 * area_above(x) - (outside + (TWO_31 - k) / TWO_31 * inside)
        };
        let step = missing / (2.0 * density(x));
        // The derivative of the density is -x times the density.
        x + step * (1.0 + 0.5 * x * step)
    };
    in_blocks((1 << 30) / sparse as u64, |range| {
        let mut report = Report::default();
        let length = (range.end - range.start) as usize;
        let first = range.start as u32 * step;
        let (mut got, mut negative) = (vec![[0.0; 2]; length + 1], vec![[0.0; 2]; length]);
        samples(kernel, first, step, &mut got);
        samples(kernel, !first, step.wrapping_neg(), &mut negative);
        for (i, pair) in got.windows(2).enumerate() {
            let (word, x) = (first + i as u32 * step, pair[0][0]);
            report.see(word, x, exact(word, x as f64));
            assert!(x >= 0.0 && x as f64 <= bound, "word {word:x} gives {x}");
            assert_eq!((-x).to_bits(), negative[i][0].to_bits(), "not symmetric at {word:x}");
            if (word as u64 + step as u64) < 1 << 31 {
                report.step_back(x, pair[1][0]);
            }
        }
        report
    })
}

/// Every `sparse`-th element between bounds that are not symmetric, of one of the single-precision forms. The
/// lowest bit of a word is ignored.
fn truncated_between(bounds @ (lower, upper): (f64, f64), sparse: u32) -> Report {
    let distribution = Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower, upper };
    match Sampler::new(&distribution, Dtype::F32) {
        Sampler::To3(kernel) => truncated_between_by(&kernel, bounds, sparse),
        Sampler::Single(kernel) => truncated_between_by(&kernel, bounds, sparse),
        other => unreachable!("{other:?}"),
    }
}

fn truncated_between_by<D: SampleF32 + Sync>(kernel: &D, (lower, upper): (f64, f64), sparse: u32) -> Report {
    let step = 2 * sparse;
    let ends = [area_from_zero(lower), area_from_zero(upper)];
    let (below, above) = (area_above(-lower), area_above(upper));
    let area = if lower > 0.0 {
        area_above(lower) - above
    } else if upper < 0.0 {
        area_above(-upper) - below
    } else {
        ends[1] - ends[0]
    };
    // As for symmetric bounds, from the end that gives the area most precisely.
    let exact = |word: u32, x: f64| {
        let k = (word | 1) as f64;
        let (left, right) = (k / TWO_32, (TWO_32 - k) / TWO_32);
        let missing = if x > 1.0 {
            area_above(x) - (above + right * area)
        } else if x < -1.0 {
            below + left * area - area_above(-x)
        } else if ends[0].abs() + left * area < ends[1].abs() + right * area {
            ends[0] + left * area - area_from_zero(x)
        } else {
            ends[1] - right * area - area_from_zero(x)
        };
        let step = missing / density(x);
        x + step * (1.0 + 0.5 * x * step)
    };
    in_blocks((1 << 31) / sparse as u64, |range| {
        let mut report = Report::default();
        let first = range.start as u32 * step;
        let mut got = vec![[0.0; 2]; (range.end - range.start) as usize + 1];
        samples(kernel, first, step, &mut got);
        for (i, pair) in got.windows(2).enumerate() {
            let (word, x) = (first + i as u32 * step, pair[0][0]);
            let exact = exact(word, x as f64);
            // Nearer to zero than this the reference is less precise.
            report.see_scaled(word, x, exact, exact.abs().max(1e-8));
            assert!(x as f64 >= lower && x as f64 <= upper, "word {word:x} gives {x}");
            if word.checked_add(step).is_some() {
                report.step_back(x, pair[1][0]);
            }
        }
        report
    })
}

/// The greatest errors over all words, in ulp, rounded up.
const RADIUS: f64 = 3.5;
const ALONG: f64 = 2.0;
const ACROSS: f64 = 2.5;
const CENTRAL: f64 = 10.0;
const TO_3: f64 = 6.5;
const SYMMETRIC: f64 = 5.5;
const ANY: f64 = 8.0;
/// The greatest step back from one word to the next, in ulp.
const BACKWARD: f64 = 4.0;

fn check(report: &Report, limit: f64, what: &str) {
    assert!(report.worst.0 <= limit, "{what}: {report:?}");
    assert!(report.backward <= BACKWARD, "{what}: {report:?}");
}

#[test]
fn normal() {
    check(&radii(SPARSE), RADIUS, "radius");
    let [along, across] = circle(SPARSE);
    check(&along, ALONG, "along");
    check(&across, ACROSS, "across");
}

#[test]
fn truncated_normal() {
    for (bound, limit) in [
        (0.01, CENTRAL),
        (1.0, CENTRAL),
        (2.0, CENTRAL),
        (2.1, TO_3),
        (3.0, TO_3),
        (3.1, SYMMETRIC),
        (100.0, SYMMETRIC),
        (f64::INFINITY, SYMMETRIC),
    ] {
        let report = truncated(bound, SPARSE);
        println!("bound {bound}: {report:?}");
        check(&report, limit, &format!("bound {bound}"));
    }
}

#[test]
fn truncated_normal_with_other_bounds() {
    let infinity = f64::INFINITY;
    for (bounds, limit) in [
        ((-1.0, 2.0), TO_3),
        ((-3.0, 1e-5), TO_3),
        ((0.0, 3.0), TO_3),
        ((0.3, 0.33), TO_3),
        ((-3.0, -2.0), TO_3),
        ((-1e-9, 2e-9), TO_3),
        ((-1e-17, 1.0), TO_3),
        ((-1.0, 4.0), ANY),
        ((0.0, infinity), ANY),
        ((1.0, infinity), ANY),
        ((-infinity, 1.0), ANY),
        ((-infinity, 5.0), ANY),
        ((-infinity, -4.0), ANY),
        ((4.0, 4.25), ANY),
        ((-1e-9, 9.0), ANY),
    ] {
        let report = truncated_between(bounds, SPARSE);
        println!("bounds {bounds:?}: {report:?}");
        check(&report, limit, &format!("bounds {bounds:?}"));
    }
}

#[test]
#[ignore = "takes minutes"]
fn of_all_words() {
    let line = |name: &str, report: &Report| {
        let Report { worst: (worst, word), backward, reach, count, .. } = report;
        println!("| {name} | {count} | {worst:.3} | {word:08x} | {backward:.2} | {reach:.7} |");
    };
    println!(
        "| kernel | words looked at | greatest error, ulp | at word | greatest step back, ulp | greatest result |"
    );
    println!("|---|---|---|---|---|---|");
    let radius = radii(1);
    line("radius", &radius);
    let [along, across] = circle(1);
    line("along the half-axis", &along);
    line("across the half-axis", &across);
    let bounds = [2.0, 3.0, f64::INFINITY];
    let reports = bounds.map(|bound| {
        let report = truncated(bound, 1);
        line(&format!("truncated at {bound}"), &report);
        report
    });
    let others = [((-1.0, 2.0), TO_3), ((0.0, f64::INFINITY), ANY), ((1.0, f64::INFINITY), ANY)];
    let others = others.map(|(bounds, limit)| {
        let report = truncated_between(bounds, 1);
        line(&format!("truncated to {bounds:?}"), &report);
        (bounds, limit, report)
    });

    println!("\n| distribution | variance | its relative error | kurtosis |");
    println!("|---|---|---|---|");
    // The radius and the angle are independent, and each coordinate is along the half-axis half of the time.
    let [r2, r4] = radius.moments();
    let [c2, c4] = [0, 1].map(|i| 0.5 * (along.moments()[i] + across.moments()[i]));
    let variance = r2 * c2;
    println!("| normal | {variance:.10} | {:.2e} | {:.9} |", variance - 1.0, r4 * c4 / (variance * variance));
    for (bound, report) in bounds.into_iter().zip(&reports) {
        let [variance, fourth] = report.moments();
        let edge = if bound.is_infinite() { 0.0 } else { bound * density(bound) / area_from_zero(bound) };
        let error = variance / (1.0 - edge) - 1.0;
        println!(
            "| truncated at {bound} | {variance:.10} | {error:.2e} | {:.9} |",
            fourth / (variance * variance)
        );
    }
    println!(
        "\nThe means and all odd moments of the symmetric distributions are zero: they are symmetric to the bit."
    );

    check(&radius, RADIUS, "radius");
    check(&along, ALONG, "along");
    check(&across, ACROSS, "across");
    check(&reports[0], CENTRAL, "truncated at 2");
    check(&reports[1], TO_3, "truncated at 3");
    check(&reports[2], SYMMETRIC, "not truncated");
    others
        .iter()
        .for_each(|(bounds, limit, report)| check(report, *limit, &format!("truncated to {bounds:?}")));
    assert!(radius.reach > 6.2 && reports[2].reach > 6.2);
}
