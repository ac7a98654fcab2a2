//! Parsing of Python arguments: any object to a plain Rust value.
//!
//! Every error names the argument, the rule and the value. A value of the wrong kind is a `TypeError`, a
//! value out of range a `ValueError`.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::seed::stream_of;
use crate::shape::{Blocks, MAX_NDIM, Window};
use numpy::npyffi::NPY_TYPES;
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyEllipsis, PyFloat, PyInt, PyList, PySlice, PyString, PyTuple, PyType};
use std::convert::Infallible;
use std::num::NonZeroUsize;

/// The repr of an object, shortened for a message.
pub fn show(object: &Bound<'_, PyAny>) -> String {
    const LONGEST: usize = 80;
    let Ok(text) = object.repr().map(|text| text.to_string_lossy().into_owned()) else {
        return format!("an object of type {}", type_name(object));
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The name of the type of an object.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A `TypeError`: `name` must be `rule`, got `object`.
fn wrong_kind(name: &str, rule: &str, object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{name} must be {rule}, got {}", show(object)))
}

/// The same as a `ValueError`.
fn out_of_range(name: &str, rule: &str, object: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{name} must be {rule}, got {}", show(object)))
}

/// Whether an object is a boolean of Python or NumPy. Where a number is expected, that is nearly always a
/// mistake.
fn is_bool(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static NUMPY_BOOL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if object.is_exact_instance_of::<PyInt>() {
        return Ok(false);
    }
    let numpy_bool = NUMPY_BOOL.import(object.py(), "numpy", "bool_")?;
    Ok(object.is_exact_instance_of::<PyBool>() || object.is_instance(numpy_bool)?)
}

/// Any object with `__index__` except booleans.
pub fn integer<'py, T>(name: &str, rule: &str, object: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    if is_bool(object)? {
        return Err(wrong_kind(name, rule, object));
    }
    object.extract::<T>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(object.py()) {
            wrong_kind(name, rule, object)
        } else if error.is_instance_of::<PyOverflowError>(object.py()) {
            out_of_range(name, rule, object)
        } else {
            error
        }
    })
}

/// Any object with `__float__` or `__index__`, except arrays with axes: NumPy before 2.4 converts those of one element.
pub fn real(name: &str, object: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(number) = object.cast_exact::<PyFloat>() {
        return number.extract();
    }
    if object.cast::<PyUntypedArray>().is_ok_and(|array| array.ndim() > 0) {
        return Err(wrong_kind(name, "a real number", object));
    }
    object.extract::<f64>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(object.py()) {
            wrong_kind(name, "a real number", object)
        } else if error.is_instance_of::<PyOverflowError>(object.py()) {
            out_of_range(name, "a real number within the range of float64", object)
        } else {
            error
        }
    })
}

/// A string.
pub fn name<'a>(argument: &str, object: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    object.cast::<PyString>().map_err(|_| wrong_kind(argument, "a str", object))?.to_str()
}

/// A number of groups; the core checks that it is positive.
pub fn count(name: &str, object: &Bound<'_, PyAny>) -> PyResult<u64> {
    integer(name, "an int of at least 1", object)
}

/// The axes given as an int or a sequence of ints.
pub fn axes(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    const RULE: &str = "an int or a sequence of ints";
    match items(object)? {
        Some(items) => items.iter().map(|item| integer(name, RULE, item)).collect(),
        None => Ok(vec![integer(name, RULE, object)?]),
    }
}

/// A number of equal blocks, or the sizes of the blocks; the core checks that there is at least one.
pub fn blocks(object: &Bound<'_, PyAny>) -> PyResult<Blocks> {
    const RULE: &str = "an int of at least 1 or a sequence of sizes";
    if object.is_exact_instance_of::<PyInt>() || object.is_instance_of::<PyString>() {
        return integer("blocks", RULE, object).map(Blocks::Equal);
    }
    let is_sequence = object.hasattr(intern!(object.py(), "__getitem__"))?;
    match object.try_iter().and_then(|items| object.len().map(|_| items)) {
        Ok(items) if is_sequence => items
            .enumerate()
            .map(|(i, size)| integer(&format!("blocks[{i}]"), "an int in [0, 2**64)", &size?))
            .collect::<PyResult<_>>()
            .map(Blocks::Sizes),
        _ => integer("blocks", RULE, object).map(Blocks::Equal),
    }
}

