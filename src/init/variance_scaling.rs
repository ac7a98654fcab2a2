//! Samples whose variance follows from the fans of the shape: the Glorot, He and LeCun initializers and their
//! relatives.

use crate::distr::Distribution;
use crate::error::{Error, Result};
use crate::shape::{Fans, KernelAxes, check_groups};
use std::fmt;
use std::str::FromStr;

/// The standard deviation of a standard normal distribution truncated to [-2, 2].
const TRUNCATED_STDDEV: f64 = 0.879_625_661_034_239_8;

/// Samples with mean 0 and variance `scale / max(1, fan)`.
///
/// | preset | scale | mode | distribution | source |
/// |---|---|---|---|---|
/// | [`glorot_uniform`](Self::glorot_uniform) | 1 | fan_avg | uniform | Glorot and Bengio, AISTATS 2010 |
/// | [`glorot_normal`](Self::glorot_normal) | 1 | fan_avg | truncated normal | the same |
/// | [`he_uniform`](Self::he_uniform) | 2 | fan_in | uniform | He et al., ICCV 2015 (arXiv:1502.01852) |
/// | [`he_normal`](Self::he_normal) | 2 | fan_in | truncated normal | the same |
/// | [`lecun_uniform`](Self::lecun_uniform) | 1 | fan_in | uniform | LeCun et al., *Efficient BackProp*, 1998 |
/// | [`lecun_normal`](Self::lecun_normal) | 1 | fan_in | truncated normal | the same |
///
/// ```
/// use fastinit::{Distribution, KernelAxes, VarianceScaling};
/// // A dense kernel in PyTorch's layout, (out, in): 600 inputs.
/// let scaling = VarianceScaling::he_uniform().axes(KernelAxes::default().in_axis([1]).out_axis([0]));
/// assert_eq!(scaling.distribution_of(&[100, 600])?, Distribution::Uniform { low: -0.1, high: 0.1 });
/// # Ok::<(), fastinit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VarianceScaling {
    /// The variance times the fan; positive and finite.
    pub scale: f64,
    /// The fan.
    pub mode: FanMode,
    /// The shape of the distribution.
    pub distribution: ScaledDistribution,
    /// What the axes of the kernel mean.
    pub axes: KernelAxes,
}

/// The fan that the variance is inversely proportional to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FanMode {
    /// The inputs per output: preserves the variance of activations.
    FanIn,
    /// The outputs per input: preserves the variance of gradients.
    FanOut,
    /// The arithmetic mean of both.
    FanAvg,
    /// The geometric mean of both.
    FanGeoAvg,
}

/// The distribution of scaled samples; all have mean 0 and the same variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScaledDistribution {
    /// Normal, truncated at two standard deviations. The standard deviation before truncation is larger by
    /// 1 / 0.87962566103423978, so that the variance after it is right.
    TruncatedNormal,
    /// Normal.
    UntruncatedNormal,
    /// Uniform on `[-limit, limit)` with `limit = sqrt(3 * variance)`.
    Uniform,
}

impl Default for VarianceScaling {
    /// Scale 1, fan_in, truncated normal, the default axes: [`lecun_normal`](Self::lecun_normal).
    fn default() -> Self {
        VarianceScaling::lecun_normal()
    }
}

impl VarianceScaling {
    /// Samples of this scale, mode and distribution, with the default axes.
    pub fn new(scale: f64, mode: FanMode, distribution: ScaledDistribution) -> Self {
        VarianceScaling { scale, mode, distribution, axes: KernelAxes::default() }
    }

    /// The same with these axes.
    pub fn axes(self, axes: KernelAxes) -> Self {
        VarianceScaling { axes, ..self }
    }

    /// Uniform with variance `2 / (fan_in + fan_out)`; also known as Xavier.
    pub fn glorot_uniform() -> Self {
        Self::new(1.0, FanMode::FanAvg, ScaledDistribution::Uniform)
    }

    /// Truncated normal with variance `2 / (fan_in + fan_out)`; also known as Xavier.
    pub fn glorot_normal() -> Self {
        Self::new(1.0, FanMode::FanAvg, ScaledDistribution::TruncatedNormal)
    }

    /// Uniform with variance `2 / fan_in`; also known as Kaiming.
    pub fn he_uniform() -> Self {
        Self::new(2.0, FanMode::FanIn, ScaledDistribution::Uniform)
    }

    /// Truncated normal with variance `2 / fan_in`; also known as Kaiming.
    pub fn he_normal() -> Self {
        Self::new(2.0, FanMode::FanIn, ScaledDistribution::TruncatedNormal)
    }

    /// Uniform with variance `1 / fan_in`.
    pub fn lecun_uniform() -> Self {
        Self::new(1.0, FanMode::FanIn, ScaledDistribution::Uniform)
    }

    /// Truncated normal with variance `1 / fan_in`.
    pub fn lecun_normal() -> Self {
        Self::new(1.0, FanMode::FanIn, ScaledDistribution::TruncatedNormal)
    }

    /// Checks what can be checked without a shape.
    pub(super) fn validate(&self) -> Result<()> {
        self.check_scale()?;
        check_groups(self.axes.groups)
    }

    fn check_scale(&self) -> Result<()> {
        if self.scale > 0.0 && self.scale.is_finite() {
            return Ok(());
        }
        Err(Error::parameter("scale", "be positive and finite", format!("{:?}", self.scale)))
    }

