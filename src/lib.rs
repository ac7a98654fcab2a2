//! Initial weights of neural networks, at the speed of memory, with the same bits everywhere.
//!
//! `fastinit` fills tensors with the values that neural networks start from: constants, uniform, normal and truncated normal
//! values, and those whose variance follows from the shape (Glorot, He, LeCun), in `f32`, `f64`, binary16 and bfloat16. Fills
//! are vectorized and multithreaded. This crate is the engine of the Python package of the same name, and needs no Python.
//!
//! ```
//! use fastinit::{Key, fill::Options, init::{Initializer, VarianceScaling}, shape::Window};
//! use ndarray::Array2;
//!
//! let kernel = Initializer::from(VarianceScaling::he_normal());
//! let key = Key::new(42).with_name("layers.0.mlp.up_proj.weight");
//!
//! let mut weights = Array2::<f32>::zeros((512, 2048));
//! kernel.fill_array(weights.view_mut().into_dyn(), key, &Options::default())?;
//!
//! // 100 rows of it, as another machine would make them.
//! let rows = Window::new(&[512, 2048], &[200, 0], &[100, 2048])?;
//! let mut shard = Array2::<f32>::zeros((100, 2048));
//! kernel.fill(fastinit::fill::as_uninit(shard.view_mut().into_dyn()), &rows, key, &Options::default())?;
//! assert_eq!(shard, weights.slice(ndarray::s![200..300, ..]));
//! # Ok::<(), fastinit::Error>(())
//! ```
//!
//! # Reproducibility
//!
//! The value of an element is a pure function of the [`Key`] (seed and stream), the distribution with its parameters, the
//! format and the index of the element, in C order, in the whole logical tensor. It does not depend on the number of
//! threads, the [`Level`], the machine, the strides of the output or the [`Window`](shape::Window) that is asked for. Half formats
//! are rounded once from `f32`. [`STREAM_VERSION`] is the number of this contract, which `ARCHITECTURE.md` states in full;
//! a change in any value is a major release.
//!
//! # Layers
//!
//! Each uses only what stands below it.
//!
//! * [`init`]: what to make. An [`Initializer`](init::Initializer) and a shape give a distribution and its parameters.
//! * [`linalg`]: orthogonal matrices.
//! * [`mod@fill`]: how to make it. Threads, parts, places in memory, buffers.
//! * [`distr`]: words to samples.
//! * `math`, [`rng`]: polynomials; the generator, Philox4x32-10.
//! * `simd`: one trait over the vector instructions, one implementation for each [`Level`].
//! * [`error`], [`dtype`], [`shape`], [`seed`]: leaves that all of them may use.
//!
//! # Features
//!
//! * `python` (default): the bindings, which make of this crate the module `fastinit._core` of the Python package. A program
//!   in Rust does without: `default-features = false`.
//!
//! # Environment variables
//!
//! `FASTINIT_NUM_THREADS` is the number of threads where neither the call nor
//! [`set_default_threads`](fill::threads::set_default_threads) says one; `FASTINIT_SIMD` lowers the level, see
//! [`Level::current`].

pub mod distr;
pub mod dtype;
pub mod error;
pub mod fill;
pub mod init;
pub mod linalg;
mod math;
#[cfg(feature = "python")]
mod python;
pub mod rng;
pub mod seed;
pub mod shape;
mod simd;
// Part of the crate, so that the tests reach what is not public and run the kernels that the library has.
#[cfg(test)]
#[path = "../tests/rust/mod.rs"]
mod tests;

pub use dtype::{Bf16, Dtype, Element, F16};
pub use error::{Error, Result};
pub use seed::Key;
pub use simd::Level;

/// The version of the sample space: which value every element has. A change in any value is another version.
pub const STREAM_VERSION: u32 = 1;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