/// The items of a sequence; `None` for any other object. Sets and iterators are not sequences.
fn items<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
    if object.is_exact_instance_of::<PyInt>() {
        return Ok(None);
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return Ok(Some(tuple.iter().collect()));
    }
    if let Ok(list) = object.cast::<PyList>() {
        return Ok(Some(list.iter().collect()));
    }
    // Anything else with a length and numbered items, such as an array; a scalar array has no length.
    let Ok(len) = object.len() else { return Ok(None) };
    // Of too many, one more than the limit is enough to report it.
    let len = len.min(MAX_NDIM + 1);
    Ok((0..len).map(|i| object.get_item(i)).collect::<PyResult<_>>().ok())
}

/// The sizes of the logical tensor.
pub fn shape(object: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    const RULE: &str = "an int or a sequence of ints, each in [0, 2**64)";
    let size = |(axis, item): (usize, Bound<'_, PyAny>)| {
        if let Ok(int) = item.cast_exact::<PyInt>()
            && let Ok(size) = int.extract()
        {
            return Ok(size);
        }
        integer(&format!("shape[{axis}]"), "an int in [0, 2**64)", &item)
    };
    match object.cast::<PyTuple>() {
        Ok(tuple) if tuple.len() <= MAX_NDIM => return tuple.iter().enumerate().map(size).collect(),
        _ => {}
    }
    match items(object)? {
        Some(items) if items.len() > MAX_NDIM => Err(PyValueError::new_err(format!(
            "shape must have at most {MAX_NDIM} dimensions, got {}",
            object.len()?
        ))),
        Some(items) => items.into_iter().enumerate().map(size).collect(),
        None => Ok(vec![integer("shape", RULE, object)?]),
    }
}

/// The selected part of a logical tensor, and the shape of the result.
#[derive(Debug)]
pub struct Selection {
    /// The part, with an axis of length 1 for each int in the index.
    pub window: Window,
    /// The axes of the tensor that have an int in the index, in order. The result does not have them.
    dropped: Vec<usize>,
}

impl Selection {
    /// All of the tensor, or the part that basic indexing with `index` selects.
    pub fn new(shape: Vec<u64>, index: Option<&Bound<'_, PyAny>>) -> PyResult<Selection> {
        let Some(index) = index else {
            let extent = shape.iter().map(|&size| extent(size)).collect::<Result<_>>()?;
            return Ok(Selection { window: Window::whole_of(shape, extent)?, dropped: Vec::new() });
        };
        let picks = match index.cast::<PyTuple>() {
            Ok(tuple) => tuple.iter().collect(),
            Err(_) => vec![index.clone()],
        };
        let is_ellipsis = |pick: &Bound<'_, PyAny>| pick.is_instance_of::<PyEllipsis>();
        let named = picks.iter().filter(|pick| !is_ellipsis(pick)).count();
        if picks.len() - named > 1 {
            return Err(out_of_range("index", "a tuple with at most one ellipsis", index));
        }
        if named > shape.len() {
            return Err(out_of_range(
                "index",
                &format!("at most {} items for shape {shape:?}", shape.len()),
                index,
            ));
        }

        let mut ranges = Vec::with_capacity(shape.len());
        for pick in &picks {
            if is_ellipsis(pick) {
                let whole = &shape[ranges.len()..][..shape.len() - named];
                ranges.extend(whole.iter().map(|&size| (0, size, false)));
            } else {
                let axis = ranges.len();
                ranges.push(picked(pick, axis, shape[axis])?);
            }
        }
        ranges.extend(shape[ranges.len()..].iter().map(|&size| (0, size, false)));

        let start = ranges.iter().map(|&(start, ..)| start).collect();
        let extent = ranges.iter().map(|&(_, len, _)| extent(len)).collect::<Result<_>>()?;
        let dropped = ranges.iter().enumerate().filter(|(_, (.., dropped))| *dropped).map(|(axis, _)| axis);
        Ok(Selection { window: Window::from_parts(shape, start, extent)?, dropped: dropped.collect() })
    }

    /// The shape of the result.
    pub fn shape(&self) -> impl Iterator<Item = usize> {
        let extent = self.window.extent().iter().enumerate();
        extent.filter(|(axis, _)| !self.dropped.contains(axis)).map(|(_, &size)| size)
    }

    /// The axes of the tensor that the result does not have, in order.
    pub fn dropped_axes(&self) -> &[usize] {
        &self.dropped
    }
}

