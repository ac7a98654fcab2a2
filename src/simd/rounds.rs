//! The rounds of Philox on six AVX2 registers of blocks side by side, in assembly.
//!
//! A register has the words 0 and 2 of four blocks, which a round multiplies, and another one the words 1 and
//! 3, which are the low halves of the products of the round before. Each 128 bits have two blocks, whose
//! words are in one of four orders (see [`in_order`]). Each round leads from one order to the next, such that
//! one shuffle of its products has the upper halves at the places of the words that they are combined with.
//! So a round has seven operations for a register: a shift of the odd lanes, the multiplications of the even
//! and of the odd ones, one for the low halves, that shuffle, and two exclusive ors. With one word in each
//! 64-bit lane, as in [`Philox::words`](crate::rng::philox::Philox::words), it has eight.
//!
//! A round takes six cycles of latency and, for one register, two of work. Three registers in flight would
//! do, but six keep the CPU busier. Their words take twelve registers, the multipliers of two orders two, and
//! two are temporary. The compiler does not keep to this: it moves operations across rounds and runs out of
//! registers.

use super::{MULTIPLIERS, Words, in_order};
use std::arch::asm;

/// The registers that are computed side by side, of four blocks each.
const REGISTERS: usize = 6;

/// The blocks of an iteration.
const BLOCKS: usize = 4 * REGISTERS;

/// What does not depend on the key, in rows of 32 bytes.
#[repr(C, align(32))]
struct Fixed {
    /// The multipliers, in each order.
    multipliers: [[u32; 8]; 4],
    /// What is added to the products of the first round for those of the next registers, and for the next
    /// iteration.
    distances: [[u64; 4]; REGISTERS],
}

static FIXED: Fixed = {
    let four = 4 * MULTIPLIERS[0] as u64;
    Fixed {
        multipliers: [
            in_order(0, MULTIPLIERS),
            in_order(1, MULTIPLIERS),
            in_order(2, MULTIPLIERS),
            in_order(3, MULTIPLIERS),
        ],
        distances: [[four; 4], [2 * four; 4], [3 * four; 4], [4 * four; 4], [5 * four; 4], [6 * four; 4]],
    }
};

/// An instruction on registers, given by their numbers. The last operands are a register, a row of [`FIXED`]
/// or a row of the constants, and maybe a number.
macro_rules! op {
    ($name:literal $to:literal, $a:literal, [$b:literal] $($number:literal)?) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", ymm", $b, $(", ", $number,)? "\n")
    };
    ($name:literal $to:literal, $a:literal, [fixed $row:literal] $($number:literal)?) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", [{fixed} + 32 * ", $row, "]", $(", ", $number,)? "\n")
    };
    ($name:literal $to:literal, $a:literal, [row $row:literal] $($number:literal)?) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", [{constants} + 32 * ", $row, "]", $(", ", $number,)? "\n")
    };
    ($name:literal $to:literal, $a:literal, $number:literal) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", ", $number, "\n")
    };
}

/// The first two rounds, from the products of the first one in x. From here on x has the words 0 and 2, in
/// order 2, and y the words 1 and 3, in the order of what they will be combined with.
macro_rules! begin {
    ($([$x:literal $y:literal])*) => {
        concat!($(
            op!("vpsrlq" $y, $x, 32),
            op!("vpxor" $y, $y, [row 0]),
            op!("vpmuludq" $y, $y, [15]),
            op!("vpblendd" $x, $x, [$y] 0xaa),
            op!("vpxor" $x, $x, [row 1]),
            op!("vshufps" $y, $y, [row 10] 0x88),
        )*)
    };
}

/// The products of the even lanes of x into register 12, those of the odd ones into 13.
macro_rules! products {
    ($x:literal $even:tt $odd:tt) => {
        concat!(op!("vpsrlq" 13, $x, 32), op!("vpmuludq" 12, $x, $even), op!("vpmuludq" 13, 13, $odd))
    };
}

/// A round from this order, with the keys in this row. x and y change their roles.
macro_rules! round {
    (0, $row:literal: $($xy:tt)*) => { concat!($(round!($xy [14] [15] 0xdd, $row),)*) };
    (1, $row:literal: $($xy:tt)*) => { concat!($(round!($xy [fixed 1] [fixed 1] 0x77, $row),)*) };
    (2, $row:literal: $($xy:tt)*) => { concat!($(round!($xy [15] [14] 0xdd, $row),)*) };
    (3, $row:literal: $($xy:tt)*) => { concat!($(round!($xy [fixed 3] [fixed 3] 0x77, $row),)*) };
    ([$x:literal $y:literal] $even:tt $odd:tt $upper_halves:literal, $row:literal) => {
        concat!(
            products!($x $even $odd),
            op!("vpmulld" $x, $x, $even),
            op!("vpxor" $y, $y, [row $row]),
            op!("vshufps" 12, 12, [13] $upper_halves),
            op!("vpxor" $y, $y, [12]),
        )
    };
}

