//! What to make: an [`Initializer`] is a plain description of the contents of a tensor.
//!
//! This layer turns shapes into numbers (fans, standard deviations, bounds, which elements are one) and
//! checks them; how the elements get into memory is [`crate::fill`]'s business. Every such number is computed
//! here and nowhere else. The layer knows axes, not frameworks: whose kernels are `(..., in, out)` and whose
//! are `(out, in, ...)` is told by [`KernelAxes`](crate::shape::KernelAxes).
#![forbid(unsafe_code)]

mod dirac;
mod distribution;
mod identity;
mod orthogonal;
mod sparse;
mod variance_scaling;

pub use orthogonal::Orthogonal;
pub use variance_scaling::{FanMode, ScaledDistribution, VarianceScaling};

use crate::distr::Distribution;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::{self, Options};
use crate::seed::Key;
use crate::shape::Window;
use crate::simd::DefaultEnvironment;
use ndarray::ArrayViewMutD;
use std::mem::MaybeUninit;

/// What a tensor is to contain.
///
/// A value of this type is only data; its parameters are checked when it is used, before anything is written.
///
/// ```
/// use fastinit::{Key, fill::Options, init::{Initializer, VarianceScaling}};
/// use ndarray::Array2;
///
/// let kernel = Initializer::from(VarianceScaling::he_normal());
/// let key = Key::new(42).with_name("mlp.up_proj");
/// let mut weights = Array2::<f32>::zeros((512, 2048));
/// kernel.fill_array(weights.view_mut().into_dyn(), key, &Options::default())?;
///
/// let bias = Initializer::ZEROS;
/// assert!(bias.fill_array(weights.row_mut(0).into_dyn(), key, &Options::default()).is_ok());
/// # Ok::<(), fastinit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Initializer {
    /// Every element is this number, which may be infinite or NaN.
    Constant(f64),
    /// A matrix, square or not, with `gain` on its diagonal and zeros elsewhere.
    ///
    /// Source: for recurrent kernels, Le, Jaitly and Hinton, *A simple way to initialize recurrent networks
    /// of rectified linear units*, 2015 (arXiv:1504.00941).
    Identity {
        /// The elements of the diagonal; finite.
        gain: f64,
    },
    /// Independent samples of one distribution.
    Random(Distribution),
    /// Independent samples whose variance follows from the shape.
    VarianceScaling(VarianceScaling),
    /// A convolution kernel that passes its input through.
    ///
    /// The kernel has 3 to 5 dimensions `(k.., in / groups, out)`. In each group, output *i* takes input *i*
    /// by a one in the tap `k / 2` of every spatial axis; outputs beyond the number of inputs stay zero,
    /// inputs beyond the number of outputs are dropped. In PyTorch's layout this is `torch.nn.init.dirac_`.
    ///
    /// Source: Zagoruyko and Komodakis, *DiracNets*, 2017 (arXiv:1706.00388).
    Dirac {
        /// The groups of the convolution; at least 1, and a divisor of *out*.
        groups: u64,
    },
    /// Matrices of orthonormal rows or columns, whichever are fewer, from the Haar measure.
    ///
    /// The tensor is seen as a matrix: columns along one axis, rows along all others, in C order. Each block of the tensor is a
    /// matrix of its own; block *k* of several has the stream of [`Key::block`], so that a layer that is one tensor
    /// equals its parts bit by bit.
    ///
    /// Source: Saxe, McClelland and Ganguli, *Exact solutions to the nonlinear dynamics of learning in deep linear neural
    /// networks*, ICLR 2014 (arXiv:1312.6120); for the method see [`crate::linalg`].
    Orthogonal(Orthogonal),
    /// A convolution kernel that keeps norms: zero, but for the centre, which has orthonormal rows.
    ///
    /// The kernel has 3 to 5 dimensions `(k.., in, out)` with no more inputs than outputs; the centre is the tap
    /// `(k - 1) / 2` of every spatial axis.
    ///
    /// Source: Xiao et al., *Dynamical isometry and a mean field theory of CNNs*, ICML 2018 (arXiv:1806.05393).
    DeltaOrthogonal {
        /// What the centre is multiplied by; finite.
        gain: f64,
    },
    /// A matrix whose columns have exactly `ceil(sparsity * rows)` zeros each, in random places; the other
    /// elements are normal with mean 0.
    ///
    /// Source: Martens, *Deep learning via Hessian-free optimization*, ICML 2010.
    Sparse {
        /// The share of zeros in each column; in `[0, 1]`.
        sparsity: f64,
        /// The standard deviation of the other elements; positive.
        stddev: f64,
    },
}

