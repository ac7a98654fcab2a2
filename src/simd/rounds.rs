//! The rounds of Philox on three AVX2 registers of counters side by side, in assembly.
//!
//! A round takes five cycles of latency and, for one register, two of work, so three registers in flight keep
//! the CPU busy. Their twelve words, the two multipliers and two temporaries take all sixteen registers. What
//! the compiler makes of the operations of [`Simd`](super::Simd) is slower: it moves operations across rounds,
//! runs out of registers, and stores words to memory and loads them again between rounds.

use super::Words;
use std::arch::asm;

/// The registers of counters that are computed side by side, of four blocks each.
const REGISTERS: usize = 3;

/// An instruction on registers, given by their numbers; the last operand may also be a row of the constants or
/// a number.
macro_rules! op {
    ($name:literal $to:literal, $a:literal, $b:literal) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", ymm", $b, "\n")
    };
    ($name:literal $to:literal, $a:literal, row $row:literal) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", [{constants} + 32 * ", $row, "]\n")
    };
    ($name:literal $to:literal, $a:literal; $number:literal) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", ", $number, "\n")
    };
    ($name:literal $to:literal, $a:literal, $b:literal; $number:literal) => {
        concat!($name, " ymm", $to, ", ymm", $a, ", ymm", $b, ", ", $number, "\n")
    };
}

/// The multiplications of a round: words 0 and 2 become their products.
macro_rules! products {
    ($x0:literal $x1:literal $x2:literal $x3:literal) => {
        concat!(op!("vpmuludq" $x2, $x2, 15), op!("vpmuludq" $x0, $x0, 14))
    };
}

/// The keys of a round into words 1 and 3; without a second key, word 3 has it already.
macro_rules! keys {
    ([$k0:literal], $x0:literal $x1:literal $x2:literal $x3:literal) => {
        op!("vpxor" $x1, $x1, row $k0)
    };
    ([$k0:literal $k1:literal], $x0:literal $x1:literal $x2:literal $x3:literal) => {
        concat!(op!("vpxor" $x1, $x1, row $k0), op!("vpxor" $x3, $x3, row $k1))
    };
}

/// The upper halves of the products into words 1 and 3, which so become the next words 0 and 2.
macro_rules! upper_halves {
    ($x0:literal $x1:literal $x2:literal $x3:literal) => {
        concat!(
            op!("vpsrlq" 12, $x2; 32),
            op!("vpsrlq" 13, $x0; 32),
            op!("vpxor" $x1, $x1, 12),
            op!("vpxor" $x3, $x3, 13),
        )
    };
}

/// A round with the keys in these rows, of registers whose words 0 to 3 are in these. The next round has them
/// in the order 1, 2, 3, 0.
macro_rules! round {
    ($keys:tt: $([$($x:literal)*])*) => {
        concat!($(products!($($x)*),)* $(keys!($keys, $($x)*),)* $(upper_halves!($($x)*),)*)
    };
}

/// The first two rounds, of counters in word 2.
macro_rules! begin {
    ($x0:literal $x1:literal $x2:literal $x3:literal) => {
        concat!(
            op!("vpmuludq" $x2, $x2, 14),
            op!("vpsrlq" $x1, $x2; 32),
            op!("vpxor" $x1, $x1, row 2),
            op!("vpmuludq" $x1, $x1, 15),
            op!("vpsrlq" $x0, $x1; 32),
            op!("vpxor" $x0, $x0, row 3),
            op!("vpxor" $x2, $x2, row 4),
            "vmovdqa ymm", $x3, ", [{constants} + 32 * 5]\n",
        )
    };
}

/// The last round, whose result has two words of a block in each 64-bit lane: the even words are left in word
/// 1, the odd ones in word 0.
macro_rules! end {
    ($x0:literal $x1:literal $x2:literal $x3:literal) => {
        concat!(
            products!($x0 $x1 $x2 $x3),
            op!("vpshufd" $x3, $x3; 0xa0),
            op!("vpblendd" $x1, $x1, $x3; 0xaa),
            op!("vpxor" $x1, $x1, row 19),
            op!("vpshufd" $x3, $x2; 0xf5),
            op!("vpblendd" $x3, $x3, $x0; 0xaa),
            op!("vpxor" $x1, $x1, $x3),
            op!("vpshufd" $x0, $x0; 0xa0),
            op!("vpblendd" $x0, $x2, $x0; 0xaa),
        )
    };
}

/// See [`Simd::rounds`](super::Simd::rounds).
///
/// # Safety
/// The CPU must have AVX2.
#[inline(never)]
pub(super) unsafe fn rounds(words: &mut Words, count: usize) {
    const { assert!(Words::BLOCKS.is_multiple_of(4 * REGISTERS)) };
    assert!((1..=Words::BLOCKS).contains(&count));
    let [even, ..] = words.lanes(0);
    // SAFETY: the CPU has the instructions. They read the constants and the counters, advance the counters, and
    // write the words of `count` blocks, rounded up to a number that is at most `Words::BLOCKS`. All registers
    // that they change are named.
    unsafe {
        asm!(
            "vmovdqa ymm14, [{constants}]",
            "vmovdqa ymm15, [{constants} + 32]",
            ".p2align 5",
            "2:",
            "vmovdqa ymm2, [{counters}]",
            "vpaddq ymm6, ymm2, [{counters} + 32]",
            "vpaddq ymm10, ymm2, [{counters} + 32 * 2]",
            "vpaddq ymm0, ymm2, [{counters} + 32 * 3]",
            "vmovdqa [{counters}], ymm0",
            begin!(0 1 2 3),
            begin!(4 5 6 7),
            begin!(8 9 10 11),
            round!([6]: [0 1 2 3] [4 5 6 7] [8 9 10 11]),
            round!([7 8]: [1 2 3 0] [5 6 7 4] [9 10 11 8]),
            round!([9 10]: [2 3 0 1] [6 7 4 5] [10 11 8 9]),
            round!([11 12]: [3 0 1 2] [7 4 5 6] [11 8 9 10]),
            round!([13 14]: [0 1 2 3] [4 5 6 7] [8 9 10 11]),
            round!([15 16]: [1 2 3 0] [5 6 7 4] [9 10 11 8]),
            round!([17 18]: [2 3 0 1] [6 7 4 5] [10 11 8 9]),
            end!(3 0 1 2),
            end!(7 4 5 6),
            end!(11 8 9 10),
            "vmovdqa [{even}], ymm0",
            "vmovdqa [{even} + 32], ymm4",
            "vmovdqa [{even} + 64], ymm8",
            "vmovdqa [{even} + {odd}], ymm3",
            "vmovdqa [{even} + {odd} + 32], ymm7",
            "vmovdqa [{even} + {odd} + 64], ymm11",
            "add {even}, 96",
            "dec {iterations}",
            "jne 2b",
            // Instructions of the older encoding would wait for the upper halves of the registers.
            "vzeroupper",
            constants = in(reg) &raw const words.constants,
            counters = in(reg) &raw mut words.counters,
            even = inout(reg) even => _,
            odd = const 8 * Words::BLOCKS,
            iterations = inout(reg) count.div_ceil(4 * REGISTERS) => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}
