//! What to make: an [`Initializer`] describes the contents of a tensor, a [`Plan`] those of a tensor of one
//! shape and dtype.
//!
//! Only this layer derives numbers from shapes (fans, standard deviations, bounds, positions of ones) and
//! checks them; [`crate::fill`] writes the elements. It knows axes, not frameworks:
//! [`KernelAxes`](crate::KernelAxes) tells kernels of `(..., in, out)` from those of `(out, in, ...)`.
#![forbid(unsafe_code)]

mod contents;
mod distribution;
mod plan;
mod variance_scaling;

pub use contents::Contents;
#[cfg(feature = "python")]
pub(crate) use plan::Cut;
pub use plan::Plan;
pub use variance_scaling::{FanMode, ScaledDistribution, VarianceScaling};

use crate::distr::Distribution;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::fill::Options;
use crate::seed::Key;
use crate::shape::{Blocks, Window, check_groups};
use ndarray::{ArrayViewMut, Dimension};

/// What a tensor contains.
///
/// A value of this type is plain data. Its parameters are checked when it is used, before anything is
/// written.
///
/// ```
/// use fastinit::{Initializer, Key, Options, VarianceScaling};
/// use ndarray::Array2;
///
/// let kernel = Initializer::from(VarianceScaling::he_normal());
/// let key = Key::new(42).with_name("mlp.up_proj");
/// let mut weights = Array2::<f32>::zeros((512, 2048));
/// kernel.fill(weights.view_mut(), key, &Options::default())?;
/// Initializer::ZEROS.fill(weights.row_mut(0), key, &Options::default())?;
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
    /// A convolution kernel that returns its input.
    ///
    /// The kernel has 3 to 5 dimensions `(k.., in / groups, out)`. In each group, output *i* has a one at
    /// input *i*, in the tap `k / 2` of every spatial axis; all other elements are zero. In PyTorch's layout
    /// this is `torch.nn.init.dirac_`.
    ///
    /// Source: Zagoruyko and Komodakis, *DiracNets*, 2017 (arXiv:1706.00388).
    Dirac {
        /// The groups of the convolution; at least 1, and a divisor of *out*.
        groups: u64,
    },
    /// A matrix of orthonormal rows or columns, whichever are fewer, from the Haar measure.
    ///
    /// The tensor is taken as a matrix: columns along one axis, rows along all others, in C order.
    ///
    /// Source: Saxe, McClelland and Ganguli, *Exact solutions to the nonlinear dynamics of learning in deep
    /// linear neural networks*, ICLR 2014 (arXiv:1312.6120). The reflectors are sampled directly: Stewart,
    /// SIAM Journal on Numerical Analysis 17, 1980.
    Orthogonal(Orthogonal),
    /// A convolution kernel that keeps norms: zero except for the centre, which has orthonormal rows.
    ///
    /// The kernel has 3 to 5 dimensions `(k.., in, out)` with no more inputs than outputs; the centre is the
    /// tap `(k - 1) / 2` of every spatial axis.
    ///
    /// Source: Xiao et al., *Dynamical isometry and a mean field theory of CNNs*, ICML 2018
    /// (arXiv:1806.05393).
    DeltaOrthogonal {
        /// The factor of the centre; finite.
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
    /// Blocks along an axis, each with the contents of a separate tensor: see [`Initializer::in_blocks`].
    Blocks {
        /// The contents of each block; must not have blocks itself.
        each: Box<Initializer>,
        /// The number or the sizes of the blocks.
        blocks: Blocks,
        /// The axis along which they lie; `None` for the default.
        axis: Option<i64>,
    },
}

/// Orthogonal matrices: see [`Initializer::Orthogonal`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Orthogonal {
    /// The factor of the matrix; finite.
    pub gain: f64,
    /// The axis along which the columns of the matrix lie; all others are its rows. Negative ones count from
    /// the end.
    pub column_axis: i64,
}

impl Default for Orthogonal {
    /// Gain 1, columns along the last axis.
    fn default() -> Self {
        Orthogonal { gain: 1.0, column_axis: -1 }
    }
}

impl Orthogonal {
    /// The same with this gain.
    pub fn gain(self, gain: f64) -> Self {
        Orthogonal { gain, ..self }
    }

