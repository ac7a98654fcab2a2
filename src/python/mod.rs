//! The Python bindings: the module `fastinit._core`, private to the Python package.
//!
//! The bindings parse Python objects, call [`crate::init`] and [`crate::fill`], and convert results and
//! errors. No other module depends on Python.
#![deny(unsafe_code)]

mod args;
#[allow(unsafe_code)]
mod array;
mod error;
#[allow(unsafe_code)]
mod xla;

use crate::distr::Distribution;
use crate::dtype::{Bf16, Dtype, F16};
use crate::error::Result;
use crate::fill::{self, Options};
use crate::init::{self, Contents, Cut, VarianceScaling};
use crate::seed::Key;
use crate::shape::{KernelAxes, Window};
use args::{Given, Selection};
use array::{Out, Scalar, produce};
use ndarray::ArrayViewMutD;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use std::cell::{Cell, OnceCell};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Fills of logical tensors of at most this many elements stay attached to the interpreter: they take less
/// time than detaching. The logical tensor counts, since a part of an orthogonal matrix may need all of it.
const ATTACHED_ELEMENTS: u64 = 1 << 14;

/// How often a long fill checks for signals such as Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

type Argument<'a, 'py> = &'a Bound<'py, PyAny>;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::{
        Initializer, as_seed, block_stream, build_info, constant, crc32, delta_orthogonal, dirac, fans,
        get_num_threads, identity, orthogonal, random_bits, random_normal, random_uniform, set_num_threads,
        sparse, truncated_normal, variance_scaling, xla_handler,
    };

    #[pymodule_export]
    const STREAM_VERSION: u32 = crate::STREAM_VERSION;

    #[pymodule_export]
    #[expect(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// What a tensor contains; the parameters are valid.
#[pyclass(frozen, module = "fastinit._core")]
struct Initializer(init::Initializer);

#[pymethods]
impl Initializer {
    /// A fresh array, or `out`, filled with the logical tensor of this shape, or with the part that `index`
    /// selects.
    #[pyo3(
        signature = (
            shape, seed=None, stream=Given(None), dtype=None, out=None, index=None, threads=None
        ),
        text_signature = "($self, shape, seed=None, stream=0, dtype='float32', out=None, index=None, threads=None)"
    )]
    #[expect(clippy::too_many_arguments, reason = "one for each argument of the Python functions")]
    fn fill<'py>(
        &self,
        py: Python<'py>,
        shape: Argument<'_, 'py>,
        seed: Option<Argument<'_, 'py>>,
        stream: Given<'_, 'py>,
        dtype: Option<Argument<'_, 'py>>,
        out: Option<Argument<'_, 'py>>,
        index: Option<Argument<'_, 'py>>,
        threads: Option<Argument<'_, 'py>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.fill_into(py, out.into(), shape, seed, stream, dtype, index, threads)
    }

    /// The same for the memory of a whole tensor that begins at `address`, in C order. Of the address only the
    /// alignment is checked. Making an array of the memory would take as long as a small fill.
    #[pyo3(signature = (address, shape, seed, stream, dtype, threads))]
    #[expect(clippy::too_many_arguments, reason = "those of `fill`")]
    fn fill_at<'py>(
        &self,
        py: Python<'py>,
        address: usize,
        shape: Argument<'_, 'py>,
        seed: Argument<'_, 'py>,
        stream: Given<'_, 'py>,
        dtype: Argument<'_, 'py>,
        threads: Argument<'_, 'py>,
    ) -> PyResult<()> {
        let out = Out::Memory(address);
        self.fill_into(py, out, shape, Some(seed), stream, Some(dtype), None, Some(threads)).map(|_| ())
    }

    /// The same with the arguments that a Python function collected as `**options`, among them `blocks` and
    /// `block_axis`: passing them as keywords would take a third of the time of a small fill.
    fn fill_with<'py>(
        &self,
        py: Python<'py>,
        shape: Argument<'_, 'py>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = args::Options::new(options)?;
        let ([seed, dtype, out, index, threads, block_axis], blocks) = (options.or_none(), options.blocks());
        let fill = |initializer: &Initializer| {
            initializer.fill(py, shape, seed, options.stream(), dtype, out, index, threads)
        };
        if blocks.is_none() && block_axis.is_none() {
            return fill(self);
        }
        let one = 1_u8.into_pyobject(py)?;
        fill(&self.in_blocks(blocks.unwrap_or(&one), block_axis)?)
    }

    /// The number of elements, the kind and the parameters of each different block of a tensor of this shape.
    #[pyo3(signature = (shape, dtype=None), text_signature = "($self, shape, dtype='float32')")]
    fn check<'py>(
        &self,
        py: Python<'py>,
        shape: Argument<'_, 'py>,
        dtype: Option<Argument<'_, 'py>>,
    ) -> PyResult<Vec<(u64, &'static str, Bound<'py, PyDict>)>> {
        let plan = self.0.plan(&args::shape(shape)?, args::dtype(dtype)?)?;
        plan.contents()
            .map(|(elements, contents)| {
                let (kind, parameters) = described(contents);
                Ok((elements, kind, parameters.into_py_dict(py)?))
            })
            .collect()
    }

    /// What a call of the handler of XLA needs to fill a tensor of this shape.
    fn encode(&self, shape: Argument<'_, '_>) -> PyResult<Vec<i64>> {
        Ok(xla::encode(&self.0, &args::shape(shape)?))
    }

    /// A tensor of several blocks along an axis, each with these contents.
    fn in_blocks(
        &self,
        blocks: Argument<'_, '_>,
        block_axis: Option<Argument<'_, '_>>,
    ) -> PyResult<Initializer> {
        let axis = block_axis.map(|axis| args::integer("block_axis", "an int or None", axis)).transpose()?;
        checked(self.0.clone().in_blocks(args::blocks(blocks)?, axis))
    }
}

