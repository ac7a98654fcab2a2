//! The generator for `rand` gives the same words as fills.

use super::common::{KEY, SplitMix, at, filled, levels, part_of_the_largest};
use crate::Key;
use crate::fill::bits_u32;
use crate::rng::PhiloxStream;
use rand_core::{Rng, SeedableRng};

fn words(first: u64, length: usize) -> Vec<u32> {
    filled(length, |out| bits_u32(out, &part_of_the_largest(first, length), KEY, &at(levels()[0])))
}

#[test]
fn the_words_are_those_of_a_fill() {
    let words = words(0, 1000);
    let mut stream = PhiloxStream::new(KEY);
    assert!(words.iter().all(|&word| stream.next_u32() == word));
    assert_eq!(stream.position(), 1000);

    let mut stream = PhiloxStream::new(KEY);
    for pair in words.chunks(2) {
        assert_eq!(stream.next_u64(), pair[0] as u64 | (pair[1] as u64) << 32);
    }

    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    for length in [0, 1, 3, 4, 5, 17, 4000] {
        let mut got = vec![0; length];
        PhiloxStream::new(KEY).fill_bytes(&mut got);
        assert_eq!(got, bytes[..length]);
    }
}

#[test]
fn any_position_can_be_set() {
    let mut random = SplitMix(3);
    let mut stream = PhiloxStream::new(KEY);
    for bits in 0..63 {
        let position = random.next() >> (63 - bits) >> 1;
        stream.set_position(position);
        assert_eq!(stream.position(), position);
        for word in words(position, 9) {
            assert_eq!(stream.next_u32(), word, "from {position}");
        }
    }
    // After the last word comes the first.
    stream.set_position(u64::MAX);
    stream.next_u32();
    assert_eq!((stream.position(), stream.next_u32()), (0, words(0, 1)[0]));
}

#[test]
fn the_seed_is_the_key() {
    let mut seeded = PhiloxStream::from_seed(KEY.seed.to_le_bytes());
    assert_eq!(seeded, PhiloxStream::new(Key::new(KEY.seed)));
    assert_ne!(seeded.next_u32(), PhiloxStream::new(KEY).next_u32());
}
