//! What the tests share: levels, distributions, fills into vectors, and kernels for chosen words.

use crate::distr::{Distribution, SampleF32, SampleF64, Sampler};
use crate::fill::buffer::Scratch;
use crate::fill::{self, Options};
use crate::linalg;
use crate::shape::{MAX_ELEMENTS, Window};
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Key, Level};
use ndarray::{Array1, ArrayViewMutD};
use std::mem::MaybeUninit;

/// The levels of this architecture that the CPU has. Prints those that it lacks.
pub fn levels() -> &'static [Level] {
    let all: &[Level] = if cfg!(target_arch = "x86_64") {
        &[Level::Avx2, Level::Avx512]
    } else if cfg!(target_arch = "aarch64") {
        &[Level::Neon]
    } else {
        &[]
    };
    for level in all.iter().filter(|level| !Level::available().contains(level)) {
        eprintln!("skipped: level {}, which this CPU lacks", level.name());
    }
    Level::available()
}

/// The default options at a level.
pub fn at(level: Level) -> Options<'static> {
    Options { level: Some(level), ..Options::default() }
}

/// A key of which no word is zero.
pub const KEY: Key = Key { seed: 0x0123_4567_89ab_cdef, stream: 0xfedc_ba98_7654_3210 };

/// Bounds of truncated normal distributions: symmetric, one-sided, deep, narrow, none.
pub const BOUNDS: [(f64, f64); 12] = [
    (-2.0, 2.0),
    (-3.0, 3.0),
    (f64::NEG_INFINITY, f64::INFINITY),
    (0.0, f64::INFINITY),
    (f64::NEG_INFINITY, 0.5),
    (5.0, 6.0),
    (-0.01, 0.01),
    (8.0, f64::INFINITY),
    (-1.0, 2.0),
    (-1.0, 3.0),
    (40.0, 41.0),
    (-6.0, -5.0),
];

/// Distributions that together take every path of every kernel.
pub fn distributions() -> Vec<Distribution> {
    distributions_about(0.1, 0.7)
}

/// The same, with this mean and standard deviation where they are truncated.
pub fn distributions_about(mean: f64, stddev: f64) -> Vec<Distribution> {
    let mut all = vec![
        Distribution::Uniform { low: -0.05, high: 0.05 },
        Distribution::Uniform { low: 1.0, high: 1.5 },
        Distribution::Normal { mean: 0.0, stddev: 1.0 },
        Distribution::Normal { mean: -1.5, stddev: 0.02 },
    ];
    all.extend(BOUNDS.map(|(lower, upper)| Distribution::TruncatedNormal { mean, stddev, lower, upper }));
    all
}

/// A window of `length` elements from `first` on into the largest possible tensor.
pub fn part_of_the_largest(first: u64, length: usize) -> Window {
    Window::new(&[MAX_ELEMENTS], &[first], &[length]).unwrap()
}

/// A vector that `fill` fills.
pub fn filled<T: Copy + Default>(
    length: usize,
    fill: impl FnOnce(ArrayViewMutD<'_, MaybeUninit<T>>) -> crate::Result<()>,
) -> Vec<T> {
    let mut out = Array1::from_elem(length, MaybeUninit::new(T::default()));
    fill(out.view_mut().into_dyn()).unwrap();
    // SAFETY: every element was initialized when the array was made.
    out.into_iter().map(|x| unsafe { x.assume_init() }).collect()
}

/// The bits of `length` samples from number `first` on.
pub fn sample_bits<T: Element>(
    first: u64,
    length: usize,
    distribution: &Distribution,
    options: &Options<'_>,
) -> Vec<u64> {
    bits_of(&sample::<T>(first, length, distribution, options))
}

/// `length` samples from number `first` on.
pub fn sample<T: Element>(
    first: u64,
    length: usize,
    distribution: &Distribution,
    options: &Options<'_>,
) -> Vec<T> {
    let window = part_of_the_largest(first, length);
    filled(length, |out| fill::sample(out, &window, KEY, distribution, options))
}

/// The bits of elements: unlike numbers, they tell the two zeros apart, and a NaN equals itself.
pub fn bits_of<T: Element>(elements: &[T]) -> Vec<u64> {
    elements.iter().map(|x| x.to_bits()).collect()
}

/// Asserts that two sequences are equal; otherwise names the first difference.
pub fn assert_same(got: &[u64], expected: &[u64], what: impl std::fmt::Display) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    if let Some(i) = (0..got.len()).find(|&i| got[i] != expected[i]) {
        panic!("{what}: element {i} of {} is {:x} and not {:x}", got.len(), got[i], expected[i]);
    }
}