impl Initializer {
    /// Fills `out`; the other arguments are those of `fill`.
    #[expect(clippy::too_many_arguments, reason = "one for each argument of the Python functions")]
    fn fill_into<'py>(
        &self,
        py: Python<'py>,
        out: Out<'_, 'py>,
        shape: Argument<'_, 'py>,
        seed: Option<Argument<'_, 'py>>,
        stream: Given<'_, 'py>,
        dtype: Option<Argument<'_, 'py>>,
        index: Option<Argument<'_, 'py>>,
        threads: Option<Argument<'_, 'py>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let selection = Selection::new(args::shape(shape)?, index)?;
        let key = key(seed, stream, self.0.is_random())?;
        let dtype = args::dtype(dtype)?;
        let threads = args::threads(threads)?;
        let plan = Cut::new(&self.0, selection.window.shape(), dtype)?;
        match dtype {
            Dtype::F32 => fill_elements::<f32>(py, &plan, &selection, key, out, threads),
            Dtype::F64 => fill_elements::<f64>(py, &plan, &selection, key, out, threads),
            Dtype::F16 => fill_elements::<F16>(py, &plan, &selection, key, out, threads),
            Dtype::Bf16 => fill_elements::<Bf16>(py, &plan, &selection, key, out, threads),
        }
    }
}