    /// The same with columns along this axis.
    pub fn column_axis(self, column_axis: i64) -> Self {
        Orthogonal { column_axis, ..self }
    }
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

impl From<Orthogonal> for Initializer {
    fn from(orthogonal: Orthogonal) -> Self {
        Initializer::Orthogonal(orthogonal)
    }
}

impl Initializer {
    /// All zeros.
    pub const ZEROS: Initializer = Initializer::Constant(0.0);

    /// All ones.
    pub const ONES: Initializer = Initializer::Constant(1.0);

    /// A tensor of several blocks along an axis, each with these contents: a fused kernel.
    ///
    /// Fans, values and stream of each block are those of a separate tensor: block *k* of several has the key
    /// [`Key::block`]`(k)`. A single block is the tensor itself, with the key of the tensor. The default axis
    /// is the column axis of an orthogonal matrix, the output axis of scaled samples if there is only one,
    /// else the last axis.
    ///
    /// ```
    /// use fastinit::{Initializer, Key, Options, VarianceScaling};
    /// use ndarray::{Array2, s};
    ///
    /// let kernel = Initializer::from(VarianceScaling::glorot_uniform());
    /// let (key, options) = (Key::new(42).with_name("attention.qkv"), Options::default());
    /// let mut fused = Array2::<f32>::zeros((64, 96));
    /// kernel.clone().in_blocks(vec![64, 16, 16], None).fill(fused.view_mut(), key, &options)?;
    ///
    /// let mut value = Array2::<f32>::zeros((64, 16));
    /// kernel.fill(value.view_mut(), key.block(2), &options)?;
    /// assert_eq!(fused.slice(s![.., 80..]), value);
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    pub fn in_blocks(self, blocks: impl Into<Blocks>, axis: Option<i64>) -> Initializer {
        match blocks.into() {
            Blocks::Equal(1) if axis.is_none() => self,
            blocks => Initializer::Blocks { each: Box::new(self), blocks, axis },
        }
    }

    /// Whether the contents depend on the key.
    pub fn is_random(&self) -> bool {
        match self {
            Initializer::Constant(_) | Initializer::Identity { .. } | Initializer::Dirac { .. } => false,
            Initializer::Random(_)
            | Initializer::VarianceScaling(_)
            | Initializer::Orthogonal(_)
            | Initializer::DeltaOrthogonal { .. }
            | Initializer::Sparse { .. } => true,
            Initializer::Blocks { each, .. } => each.is_random(),
        }
    }

    /// Checks the parameters as far as possible without a shape and a dtype.
    ///
    /// ```
    /// use fastinit::Initializer;
    /// let error = Initializer::Sparse { sparsity: 1.5, stddev: 0.01 }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "sparsity must lie in [0, 1], got 1.5");
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] with the parameter, its value and the rule.
    pub fn validate(&self) -> Result<()> {
        match self {
            Initializer::VarianceScaling(scaling) => scaling.validate(),
            Initializer::Dirac { groups } => check_groups(*groups),
            Initializer::Blocks { each, blocks, .. } => {
                if blocks.count() == 0 {
                    return Err(Error::parameter("blocks", "be at least 1", "0"));
                }
                if matches!(**each, Initializer::Blocks { .. }) {
                    return Err(nested_blocks());
                }
                each.validate()
            }
            _ => self.check_parameters(Dtype::F64),
        }
    }

    /// Checks the parameters that the precision of a dtype limits.
    fn check_parameters(&self, dtype: Dtype) -> Result<()> {
        match *self {
            Initializer::Identity { gain }
            | Initializer::DeltaOrthogonal { gain }
            | Initializer::Orthogonal(Orthogonal { gain, .. }) => {
                distribution::check_finite("gain", gain, dtype)
            }
            Initializer::Random(ref distribution) => distribution::check(distribution, dtype),
            Initializer::Sparse { sparsity, stddev } => {
                if !(0.0..=1.0).contains(&sparsity) {
                    return Err(Error::parameter("sparsity", "lie in [0, 1]", format!("{sparsity:?}")));
                }
                distribution::check(&Distribution::Normal { mean: 0.0, stddev }, dtype)
            }
            Initializer::Constant(_)
            | Initializer::VarianceScaling(_)
            | Initializer::Dirac { .. }
            | Initializer::Blocks { .. } => Ok(()),
        }
    }

