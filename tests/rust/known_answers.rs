//! Random123's known answers, for the plain form of the generator, the vector form on every level, and fills.

use super::common::{KEY, SplitMix, assert_same, at, filled, lanes, levels, part_of_the_largest};
use crate::Key;
use crate::fill::{bits_u32, bits_u64};
use crate::rng::philox::{Philox, block_words, philox4x32};
use crate::simd::{Kernel, Simd};

/// Counter, key and words of `philox4x32 10` in Random123's `tests/kat_vectors`.
const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

/// The key and the block of a counter and a key in words.
fn key_and_block(counter: [u32; 4], key: [u32; 2]) -> (Key, u64) {
    let join = |low: u32, high: u32| low as u64 | (high as u64) << 32;
    (Key { seed: join(key[0], key[1]), stream: join(counter[2], counter[3]) }, join(counter[0], counter[1]))
}

/// The words of a register of blocks from number `block` on: (block, words) of each lane.
struct Blocks(Key, u64);

impl Kernel for Blocks {
    type Output = Vec<(u64, [u32; 4])>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let Blocks(key, block) = self;
        let low = s.add_u64(s.splat_u64(block & 0xffff_ffff), s.zip_order());
        let (even, odd) = Philox::new(key, (block >> 32) as u32).words(s, low);
        let lanes = [lanes(s, low), lanes(s, even), lanes(s, odd)];
        let words = |i: usize| {
            let (even, odd) = (lanes[1][i], lanes[2][i]);
            // The upper half of a lane of `low` is not part of the counter.
            let block = block & !0xffff_ffff | lanes[0][i] & 0xffff_ffff;
            (block, [even as u32, odd as u32, (even >> 32) as u32, (odd >> 32) as u32])
        };
        (0..S::PAIRS).map(words).collect()
    }
}

#[test]
fn the_definition_gives_the_known_answers() {
    for (counter, key, words) in KNOWN {
        assert_eq!(philox4x32(counter, key), words);
        let (key, block) = key_and_block(counter, key);
        assert_eq!(block_words(key, block), words);
    }
}

#[test]
fn the_vector_form_gives_the_known_answers_on_every_level() {
    for &level in levels() {
        for (counter, key, words) in KNOWN {
            let (key, block) = key_and_block(counter, key);
            assert_eq!(level.run(Blocks(key, block))[0], (block, words), "{level:?}");
        }
    }
}

#[test]
fn the_vector_form_is_the_definition_on_every_level() {
    for &level in levels() {
        let mut random = SplitMix(1);
        let mut words = || match random.below(4) {
            0 => [0, u64::MAX, 0xffff_ffff, 1 << 32][random.below(4)],
            _ => random.next(),
        };
        for _ in 0..20_000 {
            let (key, block) = (Key { seed: words(), stream: words() }, words());
            for (block, words) in level.run(Blocks(key, block)) {
                assert_eq!(words, block_words(key, block), "{level:?} {key:?} {block:x}");
            }
        }
    }
}

/// Where fills begin: at all positions in a block, before the upper word of the block number changes, and
/// near the last element.
const OFFSETS: [u64; 12] = [
    0,
    1,
    2,
    3,
    5,
    4097,
    (1 << 33) - 7,
    (1 << 34) - 7,
    (1 << 34) + 3,
    (1 << 40) + 1,
    (1 << 62) - 1000,
    (1 << 63) - 3000,
];

#[test]
fn fills_of_raw_words_are_the_definition_on_every_level() {
    let zeros = filled(4, |out| bits_u32(out, &part_of_the_largest(0, 4), Key::new(0), &at(levels()[0])));
    assert_eq!(zeros, KNOWN[0].2);
    for &level in levels() {
        for first in OFFSETS {
            let word = |i: u64| block_words(KEY, i >> 2)[(i & 3) as usize] as u64;
            let doubled = |i: u64| {
                let words = block_words(KEY, i >> 1);
                let low = 2 * (i & 1) as usize;
                words[low] as u64 | (words[low + 1] as u64) << 32
            };
            let indices = first..first + 3000;
            let expected: Vec<u64> = indices.clone().map(word).collect();
            let expected_doubled: Vec<u64> = indices.map(doubled).collect();
            for length in (0..70).chain([255, 1024, 2999, 3000]) {
                let window = part_of_the_largest(first, length);
                let what = format!("{level:?}, {length} from {first}");
                let words = filled(length, |out| bits_u32(out, &window, KEY, &at(level)));
                let words: Vec<u64> = words.into_iter().map(u64::from).collect();
                assert_same(&words, &expected[..length], &what);
                let words = filled(length, |out| bits_u64(out, &window, KEY, &at(level)));
                assert_same(&words, &expected_doubled[..length], &what);
            }
        }
    }
}