/// The kind of contents, and their parameters by name.
fn described(contents: Contents) -> (&'static str, Vec<(&'static str, f64)>) {
    match contents {
        Contents::Constant { value } => ("constant", vec![("value", value)]),
        Contents::Random(Distribution::Uniform { low, high }) => {
            ("uniform", vec![("low", low), ("high", high)])
        }
        Contents::Random(Distribution::Normal { mean, stddev }) => {
            ("normal", vec![("mean", mean), ("stddev", stddev)])
        }
        Contents::Random(Distribution::TruncatedNormal { mean, stddev, lower, upper }) => {
            ("truncated_normal", vec![("mean", mean), ("stddev", stddev), ("lower", lower), ("upper", upper)])
        }
        Contents::Identity { gain, rows, columns } => {
            ("identity", vec![("gain", gain), ("rows", rows as f64), ("columns", columns as f64)])
        }
        Contents::Dirac { ones, size, .. } => ("dirac", vec![("ones", ones as f64), ("size", size as f64)]),
        Contents::Orthogonal { gain, rows, columns, .. } => {
            ("orthogonal", vec![("gain", gain), ("rows", rows as f64), ("columns", columns as f64)])
        }
        Contents::DeltaOrthogonal { gain, inputs, outputs, taps } => (
            "delta_orthogonal",
            vec![
                ("gain", gain),
                ("inputs", inputs as f64),
                ("outputs", outputs as f64),
                ("taps", taps as f64),
            ],
        ),
        Contents::Sparse { zeros, rows, stddev } => {
            ("sparse", vec![("zeros", zeros as f64), ("rows", rows as f64), ("stddev", stddev)])
        }
    }
}

fn fill_elements<'py, T: crate::Element + Scalar>(
    py: Python<'py>,
    plan: &Cut,
    selection: &Selection,
    key: Key,
    out: Out<'_, 'py>,
    threads: Option<NonZeroUsize>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = Options { threads, ..Options::default() };
    // What is mostly zeros needs memory that the system has zeroed, of which only a part is written.
    let reuse = match plan {
        Cut::Whole(Contents::Constant { value }) => *value != 0.0,
        Cut::Whole(Contents::Identity { .. } | Contents::Dirac { .. } | Contents::DeltaOrthogonal { .. }) => {
            false
        }
        _ => true,
    };
    produce::<T>(py, selection, out, reuse, options, |view, options| {
        run(py, view, &selection.window, options, |view, options| {
            plan.fill(view, key, &selection.window, options)
        })
    })
}

/// The key of a fill. A seed is drawn only if it is needed; given values are always checked.
fn key(seed: Option<Argument<'_, '_>>, stream: Given<'_, '_>, is_random: bool) -> PyResult<Key> {
    let stream = args::stream(stream)?;
    let key = match args::seed(seed)? {
        Some(seed) => Key::new(seed),
        None if is_random => Key::from_entropy()?,
        None => Key::default(),
    };
    Ok(key.with_stream(stream))
}

/// Runs a fill of `view`. A long one detaches from the interpreter, and ends early if a signal handler raises
/// an exception, as that of Ctrl-C does.
fn run<T: Scalar>(
    py: Python<'_>,
    view: ArrayViewMutD<'_, MaybeUninit<T>>,
    window: &Window,
    options: Options<'static>,
    fill: impl FnOnce(ArrayViewMutD<'_, MaybeUninit<T>>, &Options<'_>) -> Result<()> + Send,
) -> PyResult<()> {
    if window.logical_len() <= ATTACHED_ELEMENTS {
        return Ok(fill(view, &options)?);
    }
    let (result, raised) = py.detach(|| {
        let raised = OnceCell::new();
        let asked = Cell::new(Instant::now());
        let interrupt = || {
            if raised.get().is_none() && asked.get().elapsed() >= SIGNAL_INTERVAL {
                asked.set(Instant::now());
                // No signals are checked while the interpreter shuts down.
                if let Some(Err(error)) = Python::try_attach(|py| py.check_signals()) {
                    raised.get_or_init(|| error);
                }
            }
            raised.get().is_some()
        };
        let result = fill(view, &Options { interrupt: Some(&interrupt), ..options });
        (result, raised.into_inner())
    });
    match raised {
        Some(error) => Err(error),
        None => Ok(result?),
    }
}

/// An initializer with checked parameters.
fn checked(initializer: init::Initializer) -> PyResult<Initializer> {
    initializer.validate()?;
    Ok(Initializer(initializer))
}

