//! The generator: a pure function from a key and a counter to four words. No floating-point arithmetic.
#![forbid(unsafe_code)]

pub(crate) mod philox;
mod stream;

pub use stream::PhiloxStream;

/// What the words of a key are used for. Sub-streams of a key never overlap: their number is in the two
/// highest bits of the block number, which elements do not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Substream {
    /// The elements themselves.
    Values = 0,
    /// The positions of the zeros of sparse matrices.
    Mask = 1,
    /// The normal elements that orthogonal matrices are computed from.
    Matrix = 2,
}
