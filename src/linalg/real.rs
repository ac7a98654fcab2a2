//! The two precisions that matrices are computed in, as one trait over the registers of [`Simd`].

use crate::dtype::Element;
use crate::fill::normals;
use crate::seed::Key;
use crate::simd::{self, Level, Number, Simd};

/// `f32` or `f64`, and registers of them.
pub(super) trait Real: Element + Number {
    /// `self * other`
    fn times(self, other: Self) -> Self;
    /// A register.
    type Register<S: Simd>: Copy;
    /// How many numbers a register has.
    fn lanes<S: Simd>() -> usize;
    /// `x` in every lane.
    fn splat<S: Simd>(s: S, x: Self) -> Self::Register<S>;
    /// The first numbers of `from`, which must fill the lanes.
    fn load<S: Simd>(s: S, from: &[Self]) -> Self::Register<S>;
    /// Writes to the first numbers of `to`, which must take all lanes.
    fn store<S: Simd>(s: S, to: &mut [Self], a: Self::Register<S>);
    /// `a * b`
    fn mul<S: Simd>(s: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// `a * b + c`, rounded once.
    fn mul_add<S: Simd>(
        s: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
        c: Self::Register<S>,
    ) -> Self::Register<S>;
    /// `c - a * b`, rounded once.
    fn neg_mul_add<S: Simd>(
        s: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
        c: Self::Register<S>,
    ) -> Self::Register<S>;
    /// The standard normal elements from number `first` on.
    fn normals(level: Level, key: Key, first: u64, out: &mut [Self]);
}

macro_rules! real {
    ($number:ident, $register:ident, $lanes:expr, $splat:ident, $from_bits:ident, $to_bits:ident, $mul:ident, $mul_add:ident, $neg_mul_add:ident) => {
        impl Real for $number {
            #[inline(always)]
            fn times(self, other: $number) -> $number {
                self * other
            }
            type Register<S: Simd> = S::$register;
            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                $lanes * S::PAIRS
            }
            #[inline(always)]
            fn splat<S: Simd>(s: S, x: $number) -> S::$register {
                s.$splat(x)
            }
            #[inline(always)]
            fn load<S: Simd>(s: S, from: &[$number]) -> S::$register {
                s.$from_bits(simd::load(s, from))
            }
            #[inline(always)]
            fn store<S: Simd>(s: S, to: &mut [$number], a: S::$register) {
                simd::store(s, to, s.$to_bits(a));
            }
            #[inline(always)]
            fn mul<S: Simd>(s: S, a: S::$register, b: S::$register) -> S::$register {
                s.$mul(a, b)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(s: S, a: S::$register, b: S::$register, c: S::$register) -> S::$register {
                s.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn neg_mul_add<S: Simd>(s: S, a: S::$register, b: S::$register, c: S::$register) -> S::$register {
                s.$neg_mul_add(a, b, c)
            }
            fn normals(level: Level, key: Key, first: u64, out: &mut [$number]) {
                normals(level, key, first, out);
            }
        }
    };
}

real!(f32, F32, 2, splat_f32, f32_from_bits, f32_to_bits, mul_f32, mul_add_f32, neg_mul_add_f32);
real!(f64, F64, 1, splat_f64, f64_from_bits, f64_to_bits, mul_f64, mul_add_f64, neg_mul_add_f64);
