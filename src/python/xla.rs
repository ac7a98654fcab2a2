//! The handler by which programs of XLA fill tensors: a custom call of its foreign function interface (FFI).
//!
//! The handler is stateless, and the call says all that it needs in one attribute. So a program may be stored,
//! and run by another process. Neither a header nor a library of XLA is needed: the structures below are those
//! of the C interface that all versions from 0.1 on have in common, and the handler declares version 0.1.
//!
//! Operands are the words of one or more keys, `u32[batch.., words]`, and, if only a part of each tensor is
//! wanted, an `s32[extent]` for each axis, whose first element is the index where the part begins. The result
//! is `[batch.., extent..]`. Where it goes on beyond the end of the tensor, as uneven shards do, it is zero.

use super::array::Scalar;
use crate::dtype::{Bf16, F16};
use crate::error::{Error, Result};
use crate::fill::Options;
use crate::init::{Cut, Initializer, Orthogonal, VarianceScaling};
use crate::seed::{Key, hash};
use crate::shape::{Blocks, KernelAxes, Window};
use crate::{Distribution, FanMode, STREAM_VERSION, ScaledDistribution};
use ndarray::{ArrayViewMutD, IxDyn, Slice};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// What an attribute says: the stream version, the shape of the tensor, and the initializer.
pub fn encode(initializer: &Initializer, shape: &[u64]) -> Vec<i64> {
    let mut words = vec![i64::from(STREAM_VERSION), shape.len() as i64];
    words.extend(shape.iter().map(|&size| size as i64));
    write(initializer, &mut words);
    words
}

fn write(initializer: &Initializer, words: &mut Vec<i64>) {
    let number = |value: f64| value.to_bits() as i64;
    match initializer {
        Initializer::Constant(value) => words.extend([0, number(*value)]),
        Initializer::Identity { gain } => words.extend([1, number(*gain)]),
        Initializer::Random(Distribution::Uniform { low, high }) => {
            words.extend([2, number(*low), number(*high)]);
        }
        Initializer::Random(Distribution::Normal { mean, stddev }) => {
            words.extend([3, number(*mean), number(*stddev)]);
        }
        Initializer::Random(Distribution::TruncatedNormal { mean, stddev, lower, upper }) => {
            words.extend([4, number(*mean), number(*stddev), number(*lower), number(*upper)]);
        }
        Initializer::VarianceScaling(VarianceScaling { scale, mode, distribution, axes }) => {
            words.extend([5, number(*scale), *mode as i64, *distribution as i64, axes.groups as i64]);
            for axes in [&axes.in_axis, &axes.out_axis, &axes.batch_axis] {
                words.push(axes.len() as i64);
                words.extend(axes);
            }
        }
        Initializer::Dirac { groups } => words.extend([6, *groups as i64]),
        Initializer::Orthogonal(Orthogonal { gain, column_axis }) => {
            words.extend([7, number(*gain), *column_axis]);
        }
        Initializer::DeltaOrthogonal { gain } => words.extend([8, number(*gain)]),
        Initializer::Sparse { sparsity, stddev } => words.extend([9, number(*sparsity), number(*stddev)]),
        Initializer::Blocks { each, blocks, axis } => {
            words.push(10);
            write(each, words);
            match blocks {
                Blocks::Equal(count) => words.extend([0, *count as i64]),
                Blocks::Sizes(sizes) => {
                    words.extend([1, sizes.len() as i64]);
                    words.extend(sizes.iter().map(|&size| size as i64));
                }
            }
            words.extend([i64::from(axis.is_some()), axis.unwrap_or_default()]);
        }
    }
}

/// The words of an attribute, from the first to the last.
struct Words<'a>(std::slice::Iter<'a, i64>);