    /// The plan for a tensor of this logical shape and dtype.
    ///
    /// The parameters must suit the dtype: samples of `float32` and of the half dtypes are computed in
    /// `float32`, so a standard deviation of 1e-50 is refused there.
    ///
    /// ```
    /// use fastinit::{Contents, Distribution, Dtype, FanMode, Initializer, ScaledDistribution, VarianceScaling};
    /// let scaling = VarianceScaling::new(2.0, FanMode::FanIn, ScaledDistribution::UntruncatedNormal);
    /// let plan = Initializer::from(scaling).plan(&[128, 300], Dtype::F32)?;
    /// let normal = Contents::Random(Distribution::Normal { mean: 0.0, stddev: 0.125 });
    /// assert_eq!(plan.contents().collect::<Vec<_>>(), [(128 * 300, normal)]);
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    ///
    /// # Errors
    /// For bad parameters, shapes and blocks: [`Error::Parameter`], [`Error::Shape`],
    /// [`Error::TooManyElements`], [`Error::Axis`], [`Error::Groups`] or [`Error::Blocks`].
    pub fn plan(&self, shape: &[u64], dtype: Dtype) -> Result<Plan> {
        Plan::new(self, shape, dtype)
    }

    /// Fills a whole array of any strides, whose shape is that of the logical tensor.
    ///
    /// ```
    /// use fastinit::{Distribution, Initializer, Key, Options};
    /// use ndarray::Array1;
    ///
    /// let embedding = Initializer::from(Distribution::Normal { mean: 0.0, stddev: 0.02 });
    /// let (mut short, mut long) = (Array1::<f32>::zeros(10), Array1::<f32>::zeros(1000));
    /// embedding.fill(short.view_mut(), Key::new(7), &Options::default())?;
    /// embedding.fill(long.view_mut(), Key::new(7), &Options::default())?;
    /// // Element i depends on the key and on i only.
    /// assert_eq!(short.as_slice(), long.as_slice().map(|all| &all[..10]));
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`Plan::fill`].
    pub fn fill<T: Element, D: Dimension>(
        &self,
        out: ArrayViewMut<'_, T, D>,
        key: Key,
        options: &Options<'_>,
    ) -> Result<()> {
        let window = Window::whole(out.shape())?;
        self.plan(window.shape(), T::DTYPE)?.fill(out, key, &window, options)
    }
}

