//! The words of a key as a generator for the `rand` ecosystem.

use super::philox::block_words;
use crate::seed::Key;
use rand_core::{Infallible, SeedableRng, TryRng};

/// The words of a [`Key`] in order, from any position: a generator for `rand` and its distributions.
///
/// Word *n* is word `n & 3` of block `n >> 2`: the word of element *n* of a single-precision tensor. The
/// position wraps at 2^64.
///
/// ```
/// use fastinit::{Key, PhiloxStream};
/// use rand::{Rng, RngExt};
/// let mut rng = PhiloxStream::new(Key::new(0));
/// assert_eq!(rng.next_u32(), 0x6627_e8d5); // Random123's known answer for counter 0 and key 0
/// let die = rng.random_range(1..=6);
/// assert!((1..=6).contains(&die));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhiloxStream {
    key: Key,
    position: u64,
    block: [u32; 4],
}

impl PhiloxStream {
    /// A generator at word 0.
    pub fn new(key: Key) -> PhiloxStream {
        PhiloxStream { key, position: 0, block: block_words(key, 0) }
    }

    /// The number of the next word.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to word number `position`, in constant time.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
        self.block = block_words(self.key, position >> 2);
    }

    fn next(&mut self) -> u32 {
        let word = self.block[(self.position & 3) as usize];
        self.position = self.position.wrapping_add(1);
        if self.position & 3 == 0 {
            self.block = block_words(self.key, self.position >> 2);
        }
        word
    }
}

impl TryRng for PhiloxStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = self.next();
        Ok(low as u64 | (self.next() as u64) << 32)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl SeedableRng for PhiloxStream {
    /// The seed, little-endian; the stream is 0.
    type Seed = [u8; 8];

    fn from_seed(seed: [u8; 8]) -> PhiloxStream {
        PhiloxStream::new(Key::new(u64::from_le_bytes(seed)))
    }
}
