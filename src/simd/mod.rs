//! One thin trait over the vector instructions, one file per level; no algorithms but the rounds of Philox at
//! AVX2.
//!
//! A kernel is written once, generic over [`Simd`], and compiled for every [`Level`]. All levels give the
//! same bits: each operation is an IEEE 754 basic operation, an explicitly fused multiply-add, an exact or
//! correctly rounded conversion, or an integer operation. The scalar level is the definition of each.
//!
//! A register is a sequence of pairs of 32-bit lanes, an even and an odd one; each pair is also one 64-bit
//! lane, and holds one Philox counter. A register has [`Simd::PAIRS`] of them.
//!
//! How inlining works: the methods of a level are `#[inline(always)]` and call intrinsics, which is sound
//! because the token that they are called on exists only where the CPU has the features. Only [`Simd::run`]
//! is compiled with the features, so only what is inlined into it becomes vector code. That is why every
//! function of a kernel is `#[inline(always)]`.

use std::mem::MaybeUninit;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod environment;
mod fma;
#[cfg(target_arch = "aarch64")]
mod neon;
mod paired;
#[cfg(target_arch = "x86_64")]
mod rounds;
mod scalar;
mod transpose;

pub(crate) use environment::DefaultEnvironment;
pub(crate) use fma::fma_f64;
pub(crate) use paired::Paired;
pub(crate) use scalar::Scalar;
pub(crate) use transpose::transpose;

/// Which instructions the kernels use. All levels give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// One pair of lanes at a time, in plain Rust: the definition.
    Scalar,
    /// 128-bit NEON, which every AArch64 has.
    Neon,
    /// 256-bit AVX2, with FMA and F16C.
    Avx2,
    /// 512-bit AVX-512 F, BW, CD, DQ and VL (x86-64-v4).
    Avx512,
}

impl Level {
    /// The level in use: the best of this machine, or the lower one that the environment variable
    /// `FASTINIT_SIMD` names (`scalar`, `neon`, `avx2`, `avx512`). The variable cannot raise the level. It is
    /// read once, at the first call.
    pub fn current() -> Level {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let best = *Level::available().last().unwrap_or(&Level::Scalar);
            let wanted = std::env::var("FASTINIT_SIMD").ok();
            let wanted = Level::available().iter().find(|level| Some(level.name()) == wanted.as_deref());
            wanted.copied().unwrap_or(best)
        })
    }

    /// The levels that this machine can run, lowest first.
    pub fn available() -> &'static [Level] {
        static AVAILABLE: OnceLock<Vec<Level>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut levels = vec![Level::Scalar, Level::Neon, Level::Avx2, Level::Avx512];
            levels.retain(|&level| level == Level::Scalar || !matches!(level.detect(), Detected::Scalar(_)));
            levels
        })
    }

    /// The name that `FASTINIT_SIMD` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// The level as proof that the CPU has it; the scalar level if it does not.
    pub(crate) fn detect(self) -> Detected {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::Avx512::detect().map_or(Detected::Scalar(Scalar), Detected::Avx512),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::Avx2::detect().map_or(Detected::Scalar(Scalar), Detected::Avx2),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Detected::Neon(neon::Neon),
            _ => Detected::Scalar(Scalar),
        }
    }

    /// Runs `kernel` at this level, or at the scalar one if the CPU does not have it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.detect().run(kernel)
    }
}

/// A level that the CPU has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Detected {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Detected {
    /// Runs `kernel` at this level.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Detected::Scalar(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Detected::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Detected::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Detected::Neon(simd) => simd.run(kernel),
        }
    }
}

