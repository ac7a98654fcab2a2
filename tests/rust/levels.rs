//! Every level gives the bits of the scalar one, for every length, offset and number of threads.

use super::common::{
    assert_same, at, bits_of, distributions, filled, levels, part_of_the_largest, sample_bits,
};
use crate::distr::Distribution;
use crate::fill::{self, Options};
use crate::{Bf16, Element, F16, Key, Level};
use std::num::NonZeroUsize;

/// Where fills begin: at all positions in a block, before the upper word of the block number changes (at 2^33
/// or 2^34), and near the last element.
const OFFSETS: [u64; 12] = [
    0,
    1,
    2,
    3,
    5,
    64,
    4097,
    (1 << 33) - 7,
    (1 << 34) - 7,
    (1 << 40) + 1,
    (1 << 62) - 4000,
    (1 << 63) - 5001,
];

/// All lengths up to a few groups of registers, and some longer ones.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain([511, 512, 513, 1000, 2047, 3001, 4095, 4096, 4099, 5000])
}

fn levels_agree<T: Element>() {
    for distribution in distributions() {
        for first in OFFSETS {
            let expected = sample_bits::<T>(first, 5000, &distribution, &at(Level::Scalar));
            // Including the scalar level: a shorter fill must be the beginning of a longer one.
            for &level in levels() {
                for length in lengths() {
                    let got = sample_bits::<T>(first, length, &distribution, &at(level));
                    let what = format!("{level:?} {} {distribution:?} {length} from {first}", T::DTYPE);
                    assert_same(&got, &expected[..length], what);
                }
            }
        }
    }
}

#[test]
fn levels_agree_f32() {
    levels_agree::<f32>();
}

#[test]
fn levels_agree_f64() {
    levels_agree::<f64>();
}

#[test]
fn levels_agree_f16() {
    levels_agree::<F16>();
}

#[test]
fn levels_agree_bf16() {
    levels_agree::<Bf16>();
}

/// Enough elements for seven threads, and a few more.
fn enough_for_threads<T>() -> usize {
    (4 << 20) / size_of::<T>() + 13
}

fn threads_and_levels_agree<T: Element>() {
    let length = enough_for_threads::<T>();
    let first = (1 << 34) - length as u64 / 2 - 1;
    for distribution in [
        Distribution::Uniform { low: -0.05, high: 0.05 },
        Distribution::Normal { mean: 0.0, stddev: 1.0 },
        Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower: -1.0, upper: 3.0 },
    ] {
        let expected = sample_bits::<T>(first, length, &distribution, &at(Level::Scalar));
        for &level in levels() {
            for threads in [1, 2, 3, 7] {
                let options = Options { threads: NonZeroUsize::new(threads), ..at(level) };
                let got = sample_bits::<T>(first, length, &distribution, &options);
                let what = format!("{level:?} {} {distribution:?} {threads} threads", T::DTYPE);
                assert_same(&got, &expected, what);
            }
        }
    }
}

#[test]
fn threads_agree() {
    threads_and_levels_agree::<f32>();
    threads_and_levels_agree::<f64>();
    threads_and_levels_agree::<F16>();
    threads_and_levels_agree::<Bf16>();
}

/// From 32 MiB on stores are non-temporal, from the first cache line that begins a block.
fn streamed_fills_agree<T: Element>() {
    let length = (32 << 20) / size_of::<T>() + 77;
    let distribution = Distribution::Normal { mean: 0.25, stddev: 2.0 };
    let mut memory = vec![T::default(); length + 9];
    for first in [0, 3] {
        let expected = sample_bits::<T>(first, length, &distribution, &at(Level::Scalar));
        // The scalar level has no such stores.
        for &level in levels().iter().filter(|&&level| level != Level::Scalar) {
            for misaligned in [0, 1, 9] {
                let out = &mut memory[misaligned..misaligned + length];
                out.fill(T::default());
                let view = ndarray::ArrayViewMut1::from(&mut *out).into_dyn();
                let window = part_of_the_largest(first, length);
                let key = super::common::KEY;
                fill::sample(fill::as_uninit(view), &window, key, &distribution, &at(level)).unwrap();
                let what = format!("{level:?} {} from {first}, {misaligned} off", T::DTYPE);
                assert_same(&bits_of(out), &expected, what);
            }
        }
    }
}

#[test]
fn fills_past_the_caches_agree() {
    streamed_fills_agree::<f32>();
    streamed_fills_agree::<f64>();
    streamed_fills_agree::<F16>();
    streamed_fills_agree::<Bf16>();
}

/// The `f32` elements, rounded once by an independent library; a uniform element that rounds to its upper
/// bound becomes the number below.
fn halves_are_rounded<T: Element>(round: impl Fn(f32) -> u64) {
    for distribution in distributions() {
        for &level in levels() {
            let single = super::common::sample::<f32>(11, 50_000, &distribution, &at(level));
            let half = sample_bits::<T>(11, 50_000, &distribution, &at(level));
            for (i, (&x, &half)) in single.iter().zip(&half).enumerate() {
                let mut expected = round(x);
                if let Distribution::Uniform { high, .. } = distribution
                    && expected == round(high as f32)
                {
                    // Toward zero for a positive number.
                    expected = if high > 0.0 { expected - 1 } else { expected + 1 };
                }
                assert_eq!(half, expected, "{level:?} {} {distribution:?} element {i}, {x:e}", T::DTYPE);
            }
        }
    }
}

#[test]
fn halves_are_singles_rounded_to_nearest_even() {
    halves_are_rounded::<F16>(|x| half::f16::from_f32(x).to_bits() as u64);
    halves_are_rounded::<Bf16>(|x| half::bf16::from_f32(x).to_bits() as u64);
}

#[test]
fn sparse_matrices_agree() {
    for (rows, columns) in [(1, 1), (7, 300), (300, 7), (1000, 513)] {
        let window = crate::shape::Window::whole(&[rows, columns]).unwrap();
        let key = Key { seed: 5, stream: 6 };
        let zeros = rows as u64 / 3;
        let fill = |options: &Options<'_>| -> Vec<u64> {
            let matrix = filled::<f32>(rows * columns, |out| {
                let out = out.into_shape_with_order(vec![rows, columns]).unwrap();
                fill::sparse(out, &window, key, 0.5, zeros, options)
            });
            bits_of(&matrix)
        };
        let expected = fill(&at(Level::Scalar));
        for column in 0..columns {
            let count = expected.iter().skip(column).step_by(columns).filter(|&&x| x == 0).count();
            assert_eq!(count as u64, zeros, "column {column} of {rows} x {columns}");
        }
        for &level in levels() {
            for threads in [1, 2, 7] {
                let options = Options { threads: NonZeroUsize::new(threads), ..at(level) };
                assert_same(
                    &fill(&options),
                    &expected,
                    format!("{level:?} {rows} x {columns}, {threads} threads"),
                );
            }
        }
    }
}

#[test]
fn constants_agree() {
    fn agree<T: Element>(value: f64) {
        let value = T::from_f64(value);
        for &level in levels() {
            for length in lengths().chain([enough_for_threads::<T>()]) {
                let got = filled(length, |out| fill::constant::<T>(out, value, &at(level)));
                let expected = vec![value.to_bits(); length];
                assert_same(&bits_of(&got), &expected, format!("{level:?} {} {length}", T::DTYPE));
            }
        }
    }
    for value in [0.0, -0.0, 1.0, 0.1, f64::NEG_INFINITY, f64::NAN] {
        agree::<f32>(value);
        agree::<f64>(value);
        agree::<F16>(value);
        agree::<Bf16>(value);
    }
}
