//! Seeds and streams: the only place where keys are made.
//!
//! A [`Key`] names one sequence of random words: the seed names the experiment, the stream the tensor in it.
//! Element *i* of a tensor depends only on the key, the distribution and *i*.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use blake2::{Blake2b, Digest, digest::consts::U8};

/// What selects a sequence of random words: a 64-bit seed and a 64-bit stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The Philox key, low word first.
    pub seed: u64,
    /// The upper half of the Philox counter, low word first.
    pub stream: u64,
}

impl Key {
    /// The key of stream 0.
    pub const fn new(seed: u64) -> Key {
        Key { seed, stream: 0 }
    }

    /// The same seed with another stream.
    pub const fn with_stream(self, stream: u64) -> Key {
        Key { stream, ..self }
    }

    /// The same seed with the stream that `name` hashes to, see [`stream_of`].
    ///
    /// ```
    /// use fastinit::Key;
    /// let key = Key::new(42).with_name("layers.0.attn.q_proj.weight");
    /// assert_eq!(key, Key { seed: 42, stream: 0xd8e6_72a6_c9be_3e32 });
    /// ```
    pub fn with_name(self, name: &str) -> Key {
        self.with_stream(stream_of(name))
    }

    /// The key of one block of a tensor that has several: the same seed, and the stream of the name
    /// `"stream[number]"`, both numbers in decimal.
    ///
    /// ```
    /// use fastinit::Key;
    /// let key = Key::new(42).with_stream(7);
    /// assert_eq!(key.block(3), key.with_name("7[3]"));
    /// ```
    pub fn block(self, number: u64) -> Key {
        self.with_name(&format!("{}[{number}]", self.stream))
    }

    /// A random seed from the operating system, and stream 0.
    ///
    /// # Errors
    /// [`Error::Entropy`] where the operating system provides no entropy.
    pub fn from_entropy() -> Result<Key> {
        getrandom::u64().map(Key::new).map_err(|e| Error::Entropy(e.to_string()))
    }
}

/// The stream of a name: BLAKE2b (RFC 7693) of its UTF-8 bytes with a digest of 8 bytes, read as a
/// little-endian number.
///
/// The same in Python: `int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")`.
pub fn stream_of(name: &str) -> u64 {
    hash(name.as_bytes())
}

/// BLAKE2b of some bytes, as for the name of a stream.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(Blake2b::<U8>::digest(bytes).into())
}