/// Code that is written once and runs at any level. `run` and all that it calls must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The code.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The operations of a level. A value of the type proves that the CPU has it.
///
/// Names say the lanes: `_u32` and `_i32` work on each 32-bit lane of an [`Simd::Int`], `_u64` on each 64-bit
/// one, `_f32` and `_f64` on the lanes of the floating-point registers. Integer arithmetic wraps. No
/// operation is defined on NaN.
pub(crate) trait Simd: Copy {
    /// Whether [`Simd::stream`] differs from [`Simd::store`].
    const STREAMS: bool;
    /// The number of pairs of 32-bit lanes, that is, of 64-bit lanes, of a register.
    const PAIRS: usize;
    /// Integers: `2 * PAIRS` lanes of 32 bits or `PAIRS` of 64.
    type Int: Copy;
    /// `2 * PAIRS` single-precision numbers.
    type F32: Copy;
    /// `PAIRS` double-precision numbers.
    type F64: Copy;
    /// A condition for each lane of an `F32`.
    type M32: Copy;
    /// A condition for each lane of an `F64`.
    type M64: Copy;

    /// Several of these registers as one, as many as the level has room for: see [`Paired`].
    type Wide: Simd;
    /// The level that the fills run on.
    fn wide(self) -> Self::Wide;

    /// Runs a kernel with the CPU features of this level switched on.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// `x` in every 32-bit lane.
    fn splat_u32(self, x: u32) -> Self::Int;
    /// `x` in every 64-bit lane.
    fn splat_u64(self, x: u64) -> Self::Int;
    /// The number of each 64-bit lane, from 0 on.
    fn lane_order(self) -> Self::Int;
    /// For each 64-bit lane, the position to which [`Simd::zip_u32`] and [`Simd::zip_f64`] move it, in units
    /// of two such lanes. Zipping is cheapest within 128 bits, so counters are put into the lanes in this
    /// order, and zipping sorts them.
    fn zip_order(self) -> Self::Int;

