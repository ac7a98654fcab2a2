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
    SymmetricUniformF32(Uniform<f32, true>),
    UniformF32(Uniform<f32, false>),
    NormalF32(Normal<f32>),
    Central(Central),
    SymmetricTo3(Single<true, true>),
    Symmetric(Single<true, false>),
    To3(Single<false, true>),
    Single(Single<false, false>),
    GeneralF32(General<f32>),
    SymmetricUniformF64(Uniform<f64, true>),
    UniformF64(Uniform<f64, false>),
    NormalF64(Normal<f64>),
    CentralF64(CentralF64),
    GeneralF64(General<f64>),
}

impl Sampler {
    /// For elements that are stored as `dtype`.
    pub(crate) fn new(distribution: &Distribution, dtype: Dtype) -> Sampler {
        let double = dtype == Dtype::F64;
        match *distribution {
            Distribution::Uniform { low, high } if double => uniform::sampler_f64(low, high),
            Distribution::Uniform { low, high } => uniform::sampler_f32(low, high, dtype),
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

/// What is computed from the words before the samples, in steps that are the same for all blocks. Levels that
/// have few registers do each step for many blocks in a loop of its own: short chains of operations overlap
/// better than long ones.
pub(crate) trait Steps: Copy {
    /// The number of steps, two at most.
    const STEPS: usize = 0;
    /// Step number `STEP`, of four registers. The first one gets the words, twice, and of the last one the
    /// first two registers count.
    #[inline(always)]
    fn step<S: Simd, const STEP: usize>(&self, _s: S, lanes: [S::Int; 4]) -> [S::Int; 4] {
        lanes
    }
    /// All steps.
    #[inline(always)]
    fn steps<S: Simd>(&self, s: S, a: S::Int, b: S::Int) -> (S::Int, S::Int) {
        let mut lanes = [a, b, a, b];
        if Self::STEPS > 0 {
            lanes = self.step::<S, 0>(s, lanes);
        }
        if Self::STEPS > 1 {
            lanes = self.step::<S, 1>(s, lanes);
        }
        (lanes[0], lanes[1])
    }
}

/// Samples in single precision.
pub(crate) trait SampleF32: Steps {
    /// Whether [`SampleF32::sample`] has branches.
    const BRANCHES: bool = false;
    /// The samples of whole blocks, from what the steps make of the words 0 and 2 of each block, and of the
    /// words 1 and 3. The results have the samples in the same order.
    fn sample<S: Simd>(&self, s: S, even: S::Int, odd: S::Int) -> (S::F32, S::F32);
}

/// Samples in double precision.
pub(crate) trait SampleF64: Steps {
    /// Whether [`SampleF64::sample`] has branches.
    const BRANCHES: bool = false;
    /// The samples of whole blocks, from what the steps make of the first and of the second 64-bit word of
    /// each.
    fn sample<S: Simd>(&self, s: S, first: S::Int, second: S::Int) -> (S::F64, S::F64);
}