impl Words<'_> {
    fn next(&mut self) -> Option<i64> {
        self.0.next().copied()
    }

    fn count(&mut self) -> Option<u64> {
        u64::try_from(self.next()?).ok()
    }

    fn number(&mut self) -> Option<f64> {
        Some(f64::from_bits(self.next()? as u64))
    }

    fn list<T>(&mut self, item: impl Fn(i64) -> Option<T>) -> Option<Vec<T>> {
        let length = self.count()?;
        (0..length).map(|_| item(self.next()?)).collect()
    }

    /// What [`write`] has written.
    fn initializer(&mut self) -> Option<Initializer> {
        Some(match self.next()? {
            0 => Initializer::Constant(self.number()?),
            1 => Initializer::Identity { gain: self.number()? },
            2 => Distribution::Uniform { low: self.number()?, high: self.number()? }.into(),
            3 => Distribution::Normal { mean: self.number()?, stddev: self.number()? }.into(),
            4 => Distribution::TruncatedNormal {
                mean: self.number()?,
                stddev: self.number()?,
                lower: self.number()?,
                upper: self.number()?,
            }
            .into(),
            5 => {
                let scale = self.number()?;
                let modes = [FanMode::FanIn, FanMode::FanOut, FanMode::FanAvg, FanMode::FanGeoAvg];
                let mode = *modes.get(self.count()? as usize)?;
                use ScaledDistribution::{TruncatedNormal, Uniform, UntruncatedNormal};
                let distribution =
                    *[TruncatedNormal, UntruncatedNormal, Uniform].get(self.count()? as usize)?;
                let groups = self.count()?;
                let mut axes = || self.list(Some);
                let axes = KernelAxes { in_axis: axes()?, out_axis: axes()?, batch_axis: axes()?, groups };
                VarianceScaling { scale, mode, distribution, axes }.into()
            }
            6 => Initializer::Dirac { groups: self.count()? },
            7 => Initializer::Orthogonal(Orthogonal { gain: self.number()?, column_axis: self.next()? }),
            8 => Initializer::DeltaOrthogonal { gain: self.number()? },
            9 => Initializer::Sparse { sparsity: self.number()?, stddev: self.number()? },
            10 => {
                // Blocks have none themselves; a malformed call could nest them without end.
                if self.0.as_slice().first() == Some(&10) {
                    return None;
                }
                let each = Box::new(self.initializer()?);
                let blocks = match self.next()? {
                    0 => Blocks::Equal(self.count()?),
                    _ => Blocks::Sizes(self.list(|size| u64::try_from(size).ok())?),
                };
                let (is_given, axis) = (self.next()? != 0, self.next()?);
                Initializer::Blocks { each, blocks, axis: is_given.then_some(axis) }
            }
            _ => return None,
        })
    }
}

/// The key of the words of a key of JAX, as `fastinit.jax` documents it.
pub fn key(words: &[u32]) -> Key {
    let pair = |words: &[u32]| u64::from(words[0]) << 32 | u64::from(words[1]);
    match words.len() {
        2 => Key::new(pair(words)),
        4 if words[..2] == words[2..] => Key::new(pair(words)),
        4 => Key::new(pair(words)).with_stream(pair(&words[2..])),
        _ => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Key::new(hash(&bytes))
        }
    }
}

/// The head of every structure of the interface.
#[repr(C)]
struct Head {
    struct_size: usize,
    extensions: *const Extension,
}

#[repr(C)]
struct Extension {
    struct_size: usize,
    kind: c_int,
    next: *const Extension,
}

/// Asks for the version of a handler.
#[repr(C)]
struct MetadataExtension {
    base: Extension,
    metadata: *mut Metadata,
}

const METADATA: c_int = 1;

#[repr(C)]
struct Metadata {
    struct_size: usize,
    version_head: Head,
    major: c_int,
    minor: c_int,
    traits: u32,
}

/// The beginning of the table of functions.
#[repr(C)]
struct Api {
    head: Head,
    version_head: Head,
    major: c_int,
    minor: c_int,
    internal: *const c_void,
    create_error: unsafe extern "C" fn(*mut ErrorArguments) -> *mut c_void,
}

#[repr(C)]
struct ErrorArguments {
    head: Head,
    message: *const c_char,
    code: c_int,
}

const INVALID_ARGUMENT: c_int = 3;
const RESOURCE_EXHAUSTED: c_int = 8;
const INTERNAL: c_int = 13;

#[repr(C)]
struct Values {
    head: Head,
    size: i64,
    kinds: *const c_int,
    values: *const *const c_void,
}

#[repr(C)]
struct Attributes {
    head: Head,
    size: i64,
    kinds: *const c_int,
    names: *const *const c_void,
    values: *const *const c_void,
}

#[repr(C)]
struct Buffer {
    head: Head,
    dtype: c_int,
    data: *mut c_void,
    rank: i64,
    dims: *const i64,
}

#[repr(C)]
struct Array {
    dtype: c_int,
    size: usize,
    data: *const c_void,
}

