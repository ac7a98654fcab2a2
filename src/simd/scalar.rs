//! The scalar level: one pair of lanes at a time, in plain Rust. It defines every operation.

use super::fma::{fma_f32, fma_f64};
use super::{Kernel, Simd};
use crate::dtype::F16;

/// The token of the scalar level, which every machine has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// The 32-bit lanes of a pair, even first.
#[inline(always)]
fn lanes(a: u64) -> [u32; 2] {
    [a as u32, (a >> 32) as u32]
}

#[inline(always)]
fn pair([even, odd]: [u32; 2]) -> u64 {
    even as u64 | (odd as u64) << 32
}

#[inline(always)]
fn zip2<A: Copy, B>(a: [A; 2], b: [A; 2], f: impl Fn(A, A) -> B) -> [B; 2] {
    [f(a[0], b[0]), f(a[1], b[1])]
}

impl Simd for Scalar {
    const STREAMS: bool = false;
    const PAIRS: usize = 1;
    type Int = u64;
    type F32 = [f32; 2];
    type F64 = f64;
    type M32 = [bool; 2];
    type M64 = bool;

    type Wide = Scalar;

    #[inline(always)]
    fn wide(self) -> Self::Wide {
        self
    }
    // Not inlined, so that a kernel that runs others has one copy of each.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat_u32(self, x: u32) -> u64 {
        pair([x, x])
    }
    #[inline(always)]
    fn splat_u64(self, x: u64) -> u64 {
        x
    }
    #[inline(always)]
    fn lane_order(self) -> u64 {
        0
    }
    #[inline(always)]
    fn zip_order(self) -> u64 {
        0
    }

    #[inline(always)]
    fn add_u32(self, a: u64, b: u64) -> u64 {
        pair(zip2(lanes(a), lanes(b), u32::wrapping_add))
    }
    #[inline(always)]
    fn sub_u32(self, a: u64, b: u64) -> u64 {
        pair(zip2(lanes(a), lanes(b), u32::wrapping_sub))
    }
    #[inline(always)]
    fn abs_i32(self, a: u64) -> u64 {
        pair(lanes(a).map(|x| (x as i32).wrapping_abs() as u32))
    }
    #[inline(always)]
    fn shl_u32(self, a: u64, n: u32) -> u64 {
        pair(lanes(a).map(|x| x << n))
    }
    #[inline(always)]
    fn shr_u32(self, a: u64, n: u32) -> u64 {
        pair(lanes(a).map(|x| x >> n))
    }
    #[inline(always)]
    fn sar_i32(self, a: u64, n: u32) -> u64 {
        pair(lanes(a).map(|x| (x as i32 >> n) as u32))
    }
    #[inline(always)]
    fn add_u64(self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub_u64(self, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn shl_u64(self, a: u64, n: u32) -> u64 {
        a << n
    }
    #[inline(always)]
    fn shr_u64(self, a: u64, n: u32) -> u64 {
        a >> n
    }
    #[inline(always)]
    fn and(self, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor(self, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn xor3(self, a: u64, b: u64, c: u64) -> u64 {
        a ^ b ^ c
    }
    #[inline(always)]
    fn mul_even_u32(self, a: u64, b: u64) -> u64 {
        (a as u32 as u64) * (b as u32 as u64)
    }
    #[inline(always)]
    fn pair_even_u32(self, a: u64, b: u64) -> u64 {
        pair([lanes(a)[0], lanes(b)[0]])
    }
    #[inline(always)]
    fn pair_odd_u32(self, a: u64, b: u64) -> u64 {
        pair([lanes(a)[1], lanes(b)[1]])
    }
    #[inline(always)]
    fn zip_u32(self, a: u64, b: u64) -> (u64, u64) {
        (self.pair_even_u32(a, b), self.pair_odd_u32(a, b))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> [f32; 2] {
        [x, x]
    }
    #[inline(always)]
    fn add_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add_f32(self, a: [f32; 2], b: [f32; 2], c: [f32; 2]) -> [f32; 2] {
        [fma_f32(a[0], b[0], c[0]), fma_f32(a[1], b[1], c[1])]
    }
    #[inline(always)]
    fn neg_mul_add_f32(self, a: [f32; 2], b: [f32; 2], c: [f32; 2]) -> [f32; 2] {
        self.mul_add_f32(a.map(|x| -x), b, c)
    }
    #[inline(always)]
    fn sqrt_f32(self, a: [f32; 2]) -> [f32; 2] {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn min_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max_f32(self, a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        zip2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn lt_f32(self, a: [f32; 2], b: [f32; 2]) -> [bool; 2] {
        zip2(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn bit_u32(self, a: u64, n: u32) -> [bool; 2] {
        lanes(a).map(|x| x >> n & 1 == 1)
    }
    #[inline(always)]
    fn select_f32(self, condition: [bool; 2], a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        [if condition[0] { a[0] } else { b[0] }, if condition[1] { a[1] } else { b[1] }]
    }
    #[inline(always)]
    fn any_f32(self, condition: [bool; 2]) -> bool {
        condition[0] || condition[1]
    }
    #[inline(always)]
    fn i32_to_f32(self, a: u64) -> [f32; 2] {
        lanes(a).map(|x| x as i32 as f32)
    }
    #[inline(always)]
    fn f32_to_i32(self, a: [f32; 2]) -> u64 {
        pair(a.map(|x| x as i64 as u32))
    }
    #[inline(always)]
    fn f32_from_bits(self, a: u64) -> [f32; 2] {
        lanes(a).map(f32::from_bits)
    }
    #[inline(always)]
    fn f32_to_bits(self, a: [f32; 2]) -> u64 {
        pair(a.map(f32::to_bits))
    }
    #[inline(always)]
    fn narrow_f16(self, a: [f32; 2], b: [f32; 2]) -> u64 {
        let half = |x: [f32; 2]| F16::from_f32(x[0]).0 as u64 | (F16::from_f32(x[1]).0 as u64) << 16;
        half(a) | half(b) << 32
    }

    #[inline(always)]
    fn splat_f64(self, x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn add_f64(self, a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn sub_f64(self, a: f64, b: f64) -> f64 {
        a - b
    }
    #[inline(always)]
    fn mul_f64(self, a: f64, b: f64) -> f64 {
        a * b
    }
    #[inline(always)]
    fn div_f64(self, a: f64, b: f64) -> f64 {
        a / b
    }
    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        fma_f64(a, b, c)
    }
    #[inline(always)]
    fn neg_mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        fma_f64(-a, b, c)
    }
    #[inline(always)]
    fn sqrt_f64(self, a: f64) -> f64 {
        a.sqrt()
    }
    #[inline(always)]
    fn min_f64(self, a: f64, b: f64) -> f64 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn max_f64(self, a: f64, b: f64) -> f64 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn lt_f64(self, a: f64, b: f64) -> bool {
        a < b
    }
    #[inline(always)]
    fn bit_u64(self, a: u64, n: u32) -> bool {
        a >> n & 1 == 1
    }
    #[inline(always)]
    fn select_f64(self, condition: bool, a: f64, b: f64) -> f64 {
        if condition { a } else { b }
    }
    #[inline(always)]
    fn any_f64(self, condition: bool) -> bool {
        condition
    }
    #[inline(always)]
    fn f64_from_bits(self, a: u64) -> f64 {
        f64::from_bits(a)
    }
    #[inline(always)]
    fn f64_to_bits(self, a: f64) -> u64 {
        a.to_bits()
    }
    #[inline(always)]
    fn zip_f64(self, a: f64, b: f64) -> (f64, f64) {
        (a, b)
    }
    #[inline(always)]
    fn pair_f64_to_f32(self, even: f64, odd: f64) -> [f32; 2] {
        [even as f32, odd as f32]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> u64 {
        // SAFETY: the caller guarantees 8 readable bytes. In memory the even lane comes first on every
        // machine.
        pair(unsafe { from.cast::<[u32; 2]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, a: u64) {
        // SAFETY: the caller guarantees 8 writable bytes. In memory the even lane comes first on every
        // machine.
        unsafe { to.cast::<[u32; 2]>().write_unaligned(lanes(a)) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8, a: u64) {
        // SAFETY: as for `store`.
        unsafe { self.store(to, a) }
    }
    #[inline(always)]
    fn stream_end(self) {}
}