fn nested_blocks() -> Error {
    Error::parameter("blocks", "not be nested", "blocks of blocks")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::KernelAxes;
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
        let plan = initializer.plan(shape, Dtype::F32)?;
        plan.fill(array.view_mut(), Key::new(1), &window, &Options::default())?;
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
        let view = canvas.slice_each_axis_mut(step);
        Initializer::Identity { gain: 1.0 }.fill(view, Key::new(0), &Options::default()).unwrap();
        assert_eq!(canvas.slice_each_axis(step), Array2::<f64>::eye(3));
        assert_eq!(canvas.sum(), 7.0 * (48.0 - 9.0) + 3.0);
    }

    #[test]
    fn dirac_passes_its_input_through() {
        let kernel = whole(&Initializer::Dirac { groups: 1 }, &[3, 2, 4]).unwrap();
        assert_eq!(kernel.sum(), 2.0);
        assert_eq!((kernel[[1, 0, 0]], kernel[[1, 1, 1]]), (1.0, 1.0));
        // Two groups of 2 inputs and 3 outputs each; with an even number of taps, the one to the right of the
        // middle.
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
            assert!(initializer.plan(&[3, 3], Dtype::F64).is_ok());
            assert_eq!(message(initializer.plan(&[3, 3], Dtype::Bf16)), expected);
        }
        let error = message(uniform(-1e6, 1.0).plan(&[3], Dtype::F16));
        assert_eq!(error, "minval must be finite in float16, got -1000000.0");
        for (low, high, dtype) in [(1.0, 1.001, Dtype::Bf16), (1.0, 1.0001, Dtype::F16)] {
            let expected =
                format!("minval and maxval must differ in {dtype}, got minval={low:?} and maxval={high:?}");
            assert_eq!(message(uniform(low, high).plan(&[3], dtype)), expected);
            assert!(uniform(low, high).plan(&[3], Dtype::F32).is_ok());
        }
        assert!(message(uniform(-1e308, 1e308).validate()).contains("of float64"));
        assert!(whole(&uniform(-3e38, 0.0), &[3]).is_ok());
    }

    #[test]
    fn truncated_normal_takes_any_bounds_in_order() {
        let within = |lower, upper| {
            Initializer::Random(Distribution::TruncatedNormal { mean: 0.0, stddev: 1.0, lower, upper })
        };
        for (lower, upper) in
            [(f64::NEG_INFINITY, f64::INFINITY), (8.0, f64::INFINITY), (5.0, 6.0), (1.0, 1.002)]
        {
            assert!(within(lower, upper).plan(&[3], Dtype::F16).is_ok());
        }
        // If there are two numbers between them.
        for (dtype, width) in
            [(Dtype::F16, 4e-4), (Dtype::Bf16, 3e-3), (Dtype::F32, 1e-7), (Dtype::F64, 1e-16)]
        {
            let error = message(within(1.0, 1.0 + width).plan(&[3], dtype));
            assert!(error.contains(if dtype == Dtype::F64 { "less than" } else { "two numbers" }), "{error}");
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
    }

    #[test]
    fn windows_and_outputs_of_another_plan_are_refused() {
        let plan = Initializer::ONES.plan(&[2, 3], Dtype::F32).unwrap();
        let fill = |out: ndarray::ArrayViewMut2<'_, f32>, shape: &[usize]| {
            let window = Window::whole(shape).unwrap();
            message(plan.fill(out, Key::new(0), &window, &Options::default()))
        };
        let mut array = Array2::<f32>::zeros((3, 2));
        assert_eq!(
            fill(array.view_mut(), &[2, 3]),
            "the output must have the shape of the window, [2, 3]; got [3, 2]"
        );
        assert_eq!(
            fill(array.view_mut(), &[3, 2]),
            "the window must belong to a tensor of the planned shape [2, 3]; got [3, 2]"
        );
        let mut doubles = Array2::<f64>::zeros((2, 3));
        let window = Window::whole(&[2, 3]).unwrap();
        let refused = plan.fill(doubles.view_mut(), Key::new(0), &window, &Options::default());
        assert_eq!(message(refused), "the output must have the planned dtype float32; got float64");
        assert_eq!(doubles.sum(), 0.0);
        assert_eq!(array.sum(), 0.0);
    }

    /// Every kind of initializer that takes a shape of 4 dimensions.
    fn all() -> Vec<Initializer> {
        vec![
            Initializer::Constant(2.5),
            Distribution::Uniform { low: -1.0, high: 2.0 }.into(),
            Distribution::Normal { mean: 0.0, stddev: 1.0 }.into(),
            VarianceScaling::he_normal().into(),
            VarianceScaling::new(1.0, FanMode::FanAvg, ScaledDistribution::Uniform).into(),
            Initializer::Dirac { groups: 1 },
            Orthogonal::default().gain(1.5).column_axis(1).into(),
            Initializer::DeltaOrthogonal { gain: 0.5 },
        ]
    }

    #[test]
    fn blocks_are_tensors_of_their_own() {
        let shape = [6_u64, 4, 6, 24];
        for initializer in all() {
            for axis in 0..4 {
                let size = shape[axis];
                for blocks in [
                    Blocks::Equal(1),
                    Blocks::Equal(2),
                    Blocks::Sizes(vec![size]),
                    Blocks::Sizes(vec![1, 0, size - 2, 1]),
                ] {
                    let fused = initializer.clone().in_blocks(blocks.clone(), Some(axis as i64));
                    let Ok(array) = whole(&fused, &shape) else {
                        // More inputs than outputs.
                        assert!(matches!(initializer, Initializer::DeltaOrthogonal { .. }) && axis == 3);
                        continue;
                    };
                    let sizes = match &blocks {
                        Blocks::Equal(count) => vec![size / count; *count as usize],
                        Blocks::Sizes(sizes) => sizes.clone(),
                    };
                    let mut begin = 0;
                    for (number, &size) in sizes.iter().enumerate() {
                        let mut shape = shape;
                        shape[axis] = size;
                        let extent = shape.map(|size| size as usize);
                        let key =
                            if sizes.len() == 1 { Key::new(1) } else { Key::new(1).block(number as u64) };
                        let mut alone = ArrayD::<f32>::zeros(IxDyn(&extent));
                        initializer.fill(alone.view_mut(), key, &Options::default()).unwrap();
                        let end = begin + size as usize;
                        let block = array.slice_axis(ndarray::Axis(axis), (begin..end).into());
                        assert_eq!(block, alone, "{initializer:?} {blocks:?} along {axis}");
                        begin = end;
                    }
                }
            }
            for blocks in [Blocks::Equal(3), Blocks::Sizes(vec![1, 2, 2, 1])] {
                let fused = initializer.clone().in_blocks(blocks, Some(-2));
                check_windows(&fused, &[3, 2, 6, 9]);
            }
        }
    }

    #[test]
    fn the_default_axis_of_blocks() {
        let plan = |initializer: Initializer, shape: &[u64]| {
            initializer.in_blocks(2, None).plan(shape, Dtype::F32).unwrap().contents().next().unwrap().1
        };
        let normal = VarianceScaling::new(1.0, FanMode::FanOut, ScaledDistribution::UntruncatedNormal);
        let torch = normal.clone().axes(KernelAxes::default().in_axis([1]).out_axis([0]));
        let stddev = |stddev| Contents::Random(Distribution::Normal { mean: 0.0, stddev });
        assert_eq!(plan(torch.into(), &[8, 3]), stddev(0.5));
        assert_eq!(plan(normal.clone().into(), &[3, 8]), stddev(0.5));
        let heads = normal.axes(KernelAxes::default().in_axis([0]).out_axis([1, 2]));
        assert_eq!(plan(heads.into(), &[3, 2, 4]), stddev(0.5));
        let orthogonal = plan(Orthogonal::default().column_axis(0).into(), &[8, 3]);
        assert_eq!(orthogonal, Contents::Orthogonal { gain: 1.0, column_axis: 0, rows: 3, columns: 4 });
    }

    #[test]
    fn contents_have_one_item_for_each_different_block() {
        let contents = |blocks: Blocks| {
            let initializer = Initializer::from(VarianceScaling::glorot_uniform()).in_blocks(blocks, None);
            let plan = initializer.plan(&[10, 40], Dtype::F32).unwrap();
            plan.contents().map(|(elements, _)| elements).collect::<Vec<_>>()
        };
        assert_eq!(contents(4.into()), [400]);
        assert_eq!(contents(vec![10, 20, 10].into()), [200, 200]);
        assert_eq!(contents(vec![40].into()), [400]);
        let zeros = Initializer::ZEROS.in_blocks(vec![1, 3], None).plan(&[4], Dtype::F32).unwrap();
        assert_eq!(zeros.contents().collect::<Vec<_>>(), [(4, Contents::Constant { value: 0.0 })]);
    }

    #[test]
    fn bad_blocks_are_refused() {
        let refused = |blocks: Blocks, axis| {
            message(Initializer::ZEROS.in_blocks(blocks, axis).plan(&[4, 6], Dtype::F32))
        };
        assert_eq!(refused(0.into(), None), "blocks must be at least 1, got 0");
        assert_eq!(refused(vec![].into(), None), "blocks must be at least 1, got 0");
        assert_eq!(
            refused(4.into(), None),
            "blocks must divide the size of their axis; got blocks=4 and size 6 of axis 1 in shape [4, 6]"
        );
        let sum = "the sizes of the blocks must add up to the size of their axis; got 2 blocks of total size 3 and size 4 of axis 0 in \
                   shape [4, 6]";
        assert_eq!(refused(vec![1, 2].into(), Some(0)), sum);
        assert!(
            refused(vec![u64::MAX, u64::MAX].into(), Some(0))
                .starts_with("the sizes of the blocks must add up")
        );
        assert_eq!(refused(2.into(), Some(2)), "block_axis must lie in [-2, 2) for shape [4, 6], got 2");
        let again = Initializer::ZEROS.in_blocks(2, None).in_blocks(2, None);
        assert_eq!(message(again.validate()), "blocks must not be nested, got blocks of blocks");
        let scalar = Initializer::ZEROS.in_blocks(2, None).plan(&[], Dtype::F32);
        assert_eq!(message(scalar), "block_axis must name an axis, but shape [] has none; got -1");
        assert_eq!(Initializer::ZEROS.in_blocks(1, None), Initializer::ZEROS);
    }
}