fn extent(size: u64) -> Result<usize> {
    usize::try_from(size).map_err(|_| Error::Window {
        rule: format!("an axis of {size} elements is too long for this machine"),
    })
}

/// What one item of an index selects from an axis of `size`: start, length, and whether the axis is dropped.
fn picked(pick: &Bound<'_, PyAny>, axis: usize, size: u64) -> PyResult<(u64, u64, bool)> {
    let py = pick.py();
    if let Ok(slice) = pick.cast::<PySlice>() {
        let step = slice.getattr(intern!(py, "step"))?;
        if !step.is_none() {
            let name = format!("step in index of axis {axis}");
            if integer::<i64>(&name, "None or 1", &step)? != 1 {
                return Err(out_of_range(&name, "None or 1", &step));
            }
        }
        let start = slice.getattr(intern!(py, "start"))?;
        let start = if start.is_none() { 0 } else { position("start in ", &start, axis, size, size)? };
        let stop = slice.getattr(intern!(py, "stop"))?;
        let stop = if stop.is_none() { size } else { position("stop in ", &stop, axis, size, size)? };
        return Ok((start, stop.saturating_sub(start), false));
    }
    if pick.is_none() || is_bool(pick)? || !pick.hasattr(intern!(py, "__index__"))? {
        return Err(wrong_kind("index", "an int, a slice or an ellipsis, or a tuple of these", pick));
    }
    let Some(last) = size.checked_sub(1) else {
        return Err(out_of_range(&format!("index of axis {axis}"), "a slice, as the axis has size 0", pick));
    };
    Ok((position("", pick, axis, size, last)?, 1, true))
}

/// A position on an axis of `size`, counted from the end where it is negative; at most `last`.
fn position(part: &str, object: &Bound<'_, PyAny>, axis: usize, size: u64, last: u64) -> PyResult<u64> {
    // The sum of a negative position and a size needs one bit more than either.
    let resolve = |found: i64| {
        let from_start = if found < 0 { i128::from(found) + i128::from(size) } else { found.into() };
        u64::try_from(from_start).ok().filter(|&position| position <= last)
    };
    if let Some(position) =
        object.cast_exact::<PyInt>().ok().and_then(|int| int.extract().ok()).and_then(resolve)
    {
        return Ok(position);
    }
    let name = format!("{part}index of axis {axis}");
    let rule = format!("an int in range, from -{size} to {last}");
    resolve(integer(&name, &rule, object)?).ok_or_else(|| out_of_range(&name, &rule, object))
}

/// The seed; `None` for fresh entropy.
pub fn seed(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    static SEED_SEQUENCE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    const RULE: &str = "an int in [0, 2**64), a numpy.random.SeedSequence or None";
    let Some(object) = object else { return Ok(None) };
    if !object.is_exact_instance_of::<PyInt>() {
        let class = SEED_SEQUENCE.import(object.py(), "numpy.random", "SeedSequence")?;
        if object.is_instance(class)? {
            let words = object.call_method1("generate_state", (1, "uint64"))?;
            return words.get_item(0)?.extract().map(Some);
        }
    }
    integer("seed", RULE, object).map(Some)
}

/// An argument whose default is not `None`: if it is given, it is any object, including `None`.
#[derive(Clone, Copy)]
pub struct Given<'a, 'py>(pub Option<Borrowed<'a, 'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'a, 'py> {
    type Error = Infallible;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> std::result::Result<Self, Infallible> {
        Ok(Given(Some(object)))
    }
}

/// The arguments that all functions share, as collected by Python in `**options`.
#[derive(Default)]
pub struct Options<'py> {
    seed: Option<Bound<'py, PyAny>>,
    stream: Option<Bound<'py, PyAny>>,
    dtype: Option<Bound<'py, PyAny>>,
    out: Option<Bound<'py, PyAny>>,
    index: Option<Bound<'py, PyAny>>,
    threads: Option<Bound<'py, PyAny>>,
    blocks: Option<Bound<'py, PyAny>>,
    block_axis: Option<Bound<'py, PyAny>>,
}

