//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC'11), over any
//! SIMD level.
//!
//! Ten rounds turn a counter of four words into four random words under a key of two. Here the key is the
//! seed, low word first, and the counter is (block low, block high, stream low, stream high); each block
//! gives the words of four single-precision elements or two double-precision ones. Any block can be computed
//! without those before it.
//!
//! How the vector form works: each word of a counter is in the low half of a 64-bit lane, so that one
//! widening multiplication gives both halves of a product in place. The next multiplication ignores the upper
//! half, so it need not be cleared. The stream is constant in a fill, and the upper word of the block number
//! in 2^32 consecutive blocks; the terms of the first two rounds that depend on nothing else are computed
//! once, in [`Philox::new`].

use crate::seed::Key;
use crate::simd::{MULTIPLIERS, Simd};

/// Random123 philox.h, `PHILOX_W32_0` and `_1`: added to the key after each round.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
/// The number of rounds.
const ROUNDS: usize = 10;

/// The four words of a counter under a key: the definition, for one block at a time.
pub const fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < ROUNDS {
        let p0 = counter[0] as u64 * MULTIPLIERS[0] as u64;
        let p1 = counter[2] as u64 * MULTIPLIERS[1] as u64;
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        round += 1;
    }
    counter
}

/// The words of block number `block`, from which its elements are computed.
pub const fn block_words(key: Key, block: u64) -> [u32; 4] {
    philox4x32(
        [block as u32, (block >> 32) as u32, key.stream as u32, (key.stream >> 32) as u32],
        [key.seed as u32, (key.seed >> 32) as u32],
    )
}

/// Philox under one key, for the 2^32 blocks that share the upper word of their number.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    /// The keys of the rounds.
    keys: [[u32; 2]; ROUNDS],
    /// The constants that are combined with the products of the first round and the second.
    first: u32,
    second: [u32; 2],
    /// The low word of the constant product of the second round.
    third: u32,
}

impl Philox {
    /// For the blocks `block_high << 32 ..`.
    #[inline(always)]
    pub fn new(key: Key, block_high: u32) -> Philox {
        let mut keys = [[key.seed as u32, (key.seed >> 32) as u32]; ROUNDS];
        for round in 1..ROUNDS {
            let [a, b] = keys[round - 1];
            keys[round] = [a.wrapping_add(WEYL[0]), b.wrapping_add(WEYL[1])];
        }
        let (stream_low, stream_high) = (key.stream as u32, (key.stream >> 32) as u32);
        // First round: the product of the stream is constant, and so are the words 0 and 1 that it gives.
        let product = stream_low as u64 * MULTIPLIERS[1] as u64;
        let word0 = (product >> 32) as u32 ^ block_high ^ keys[0][0];
        let word1 = product as u32;
        // Second round: the product of word 0 is constant, and so are word 3 and all but one term of word 2.
        let product = word0 as u64 * MULTIPLIERS[0] as u64;
        Philox {
            keys,
            first: stream_high ^ keys[0][1],
            second: [word1 ^ keys[1][0], (product >> 32) as u32 ^ keys[1][1]],
            third: product as u32,
        }
    }

    /// The same numbers for [`Simd::rounds`]: what each round combines with words 0 and 2 (in the first one
    /// only word 2 is of interest), then, twice, word 3 before the third round.
    #[inline(always)]
    pub fn constants(&self) -> [[u32; 2]; ROUNDS + 1] {
        let mut constants = [[0; 2]; ROUNDS + 1];
        constants[..2].copy_from_slice(&[[self.first; 2], self.second]);
        constants[2..ROUNDS].copy_from_slice(&self.keys[2..]);
        constants[ROUNDS] = [self.third; 2];
        constants
    }

    /// The words of the blocks whose low halves are in the 64-bit lanes of `block_low`, as (even, odd):
    /// `even` has the words 0 and 2 of each block, `odd` the words 1 and 3.
    #[inline(always)]
    pub fn words<S: Simd>(&self, s: S, block_low: S::Int) -> (S::Int, S::Int) {
        let m0 = s.splat_u64(MULTIPLIERS[0] as u64);
        let m1 = s.splat_u64(MULTIPLIERS[1] as u64);

        let p0 = s.mul_even_u32(block_low, m0);
        let x2 = s.xor(s.shr_u64(p0, 32), s.splat_u64(self.first as u64));
        let p1 = s.mul_even_u32(x2, m1);
        let mut x0 = s.xor(s.shr_u64(p1, 32), s.splat_u64(self.second[0] as u64));
        let mut x1 = p1;
        let mut x2 = s.xor(p0, s.splat_u64(self.second[1] as u64));
        let mut x3 = s.splat_u64(self.third as u64);

        for [k0, k1] in &self.keys[2..ROUNDS - 1] {
            let p0 = s.mul_even_u32(x0, m0);
            let p1 = s.mul_even_u32(x2, m1);
            x0 = s.xor3(s.shr_u64(p1, 32), x1, s.splat_u64(*k0 as u64));
            x2 = s.xor3(s.shr_u64(p0, 32), x3, s.splat_u64(*k1 as u64));
            (x1, x3) = (p1, p0);
        }

        // The last round puts two words of a block in each lane instead of one.
        let p0 = s.mul_even_u32(x0, m0);
        let p1 = s.mul_even_u32(x2, m1);
        let [k0, k1] = self.keys[ROUNDS - 1];
        let even = s.xor3(
            s.pair_odd_u32(p1, p0),
            s.pair_even_u32(x1, x3),
            s.splat_u64(k0 as u64 | (k1 as u64) << 32),
        );
        (even, s.pair_even_u32(p1, p0))
    }
}