/// Random numbers from another generator than the one under test: SplitMix64 (Steele, Lea, Flood, OOPSLA
/// 2014).
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// From 0 to `end - 1`. (Not quite evenly, which does not matter here.)
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Words at which a kernel may fail: no bits set, all, one, all but one, and those around half the range.
pub fn extreme_words(bits: u32) -> Vec<u64> {
    let all = u64::MAX >> (64 - bits);
    let half = 1 << (bits - 1);
    let mut words = vec![0, 1, 2, 3, all, all - 1, all - 2, half - 2, half - 1, half, half + 1, half + 2];
    for n in 0..bits {
        words.extend([1 << n, all ^ 1 << n, (1 << n) - 1, all << n & all]);
    }
    words.sort_unstable();
    words.dedup();
    words
}

/// The samples of a pair of words in single precision at a level, which must be the same in all lanes.
pub fn sample_of_words_f32(level: Level, sampler: &Sampler, words: [u32; 2]) -> [f32; 2] {
    struct Words<D>(D, [u32; 2]);
    impl<D: SampleF32> Kernel for Words<D> {
        type Output = [f32; 2];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; 2] {
            let (a, b) = self.0.steps(s, s.splat_u32(self.1[0]), s.splat_u32(self.1[1]));
            let (a, b) = self.0.sample(s, a, b);
            [a, b].map(|x| {
                let lanes = lanes(s, s.f32_to_bits(x));
                assert!(lanes.iter().all(|&lane| lane == lanes[0]), "lanes differ: {lanes:x?}");
                assert_eq!(lanes[0] as u32, (lanes[0] >> 32) as u32, "even and odd lanes differ");
                f32::from_bits(lanes[0] as u32)
            })
        }
    }
    match *sampler {
        Sampler::SymmetricUniformF32(distribution) => level.run(Words(distribution, words)),
        Sampler::UniformF32(distribution) => level.run(Words(distribution, words)),
        Sampler::NormalF32(distribution) => level.run(Words(distribution, words)),
        Sampler::Central(distribution) => level.run(Words(distribution, words)),
        Sampler::SymmetricTo3(distribution) => level.run(Words(distribution, words)),
        Sampler::Symmetric(distribution) => level.run(Words(distribution, words)),
        Sampler::To3(distribution) => level.run(Words(distribution, words)),
        Sampler::Single(distribution) => level.run(Words(distribution, words)),
        Sampler::GeneralF32(distribution) => level.run(Words(distribution, words)),
        _ => panic!("{sampler:?} is not of single precision"),
    }
}

/// The same in double precision.
pub fn sample_of_words_f64(level: Level, sampler: &Sampler, words: [u64; 2]) -> [f64; 2] {
    struct Words<D>(D, [u64; 2]);
    impl<D: SampleF64> Kernel for Words<D> {
        type Output = [f64; 2];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f64; 2] {
            let (a, b) = self.0.steps(s, s.splat_u64(self.1[0]), s.splat_u64(self.1[1]));
            let (a, b) = self.0.sample(s, a, b);
            [a, b].map(|x| {
                let lanes = lanes(s, s.f64_to_bits(x));
                assert!(lanes.iter().all(|&lane| lane == lanes[0]), "lanes differ: {lanes:x?}");
                f64::from_bits(lanes[0])
            })
        }
    }
    match *sampler {
        Sampler::SymmetricUniformF64(distribution) => level.run(Words(distribution, words)),
        Sampler::UniformF64(distribution) => level.run(Words(distribution, words)),
        Sampler::NormalF64(distribution) => level.run(Words(distribution, words)),
        Sampler::CentralF64(distribution) => level.run(Words(distribution, words)),
        Sampler::GeneralF64(distribution) => level.run(Words(distribution, words)),
        _ => panic!("{sampler:?} is not of double precision"),
    }
}

/// The 64-bit lanes of a register, in order.
#[inline(always)]
pub fn lanes<S: Simd>(s: S, a: S::Int) -> Vec<u64> {
    let mut lanes = vec![0_u64; S::PAIRS];
    simd::store(s, &mut lanes, a);
    lanes
}

/// The distance between two numbers in units in the last place of a number of the size of `scale`: for a sum,
/// its greatest term. Subnormal numbers have the unit of the least normal one.
pub fn ulps<T: Element>(got: T, exact: f64, scale: f64) -> f64 {
    let (precision, least) = match size_of::<T>() {
        4 => (23, -126),
        8 => (52, -1022),
        _ => panic!("the halves are compared bit by bit"),
    };
    let size = exact.abs().max(scale.abs()).max(2_f64.powi(least));
    // The exponent from the bits, since a logarithm might be rounded up to the next integer.
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    (got.to_f64() - exact).abs() * 2_f64.powi(precision - exponent)
}

/// The part of an orthogonal matrix that `window` names.
pub fn orthogonal<T: Element>(
    out: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    column_axis: usize,
    gain: f64,
    options: &Options<'_>,
) -> crate::Result<()> {
    let bytes = linalg::scratch_bytes(T::DTYPE, window.shape(), window.extent(), column_axis, options);
    linalg::orthogonal(out, window, column_axis, KEY, gain, &mut Scratch::new(bytes)?, options)
}