impl<'py> Options<'py> {
    /// The arguments by name.
    pub fn new(collected: &Bound<'py, PyDict>) -> PyResult<Options<'py>> {
        let mut options = Options::default();
        for (name, value) in collected {
            let option = match name.cast::<PyString>()?.to_str()? {
                "seed" => &mut options.seed,
                "stream" => &mut options.stream,
                "dtype" => &mut options.dtype,
                "out" => &mut options.out,
                "index" => &mut options.index,
                "threads" => &mut options.threads,
                "blocks" => &mut options.blocks,
                "block_axis" => &mut options.block_axis,
                unknown => {
                    let message = format!("got an unexpected keyword argument '{unknown}'");
                    return Err(PyTypeError::new_err(message));
                }
            };
            *option = Some(value);
        }
        Ok(options)
    }

    /// Those for which `None` stands for the default: seed, dtype, out, index, threads and block_axis.
    pub fn or_none(&self) -> [Option<&Bound<'py, PyAny>>; 6] {
        let Options { seed, stream: _, dtype, out, index, threads, blocks: _, block_axis } = self;
        [seed, dtype, out, index, threads, block_axis]
            .map(|option| option.as_ref().filter(|value| !value.is_none()))
    }

    /// The blocks.
    pub fn blocks(&self) -> Option<&Bound<'py, PyAny>> {
        self.blocks.as_ref()
    }

    /// The stream.
    pub fn stream(&self) -> Given<'_, 'py> {
        Given(self.stream.as_ref().map(Bound::as_borrowed))
    }
}

/// The stream: a number, or the hash of a name; 0 by default.
pub fn stream(object: Given<'_, '_>) -> PyResult<u64> {
    let Some(object) = object.0.as_deref() else { return Ok(0) };
    match object.cast::<PyString>() {
        Ok(name) => Ok(stream_of(name.to_str()?)),
        Err(_) => integer("stream", "an int in [0, 2**64) or a str", object),
    }
}

/// The number of threads; `None` for the default.
pub fn threads(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<NonZeroUsize>> {
    const RULE: &str = "an int of at least 1, or None";
    let Some(object) = object else { return Ok(None) };
    let threads = integer("threads", RULE, object)?;
    NonZeroUsize::new(threads).map(Some).ok_or_else(|| out_of_range("threads", RULE, object))
}

/// The dtype: one of four names, or any object that NumPy converts to one of these dtypes. `None` is float32.
pub fn dtype(object: Option<&Bound<'_, PyAny>>) -> PyResult<Dtype> {
    const RULE: &str = "'float32', 'float64', 'float16' or 'bfloat16'";
    let Some(object) = object else { return Ok(Dtype::F32) };
    if let Ok(name) = object.cast::<PyString>() {
        return match name.to_str()? {
            "float32" => Ok(Dtype::F32),
            "float64" => Ok(Dtype::F64),
            "float16" => Ok(Dtype::F16),
            "bfloat16" => Ok(Dtype::Bf16),
            _ => Err(out_of_range("dtype", RULE, object)),
        };
    }
    let descr = PyArrayDescr::new(object.py(), object).map_err(|_| wrong_kind("dtype", RULE, object))?;
    let known = match descr.num() {
        num if num == NPY_TYPES::NPY_FLOAT as i32 => Some(Dtype::F32),
        num if num == NPY_TYPES::NPY_DOUBLE as i32 => Some(Dtype::F64),
        num if num == NPY_TYPES::NPY_HALF as i32 => Some(Dtype::F16),
        // A dtype that a package has registered with NumPy; its number is assigned at run time.
        num if num >= NPY_TYPES::NPY_USERDEF as i32 && descr.getattr("name")?.eq("bfloat16")? => {
            Some(Dtype::Bf16)
        }
        _ => None,
    };
    known
        .filter(|_| descr.is_native_byteorder() != Some(false))
        .ok_or_else(|| out_of_range("dtype", &format!("{RULE}, in native byte order"), object))
}

/// The width of raw words, 32 or 64. `None` is 32.
pub fn word_bits(object: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
    const RULE: &str = "'uint32' or 'uint64'";
    let Some(object) = object else { return Ok(32) };
    if let Ok(name) = object.cast::<PyString>() {
        return match name.to_str()? {
            "uint32" => Ok(32),
            "uint64" => Ok(64),
            _ => Err(out_of_range("dtype", RULE, object)),
        };
    }
    let descr = PyArrayDescr::new(object.py(), object).map_err(|_| wrong_kind("dtype", RULE, object))?;
    match (descr.kind(), descr.itemsize()) {
        (b'u', 4) if descr.is_native_byteorder() != Some(false) => Ok(32),
        (b'u', 8) if descr.is_native_byteorder() != Some(false) => Ok(64),
        _ => Err(out_of_range("dtype", &format!("{RULE}, in native byte order"), object)),
    }
}