impl From<VarianceScaling> for Initializer {
    fn from(scaling: VarianceScaling) -> Self {
        Initializer::VarianceScaling(scaling)
    }
}

impl From<Distribution> for Initializer {
    fn from(distribution: Distribution) -> Self {
        Initializer::Random(distribution)
    }
}

impl Initializer {
    /// All zeros.
    pub const ZEROS: Initializer = Initializer::Constant(0.0);

    /// All ones.
    pub const ONES: Initializer = Initializer::Constant(1.0);

    /// Whether the contents depend on the key.
    pub const fn is_random(&self) -> bool {
        match self {
            Initializer::Constant(_) | Initializer::Identity { .. } | Initializer::Dirac { .. } => false,
            Initializer::Random(_)
            | Initializer::VarianceScaling(_)
            | Initializer::Orthogonal(_)
            | Initializer::DeltaOrthogonal { .. }
            | Initializer::Sparse { .. } => true,
        }
    }

    /// Checks the parameters, as far as that can be done without knowing the shape and the dtype.
    ///
    /// ```
    /// use fastinit::init::Initializer;
    /// let error = Initializer::Sparse { sparsity: 1.5, stddev: 0.01 }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "sparsity must lie in [0, 1], got 1.5");
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] naming the parameter, its value and the rule.
    pub fn validate(&self) -> Result<()> {
        match self {
            Initializer::Constant(_) => Ok(()),
            Initializer::Identity { gain } | Initializer::DeltaOrthogonal { gain } => {
                distribution::check_finite("gain", *gain, Dtype::F64)
            }
            Initializer::Orthogonal(orthogonal) => orthogonal.validate(),
            Initializer::Random(distribution) => distribution::check(distribution, Dtype::F64),
            Initializer::VarianceScaling(scaling) => scaling.validate(),
            Initializer::Dirac { groups } => dirac::check_groups(*groups),
            Initializer::Sparse { sparsity, stddev } => sparse::check(*sparsity, *stddev, Dtype::F64),
        }
    }

    /// The distribution that the elements of a tensor of this logical shape are independent samples of; `None` where they are
    /// something else.
    ///
    /// ```
    /// use fastinit::{distr::Distribution, init::{Initializer, ScaledDistribution, VarianceScaling}};
    /// let kernel = VarianceScaling { distribution: ScaledDistribution::UntruncatedNormal, ..VarianceScaling::he_normal() };
    /// let expected = Distribution::Normal { mean: 0.0, stddev: 0.125 };
    /// assert_eq!(Initializer::from(kernel).distribution(&[128, 300])?, Some(expected));
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] where the shape has no fans.
    pub fn distribution(&self, shape: &[u64]) -> Result<Option<Distribution>> {
        match self {
            Initializer::Random(distribution) => Ok(Some(*distribution)),
            Initializer::VarianceScaling(scaling) => scaling.distribution_of(shape).map(Some),
            _ => Ok(None),
        }
    }

    /// Checks that a tensor of this logical `shape` and `dtype` can be filled.
    ///
    /// Beyond [`validate`](Self::validate) this looks at the shape, and at the parameters as the dtype sees
    /// them: samples of `float32` and of the half dtypes are computed in `float32`, so a standard deviation
    /// of 1e-50 is zero there.
    ///
    /// # Errors
    /// [`Error::Value`] naming the value and the rule. What passes here is not refused by
    /// [`fill`](Self::fill).
    pub fn check(&self, shape: &[u64], dtype: Dtype) -> Result<()> {
        let _environment = DefaultEnvironment::enter();
        self.validate()?;
        match self {
            Initializer::Constant(_) => Ok(()),
            Initializer::Identity { gain } => {
                identity::check_shape(shape)?;
                distribution::check_finite("gain", *gain, dtype)
            }
            Initializer::Random(distribution) => distribution::check(distribution, dtype),
            Initializer::VarianceScaling(scaling) => {
                distribution::check(&scaling.distribution_of(shape)?, dtype)
            }
            Initializer::Dirac { groups } => dirac::check_shape(shape, *groups),
            Initializer::Orthogonal(orthogonal) => orthogonal.check(shape, dtype),
            Initializer::DeltaOrthogonal { gain } => {
                orthogonal::check_delta(shape)?;
                distribution::check_finite("gain", *gain, dtype)
            }
            Initializer::Sparse { sparsity, stddev } => {
                sparse::check_shape(shape)?;
                sparse::check(*sparsity, *stddev, dtype)
            }
        }
    }

    /// Fills `out` with the part of a logical tensor that `window` names; the shape of `out` is that of the
    /// window, its strides are free.
    ///
    /// What is written is that part of what would be written for the whole tensor, exactly.
    ///
    /// # Errors
    /// [`Error::Value`] as [`check`](Self::check) says, and where the shapes differ; nothing has been written
    /// then. [`Error::Interrupted`] where `options.interrupt` asked to stop; `out` is partly written then.
    pub fn fill<T: Element>(
        &self,
        out: ArrayViewMutD<'_, MaybeUninit<T>>,
        window: &Window,
        key: Key,
        options: &Options<'_>,
    ) -> Result<()> {
        let _environment = DefaultEnvironment::enter();
        self.check(window.shape(), T::DTYPE)?;
        if out.shape() != window.extent() {
            return Err(Error::value(format!(
                "the output must have the shape of the window, {:?}; got {:?}",
                window.extent(),
                out.shape()
            )));
        }
        match self {
            Initializer::Constant(value) => fill::constant(out, T::from_f64(*value), options),
            Initializer::Identity { gain } => identity::fill(out, window, T::from_f64(*gain), options),
            Initializer::Random(distribution) => fill::sample(out, window, key, distribution, options),
            Initializer::VarianceScaling(scaling) => {
                fill::sample(out, window, key, &scaling.distribution_of(window.shape())?, options)
            }
            Initializer::Dirac { groups } => dirac::fill(out, window, *groups, options),
            Initializer::Orthogonal(orthogonal) => orthogonal.fill(out, window, key, options),
            Initializer::DeltaOrthogonal { gain } => orthogonal::fill_delta(out, window, key, *gain, options),
            Initializer::Sparse { sparsity, stddev } => {
                let zeros = sparse::zeros_per_column(*sparsity, window.shape());
                fill::sparse(out, window, key, *stddev, zeros, options)
            }
        }
    }

    /// Fills a whole array, of any strides: the shape of `out` is that of the logical tensor.
    ///
    /// ```
    /// use fastinit::{Key, distr::Distribution, fill::Options, init::Initializer};
    /// use ndarray::Array1;
    ///
    /// let embedding = Initializer::Random(Distribution::Normal { mean: 0.0, stddev: 0.02 });
    /// let fill = |array: &mut Array1<f32>| {
    ///     embedding.fill_array(array.view_mut().into_dyn(), Key::new(7), &Options::default())
    /// };
    /// let (mut short, mut long) = (Array1::zeros(10), Array1::zeros(1000));
    /// fill(&mut short)?;
    /// fill(&mut long)?;
    /// // Element i is a function of the key and i alone.
    /// assert_eq!(short.as_slice(), long.as_slice().map(|all| &all[..10]));
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn fill_array<T: Element>(
        &self,
        out: ArrayViewMutD<'_, T>,
        key: Key,
        options: &Options<'_>,
    ) -> Result<()> {
        let window = Window::whole(out.shape())?;
        self.fill(fill::as_uninit(out), &window, key, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ArrayD, AxisDescription, IxDyn, Slice};

    /// The window of `shape` that starts at `start`, as an array.
    fn part(
        initializer: &Initializer,
        shape: &[u64],
        start: &[u64],
        extent: &[usize],
    ) -> Result<ArrayD<f32>> {
        let window = Window::new(shape, start, extent)?;
        let mut array = ArrayD::from_elem(IxDyn(extent), f32::NAN);
        initializer.fill(fill::as_uninit(array.view_mut()), &window, Key::new(1), &Options::default())?;
        Ok(array)
    }

    fn whole(initializer: &Initializer, shape: &[u64]) -> Result<ArrayD<f32>> {
        let extent: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        part(initializer, shape, &vec![0; shape.len()], &extent)
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("should be refused").to_string()
    }

    /// Every window of a small tensor equals that part of the whole.
    fn check_windows(initializer: &Initializer, shape: &[u64]) {
        let all = whole(initializer, shape).unwrap();
        for axis in 0..shape.len() {
            for start in 0..shape[axis] {
                for end in start..=shape[axis] {
                    let (mut from, mut extent) = (vec![0; shape.len()], all.shape().to_vec());
                    from[axis] = start;
                    extent[axis] = (end - start) as usize;
                    let expected = all.slice_axis(ndarray::Axis(axis), (start as usize..end as usize).into());
                    assert_eq!(part(initializer, shape, &from, &extent).unwrap(), expected);
                }
            }
        }
    }

    #[test]
    fn constants_take_any_number() {
        assert_eq!(whole(&Initializer::ONES, &[2, 3]).unwrap(), ArrayD::<f32>::ones(IxDyn(&[2, 3])));
        assert!(whole(&Initializer::Constant(f64::NAN), &[]).unwrap()[[]].is_nan());
        assert_eq!(whole(&Initializer::Constant(f64::INFINITY), &[1]).unwrap()[[0]], f32::INFINITY);
    }

    #[test]
    fn identity_of_any_aspect() {
        for (rows, columns) in [(3, 3), (2, 5), (5, 2), (1, 1), (0, 4)] {
            let matrix = whole(&Initializer::Identity { gain: 2.0 }, &[rows as u64, columns as u64]).unwrap();
            let expected = Array2::from_shape_fn((rows, columns), |(i, j)| if i == j { 2.0 } else { 0.0 });
            assert_eq!(matrix, expected.into_dyn());
        }
        check_windows(&Initializer::Identity { gain: -1.0 }, &[4, 6]);
        let corner =
            part(&Initializer::Identity { gain: 1.0 }, &[1 << 40, 1 << 20], &[1000, 999], &[2, 3]).unwrap();
        assert_eq!(corner, ndarray::array![[0., 1., 0.], [0., 0., 1.]].into_dyn());
    }

    #[test]
    fn identity_into_a_strided_view() {
        // Every second row from the last on, every third column from the second on.
        let step = |axis: AxisDescription| match axis.axis.index() {
            0 => Slice::new(0, None, -2),
            _ => Slice::new(1, None, 3),
        };
        let mut canvas = Array2::<f64>::from_elem((6, 8), 7.0);
        let view = canvas.slice_each_axis_mut(step).into_dyn();
        Initializer::Identity { gain: 1.0 }.fill_array(view, Key::new(0), &Options::default()).unwrap();
        assert_eq!(canvas.slice_each_axis(step), Array2::<f64>::eye(3));
        assert_eq!(canvas.sum(), 7.0 * (48.0 - 9.0) + 3.0);
    }

    #[test]
    fn dirac_passes_its_input_through() {
        let kernel = whole(&Initializer::Dirac { groups: 1 }, &[3, 2, 4]).unwrap();
        assert_eq!(kernel.sum(), 2.0);
        assert_eq!((kernel[[1, 0, 0]], kernel[[1, 1, 1]]), (1.0, 1.0));
        // Two groups of 2 inputs and 3 outputs each; of an even number of taps, the one right of the middle.
        let grouped = whole(&Initializer::Dirac { groups: 2 }, &[4, 1, 2, 6]).unwrap();
        let ones: Vec<_> = grouped
            .indexed_iter()
            .filter(|(_, x)| **x == 1.0)
            .map(|(i, _)| [i[0], i[1], i[2], i[3]])
            .collect();
        assert_eq!(ones, [[2, 0, 0, 0], [2, 0, 0, 3], [2, 0, 1, 1], [2, 0, 1, 4]]);
        assert_eq!(grouped.sum(), 4.0);
        check_windows(&Initializer::Dirac { groups: 2 }, &[3, 2, 2, 4]);
        assert_eq!(whole(&Initializer::Dirac { groups: 1 }, &[0, 2, 2]).unwrap().len(), 0);
        assert_eq!(whole(&Initializer::Dirac { groups: 3 }, &[3, 2, 0]).unwrap().len(), 0);
    }

    #[test]
    fn sparse_columns_have_the_right_number_of_zeros() {
        for (sparsity, zeros) in [(0.0, 0), (0.05, 1), (0.5, 4), (0.51, 5), (1.0, 8)] {
            let matrix = whole(&Initializer::Sparse { sparsity, stddev: 1.0 }, &[8, 5]).unwrap();
            for column in matrix.columns() {
                assert_eq!(column.iter().filter(|x| **x == 0.0).count(), zeros, "sparsity {sparsity}");
            }
        }
        assert_eq!(whole(&Initializer::Sparse { sparsity: 0.5, stddev: 1.0 }, &[0, 5]).unwrap().len(), 0);
    }

    #[test]
    fn bad_parameters_are_refused_with_value_and_rule() {
        let uniform = |low, high| Initializer::Random(Distribution::Uniform { low, high });
        let normal = |mean, stddev| Initializer::Random(Distribution::Normal { mean, stddev });
        let truncated = |lower, upper| {
            Initializer::Random(Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower, upper })
        };
        for (initializer, expected) in [
            (uniform(1.0, 0.0), "minval must be less than maxval, got minval=1.0 and maxval=0.0"),
            (uniform(1.0, 1.0), "minval must be less than maxval, got minval=1.0 and maxval=1.0"),
            (uniform(f64::NAN, 1.0), "minval must be finite, got NaN"),
            (uniform(0.0, f64::INFINITY), "maxval must be finite, got inf"),
            (normal(f64::NAN, 1.0), "mean must be finite, got NaN"),
            (normal(0.0, 0.0), "stddev must be positive and finite, got 0.0"),
            (normal(0.0, -1.0), "stddev must be positive and finite, got -1.0"),
            (normal(0.0, f64::INFINITY), "stddev must be positive and finite, got inf"),
            (truncated(2.0, -2.0), "lower must be less than upper, got lower=2.0 and upper=-2.0"),
            (truncated(f64::NAN, 2.0), "lower must be less than upper, got lower=NaN and upper=2.0"),
            (Initializer::Identity { gain: f64::NEG_INFINITY }, "gain must be finite, got -inf"),
            (Initializer::Dirac { groups: 0 }, "groups must be at least 1, got 0"),
            (Initializer::Sparse { sparsity: -0.1, stddev: 1.0 }, "sparsity must lie in [0, 1], got -0.1"),
            (Initializer::Sparse { sparsity: f64::NAN, stddev: 1.0 }, "sparsity must lie in [0, 1], got NaN"),
            (
                Initializer::Sparse { sparsity: 0.1, stddev: 0.0 },
                "stddev must be positive and finite, got 0.0",
            ),
        ] {
            assert_eq!(message(initializer.validate()), expected);
            assert_eq!(
                message(whole(&initializer, &[3, 3, 3])),
                expected,
                "and before the shape is looked at"
            );
        }
    }

    #[test]
    fn parameters_are_checked_as_the_dtype_sees_them() {
        let uniform = |low, high| Initializer::Random(Distribution::Uniform { low, high });
        let normal = |mean, stddev| Initializer::Random(Distribution::Normal { mean, stddev });
        for (initializer, expected) in [
            (normal(0.0, 1e-50), "stddev must be a normal number of float32 (1.2e-38 to 3.4e38), got 1e-50"),
            (normal(0.0, 1e50), "stddev must be a normal number of float32 (1.2e-38 to 3.4e38), got 1e50"),
            (normal(-1e40, 1.0), "mean must be finite in float32, got -1e40"),
            (uniform(0.0, 1e39), "maxval must be finite in float32, got 1e39"),
            (
                uniform(1.0, 1.0 + 1e-9),
                "maxval - minval must be a normal number of float32 (1.2e-38 to 3.4e38), got 1.000000082740371e-9",
            ),
            (Initializer::Identity { gain: 1e39 }, "gain must be finite in float32, got 1e39"),
        ] {
            assert_eq!(message(whole(&initializer, &[3, 3])), expected);
            assert_eq!(initializer.check(&[3, 3], Dtype::F64), Ok(()));
            assert_eq!(message(initializer.check(&[3, 3], Dtype::Bf16)), expected);
        }
        for (low, high, dtype) in
            [(1.0, 1.001, Dtype::Bf16), (1.0, 1.0001, Dtype::F16), (1e6, 2e6, Dtype::F16)]
        {
            let expected =
                format!("minval and maxval must differ in {dtype}, got minval={low:?} and maxval={high:?}");
            assert_eq!(message(uniform(low, high).check(&[3], dtype)), expected);
            assert_eq!(uniform(low, high).check(&[3], Dtype::F32), Ok(()));
        }
        assert!(message(uniform(-1e308, 1e308).validate()).contains("of float64"));
        assert!(whole(&uniform(-3e38, 0.0), &[3]).is_ok());
    }

    #[test]
    fn truncated_normal_takes_any_bounds_in_order() {
        for (lower, upper) in
            [(f64::NEG_INFINITY, f64::INFINITY), (8.0, f64::INFINITY), (5.0, 6.0), (1.0, 1.0 + 1e-15)]
        {
            let distribution = Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower, upper };
            assert_eq!(Initializer::Random(distribution).check(&[3], Dtype::F16), Ok(()));
        }
    }

    #[test]
    fn bad_shapes_are_refused() {
        let identity = Initializer::Identity { gain: 1.0 };
        assert_eq!(message(whole(&identity, &[3])), "identity needs a shape of 2 dimensions, got shape [3]");
        let sparse = Initializer::Sparse { sparsity: 0.5, stddev: 1.0 };
        assert_eq!(
            message(whole(&sparse, &[3, 3, 3])),
            "sparse needs a shape of 2 dimensions, got shape [3, 3, 3]"
        );
        let dirac = Initializer::Dirac { groups: 3 };
        assert_eq!(
            message(whole(&dirac, &[3, 3])),
            "dirac needs a shape of 3, 4 or 5 dimensions (k.., in / groups, out), got shape [3, 3]"
        );
        assert_eq!(
            message(whole(&dirac, &[3, 2, 4])),
            "the outputs must be divisible by groups; got 4 outputs in shape [3, 2, 4] and groups=3"
        );
        let scaled = Initializer::from(VarianceScaling::he_normal());
        assert!(message(whole(&scaled, &[3])).starts_with("fans need a shape of at least 2 dimensions"));
        let window = Window::whole(&[2, 3]).unwrap();
        let mut array = ArrayD::<f32>::zeros(IxDyn(&[3, 2]));
        let view = fill::as_uninit(array.view_mut());
        let refused = Initializer::ONES.fill(view, &window, Key::new(0), &Options::default());
        assert_eq!(message(refused), "the output must have the shape of the window, [2, 3]; got [3, 2]");
        assert_eq!(array.sum(), 0.0);
    }
}