#[pyfunction]
fn constant(value: Argument<'_, '_>) -> PyResult<Initializer> {
    checked(init::Initializer::Constant(args::real("value", value)?))
}

#[pyfunction]
fn identity(gain: Argument<'_, '_>) -> PyResult<Initializer> {
    checked(init::Initializer::Identity { gain: args::real("gain", gain)? })
}

#[pyfunction]
fn random_uniform(minval: Argument<'_, '_>, maxval: Argument<'_, '_>) -> PyResult<Initializer> {
    let (low, high) = (args::real("minval", minval)?, args::real("maxval", maxval)?);
    checked(crate::distr::Distribution::Uniform { low, high }.into())
}

#[pyfunction]
fn random_normal(mean: Argument<'_, '_>, stddev: Argument<'_, '_>) -> PyResult<Initializer> {
    let (mean, stddev) = (args::real("mean", mean)?, args::real("stddev", stddev)?);
    checked(crate::distr::Distribution::Normal { mean, stddev }.into())
}

#[pyfunction]
fn truncated_normal(
    mean: Argument<'_, '_>,
    stddev: Argument<'_, '_>,
    lower: Argument<'_, '_>,
    upper: Argument<'_, '_>,
) -> PyResult<Initializer> {
    let (mean, stddev) = (args::real("mean", mean)?, args::real("stddev", stddev)?);
    let (lower, upper) = (args::real("lower", lower)?, args::real("upper", upper)?);
    checked(crate::distr::Distribution::TruncatedNormal { mean, stddev, lower, upper }.into())
}

#[pyfunction]
fn variance_scaling(
    scale: Argument<'_, '_>,
    mode: Argument<'_, '_>,
    distribution: Argument<'_, '_>,
    in_axis: Argument<'_, '_>,
    out_axis: Argument<'_, '_>,
    batch_axis: Argument<'_, '_>,
    groups: Argument<'_, '_>,
) -> PyResult<Initializer> {
    let scaling = VarianceScaling {
        scale: args::real("scale", scale)?,
        mode: args::name("mode", mode)?.parse()?,
        distribution: args::name("distribution", distribution)?.parse()?,
        axes: kernel_axes(in_axis, out_axis, batch_axis, groups)?,
    };
    checked(scaling.into())
}

fn kernel_axes(
    in_axis: Argument<'_, '_>,
    out_axis: Argument<'_, '_>,
    batch_axis: Argument<'_, '_>,
    groups: Argument<'_, '_>,
) -> PyResult<KernelAxes> {
    Ok(KernelAxes {
        in_axis: args::axes("in_axis", in_axis)?,
        out_axis: args::axes("out_axis", out_axis)?,
        batch_axis: args::axes("batch_axis", batch_axis)?,
        groups: args::count("groups", groups)?,
    })
}

/// The fans of a kernel: inputs per output, and outputs per input.
#[pyfunction]
fn fans(
    shape: Argument<'_, '_>,
    in_axis: Argument<'_, '_>,
    out_axis: Argument<'_, '_>,
    batch_axis: Argument<'_, '_>,
    groups: Argument<'_, '_>,
) -> PyResult<(f64, f64)> {
    let fans = kernel_axes(in_axis, out_axis, batch_axis, groups)?.fans(&args::shape(shape)?)?;
    Ok((fans.fan_in, fans.fan_out))
}

#[pyfunction]
fn dirac(groups: Argument<'_, '_>) -> PyResult<Initializer> {
    checked(init::Initializer::Dirac { groups: args::count("groups", groups)? })
}

#[pyfunction]
fn orthogonal(gain: Argument<'_, '_>, column_axis: Argument<'_, '_>) -> PyResult<Initializer> {
    let gain = args::real("gain", gain)?;
    let column_axis = args::integer("column_axis", "an int", column_axis)?;
    checked(init::Initializer::Orthogonal(init::Orthogonal { gain, column_axis }))
}

