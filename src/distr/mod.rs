//! Words to samples.

/// A distribution with its parameters, as plain data.
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
