//! The generator: a pure function from a key and a counter to four words. No floating-point numbers here.
#![forbid(unsafe_code)]

pub(crate) mod philox;
mod stream;

pub use stream::PhiloxStream;

/// What the words of a key are for. Words of different sub-streams of a key never coincide: the number stands in the two
/// highest bits of the block number, which no element reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Substream {
    /// The elements themselves.
    Values = 0,
    /// The choice of the zeros of sparse matrices.
    Mask = 1,
    /// The normal elements that orthogonal matrices are made from.
    Matrix = 2,
}