/// The arguments of a call.
#[repr(C)]
pub struct Frame {
    head: Head,
    api: *const Api,
    context: *const c_void,
    stage: c_int,
    operands: Values,
    results: Values,
    attributes: Attributes,
}

const EXECUTE: c_int = 3;
/// The kind of an operand that is a buffer, and of an attribute that is an array.
const BUFFER: c_int = 1;
const ARRAY: c_int = 1;
/// Formats of elements.
const S32: c_int = 4;
const S64: c_int = 5;
const U32: c_int = 8;

/// Why a call failed: a code of the interface, and a message.
type Failure = (c_int, String);

fn invalid(message: impl Into<String>) -> Failure {
    (INVALID_ARGUMENT, message.into())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error {
            Error::Memory { .. } | Error::MemoryLimit { .. } => RESOURCE_EXHAUSTED,
            _ => INVALID_ARGUMENT,
        };
        (code, error.to_string())
    }
}

/// The handler.
///
/// # Safety
/// XLA calls it, with a frame of its interface of version 0.1 or newer.
pub unsafe extern "C" fn handler(frame: *mut Frame) -> *mut c_void {
    // SAFETY: the caller passes a frame, which is valid until this function returns.
    let frame = unsafe { &*frame };
    // SAFETY: extensions are a list whose last item has no next one.
    let first = unsafe { frame.head.extensions.as_ref() };
    if let Some(extension) = first.filter(|extension| extension.kind == METADATA) {
        let extension: *const Extension = extension;
        // SAFETY: an extension of this kind has a pointer to the metadata, which the handler fills in.
        unsafe {
            let metadata = (*extension.cast::<MetadataExtension>()).metadata;
            ((*metadata).major, (*metadata).minor, (*metadata).traits) = (0, 1, 0);
        }
        return ptr::null_mut();
    }
    if frame.stage != EXECUTE {
        return ptr::null_mut();
    }
    // SAFETY: the operands, results and attributes of a frame are valid while it is.
    let done = catch_unwind(AssertUnwindSafe(|| unsafe { fill(frame) }));
    let (code, message) = match done {
        Ok(Ok(())) => return ptr::null_mut(),
        Ok(Err(failure)) => failure,
        Err(_) => (INTERNAL, "a fill of fastinit panicked".to_owned()),
    };
    let message = CString::new(message).unwrap_or_default();
    let head = Head { struct_size: size_of::<ErrorArguments>(), extensions: ptr::null() };
    let mut arguments = ErrorArguments { head, message: message.as_ptr(), code };
    // SAFETY: the table is valid, and the function copies the message.
    unsafe { ((*frame.api).create_error)(&raw mut arguments) }
}

/// # Safety
/// The pointers of the frame are valid.
unsafe fn fill(frame: &Frame) -> std::result::Result<(), Failure> {
    // SAFETY: the caller passes valid pointers.
    let (operands, result, call) = unsafe {
        let operands = buffers(&frame.operands).ok_or_else(|| invalid("operands must be buffers"))?;
        let results = buffers(&frame.results).filter(|results| results.len() == 1);
        let result = results.ok_or_else(|| invalid("the result must be one buffer"))?[0];
        (
            operands,
            result,
            attribute(&frame.attributes).ok_or_else(|| invalid("the attribute must be an array of s64"))?,
        )
    };
    let mut words = Words(call.iter());
    let version = words.next();
    if version != Some(i64::from(STREAM_VERSION)) {
        return Err(invalid(format!(
            "the program is for stream version {}, this is fastinit of stream version {STREAM_VERSION}",
            version.unwrap_or_default()
        )));
    }
    let malformed = || invalid(format!("malformed call of fastinit: {:?}", &call[..call.len().min(64)]));
    let shape = words.list(|size| u64::try_from(size).ok()).ok_or_else(malformed)?;
    let initializer = words.initializer().filter(|_| words.next().is_none()).ok_or_else(malformed)?;
    let (&keys, ranges) = operands.split_first().ok_or_else(malformed)?;
    // SAFETY: as above.
    let (key_dims, dims) = unsafe { (dims(keys), dims(result)) };
    let (&key_size, batch) = key_dims.split_last().ok_or_else(malformed)?;
    let Some((lead, extent)) = dims.split_at_checked(batch.len()) else { return Err(malformed()) };
    let fits =
        lead == batch && extent.len() == shape.len() && (ranges.is_empty() || ranges.len() == shape.len());
    if !fits || keys.dtype != U32 || key_size == 0 {
        return Err(malformed());
    }
    let mut start = vec![0; shape.len()];
    for (range, (start, &extent)) in ranges.iter().zip(start.iter_mut().zip(extent)) {
        // SAFETY: a buffer of s32 with at least one element has a first one.
        let first = unsafe {
            let is_right = range.dtype == S32 && self::dims(range) == [extent];
            if !is_right {
                return Err(malformed());
            }
            if extent == 0 { 0 } else { *range.data.cast::<i32>() }
        };
        *start = u64::try_from(first).map_err(|_| malformed())?;
    }
    // Where an axis is split unevenly, the last parts go on beyond the end of the tensor.
    let mut inside = extent.to_vec();
    if !ranges.is_empty() {
        for ((start, inside), &size) in start.iter_mut().zip(&mut inside).zip(&shape) {
            *start = size.min(*start);
            *inside = usize::try_from(size - *start).map_or(*inside, |left| left.min(*inside));
        }
    }
    let window = Window::new(&shape, &start, &inside)?;
    let count: usize = batch.iter().product();
    // SAFETY: the operand has this many words, and the result as many elements for each key as the window.
    unsafe {
        let words = match count * key_size {
            0 => &[],
            length => std::slice::from_raw_parts(keys.data.cast::<u32>(), length),
        };
        let keys = words.chunks_exact(key_size).map(key);
        match result.dtype {
            10 => fill_elements::<F16>(&initializer, &window, extent, keys, result.data)?,
            11 => fill_elements::<f32>(&initializer, &window, extent, keys, result.data)?,
            12 => fill_elements::<f64>(&initializer, &window, extent, keys, result.data)?,
            16 => fill_elements::<Bf16>(&initializer, &window, extent, keys, result.data)?,
            dtype => return Err(invalid(format!("fastinit cannot fill elements of format {dtype}"))),
        }
    }
    Ok(())
}

