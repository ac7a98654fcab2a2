//! Shapes, windows into them, blocks and fans.
//!
//! A [`Window`] is a part of a logical tensor. Sizes and offsets of the logical tensor are `u64`, since it
//! may be far larger than the memory of this machine; those of the part are `usize`, since it is stored here.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// The most dimensions that a tensor may have.
pub const MAX_NDIM: usize = 32;

/// The most elements that a logical tensor may have: every index fits the counter, with room for sub-streams.
pub const MAX_ELEMENTS: u64 = 1 << 63;

/// A rectangular part of a logical tensor: along each axis, `extent` elements from `start` on.
///
/// ```
/// use fastinit::Window;
/// // The rows 10 to 14 of a matrix.
/// let rows = Window::new(&[100, 8], &[10, 0], &[5, 8])?;
/// assert_eq!(rows.len(), 40);
/// assert!(Window::new(&[100, 8], &[98, 0], &[5, 8]).is_err());
/// # Ok::<(), fastinit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    shape: Vec<u64>,
    /// Empty where it is zero along all axes: memory for it would cost a small fill several percent.
    start: Vec<u64>,
    extent: Vec<usize>,
}

impl Window {
    /// The part of a tensor of this `shape` that begins at `start` and has the size `extent`.
    ///
    /// # Errors
    /// [`Error::Window`] where the three differ in length or the part does not lie inside the shape,
    /// [`Error::Shape`] for more than [`MAX_NDIM`] axes, and [`Error::TooManyElements`] for more than
    /// [`MAX_ELEMENTS`] elements.
    pub fn new(shape: &[u64], start: &[u64], extent: &[usize]) -> Result<Window> {
        Window::from_parts(shape.to_vec(), start.to_vec(), extent.to_vec())
    }

    /// As [`Window::new`], without a copy.
    pub(crate) fn from_parts(shape: Vec<u64>, start: Vec<u64>, extent: Vec<usize>) -> Result<Window> {
        check_shape(&shape)?;
        if start.len() != shape.len() || extent.len() != shape.len() {
            return Err(Error::Window {
                rule: format!(
                    "a window needs a start and an extent for each axis; got shape {shape:?}, start {start:?} and extent \
                     {extent:?}"
                ),
            });
        }
        for (axis, ((&size, &start), &extent)) in shape.iter().zip(&start).zip(&extent).enumerate() {
            if start.checked_add(extent as u64).is_none_or(|end| end > size) {
                return Err(Error::Window {
                    rule: format!(
                        "a window must lie inside its tensor; got [{start}, {start} + {extent}) on axis {axis} of size {size}"
                    ),
                });
            }
        }
        let start = if start.iter().all(|&start| start == 0) { vec![] } else { start };
        Ok(Window { shape, start, extent })
    }

    /// The whole of a tensor of this shape.
    ///
    /// # Errors
    /// As [`Window::new`].
    pub fn whole(shape: &[usize]) -> Result<Window> {
        Window::whole_of(shape.iter().map(|&size| size as u64).collect(), shape.to_vec())
    }

    /// As [`Window::whole`], for sizes that are available as both types.
    pub(crate) fn whole_of(shape: Vec<u64>, extent: Vec<usize>) -> Result<Window> {
        check_shape(&shape)?;
        Ok(Window { shape, start: vec![], extent })
    }

    /// The shape of the logical tensor.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The first index of the part along each axis.
    pub fn start(&self) -> &[u64] {
        const ZEROS: [u64; MAX_NDIM] = [0; MAX_NDIM];
        if self.start.is_empty() { &ZEROS[..self.shape.len()] } else { &self.start }
    }

    /// The shape of the part.
    pub fn extent(&self) -> &[usize] {
        &self.extent
    }

    /// The indices of the part along one axis.
    pub(crate) fn range(&self, axis: usize) -> std::ops::Range<u64> {
        let start = self.start()[axis];
        start..start + self.extent[axis] as u64
    }

    /// Checks that an output has the shape of the part.
    ///
    /// # Errors
    /// [`Error::OutputShape`] where it has another.
    pub(crate) fn check_output(&self, shape: &[usize]) -> Result<()> {
        if shape == self.extent {
            return Ok(());
        }
        Err(Error::OutputShape { shape: shape.to_vec(), expected: self.extent.clone() })
    }

    /// The position in the part of an index of the logical tensor along this axis; `None` if it lies outside.
    pub(crate) fn place(&self, axis: usize, index: u64) -> Option<usize> {
        self.range(axis).contains(&index).then(|| (index - self.start()[axis]) as usize)
    }

