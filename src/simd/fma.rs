//! Fused multiply-adds of single numbers, `a * b + c`, rounded once on every platform. The C library of MinGW, which
//! Rust calls where no instruction is certain to be there, rounds twice, so the crate libm takes its place.

#[cfg(all(windows, target_env = "gnu"))]
pub(crate) use libm::{fma as fma_f64, fmaf as fma_f32};

#[cfg(not(all(windows, target_env = "gnu")))]
#[inline(always)]
pub(crate) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

#[cfg(not(all(windows, target_env = "gnu")))]
#[inline(always)]
pub(crate) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}
