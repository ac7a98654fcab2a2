//! The generator: a pure function from (key, counter) to four words. It knows no floating-point numbers.

pub(crate) mod philox;
mod stream;

pub use stream::PhiloxStream;