    /// The number of elements of the logical tensor.
    pub fn logical_len(&self) -> u64 {
        elements(&self.shape)
    }

    /// The number of elements of the part.
    pub fn len(&self) -> usize {
        // Where an axis is empty, the product of the others may overflow.
        if self.is_empty() { 0 } else { self.extent.iter().product() }
    }

    /// Whether the part is the whole tensor.
    pub(crate) fn is_whole(&self) -> bool {
        self.shape.iter().zip(&self.extent).all(|(&size, &extent)| size == extent as u64)
    }

    /// Whether the part has no elements.
    pub fn is_empty(&self) -> bool {
        self.extent.contains(&0)
    }
}

/// Checks the number of axes and of elements of a logical shape.
///
/// # Errors
/// [`Error::Shape`] for more than [`MAX_NDIM`] axes, [`Error::TooManyElements`] for more than
/// [`MAX_ELEMENTS`] elements.
pub(crate) fn check_shape(shape: &[u64]) -> Result<()> {
    if shape.len() > MAX_NDIM {
        return Err(too_many_axes(shape));
    }
    let product = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
    if shape.contains(&0) || product.is_some_and(|product| product <= MAX_ELEMENTS) {
        return Ok(());
    }
    Err(Error::TooManyElements { shape: shape.to_vec() })
}

/// The number of elements of a shape that has passed [`check_shape`].
pub(crate) fn elements(shape: &[u64]) -> u64 {
    // Where an axis is empty, the product of the others may overflow.
    if shape.contains(&0) { 0 } else { shape.iter().product() }
}

fn too_many_axes(shape: &[u64]) -> Error {
    Error::shape(format!("a shape must have at most {MAX_NDIM} dimensions"), shape)
}

/// How a tensor is split into blocks along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blocks {
    /// This number of blocks of equal size; at least 1.
    Equal(u64),
    /// Blocks of these sizes, in order; at least one.
    Sizes(Vec<u64>),
}

impl Blocks {
    /// The number of blocks.
    pub fn count(&self) -> u64 {
        match self {
            Blocks::Equal(count) => *count,
            Blocks::Sizes(sizes) => sizes.len() as u64,
        }
    }
}

impl From<u64> for Blocks {
    fn from(count: u64) -> Self {
        Blocks::Equal(count)
    }
}

impl From<Vec<u64>> for Blocks {
    fn from(sizes: Vec<u64>) -> Self {
        Blocks::Sizes(sizes)
    }
}

/// The roles of the axes of a kernel: inputs, outputs and batch. The others are its receptive field.
///
/// Negative axes count from the end. The default is that of Keras and JAX, whose kernels are `(..., in,
/// out)`: the last axis but one is the input, the last the output. A dense kernel of PyTorch, `(out, in,
/// ...)`, has input axis 1 and output axis 0.
///
/// ```
/// let torch = fastinit::KernelAxes::default().in_axis([1]).out_axis([0]);
/// assert_eq!(torch.fans(&[32, 16, 3, 3])?.fan_in, 144.0);
/// # Ok::<(), fastinit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct KernelAxes {
    /// The axes that are summed over in a forward pass.
    pub in_axis: Vec<i64>,
    /// The axes that are summed over in a backward pass.
    pub out_axis: Vec<i64>,
    /// The axes that count independent kernels.
    pub batch_axis: Vec<i64>,
    /// The number of groups of a convolution; at least 1. A grouped kernel is `(..., in / groups, out)`, so
    /// its input axis counts the inputs of one group, and each input feeds `out / groups` outputs.
    pub groups: u64,
}

impl Default for KernelAxes {
    fn default() -> Self {
        KernelAxes { in_axis: vec![-2], out_axis: vec![-1], batch_axis: vec![], groups: 1 }
    }
}

/// How many inputs feed one output of a kernel, and how many outputs one input feeds.
///
/// Defined in Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*,
/// AISTATS 2010.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fans {
    /// Inputs per output.
    pub fan_in: f64,
    /// Outputs per input.
    pub fan_out: f64,
}

impl KernelAxes {
    /// The same with these input axes.
    pub fn in_axis(self, axes: impl Into<Vec<i64>>) -> Self {
        KernelAxes { in_axis: axes.into(), ..self }
    }

