//! Fills do not depend on the floating-point environment of the calling thread, and leave it unchanged.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use super::common::{assert_same, at, distributions, levels, sample_bits};
use crate::distr::Distribution;
use crate::fill::Options;
use crate::{Bf16, Dtype, Element, F16, Level};
use std::arch::asm;
use std::hint::black_box;
use std::num::NonZeroUsize;

/// Environments that together change every result that an environment can change.
#[cfg(target_arch = "x86_64")]
const ENVIRONMENTS: [(&str, u64); 4] = [
    ("flush to zero", 1 << 15),
    ("denormals are zero", 1 << 6),
    ("both", 1 << 15 | 1 << 6),
    ("round toward zero", 3 << 13),
];
#[cfg(target_arch = "aarch64")]
const ENVIRONMENTS: [(&str, u64); 2] = [("flush to zero", 1 << 24), ("round toward zero", 3 << 22)];

/// The control register.
#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let mut mxcsr = 0_u32;
    // SAFETY: the instruction writes four bytes to a local variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
    // Without the status flags.
    mxcsr as u64 & !0x3f
}

#[cfg(target_arch = "x86_64")]
fn write(register: u64) {
    let mxcsr = register as u32;
    // SAFETY: all exceptions stay masked; the tests only compare bits while the environment is not the
    // default.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let fpcr: u64;
    // SAFETY: reads a register that user code may read.
    unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nostack)) };
    fpcr
}

#[cfg(target_arch = "aarch64")]
fn write(register: u64) {
    // SAFETY: as on the other architecture.
    unsafe { asm!("msr fpcr, {}", in(reg) register, options(nostack)) };
}

/// Runs `work` in an environment, which it must leave unchanged.
fn inside<R>(environment: u64, work: impl FnOnce() -> R) -> R {
    let before = read();
    write(before | environment);
    let result = work();
    let after = read();
    write(before);
    assert_eq!(after, before | environment, "the environment was changed");
    result
}

/// Distributions with values that are subnormal in the format, and all others.
fn cases<T: Element>() -> Vec<Distribution> {
    let tiny = match T::DTYPE {
        Dtype::F64 => 1e-310,
        Dtype::F32 | Dtype::Bf16 => 1e-39,
        Dtype::F16 => 1e-6,
    };
    let mut cases = distributions();
    cases.extend([
        Distribution::Normal { mean: 0.0, stddev: tiny },
        Distribution::Uniform { low: -tiny, high: tiny },
        Distribution::TruncatedNormal { mean: 0.0, stddev: tiny, lower: -2.0, upper: 2.0 },
        Distribution::TruncatedNormal { mean: 0.0, stddev: tiny, lower: -1.0, upper: 5.0 },
        // Subnormal in single precision, and zero or nearly so as a half.
        Distribution::Normal { mean: 0.0, stddev: 0.01 * tiny },
    ]);
    cases
}

fn same_in_any_environment<T: Element>() {
    for distribution in cases::<T>() {
        for (length, threads) in [(1001, 1), (800_000, 3)] {
            let expected = sample_bits::<T>(5, length, &distribution, &at(Level::Scalar));
            for &level in levels() {
                if length > 1001 && level != *levels().last().unwrap() {
                    continue;
                }
                let options = Options { threads: NonZeroUsize::new(threads), ..at(level) };
                for (name, environment) in ENVIRONMENTS {
                    let got = inside(environment, || sample_bits::<T>(5, length, &distribution, &options));
                    let what = format!("{level:?} {} {distribution:?}, {name}, {threads} threads", T::DTYPE);
                    assert_same(&got, &expected, what);
                }
            }
        }
    }
}

#[test]
fn the_environments_have_an_effect() {
    let quotient = |a: f32, b: f32| black_box(black_box(a) / black_box(b));
    for (name, environment) in ENVIRONMENTS {
        let flushed = inside(environment, || quotient(f32::MIN_POSITIVE, 4.0));
        let third = inside(environment, || quotient(2.0, 3.0));
        let unlike = flushed == 0.0 || third != quotient(2.0, 3.0) || name == "denormals are zero";
        assert!(unlike, "{name} does nothing");
    }
}

#[test]
fn f32_is_the_same_in_any_environment() {
    same_in_any_environment::<f32>();
}

#[test]
fn f64_is_the_same_in_any_environment() {
    same_in_any_environment::<f64>();
}

#[test]
fn halves_are_the_same_in_any_environment() {
    same_in_any_environment::<F16>();
    same_in_any_environment::<Bf16>();
}