    /// `a + b`
    fn add_u32(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a - b`
    fn sub_u32(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `|a|`; the least number stays as it is.
    fn abs_i32(self, a: Self::Int) -> Self::Int;
    /// `a << n`; `n` is a constant below 32.
    fn shl_u32(self, a: Self::Int, n: u32) -> Self::Int;
    /// `a >> n`, zeros shifted in.
    fn shr_u32(self, a: Self::Int, n: u32) -> Self::Int;
    /// `a >> n`, the sign shifted in.
    fn sar_i32(self, a: Self::Int, n: u32) -> Self::Int;
    /// `a + b`
    fn add_u64(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a - b`
    fn sub_u64(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a << n`; `n` is a constant below 64.
    fn shl_u64(self, a: Self::Int, n: u32) -> Self::Int;
    /// `a >> n`, zeros shifted in.
    fn shr_u64(self, a: Self::Int, n: u32) -> Self::Int;
    /// `a & b`
    fn and(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a | b`
    fn or(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a ^ b`
    fn xor(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a ^ b ^ c`
    fn xor3(self, a: Self::Int, b: Self::Int, c: Self::Int) -> Self::Int;
    /// The 64-bit products of the even lanes.
    fn mul_even_u32(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Even lanes: those of `a`. Odd lanes: the even ones of `b`.
    fn pair_even_u32(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Even lanes: the odd ones of `a`. Odd lanes: those of `b`.
    fn pair_odd_u32(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The pairs of 32-bit lanes (even a, even b, odd a, odd b) one after the other, in the order of
    /// [`Simd::zip_order`].
    fn zip_u32(self, a: Self::Int, b: Self::Int) -> (Self::Int, Self::Int);

    /// `x` in every lane.
    fn splat_f32(self, x: f32) -> Self::F32;
    /// `a + b`
    fn add_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn mul_add_f32(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `c - a * b`, rounded once.
    fn neg_mul_add_f32(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The square root, correctly rounded.
    fn sqrt_f32(self, a: Self::F32) -> Self::F32;
    /// The lesser.
    fn min_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The greater.
    fn max_f32(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a < b`
    fn lt_f32(self, a: Self::F32, b: Self::F32) -> Self::M32;
    /// Where bit `n` of the lane is set; `n` is a constant.
    fn bit_u32(self, a: Self::Int, n: u32) -> Self::M32;
    /// `a` where the condition holds, else `b`.
    fn select_f32(self, condition: Self::M32, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Whether the condition holds anywhere.
    fn any_f32(self, condition: Self::M32) -> bool;
    /// The signed integer as a number, rounded to nearest even.
    fn i32_to_f32(self, a: Self::Int) -> Self::F32;
    /// The integer part of a number from 0 to 2^31; 2^31 itself wraps to -2^31.
    fn f32_to_i32(self, a: Self::F32) -> Self::Int;
    /// The bits as a number.
    fn f32_from_bits(self, a: Self::Int) -> Self::F32;
    /// The bits of a number.
    fn f32_to_bits(self, a: Self::F32) -> Self::Int;
    /// The numbers of `a`, then those of `b`, as binary16, rounded to nearest even.
    fn narrow_f16(self, a: Self::F32, b: Self::F32) -> Self::Int;

    /// `x` in every lane.
    fn splat_f64(self, x: f64) -> Self::F64;
    /// `a + b`
    fn add_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a - b`
    fn sub_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * b`
    fn mul_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a / b`
    fn div_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a * b + c`, rounded once.
    fn mul_add_f64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64;
    /// `c - a * b`, rounded once.
    fn neg_mul_add_f64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64;
    /// The square root, correctly rounded.
    fn sqrt_f64(self, a: Self::F64) -> Self::F64;
    /// The lesser.
    fn min_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// The greater.
    fn max_f64(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a < b`
    fn lt_f64(self, a: Self::F64, b: Self::F64) -> Self::M64;
    /// Where bit `n` of the lane is set; `n` is a constant.
    fn bit_u64(self, a: Self::Int, n: u32) -> Self::M64;
    /// `a` where the condition holds, else `b`.
    fn select_f64(self, condition: Self::M64, a: Self::F64, b: Self::F64) -> Self::F64;
    /// Whether the condition holds anywhere.
    fn any_f64(self, condition: Self::M64) -> bool;
    /// The bits as a number.
    fn f64_from_bits(self, a: Self::Int) -> Self::F64;
    /// The bits of a number.
    fn f64_to_bits(self, a: Self::F64) -> Self::Int;
    /// The numbers (a, b) of each 64-bit lane one after the other, in the order of [`Simd::zip_order`].
    fn zip_f64(self, a: Self::F64, b: Self::F64) -> (Self::F64, Self::F64);
    /// Even lanes: `even` rounded to single precision, to nearest even. Odd lanes: `odd`.
    fn pair_f64_to_f32(self, even: Self::F64, odd: Self::F64) -> Self::F32;

    /// A register from memory.
    ///
    /// # Safety
    /// `from` must be valid for reading `8 * PAIRS` bytes; it need not be aligned.
    unsafe fn load(self, from: *const u8) -> Self::Int;

    /// Writes a register to memory.
    ///
    /// # Safety
    /// `to` must be valid for writing `8 * PAIRS` bytes; it need not be aligned.
    unsafe fn store(self, to: *mut u8, a: Self::Int);

    /// Writes a register with a non-temporal store, if the level has one; [`Simd::stream_end`] must follow
    /// before another thread reads it.
    ///
    /// # Safety
    /// As [`Simd::store`], and `to` must be a multiple of 64, or of the size of a register if that is less.
    unsafe fn stream(self, to: *mut u8, a: Self::Int);

    /// Orders what [`Simd::stream`] wrote before all later stores.
    fn stream_end(self);

    /// Whether [`Simd::rounds`] is there. Words are then made many at a time, in a loop of their own.
    const ROUNDS: bool = false;
    /// Computes the next `count` Philox blocks, from 1 to [`Words::BLOCKS`].
    fn rounds(self, words: &mut Words, count: usize) {
        let _ = (words, count);
        unreachable!("a level without rounds of its own");
    }
    /// Computes most of the next `count` Philox blocks, and writes their words to memory in order. Returns
    /// how many.
    ///
    /// # Safety
    /// `to` must be valid for writing `16 * count` bytes; it need not be aligned.
    unsafe fn rounds_in_order(self, words: &mut Words, count: usize, to: *mut u8) -> usize {
        let _ = (words, count, to);
        0
    }
}

/// The multipliers of Philox: those of Random123's philox.h, `PHILOX_M4x32_0` and `_1`.
pub(crate) const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];

/// Two numbers for the words 0 and 2 of the blocks of a register, in one of the orders in which these words
/// follow each other in each half of the register: 0 2, 0 2; 2 2, 0 0; 2 0, 2 0; 0 0, 2 2.
const fn in_order(order: usize, [a, b]: [u32; 2]) -> [u32; 8] {
    match order {
        0 => [a, b, a, b, a, b, a, b],
        1 => [b, b, a, a, b, b, a, a],
        2 => [b, a, b, a, b, a, b, a],
        _ => [a, a, b, b, a, a, b, b],
    }
}

/// The words of many Philox blocks, and what is computed from them, a 64-bit lane for each block.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Words {
    /// The products of the first round, of the next four blocks.
    products: [u64; 4],
    /// What is combined with the words 0 and 2 in each round, in the order that they have after it, and word
    /// 3 before the third round.
    constants: [[u32; 8]; 11],
    /// [`Simd::rounds`] writes words 0 and 2 to the first and words 1 and 3 to the second.
    lanes: [[MaybeUninit<u64>; Words::BLOCKS]; 4],
}

impl Words {
    /// So many that starting a loop hardly counts, and so few that they stay in the first-level cache.
    pub const BLOCKS: usize = 192;

    /// For the blocks from number `first` on, of which each register has four, in the order `order`. The
    /// constants are those of [`Philox::constants`](crate::rng::philox::Philox::constants).
    #[inline(always)]
    pub fn new<S: Simd>(s: S, constants: &[[u32; 2]; 11], first: u32, order: S::Int) -> Words {
        assert!(S::PAIRS == 4);
        let mut rows = [[0; 8]; 11];
        for (i, (row, &pair)) in rows.iter_mut().zip(constants).enumerate() {
            // The last round has the order of the results.
            *row = in_order(if i == 9 { 0 } else { (i + 1) % 4 }, pair);
        }
        let numbers = s.add_u64(s.splat_u64(first as u64), order);
        let mut products = [0; 4];
        store(s, &mut products, s.mul_even_u32(numbers, s.splat_u64(MULTIPLIERS[0] as u64)));
        Words { products, constants: rows, lanes: [[MaybeUninit::uninit(); _]; 4] }
    }

    /// Where the registers of block `at` and the blocks after it are.
    #[inline(always)]
    pub fn lanes(&mut self, at: usize) -> [*mut u8; 4] {
        self.lanes.each_mut().map(|lanes| lanes[at..].as_mut_ptr().cast())
    }
}

/// A number whose bytes may have any value.
///
/// # Safety
/// The type must have no padding and no invalid bits.
pub(crate) unsafe trait Number: Copy {}
// SAFETY: a primitive number.
unsafe impl Number for f32 {}
// SAFETY: a primitive number.
unsafe impl Number for f64 {}
// SAFETY: a primitive number.
unsafe impl Number for u32 {}
// SAFETY: a primitive number.
unsafe impl Number for u64 {}

/// The first numbers of `from` as a register. Panics where they are too few.
#[inline(always)]
pub(crate) fn load<S: Simd, T: Number>(s: S, from: &[T]) -> S::Int {
    assert!(size_of_val(from) >= 8 * S::PAIRS);
    // SAFETY: as many bytes as a register has, as just checked.
    unsafe { s.load(from.as_ptr().cast()) }
}

/// Writes a register to the first numbers of `to`. Panics where they are too few.
#[inline(always)]
pub(crate) fn store<S: Simd, T: Number>(s: S, to: &mut [T], a: S::Int) {
    assert!(size_of_val(to) >= 8 * S::PAIRS);
    // SAFETY: as many bytes as a register has, as just checked, and any are a number.
    unsafe { s.store(to.as_mut_ptr().cast(), a) }
}
