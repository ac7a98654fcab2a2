//! NumPy arrays: fresh ones over Rust memory that they own, and given ones that are written to. The only
//! unsafe code of the bindings.

use super::args::{Selection, show, type_name};
use crate::dtype::{Bf16, F16};
use crate::fill::Options;
use crate::fill::buffer::Buffer;
use crate::shape::MAX_NDIM;
use ndarray::{ArrayViewMutD, Axis, IxDyn, ShapeBuilder};
use numpy::npyffi::{
    self, NPY_ARRAY_ALIGNED, NPY_ARRAY_CARRAY, NPY_ARRAY_WRITEABLE, NpyTypes, PY_ARRAY_API, npy_intp,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::mem::MaybeUninit;
use std::ptr;

/// A type of element that a NumPy array may have.
///
/// # Safety
/// Elements of the dtype that [`descr`](Self::descr) returns must have the size and the meaning of `Self`,
/// and any bytes must be a valid one.
pub unsafe trait Scalar: Copy + Send + Sync + 'static {
    /// NumPy's dtype.
    fn descr(py: Python<'_>) -> PyResult<Bound<'_, PyArrayDescr>>;
}

/// Types whose dtype rust-numpy knows.
macro_rules! known_scalars {
    ($($scalar:ty),*) => {$(
        // SAFETY: a plain number, of which rust-numpy gives the dtype.
        unsafe impl Scalar for $scalar {
            fn descr(py: Python<'_>) -> PyResult<Bound<'_, PyArrayDescr>> {
                Ok(numpy::dtype::<$scalar>(py))
            }
        }
    )*};
}
known_scalars!(f32, f64, u32, u64);

// SAFETY: `F16` is a transparent wrapper of the 16 bits of a binary16, as is an element of NumPy's float16.
unsafe impl Scalar for F16 {
    fn descr(py: Python<'_>) -> PyResult<Bound<'_, PyArrayDescr>> {
        static DESCR: PyOnceLock<Py<PyArrayDescr>> = PyOnceLock::new();
        let descr = DESCR.get_or_try_init(py, || PyArrayDescr::new(py, "float16").map(Bound::unbind))?;
        Ok(descr.bind(py).clone())
    }
}

// SAFETY: `Bf16` is a transparent wrapper of the 16 bits of a bfloat16, as is an element of that dtype of
// ml_dtypes; its size is checked.
unsafe impl Scalar for Bf16 {
    fn descr(py: Python<'_>) -> PyResult<Bound<'_, PyArrayDescr>> {
        // NumPy has no bfloat16. The package that has it is imported at the first use.
        static DESCR: PyOnceLock<Py<PyArrayDescr>> = PyOnceLock::new();
        let descr = DESCR.get_or_try_init(py, || {
            let module = py.import("ml_dtypes").map_err(|cause| {
                let error = PyImportError::new_err(
                    "dtype 'bfloat16' needs the package ml_dtypes, which cannot be imported: pip install \"fastinit-nn[bf16]\"",
                );
                error.set_cause(py, Some(cause));
                error
            })?;
            let descr = PyArrayDescr::new(py, module.getattr("bfloat16")?)?;
            if descr.itemsize() != size_of::<Bf16>() {
                return Err(PyTypeError::new_err("ml_dtypes.bfloat16 does not have 2 bytes"));
            }
            Ok::<_, PyErr>(descr.unbind())
        })?;
        Ok(descr.bind(py).clone())
    }
}

/// The memory of an array, as the array's `base`.
#[pyclass(frozen, name = "Buffer", module = "fastinit._core")]
struct Memory {
    _buffer: Buffer,
}

/// Where the elements of a fill go.
#[derive(Clone, Copy)]
pub enum Out<'a, 'py> {
    /// To a fresh array.
    New,
    /// To this one.
    Array(&'a Bound<'py, PyAny>),
    /// To the memory from this address on, in C order.
    Memory(usize),
}

impl<'a, 'py> From<Option<&'a Bound<'py, PyAny>>> for Out<'a, 'py> {
    fn from(out: Option<&'a Bound<'py, PyAny>>) -> Self {
        out.map_or(Out::New, Out::Array)
    }
}

/// Calls `fill` for `out`, and returns the array, or `None` for mere memory.
///
/// The view has the shape of the selection's window; the options say whether its memory is untouched. With
/// `reuse` it may be that of an array that was freed. Errors of `out` are found before `fill` is called. A
/// fresh array is only made after `fill` has succeeded and so written all elements.
pub fn produce<'py, T: Scalar>(
    py: Python<'py>,
    selection: &Selection,
    out: Out<'_, 'py>,
    reuse: bool,
    options: Options<'static>,
    fill: impl FnOnce(ArrayViewMutD<'_, MaybeUninit<T>>, Options<'static>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyAny>> {
    match out {
        Out::New => {}
        Out::Array(out) => {
            fill(view_of(out, &T::descr(py)?, selection)?, options)?;
            return Ok(out.clone());
        }
        Out::Memory(address) => {
            fill(view_at(address, selection)?, options)?;
            return Ok(py.None().into_bound(py));
        }
    }
    let descr = T::descr(py)?;
    let bytes = byte_count(selection, size_of::<T>())?;
    let mut buffer = if reuse { Buffer::reused(bytes) } else { Buffer::new(bytes) }?;
    // SAFETY: nothing has been written to the buffer, and `fill` fills all of it, once.
    let untouched = unsafe { buffer.untouched() };
    let shape = IxDyn(selection.window.extent());
    // SAFETY: the buffer is aligned for `T` and as large as the shape says. It lives longer than the view,
    // through which alone it is used.
    let view = unsafe { ArrayViewMutD::from_shape_ptr(shape, buffer.as_uninit_slice().as_mut_ptr()) };
    fill(view, Options { untouched, ..options })?;
    lend(py, buffer, descr, selection.shape())
}

/// The bytes of an array of the selection, if NumPy can make one: it takes an axis of size 0 as one of size
/// 1.
fn byte_count(selection: &Selection, itemsize: usize) -> PyResult<usize> {
    let extent = selection.window.extent();
    let nonzero = extent.iter().map(|&size| size.max(1)).try_fold(itemsize, usize::checked_mul);
    match nonzero.filter(|&bytes| isize::try_from(bytes).is_ok()) {
        Some(_) => Ok(selection.window.len() * itemsize),
        None => Err(PyValueError::new_err(format!(
            "the result must be at most {} bytes large; shape {extent:?} of {itemsize} bytes each is more",
            isize::MAX
        ))),
    }
}

/// An array of this shape over a buffer of the same size whose elements have all been written.
fn lend<'py>(
    py: Python<'py>,
    buffer: Buffer,
    descr: Bound<'py, PyArrayDescr>,
    shape: impl Iterator<Item = usize>,
) -> PyResult<Bound<'py, PyAny>> {
    // Sizes are at most `isize::MAX`, see `byte_count`.
    let (mut dims, mut ndim) = ([0; MAX_NDIM], 0);
    for size in shape {
        dims[ndim] = size as npy_intp;
        ndim += 1;
    }
    let data = buffer.as_ptr();
    let owner = Bound::new(py, Memory { _buffer: buffer })?;
    // SAFETY: `dims` begins with a valid shape of `ndim` axes, at most 32, and NumPy copies it. The data are
    // aligned, initialized and as large as the shape says. They live until `owner` is dropped, to which the
    // array holds a reference from the second call on, and this function until then (on failure the array is
    // dropped first). No Rust reference to the data remains. Both calls steal the references that they are
    // passed (`descr` and `owner`), also if they fail.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, NpyTypes::PyArray_Type),
            descr.into_dtype_ptr(),
            ndim as i32,
            dims.as_mut_ptr(),
            ptr::null_mut(),
            data.cast(),
            NPY_ARRAY_CARRAY,
            ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}

/// The memory at an address as elements to be written, in the shape of the selection's window.
fn view_at<'a, T: Scalar>(
    address: usize,
    selection: &Selection,
) -> PyResult<ArrayViewMutD<'a, MaybeUninit<T>>> {
    byte_count(selection, size_of::<T>())?;
    let data = ptr::with_exposed_provenance_mut::<MaybeUninit<T>>(address);
    if data.is_null() || !data.is_aligned() {
        return Err(PyValueError::new_err(format!(
            "the address must be a multiple of {} and not zero, got {address}",
            align_of::<T>()
        )));
    }
    // SAFETY: the pointer is not null and aligned, and the size fits. Only the Python package calls this, with
    // the memory of a tensor of this shape that it refers to, which no other code uses meanwhile.
    Ok(unsafe { ArrayViewMutD::from_shape_ptr(IxDyn(selection.window.extent()), data) })
}

/// The elements of `out` as memory to be written, in the shape of the selection's window.
fn view_of<'a, T: Scalar>(
    out: &'a Bound<'_, PyAny>,
    descr: &Bound<'_, PyArrayDescr>,
    selection: &Selection,
) -> PyResult<ArrayViewMutD<'a, MaybeUninit<T>>> {
    let array = out
        .cast::<PyUntypedArray>()
        .map_err(|_| PyTypeError::new_err(format!("out must be a numpy.ndarray, got {}", type_name(out))))?;
    let shape: Vec<usize> = selection.shape().collect();
    check_out(array, descr, &shape)?;
    let mut view = if array.is_empty() {
        // There is nothing to write, and an empty array may have any strides.
        ArrayViewMutD::from_shape(IxDyn(&shape), &mut [])
            .map_err(|error| PyValueError::new_err(error.to_string()))?
    } else {
        // SAFETY: `check_out` has passed, with the dtype of `T`.
        unsafe { strided_view(array) }
    };
    for &axis in selection.dropped_axes() {
        view.insert_axis_inplace(Axis(axis));
    }
    Ok(view)
}

