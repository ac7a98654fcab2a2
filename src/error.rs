//! Errors: what was refused, and why.
//!
//! Every message names the value and the rule that it broke. Except for [`Error::Interrupted`], nothing has
//! been written to the output when an error is returned.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::shape::{Blocks, MAX_ELEMENTS};
use std::fmt;

/// The result of every function here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused or interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A parameter has a value outside its range.
    Parameter {
        /// The parameter, or several of them.
        name: &'static str,
        /// What must hold, as the rest of a sentence: `name` must ...
        rule: String,
        /// The value, or the values by name.
        value: String,
    },
    /// A name is not one of those known.
    Name {
        /// The parameter.
        name: &'static str,
        /// The names that it can take.
        choices: &'static [&'static str],
        /// The name given.
        value: String,
    },
    /// The shape does not suit the initializer.
    Shape {
        /// What must hold, as a sentence that the shape completes.
        rule: String,
        /// The shape of the logical tensor, or of a block of it.
        shape: Vec<u64>,
    },
    /// The logical tensor has more than [`MAX_ELEMENTS`](crate::MAX_ELEMENTS) elements.
    TooManyElements {
        /// The shape of the logical tensor.
        shape: Vec<u64>,
    },
    /// An axis is out of range, or has two roles.
    Axis {
        /// The parameter.
        name: &'static str,
        /// The axis given.
        axis: i64,
        /// The parameter that names the same axis; `None` where the axis is out of range.
        taken_by: Option<&'static str>,
        /// The shape of the logical tensor.
        shape: Vec<u64>,
    },
    /// The number of outputs is not a multiple of the number of groups.
    Groups {
        /// The number of groups.
        groups: u64,
        /// The number of outputs.
        outputs: u128,
        /// The shape of the kernel.
        shape: Vec<u64>,
    },
    /// The blocks do not fit their axis.
    Blocks {
        /// The blocks.
        blocks: Blocks,
        /// The axis.
        axis: usize,
        /// The shape of the logical tensor.
        shape: Vec<u64>,
    },
    /// A window does not fit its tensor.
    Window {
        /// What must hold, as a sentence that names the values.
        rule: String,
    },
    /// The output has another shape than the window.
    OutputShape {
        /// The shape of the output.
        shape: Vec<usize>,
        /// The shape of the window.
        expected: Vec<usize>,
    },
    /// The window belongs to a tensor of another shape than planned.
    PlannedShape {
        /// The shape of the window's tensor.
        shape: Vec<u64>,
        /// The shape that was planned.
        planned: Vec<u64>,
    },
    /// The elements of the output have another type than planned.
    PlannedDtype {
        /// The type of the elements of the output.
        dtype: Dtype,
        /// The type that was planned.
        planned: Dtype,
    },
    /// Memory could not be allocated.
    Memory {
        /// The number of bytes.
        bytes: usize,
    },
    /// The memory limit of the control group does not allow the result and the working memory.
    MemoryLimit {
        /// The number of bytes that the fill needs.
        bytes: usize,
        /// The number of bytes that are left.
        left: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The operating system provided no entropy for a seed.
    Entropy(String),
    /// [`Options::interrupt`](crate::Options::interrupt) asked to stop; the output is partly written.
    Interrupted,
}

impl Error {
    pub(crate) fn parameter(name: &'static str, rule: impl Into<String>, value: impl Into<String>) -> Error {
        Error::Parameter { name, rule: rule.into(), value: value.into() }
    }

    pub(crate) fn shape(rule: impl Into<String>, shape: &[u64]) -> Error {
        Error::Shape { rule: rule.into(), shape: shape.to_vec() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Parameter { name, rule, value } => write!(f, "{name} must {rule}, got {value}"),
            Error::Name { name: "distribution", value, .. } if value == "normal" => f.write_str(
                "distribution 'normal' is ambiguous: Keras means 'truncated_normal' by it, JAX 'untruncated_normal'; \
                 give one of these",
            ),
            Error::Name { name, choices, value } => {
                write!(f, "{name} must be one of '{}'; got '{value}'", choices.join("', '"))
            }
            Error::Shape { rule, shape } => write!(f, "{rule}, got shape {shape:?}"),
            Error::TooManyElements { shape } => {
                write!(f, "shape {shape:?} has more than {MAX_ELEMENTS} elements")
            }
            Error::Axis { name, axis, taken_by: None, shape } if shape.is_empty() => {
                write!(f, "{name} must name an axis, but shape [] has none; got {axis}")
            }
            Error::Axis { name, axis, taken_by: None, shape } => {
                write!(f, "{name} must lie in [-{0}, {0}) for shape {shape:?}, got {axis}", shape.len())
            }
            Error::Axis { name, axis, taken_by: Some(other), shape } => write!(
                f,
                "in_axis, out_axis and batch_axis must name different axes; {name} {axis} of shape {shape:?} is already in \
                 {other}"
            ),
            Error::Groups { groups, outputs, shape } => write!(
                f,
                "the outputs must be divisible by groups; got {outputs} outputs in shape {shape:?} and groups={groups}"
            ),
            Error::Blocks { blocks: Blocks::Equal(count), axis, shape } => write!(
                f,
                "blocks must divide the size of their axis; got blocks={count} and size {} of axis {axis} in shape {shape:?}",
                shape[*axis]
            ),
            Error::Blocks { blocks: Blocks::Sizes(sizes), axis, shape } => write!(
                f,
                "the sizes of the blocks must add up to the size of their axis; got {} blocks of total size {} and size {} of \
                 axis {axis} in shape {shape:?}",
                sizes.len(),
                sizes.iter().map(|&size| u128::from(size)).sum::<u128>(),
                shape[*axis]
            ),
            Error::Window { rule } => f.write_str(rule),
            Error::OutputShape { shape, expected } => {
                write!(f, "the output must have the shape of the window, {expected:?}; got {shape:?}")
            }
            Error::PlannedShape { shape, planned } => {
                write!(f, "the window must belong to a tensor of the planned shape {planned:?}; got {shape:?}")
            }
            Error::PlannedDtype { dtype, planned } => {
                write!(f, "the output must have the planned dtype {planned}; got {dtype}")
            }
            Error::Memory { bytes } => write!(f, "cannot allocate {bytes} bytes for the result"),
            Error::MemoryLimit { bytes, left, limit } => write!(
                f,
                "the fill needs {bytes} bytes for its result and its working memory; the memory limit of the control group, \
                 {limit} bytes, leaves {left}"
            ),
            Error::Entropy(message) => {
                write!(f, "the operating system provided no entropy for a seed: {message}")
            }
            Error::Interrupted => f.write_str("interrupted; the output is partly written"),
        }
    }
}

impl std::error::Error for Error {}
