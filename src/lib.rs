//! fastinit (skeleton)
pub mod distr;
pub mod dtype;
pub mod error;
pub mod fill;
pub mod init;
pub mod math;
#[cfg(feature = "python")]
mod python;
pub mod rng;
pub mod seed;
pub mod shape;
pub mod simd;

pub use dtype::{Bf16, Dtype, Element, F16};
pub use error::{Error, Result};
pub use seed::Key;
pub use simd::Level;

/// The version of the sample space.
pub const STREAM_VERSION: u32 = 1;