    /// The same with these output axes.
    pub fn out_axis(self, axes: impl Into<Vec<i64>>) -> Self {
        KernelAxes { out_axis: axes.into(), ..self }
    }

    /// The same with these batch axes.
    pub fn batch_axis(self, axes: impl Into<Vec<i64>>) -> Self {
        KernelAxes { batch_axis: axes.into(), ..self }
    }

    /// The same with this number of groups.
    pub fn groups(self, groups: u64) -> Self {
        KernelAxes { groups, ..self }
    }

    /// The fans of a kernel of this shape.
    ///
    /// With *in*, *out* the sizes of those axes and *receptive* the size of all axes that have no role, these
    /// are `in * receptive` and `out * receptive / groups`. Shapes without elements have fans too, which are
    /// 0 where an axis of theirs is.
    ///
    /// ```
    /// use fastinit::{Fans, KernelAxes};
    /// // A 3x3 convolution from 16 to 32 channels.
    /// let fans = KernelAxes::default().fans(&[3, 3, 16, 32])?;
    /// assert_eq!(fans, Fans { fan_in: 144.0, fan_out: 288.0 });
    /// # Ok::<(), fastinit::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Axis`] where an axis is out of range or named twice, [`Error::Shape`] for fewer than two
    /// dimensions with the default axes or more than [`MAX_NDIM`] axes, [`Error::Parameter`] where `groups`
    /// is 0, and [`Error::Groups`] where the number of outputs is not a multiple of it.
    pub fn fans(&self, shape: &[u64]) -> Result<Fans> {
        check_groups(self.groups)?;
        if shape.len() < 2 && self.in_axis == [-2] && self.out_axis == [-1] {
            return Err(Error::shape(
                "fans need a shape of at least 2 dimensions (..., in, out), or in_axis and out_axis",
                shape,
            ));
        }
        let mut roles = [None; MAX_NDIM];
        let roles = roles.get_mut(..shape.len()).ok_or_else(|| too_many_axes(shape))?;
        for (name, axes) in
            [("in_axis", &self.in_axis), ("out_axis", &self.out_axis), ("batch_axis", &self.batch_axis)]
        {
            for &axis in axes {
                let role = &mut roles[axis_in(name, axis, shape)?];
                if role.is_some() {
                    return Err(Error::Axis { name, axis, taken_by: *role, shape: shape.to_vec() });
                }
                *role = Some(name);
            }
        }
        let sizes_of = |wanted: Option<&'static str>| {
            shape.iter().zip(&*roles).filter(move |&(_, &role)| role == wanted).map(|(&size, _)| size)
        };
        let number_of = |wanted| sizes_of(wanted).map(|size| size as f64).product::<f64>();
        if product_modulo(sizes_of(Some("out_axis")), self.groups) != 0 {
            let outputs = sizes_of(Some("out_axis")).map(u128::from).fold(1, u128::saturating_mul);
            return Err(Error::Groups { groups: self.groups, outputs, shape: shape.to_vec() });
        }
        let receptive = number_of(None);
        Ok(Fans {
            fan_in: number_of(Some("in_axis")) * receptive,
            fan_out: number_of(Some("out_axis")) * receptive / self.groups as f64,
        })
    }
}

/// A product modulo `modulus`. The product itself may overflow where an axis is empty.
fn product_modulo(factors: impl Iterator<Item = u64>, modulus: u64) -> u128 {
    let modulus = u128::from(modulus);
    factors.fold(1 % modulus, |product, factor| product * u128::from(factor) % modulus)
}

/// The position of an axis of a shape, which may count from the end.
///
/// # Errors
/// [`Error::Axis`] where it is out of range.
pub(crate) fn axis_in(name: &'static str, axis: i64, shape: &[u64]) -> Result<usize> {
    let position = if axis < 0 { axis + shape.len() as i64 } else { axis };
    usize::try_from(position).ok().filter(|&position| position < shape.len()).ok_or_else(|| Error::Axis {
        name,
        axis,
        taken_by: None,
        shape: shape.to_vec(),
    })
}

