//! Words to samples: uniform, normal and truncated normal.
//!
//! A [`Distribution`] is plain data. A [`Sampler`] turns the words of whole Philox blocks into samples, in
//! order: one 32-bit word per element in single precision, one 64-bit word in double precision. No word is
//! rejected, so an element depends on its own block only. The half types are rounded from single precision
//! when elements are stored.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::simd::Simd;

mod normal;
mod truncated_normal;
mod uniform;

pub(crate) use normal::Normal;
#[cfg(test)]
pub(crate) use normal::{on_circle_f32, radius_f32};
pub(crate) use truncated_normal::{Central, CentralF64, General, Single};
pub(crate) use uniform::Uniform;

/// A distribution and its parameters, as plain data. An [`Initializer`](crate::Initializer) checks them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// Uniform on `[low, high)`.
    Uniform {
        /// The least value.
        low: f64,
        /// The upper bound, which is never returned.
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

/// A distribution prepared for one precision: the function from words to samples.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sampler {
    UniformF32(Uniform<f32>),
    NormalF32(Normal<f32>),
    Central(Central),
    SymmetricTo3(Single<true, true>),
    Symmetric(Single<true, false>),
    To3(Single<false, true>),
    Single(Single<false, false>),
    GeneralF32(General<f32>),
    UniformF64(Uniform<f64>),
    NormalF64(Normal<f64>),
    CentralF64(CentralF64),
    GeneralF64(General<f64>),
}

impl Sampler {
    /// For elements that are stored as `dtype`.
    pub(crate) fn new(distribution: &Distribution, dtype: Dtype) -> Sampler {
        let double = dtype == Dtype::F64;
        match *distribution {
            Distribution::Uniform { low, high } if double => Sampler::UniformF64(Uniform::new_f64(low, high)),
            Distribution::Uniform { low, high } => Sampler::UniformF32(Uniform::new_f32(low, high, dtype)),
            Distribution::Normal { mean, stddev } if double => Sampler::NormalF64(Normal { mean, stddev }),
            Distribution::Normal { mean, stddev } => {
                Sampler::NormalF32(Normal { mean: mean as f32, stddev: stddev as f32 })
            }
            Distribution::TruncatedNormal { mean, stddev, lower, upper } if double => {
                truncated_normal::sampler_f64(mean, stddev, lower, upper)
            }
            Distribution::TruncatedNormal { mean, stddev, lower, upper } => {
                truncated_normal::sampler_f32(mean, stddev, lower, upper)
            }
        }
    }
}

/// Samples in single precision.
pub(crate) trait SampleF32: Copy {
    /// Whether [`SampleF32::sample`] has branches.
    const BRANCHES: bool = false;
    /// Whether there is work to do before [`SampleF32::sample`], in two steps. Levels that have few registers do
    /// each step for many blocks in a loop of its own: short chains of operations overlap better than long ones.
    const STEPS: bool = false;
    /// The first step: three registers from the words.
    #[inline(always)]
    fn begin<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> [S::Int; 3] {
        [even, odd, s.splat_u32(0)]
    }
    /// The second step: what `sample` takes from these.
    #[inline(always)]
    fn prepare<S: Simd>(&self, _s: S, [a, b, _]: [S::Int; 3]) -> (S::Int, S::Int) {
        (a, b)
    }
    /// The samples of whole blocks: `even` has the words 0 and 2 of each block, `odd` the words 1 and 3, or
    /// both are what [`SampleF32::prepare`] returned. The results have the samples in the same order.
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32);
}

/// Samples in double precision.
pub(crate) trait SampleF64: Copy {
    /// Whether [`SampleF64::sample`] has branches.
    const BRANCHES: bool = false;
    /// Whether there is work to do before [`SampleF64::sample`], in two steps. Levels that have few registers do
    /// each step for many blocks in a loop of its own: short chains of operations overlap better than long ones.
    const STEPS: bool = false;
    /// The first step: three registers from the words.
    #[inline(always)]
    fn begin<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> [S::Int; 3] {
        [first, second, s.splat_u32(0)]
    }
    /// The second step: what `sample` takes from these.
    #[inline(always)]
    fn prepare<S: Simd>(&self, _s: S, [a, b, _]: [S::Int; 3]) -> (S::Int, S::Int) {
        (a, b)
    }
    /// The samples of whole blocks from their 64-bit words, the first and the second of each, or from what
    /// [`SampleF64::prepare`] returned.
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64);
}