/// The last round, from order 1: the words 0 and 2 into y, the words 1 and 3 into x, both in order 0.
macro_rules! end {
    ($([$x:literal $y:literal])*) => {
        concat!($(
            products!($x [fixed 1] [fixed 1]),
            op!("vpshufd" $y, $y, 0xb1),
            op!("vpxor" $y, $y, [row 9]),
            op!("vshufps" $x, 12, [13] 0x88),
            op!("vshufps" 12, 12, [13] 0xdd),
            op!("vpxor" $y, $y, [12]),
        )*)
    };
}

/// Stores words in the order of memory, at this offset.
macro_rules! store_in_order {
    ($([$x:literal $y:literal] $at:literal)*) => {
        concat!($(
            op!("vpunpckldq" 12, $x, [$y]),
            op!("vpunpckhdq" 13, $x, [$y]),
            "vmovdqu [{to} + ", $at, "], ymm12\n",
            "vmovdqu [{to} + 32 + ", $at, "], ymm13\n",
        )*)
    };
}

/// Stores the words 0 and 2 at this offset, and the words 1 and 3 `apart` bytes behind.
macro_rules! store_apart {
    ($([$x:literal $y:literal] $at:literal)*) => {
        concat!($(
            "vmovdqa [{to} + ", $at, "], ymm", $x, "\n",
            "vmovdqa [{to} + {apart} + ", $at, "], ymm", $y, "\n",
        )*)
    };
}

/// Computes `BLOCKS` blocks in each of `$iterations` iterations, at least one. `$store` writes them to
/// `{to}`, which each iteration advances by `$bytes`.
macro_rules! assembly {
    ($words:ident, $to:ident, $iterations:ident, $store:expr, $bytes:literal, $($operand:tt)*) => {
        asm!(
            "vmovdqa ymm14, [{fixed}]",
            "vmovdqa ymm15, [{fixed} + 32 * 2]",
            ".p2align 5",
            "2:",
            "vmovdqa ymm0, [{products}]",
            op!("vpaddq" 2, 0, [fixed 4]),
            op!("vpaddq" 4, 0, [fixed 5]),
            op!("vpaddq" 6, 0, [fixed 6]),
            op!("vpaddq" 8, 0, [fixed 7]),
            op!("vpaddq" 10, 0, [fixed 8]),
            op!("vpaddq" 1, 0, [fixed 9]),
            "vmovdqa [{products}], ymm1",
            begin!([0 1] [2 3] [4 5] [6 7] [8 9] [10 11]),
            round!(2, 2: [0 1] [2 3] [4 5] [6 7] [8 9] [10 11]),
            round!(3, 3: [1 0] [3 2] [5 4] [7 6] [9 8] [11 10]),
            round!(0, 4: [0 1] [2 3] [4 5] [6 7] [8 9] [10 11]),
            round!(1, 5: [1 0] [3 2] [5 4] [7 6] [9 8] [11 10]),
            round!(2, 6: [0 1] [2 3] [4 5] [6 7] [8 9] [10 11]),
            round!(3, 7: [1 0] [3 2] [5 4] [7 6] [9 8] [11 10]),
            round!(0, 8: [0 1] [2 3] [4 5] [6 7] [8 9] [10 11]),
            end!([1 0] [3 2] [5 4] [7 6] [9 8] [11 10]),
            $store,
            concat!("add {to}, ", $bytes),
            "dec {iterations}",
            "jne 2b",
            // Instructions of the older encoding would wait for the upper halves of the registers.
            "vzeroupper",
            fixed = in(reg) &raw const FIXED,
            constants = in(reg) &raw const $words.constants,
            products = in(reg) &raw mut $words.products,
            to = inout(reg) $to => _,
            iterations = inout(reg) $iterations => _,
            $($operand)*
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        )
    };
}

/// See [`Simd::rounds`](super::Simd::rounds).
///
/// # Safety
/// The CPU must have AVX2.
#[inline(never)]
pub(super) unsafe fn rounds(words: &mut Words, count: usize) {
    const { assert!(Words::BLOCKS.is_multiple_of(BLOCKS)) };
    assert!((1..=Words::BLOCKS).contains(&count));
    let ([to, ..], iterations) = (words.lanes(0), count.div_ceil(BLOCKS));
    // SAFETY: the CPU has the instructions. They read `FIXED`, the constants and the products, advance the
    // products, and write the words of `count` blocks, rounded up to a number that is at most
    // `Words::BLOCKS`. All registers that they change are named.
    unsafe {
        assembly!(
            words, to, iterations,
            store_apart!([0 1] 0 [2 3] 32 [4 5] 64 [6 7] 96 [8 9] 128 [10 11] 160),
            192,
            apart = const 8 * Words::BLOCKS,
        );
    }
}

/// See [`Simd::rounds_in_order`](super::Simd::rounds_in_order).
///
/// # Safety
/// The CPU must have AVX2, and `to` must be valid for writing `count` blocks.
#[inline(never)]
pub(super) unsafe fn rounds_in_order(words: &mut Words, count: usize, to: *mut u8) -> usize {
    let iterations = count / BLOCKS;
    if iterations > 0 {
        // SAFETY: as above, but that the words go to `to`, and that `count` is rounded down.
        unsafe {
            assembly!(
                words,
                to,
                iterations,
                store_in_order!([0 1] 0 [2 3] 64 [4 5] 128 [6 7] 192 [8 9] 256 [10 11] 320),
                384,
            );
        }
    }
    iterations * BLOCKS
}