/// Checks the groups of a convolution.
pub(crate) fn check_groups(groups: u64) -> Result<()> {
    if groups == 0 { Err(Error::parameter("groups", "be at least 1", "0")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("should be refused").to_string()
    }

    #[test]
    fn a_window_may_be_empty_beside_axes_of_any_size() {
        let huge = 1_usize << 40;
        let window = Window::whole(&[huge, huge, 0]).unwrap();
        assert_eq!(window.len(), 0);
        assert!(window.is_empty());
        assert_eq!(Window::whole(&[]).unwrap().len(), 1);
    }

    #[test]
    fn a_window_without_starts_is_one_with_zeros() {
        let whole = Window::whole(&[3, 4]).unwrap();
        assert_eq!(whole, Window::new(&[3, 4], &[0, 0], &[3, 4]).unwrap());
        assert_eq!((whole.start(), whole.range(1), whole.place(1, 3)), (&[0, 0][..], 0..4, Some(3)));
        assert!(whole.is_whole() && Window::whole(&[]).unwrap().is_whole());
        for (start, extent) in [([0, 0], [3, 3]), ([0, 1], [3, 3]), ([1, 0], [2, 4])] {
            let part = Window::new(&[3, 4], &start, &extent).unwrap();
            assert_eq!(part.start(), start);
            assert!(!part.is_whole());
        }
    }

    #[test]
    fn fans_of_dense_and_convolution_kernels() {
        let fans = |axes: KernelAxes, shape: &[u64]| {
            let Fans { fan_in, fan_out } = axes.fans(shape).unwrap();
            (fan_in, fan_out)
        };
        let default = KernelAxes::default;
        assert_eq!(fans(default(), &[512, 1024]), (512.0, 1024.0));
        assert_eq!(fans(default(), &[3, 5, 16, 32]), (240.0, 480.0));
        // PyTorch's layout, (out, in, k, k).
        let torch = KernelAxes { in_axis: vec![1], out_axis: vec![0], ..default() };
        assert_eq!(fans(torch, &[32, 16, 3, 5]), (240.0, 480.0));
        // Attention: (embed, heads, head size) for the query, (heads, head size, embed) for the output.
        let query = KernelAxes { in_axis: vec![0], out_axis: vec![1, 2], ..default() };
        assert_eq!(fans(query, &[512, 8, 64]), (512.0, 512.0));
        let output = KernelAxes { in_axis: vec![0, -2], ..default() };
        assert_eq!(fans(output, &[8, 64, 256]), (512.0, 256.0));
        // Experts are a batch; the groups of a convolution divide its outputs.
        let experts = KernelAxes { batch_axis: vec![0], ..default() };
        assert_eq!(fans(experts, &[64, 512, 1024]), (512.0, 1024.0));
        assert_eq!(fans(KernelAxes { groups: 4, ..default() }, &[3, 3, 4, 32]), (36.0, 72.0));
        // No axes at all are one input.
        let none = KernelAxes { in_axis: vec![], out_axis: vec![0], ..default() };
        assert_eq!(fans(none, &[7]), (1.0, 7.0));
    }

    #[test]
    fn fans_of_shapes_without_elements() {
        let huge = 1 << 60;
        assert_eq!(KernelAxes::default().fans(&[0, 8]).unwrap(), Fans { fan_in: 0.0, fan_out: 8.0 });
        let all =
            KernelAxes { in_axis: vec![0], out_axis: vec![1, 2, 3], groups: 3, ..KernelAxes::default() };
        assert!(message(all.fans(&[0, huge, huge, huge])).contains("divisible by groups"));
        assert!(all.fans(&[0, huge, huge, 3 * huge]).is_ok());
    }

    #[test]
    fn fans_refuse_what_has_none() {
        let default = KernelAxes::default;
        assert_eq!(
            message(default().fans(&[7])),
            "fans need a shape of at least 2 dimensions (..., in, out), or in_axis and out_axis, got shape [7]"
        );
        assert!(message(default().fans(&[])).contains("got shape []"));
        let out = KernelAxes { out_axis: vec![2], ..default() };
        assert_eq!(message(out.fans(&[4, 4])), "out_axis must lie in [-2, 2) for shape [4, 4], got 2");
        let low = KernelAxes { batch_axis: vec![i64::MIN], ..default() };
        assert!(message(low.fans(&[4, 4])).contains("batch_axis must lie in [-2, 2)"));
        let twice = KernelAxes { out_axis: vec![0], ..default() };
        assert!(message(twice.fans(&[4, 4])).contains("out_axis 0 of shape [4, 4] is already in in_axis"));
        assert!(message(KernelAxes { groups: 0, ..default() }.fans(&[4, 4])).contains("at least 1, got 0"));
        assert!(
            message(KernelAxes { groups: 3, ..default() }.fans(&[4, 4]))
                .contains("got 4 outputs in shape [4, 4]")
        );
    }
}
