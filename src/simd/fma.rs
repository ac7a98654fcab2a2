//! Fused multiply-adds of single numbers, rounded once on every platform. The C library of MinGW, which Rust calls
//! where no instruction is certain to be there, rounds twice, so there those of the crate libm are used.

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(all(windows, target_env = "gnu"))]
    return libm::fmaf(a, b, c);
    #[cfg(not(all(windows, target_env = "gnu")))]
    return a.mul_add(b, c);
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    #[cfg(all(windows, target_env = "gnu"))]
    return libm::fma(a, b, c);
    #[cfg(not(all(windows, target_env = "gnu")))]
    return a.mul_add(b, c);
}