/// Checks that `array` can be written to as a Rust array of this shape with elements of this dtype.
fn check_out(
    array: &Bound<'_, PyUntypedArray>,
    descr: &Bound<'_, PyArrayDescr>,
    shape: &[usize],
) -> PyResult<()> {
    if array.shape() != shape {
        let got = array.shape();
        return Err(PyValueError::new_err(format!("out must have shape {shape:?}, got shape {got:?}")));
    }
    if !array.dtype().is_equiv_to(descr) {
        return Err(PyTypeError::new_err(format!(
            "out must have dtype {} in native byte order, as dtype= says; got {}",
            descr.getattr("name")?,
            show(&array.dtype())
        )));
    }
    // SAFETY: the pointer is that of a live array.
    let flags = unsafe { (*npyffi::_PyArray_GET_ITEM_DATA(array.as_array_ptr())).flags };
    if flags & NPY_ARRAY_WRITEABLE == 0 {
        return Err(PyValueError::new_err("out must be writable, got a read-only array"));
    }
    if array.is_empty() {
        return Ok(());
    }
    let axes: Vec<(usize, isize)> = axes_of(array).filter(|&(size, _)| size > 1).collect();
    let itemsize = descr.itemsize();
    if flags & NPY_ARRAY_ALIGNED == 0 || axes.iter().any(|(_, stride)| stride.unsigned_abs() % itemsize != 0)
    {
        return Err(PyValueError::new_err("out must be aligned to its elements, got an unaligned array"));
    }
    if may_overlap(axes, itemsize) {
        return Err(PyValueError::new_err(format!(
            "out must not overlap itself; got shape {shape:?} with strides {:?}",
            array.strides()
        )));
    }
    Ok(())
}

