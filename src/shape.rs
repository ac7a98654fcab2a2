//! Shapes, windows into them, and fans.
//!
//! A [`Window`] says which part of a logical tensor is wanted. Sizes and offsets of the logical tensor are `u64`, for
//! it may be far larger than the memory of this machine; those of the part are `usize`, for it is to be stored here.

use crate::error::{Error, Result};

/// The most dimensions that a tensor may have.
pub const MAX_NDIM: usize = 32;

/// The most elements that a logical tensor may have: every index then fits the counter with room for sub-streams.
pub const MAX_ELEMENTS: u64 = 1 << 63;

/// A rectangular part of a logical tensor: along each axis, `extent` elements from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    shape: Vec<u64>,
    start: Vec<u64>,
    extent: Vec<usize>,
}

impl Window {
    /// The part of a tensor of this `shape` that begins at `start` and has the size `extent`.
    ///
    /// # Errors
    /// [`Error::Value`] where the three differ in length, have more than [`MAX_NDIM`] axes, the part does not lie inside
    /// the shape, or the shape has more than [`MAX_ELEMENTS`] elements.
    pub fn new(shape: &[u64], start: &[u64], extent: &[usize]) -> Result<Window> {
        check_shape(shape)?;
        if start.len() != shape.len() || extent.len() != shape.len() {
            return Err(Error::value(format!(
                "a window needs a start and an extent for each axis: shape {shape:?}, start {start:?}, extent {extent:?}"
            )));
        }
        for (axis, ((&size, &start), &extent)) in shape.iter().zip(start).zip(extent).enumerate() {
            if start.checked_add(extent as u64).is_none_or(|end| end > size) {
                return Err(Error::value(format!(
                    "the window [{start}, {start} + {extent}) does not lie inside axis {axis} of size {size}"
                )));
            }
        }
        Ok(Window { shape: shape.to_vec(), start: start.to_vec(), extent: extent.to_vec() })
    }

    /// The whole of a tensor of this shape.
    ///
    /// # Errors
    /// As [`Window::new`].
    pub fn whole(shape: &[usize]) -> Result<Window> {
        let logical: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        Window::new(&logical, &vec![0; shape.len()], shape)
    }

    /// The shape of the logical tensor.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The first index of the part along each axis.
    pub fn start(&self) -> &[u64] {
        &self.start
    }

    /// The shape of the part.
    pub fn extent(&self) -> &[usize] {
        &self.extent
    }

    /// How many elements the part has.
    pub fn len(&self) -> usize {
        self.extent.iter().product()
    }

    /// Whether the part has no elements.
    pub fn is_empty(&self) -> bool {
        self.extent.contains(&0)
    }
}

/// Checks the number of axes and of elements of a logical shape; returns the latter.
///
/// # Errors
/// [`Error::Value`] for more than [`MAX_NDIM`] axes or more than [`MAX_ELEMENTS`] elements.
pub fn check_shape(shape: &[u64]) -> Result<u64> {
    if shape.len() > MAX_NDIM {
        return Err(Error::value(format!(
            "a shape has at most {MAX_NDIM} dimensions, this one has {}",
            shape.len()
        )));
    }
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= MAX_ELEMENTS)
        .ok_or_else(|| Error::value(format!("shape {shape:?} has more than {MAX_ELEMENTS} elements")))
}