#[pyfunction]
fn delta_orthogonal(gain: Argument<'_, '_>) -> PyResult<Initializer> {
    checked(init::Initializer::DeltaOrthogonal { gain: args::real("gain", gain)? })
}

/// The stream of one block of a tensor in several blocks.
#[pyfunction]
fn block_stream(stream: Given<'_, '_>, block: Argument<'_, '_>) -> PyResult<u64> {
    let key = Key::default().with_stream(args::stream(stream)?);
    Ok(key.block(args::integer("block", "an int in [0, 2**64)", block)?).stream)
}

#[pyfunction]
fn sparse(sparsity: Argument<'_, '_>, stddev: Argument<'_, '_>) -> PyResult<Initializer> {
    let (sparsity, stddev) = (args::real("sparsity", sparsity)?, args::real("stddev", stddev)?);
    checked(init::Initializer::Sparse { sparsity, stddev })
}

/// The raw words of a key.
#[pyfunction]
#[pyo3(
    signature = (shape, seed=None, stream=Given(None), dtype=None, out=None, index=None, threads=None),
    text_signature = "(shape, seed=None, stream=0, dtype='uint32', out=None, index=None, threads=None)"
)]
#[expect(clippy::too_many_arguments, reason = "one for each argument of the Python function")]
fn random_bits<'py>(
    py: Python<'py>,
    shape: Argument<'_, 'py>,
    seed: Option<Argument<'_, 'py>>,
    stream: Given<'_, 'py>,
    dtype: Option<Argument<'_, 'py>>,
    out: Option<Argument<'_, 'py>>,
    index: Option<Argument<'_, 'py>>,
    threads: Option<Argument<'_, 'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    let selection = Selection::new(args::shape(shape)?, index)?;
    let key = key(seed, stream, true)?;
    let bits = args::word_bits(dtype)?;
    let threads = args::threads(threads)?;
    let window = &selection.window;
    let options = Options { threads, ..Options::default() };
    if bits == 32 {
        produce(py, &selection, out.into(), true, options, |view, options| {
            run(py, view, window, options, |view, options| fill::bits_u32(view, window, key, options))
        })
    } else {
        produce(py, &selection, out.into(), true, options, |view, options| {
            run(py, view, window, options, |view, options| fill::bits_u64(view, window, key, options))
        })
    }
}

/// The seed as a plain int, or None.
#[pyfunction]
fn as_seed(seed: Option<Argument<'_, '_>>) -> PyResult<Option<u64>> {
    args::seed(seed)
}

/// The CRC-32 of bytes that follow others, as `zlib.crc32` has it.
#[pyfunction]
fn crc32(py: Python<'_>, data: PyReadonlyArray1<'_, u8>, before: u32) -> PyResult<u32> {
    let bytes = data.as_slice()?;
    Ok(py.detach(|| {
        let mut hasher = crc32fast::Hasher::new_with_initial(before);
        hasher.update(bytes);
        hasher.finalize()
    }))
}

/// The address of the handler of XLA.
#[pyfunction]
fn xla_handler() -> usize {
    xla::handler as *const () as usize
}

#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("stream_version", crate::STREAM_VERSION)?;
    info.set_item("simd", crate::Level::current().name())?;
    info.set_item(
        "simd_available",
        crate::Level::available().iter().map(|level| level.name()).collect::<Vec<_>>(),
    )?;
    info.set_item("threads", fill::threads::default_threads().get())?;
    Ok(info)
}

#[pyfunction]
fn set_num_threads(threads: Option<Argument<'_, '_>>) -> PyResult<()> {
    fill::threads::set_default_threads(args::threads(threads)?);
    Ok(())
}

#[pyfunction]
fn get_num_threads() -> usize {
    fill::threads::default_threads().get()
}