/// Fills a window for each key; what `extent` has beyond it becomes zero.
///
/// # Safety
/// `data` has the elements of as many arrays of this extent as there are keys, and nothing else uses them.
unsafe fn fill_elements<T: crate::Element + Scalar>(
    initializer: &Initializer,
    window: &Window,
    extent: &[usize],
    keys: impl Iterator<Item = Key>,
    data: *mut c_void,
) -> Result<()> {
    let plan = Cut::new(initializer, window.shape(), T::DTYPE)?;
    if extent.contains(&0) {
        return Ok(());
    }
    for (place, key) in keys.enumerate() {
        // SAFETY: the memory is there, as the caller promises, and aligned: XLA aligns to 16 bytes at least.
        let mut view = unsafe {
            let data = data.cast::<MaybeUninit<T>>().add(place * extent.iter().product::<usize>());
            ArrayViewMutD::from_shape_ptr(IxDyn(extent), data)
        };
        if window.extent() != extent {
            view.fill(MaybeUninit::zeroed());
            view.slice_each_axis_inplace(|axis| Slice::from(..window.extent()[axis.axis.index()]));
        }
        plan.fill(view, key, window, &Options::default())?;
    }
    Ok(())
}

/// # Safety
/// The pointers of the values are valid.
unsafe fn buffers(values: &Values) -> Option<Vec<&Buffer>> {
    // SAFETY: there are as many kinds and values as `size` says, and a value of this kind is a buffer.
    (0..values.size as usize)
        .map(|place| unsafe {
            (*values.kinds.add(place) == BUFFER).then(|| &*(*values.values.add(place)).cast::<Buffer>())
        })
        .collect()
}

/// The only attribute.
///
/// # Safety
/// The pointers of the attributes are valid.
unsafe fn attribute(attributes: &Attributes) -> Option<&[i64]> {
    // SAFETY: there is one kind and one value, and a value of this kind is an array of `size` elements.
    unsafe {
        if attributes.size != 1 || *attributes.kinds != ARRAY {
            return None;
        }
        let array = &*(*attributes.values).cast::<Array>();
        (array.dtype == S64 && array.size > 0)
            .then(|| std::slice::from_raw_parts(array.data.cast::<i64>(), array.size))
    }
}

/// # Safety
/// The pointers of the buffer are valid.
unsafe fn dims(buffer: &Buffer) -> Vec<usize> {
    // SAFETY: there are as many sizes as the rank says, none of them negative.
    (0..buffer.rank as usize).map(|axis| unsafe { *buffer.dims.add(axis) as usize }).collect()
}
