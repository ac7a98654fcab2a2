//! Two registers of a level as one register of twice the size.
//!
//! A kernel that runs on it does every step for two independent groups of blocks, so that the latency of one
//! hides behind the other: the rounds of one Philox block depend on each other, and alone leave the
//! multipliers mostly idle. [`Simd::Wide`] says how many registers a level uses.

use super::{Kernel, Simd};

/// A level with registers of twice the size.
#[derive(Clone, Copy, Debug)]
pub struct Paired<S>(pub S);

/// Operations that are applied to each half.
macro_rules! both {
    ($(fn $name:ident($($arg:ident: $type:ident),*) -> $result:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: both!(@$type)),*) -> Self::$result {
            [self.0.$name($(both!(@$type $arg 0)),*), self.0.$name($(both!(@$type $arg 1)),*)]
        }
    )*};
    // Numbers are passed to both halves, registers are split.
    (@u32) => { u32 };
    (@u64) => { u64 };
    (@f32) => { f32 };
    (@f64) => { f64 };
    (@$register:ident) => { Self::$register };
    (@u32 $arg:ident $half:tt) => { $arg };
    (@u64 $arg:ident $half:tt) => { $arg };
    (@f32 $arg:ident $half:tt) => { $arg };
    (@f64 $arg:ident $half:tt) => { $arg };
    (@$register:ident $arg:ident $half:tt) => { $arg[$half] };
}

impl<S: Simd> Simd for Paired<S> {
    const STREAMS: bool = S::STREAMS;
    const PAIRS: usize = 2 * S::PAIRS;
    type Int = [S::Int; 2];
    type F32 = [S::F32; 2];
    type F64 = [S::F64; 2];
    type M32 = [S::M32; 2];
    type M64 = [S::M64; 2];

    type Wide = Paired<S>;

    #[inline(always)]
    fn wide(self) -> Paired<S> {
        self
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    both! {
        fn splat_u32(x: u32) -> Int;
        fn splat_u64(x: u64) -> Int;
        fn add_u32(a: Int, b: Int) -> Int;
        fn sub_u32(a: Int, b: Int) -> Int;
        fn abs_i32(a: Int) -> Int;
        fn shl_u32(a: Int, n: u32) -> Int;
        fn shr_u32(a: Int, n: u32) -> Int;
        fn sar_i32(a: Int, n: u32) -> Int;
        fn add_u64(a: Int, b: Int) -> Int;
        fn sub_u64(a: Int, b: Int) -> Int;
        fn shl_u64(a: Int, n: u32) -> Int;
        fn shr_u64(a: Int, n: u32) -> Int;
        fn and(a: Int, b: Int) -> Int;
        fn or(a: Int, b: Int) -> Int;
        fn xor(a: Int, b: Int) -> Int;
        fn xor3(a: Int, b: Int, c: Int) -> Int;
        fn mul_even_u32(a: Int, b: Int) -> Int;
        fn pair_even_u32(a: Int, b: Int) -> Int;
        fn pair_odd_u32(a: Int, b: Int) -> Int;
        fn splat_f32(x: f32) -> F32;
        fn add_f32(a: F32, b: F32) -> F32;
        fn sub_f32(a: F32, b: F32) -> F32;
        fn mul_f32(a: F32, b: F32) -> F32;
        fn div_f32(a: F32, b: F32) -> F32;
        fn mul_add_f32(a: F32, b: F32, c: F32) -> F32;
        fn neg_mul_add_f32(a: F32, b: F32, c: F32) -> F32;
        fn sqrt_f32(a: F32) -> F32;
        fn min_f32(a: F32, b: F32) -> F32;
        fn max_f32(a: F32, b: F32) -> F32;
        fn lt_f32(a: F32, b: F32) -> M32;
        fn bit_u32(a: Int, n: u32) -> M32;
        fn select_f32(condition: M32, a: F32, b: F32) -> F32;
        fn i32_to_f32(a: Int) -> F32;
        fn f32_to_i32(a: F32) -> Int;
        fn f32_from_bits(a: Int) -> F32;
        fn f32_to_bits(a: F32) -> Int;
        fn splat_f64(x: f64) -> F64;
        fn add_f64(a: F64, b: F64) -> F64;
        fn sub_f64(a: F64, b: F64) -> F64;
        fn mul_f64(a: F64, b: F64) -> F64;
        fn div_f64(a: F64, b: F64) -> F64;
        fn mul_add_f64(a: F64, b: F64, c: F64) -> F64;
        fn neg_mul_add_f64(a: F64, b: F64, c: F64) -> F64;
        fn sqrt_f64(a: F64) -> F64;
        fn min_f64(a: F64, b: F64) -> F64;
        fn max_f64(a: F64, b: F64) -> F64;
        fn lt_f64(a: F64, b: F64) -> M64;
        fn bit_u64(a: Int, n: u32) -> M64;
        fn select_f64(condition: M64, a: F64, b: F64) -> F64;
        fn f64_from_bits(a: Int) -> F64;
        fn f64_to_bits(a: F64) -> Int;
        fn pair_f64_to_f32(even: F64, odd: F64) -> F32;
    }

    #[inline(always)]
    fn lane_order(self) -> [S::Int; 2] {
        let order = self.0.lane_order();
        [order, self.0.add_u64(order, self.0.splat_u64(S::PAIRS as u64))]
    }
    #[inline(always)]
    fn zip_order(self) -> [S::Int; 2] {
        let order = self.0.zip_order();
        [order, self.0.add_u64(order, self.0.splat_u64(S::PAIRS as u64))]
    }
    #[inline(always)]
    fn zip_u32(self, a: [S::Int; 2], b: [S::Int; 2]) -> ([S::Int; 2], [S::Int; 2]) {
        let (first, second) = (self.0.zip_u32(a[0], b[0]), self.0.zip_u32(a[1], b[1]));
        ([first.0, first.1], [second.0, second.1])
    }
    #[inline(always)]
    fn narrow_f16(self, a: [S::F32; 2], b: [S::F32; 2]) -> [S::Int; 2] {
        [self.0.narrow_f16(a[0], a[1]), self.0.narrow_f16(b[0], b[1])]
    }
    #[inline(always)]
    fn any_f32(self, condition: [S::M32; 2]) -> bool {
        self.0.any_f32(condition[0]) || self.0.any_f32(condition[1])
    }
    #[inline(always)]
    fn any_f64(self, condition: [S::M64; 2]) -> bool {
        self.0.any_f64(condition[0]) || self.0.any_f64(condition[1])
    }
    #[inline(always)]
    fn zip_f64(self, a: [S::F64; 2], b: [S::F64; 2]) -> ([S::F64; 2], [S::F64; 2]) {
        let (first, second) = (self.0.zip_f64(a[0], b[0]), self.0.zip_f64(a[1], b[1]));
        ([first.0, first.1], [second.0, second.1])
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> [S::Int; 2] {
        // SAFETY: the caller guarantees as many bytes as both halves have.
        unsafe { [self.0.load(from), self.0.load(from.add(8 * S::PAIRS))] }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8, a: [S::Int; 2]) {
        // SAFETY: the caller guarantees as many bytes as both halves have.
        unsafe {
            self.0.store(to, a[0]);
            self.0.store(to.add(8 * S::PAIRS), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8, a: [S::Int; 2]) {
        // SAFETY: as for `store`; so both halves are at a multiple of 64, or of their size if that is less.
        unsafe {
            self.0.stream(to, a[0]);
            self.0.stream(to.add(8 * S::PAIRS), a[1]);
        }
    }
    #[inline(always)]
    fn stream_end(self) {
        self.0.stream_end();
    }
}
