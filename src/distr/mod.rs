//! Words to samples: uniform, normal and truncated normal.
//!
//! A [`Distribution`] is plain data. Its kernels, [`SampleF32`] and [`SampleF64`], turn the words of whole Philox blocks into
//! samples: one 32-bit word per element in single precision, one 64-bit word in double precision. Nothing is ever rejected, so
//! an element depends on its own block only. The half types have no kernels of their own: they are rounded from single
//! precision where elements are stored.

use crate::simd::Simd;

mod normal;
mod truncated_normal;
mod uniform;

pub use normal::{Normal, on_circle_f32, on_circle_f64, radius_f32, radius_f64};
pub use truncated_normal::{Central, General, Symmetric, TruncatedNormalF32};
pub use uniform::Uniform;

/// A distribution with its parameters, as plain data. They are checked where an initializer is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Uniform on `[low, high)`.
    Uniform {
        /// The least value.
        low: f64,
        /// The bound that is never returned.
        high: f64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stddev: f64,
    },
    /// Normal, conditioned on `mean + stddev * [lower, upper]`.
    TruncatedNormal {
        /// The mean of the normal before truncation.
        mean: f64,
        /// The standard deviation of the normal before truncation.
        stddev: f64,
        /// The lower bound, in standard deviations from the mean; may be minus infinity.
        lower: f64,
        /// The upper bound, in standard deviations from the mean; may be infinity.
        upper: f64,
    },
}

/// Samples in single precision.
pub trait SampleF32: Copy + Send + Sync {
    /// The samples of whole blocks: `even` has the words 0 and 2 of each, `odd` the words 1 and 3, and so have the results.
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32);
}

/// Samples in double precision.
pub trait SampleF64: Copy + Send + Sync {
    /// The samples of whole blocks from their 64-bit words, the first and the second of each.
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64);
}