    /// The distribution of the elements of a kernel of this logical shape.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a scale that is not positive and finite; otherwise as [`KernelAxes::fans`].
    pub fn distribution_of(&self, shape: &[u64]) -> Result<Distribution> {
        self.check_scale()?;
        let Fans { fan_in, fan_out } = self.axes.fans(shape)?;
        let fan = match self.mode {
            FanMode::FanIn => fan_in,
            FanMode::FanOut => fan_out,
            FanMode::FanAvg => (fan_in + fan_out) / 2.0,
            FanMode::FanGeoAvg => (fan_in * fan_out).sqrt(),
        };
        let variance = self.scale / fan.max(1.0);
        Ok(match self.distribution {
            ScaledDistribution::TruncatedNormal => Distribution::TruncatedNormal {
                mean: 0.0,
                stddev: variance.sqrt() / TRUNCATED_STDDEV,
                lower: -2.0,
                upper: 2.0,
            },
            ScaledDistribution::UntruncatedNormal => {
                Distribution::Normal { mean: 0.0, stddev: variance.sqrt() }
            }
            ScaledDistribution::Uniform => {
                let limit = (3.0 * variance).sqrt();
                Distribution::Uniform { low: -limit, high: limit }
            }
        })
    }
}

impl FanMode {
    const ALL: [FanMode; 4] = [FanMode::FanIn, FanMode::FanOut, FanMode::FanAvg, FanMode::FanGeoAvg];
    const NAMES: [&str; 4] = ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"];

    /// The name of the mode: `"fan_in"`, `"fan_out"`, `"fan_avg"` or `"fan_geo_avg"`.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl ScaledDistribution {
    const ALL: [ScaledDistribution; 3] = [
        ScaledDistribution::TruncatedNormal,
        ScaledDistribution::UntruncatedNormal,
        ScaledDistribution::Uniform,
    ];
    const NAMES: [&str; 3] = ["truncated_normal", "untruncated_normal", "uniform"];

    /// The name of the distribution: `"truncated_normal"`, `"untruncated_normal"` or
    /// `"uniform"`.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for FanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ScaledDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FanMode {
    type Err = Error;

    /// The mode of this name.
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| Error::Name { name: "mode", choices: &Self::NAMES, value: name.to_owned() })
    }
}

impl FromStr for ScaledDistribution {
    type Err = Error;

    /// The distribution of this name. `"normal"` is refused, since Keras and JAX mean different distributions
    /// by it.
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|distribution| distribution.name() == name);
        found.ok_or_else(|| Error::Name {
            name: "distribution",
            choices: &Self::NAMES,
            value: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truncation_constant_is_the_standard_deviation() {
        // Var = 1 - 2 * 2 * phi(2) / (2 Phi(2) - 1), with erf(sqrt 2) =
        // 0.954499736103641585599434725666933125.
        let phi = (-2.0_f64).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let stddev = (1.0 - 4.0 * phi / 0.954_499_736_103_641_6).sqrt();
        assert!((stddev - TRUNCATED_STDDEV).abs() < 1e-15, "{stddev:?}");
    }

    #[test]
    fn variance_by_mode_and_distribution() {
        let shape = [3, 3, 16, 64];
        for (mode, fan) in [
            (FanMode::FanIn, 144.0),
            (FanMode::FanOut, 576.0),
            (FanMode::FanAvg, 360.0),
            (FanMode::FanGeoAvg, 288.0),
        ] {
            let scaling = |distribution| VarianceScaling {
                scale: 1.5,
                mode,
                distribution,
                ..VarianceScaling::default()
            };
            let stddev = (1.5_f64 / fan).sqrt();
            assert_eq!(
                scaling(ScaledDistribution::UntruncatedNormal).distribution_of(&shape).unwrap(),
                Distribution::Normal { mean: 0.0, stddev }
            );
            assert_eq!(
                scaling(ScaledDistribution::TruncatedNormal).distribution_of(&shape).unwrap(),
                Distribution::TruncatedNormal {
                    mean: 0.0,
                    stddev: stddev / TRUNCATED_STDDEV,
                    lower: -2.0,
                    upper: 2.0
                }
            );
            let Distribution::Uniform { low, high } =
                scaling(ScaledDistribution::Uniform).distribution_of(&shape).unwrap()
            else {
                panic!("not uniform");
            };
            assert_eq!(low, -high);
            assert!((high * high / 3.0 - stddev * stddev).abs() < 1e-16);
        }
    }

    #[test]
    fn a_fan_below_one_counts_as_one() {
        let normal = VarianceScaling {
            distribution: ScaledDistribution::UntruncatedNormal,
            ..VarianceScaling::default()
        };
        for shape in [[0, 8], [1, 8], [0, 0]] {
            assert_eq!(
                normal.distribution_of(&shape).unwrap(),
                Distribution::Normal { mean: 0.0, stddev: 1.0 }
            );
        }
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for mode in FanMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for distribution in ScaledDistribution::ALL {
            assert_eq!(distribution.to_string().parse(), Ok(distribution));
        }
        let message = "fan".parse::<FanMode>().unwrap_err().to_string();
        assert_eq!(message, "mode must be one of 'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg'; got 'fan'");
        let message = "normal".parse::<ScaledDistribution>().unwrap_err().to_string();
        assert!(message.contains("Keras means 'truncated_normal'"));
        let message = "gamma".parse::<ScaledDistribution>().unwrap_err().to_string();
        assert!(message.ends_with("got 'gamma'"));
    }

    #[test]
    fn bad_scales_are_refused() {
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let scaling = VarianceScaling { scale, ..VarianceScaling::default() };
            let message = scaling.distribution_of(&[2, 2]).unwrap_err().to_string();
            assert_eq!(message, format!("scale must be positive and finite, got {scale:?}"));
        }
    }
}