/// The size and the stride, in bytes, of each axis.
fn axes_of(array: &Bound<'_, PyUntypedArray>) -> impl Iterator<Item = (usize, isize)> {
    array.shape().iter().copied().zip(array.strides().iter().copied())
}

/// Whether two elements may share bytes: `false` only if each stride is at least the span of all axes with
/// smaller strides.
///
/// Some interleaved strides without overlap give `true`, but none that result from slicing or transposing.
/// The axes, of at least two elements each, are given as size and stride.
fn may_overlap(mut axes: Vec<(usize, isize)>, itemsize: usize) -> bool {
    axes.sort_unstable_by_key(|(_, stride)| stride.unsigned_abs());
    let mut span = itemsize;
    axes.into_iter().any(|(size, stride)| {
        let overlaps = stride.unsigned_abs() < span;
        span = span.saturating_add(stride.unsigned_abs().saturating_mul(size - 1));
        overlaps
    })
}

/// The elements of an array as memory to be written.
///
/// # Safety
/// The array must not be empty and must have passed [`check_out`] with the dtype of `T`.
unsafe fn strided_view<'a, T: Scalar>(
    array: &'a Bound<'_, PyUntypedArray>,
) -> ArrayViewMutD<'a, MaybeUninit<T>> {
    // SAFETY: the pointer is that of a live array.
    let data = unsafe { (*npyffi::_PyArray_GET_ITEM_DATA(array.as_array_ptr())).data };
    let mut data: *mut MaybeUninit<T> = data.cast();
    // ndarray needs strides that are not negative: start at the other end of such an axis, and reverse it
    // afterwards.
    let (mut strides, mut turned) = (Vec::new(), Vec::new());
    for (axis, (size, stride)) in axes_of(array).enumerate() {
        // In elements. The stride of an axis of length 1 is arbitrary and not used.
        let stride = if size > 1 { stride / size_of::<T>() as isize } else { 1 };
        if stride < 0 {
            // SAFETY: from the first element of the axis to its last, which lies in the array too.
            data = unsafe { data.offset(stride * (size as isize - 1)) };
            turned.push(axis);
        }
        strides.push(stride.unsigned_abs());
    }
    let shape = IxDyn(array.shape()).strides(IxDyn(&strides));
    // SAFETY: shape and strides are the array's, so all elements lie in its memory, which is aligned and
    // lives as long as `array` is borrowed; no stride is negative now, and no two elements overlap. Any bytes
    // are a valid `MaybeUninit`, and a written `T` is an element of the array's dtype. As everywhere in
    // NumPy, the Python caller must make sure that no other thread uses the elements at the same time.
    let mut view = unsafe { ArrayViewMutD::from_shape_ptr(shape, data) };
    for axis in turned {
        view.invert_axis(Axis(axis));
    }
    view
}

#[cfg(test)]
mod tests {
    use super::may_overlap;

    #[test]
    fn overlap_is_found_by_strides() {
        for (axes, overlaps) in [
            (&[(3, 16), (4, 4)][..], false),
            (&[(4, 4), (3, 16)], false),
            (&[(3, -16), (4, -4)], false),
            (&[(3, 32), (4, 8)], false),
            (&[], false),
            (&[(2, 0), (3, 4)], true),
            (&[(3, 4), (3, 4)], true),
            (&[(3, 12), (4, 4)], true),
            (&[(5, 2)], true),
            (&[(2, isize::MIN), (usize::MAX, isize::MAX)], true),
        ] {
            assert_eq!(may_overlap(axes.to_vec(), 4), overlaps, "{axes:?}");
        }
    }
}
