//! Initial weights of neural networks, at the speed of memory, with the same bits everywhere.
//!
//! `fastinit` fills tensors with the initial weights of neural networks: constants, uniform, normal and
//! truncated normal samples, samples whose variance follows from the shape (Glorot, He, LeCun), orthogonal
//! and sparse matrices, in `f32`, `f64`, binary16 and bfloat16. Fills are vectorized and multithreaded. This
//! crate is the core of the Python package of the same name; it does not need Python.
//!
//! ```
//! use fastinit::{Initializer, Key, Options, VarianceScaling, Window};
//! use ndarray::{Array2, s};
//!
//! let kernel = Initializer::from(VarianceScaling::he_normal());
//! let key = Key::new(42).with_name("layers.0.mlp.up_proj.weight");
//! let options = Options::default();
//!
//! let mut weights = Array2::<f32>::zeros((512, 2048));
//! kernel.fill(weights.view_mut(), key, &options)?;
//!
//! // 100 of its rows, as another machine would compute them.
//! let plan = kernel.plan(&[512, 2048], fastinit::Dtype::F32)?;
//! let rows = Window::new(plan.shape(), &[200, 0], &[100, 2048])?;
//! let mut shard = Array2::<f32>::zeros((100, 2048));
//! plan.fill(shard.view_mut(), key, &rows, &options)?;
//! assert_eq!(shard, weights.slice(s![200..300, ..]));
//! # Ok::<(), fastinit::Error>(())
//! ```
//!
//! # Reproducibility
//!
//! The value of an element is a pure function of the [`Key`] (seed and stream), the distribution with its
//! parameters, the dtype and the index of the element, in C order, in the whole logical tensor. It does not
//! depend on the number of threads, the [`Level`], the machine, the strides of the output or the [`Window`].
//! Half dtypes are rounded once from `f32`. `docs/stream-v2.md` states this contract in full, and
//! [`STREAM_VERSION`] is its number. A change in any value is a major release.
//!
//! # Features
//!
//! * `python`: the bindings that make this crate the module `fastinit._core` of the Python package. Off by
//!   default.
//!
//! # Targets
//!
//! 64-bit and little-endian. x86-64 has the levels AVX-512 and AVX2, 64-bit Arm has NEON, and every target has
//! the scalar level.
//!
//! # Environment variables
//!
//! `FASTINIT_NUM_THREADS` is the default thread limit, see [`default_threads`]; `FASTINIT_SIMD` lowers the
//! level, see [`Level::current`].

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("fastinit needs a 64-bit little-endian target");

// Each module uses only those below it:
//
// init           what to make: an initializer, a shape and a dtype give a plan
// fill, linalg   how to make it: threads, blocks, places in memory, buffers; orthogonal matrices
// distr          words to samples
// math, rng      polynomials; the generator, Philox4x32-10
// simd           one trait over the vector instructions, one implementation for each level
// error, dtype, shape, seed
mod distr;
mod dtype;
mod error;
mod fill;
mod init;
mod linalg;
mod math;
#[cfg(feature = "python")]
mod python;
mod rng;
mod seed;
mod shape;
mod simd;
// Part of the crate, so that the tests see private items and run the kernels that the library compiles. They
// would take days under Miri, which has the unit tests of the modules.
#[cfg(all(test, not(miri)))]
#[path = "../tests/rust/mod.rs"]
mod tests;

pub use distr::Distribution;
pub use dtype::{Bf16, Dtype, Element, F16};
pub use error::{Error, Result};
pub use fill::Options;
pub use fill::threads::{default_threads, set_default_threads};
pub use init::{Contents, FanMode, Initializer, Orthogonal, Plan, ScaledDistribution, VarianceScaling};
pub use rng::PhiloxStream;
pub use seed::{Key, stream_of};
pub use shape::{Blocks, Fans, KernelAxes, MAX_ELEMENTS, MAX_NDIM, Window};
pub use simd::Level;

/// The version of the sample space, that is, of the value of every element. A change in any value changes it.
pub const STREAM_VERSION: u32 = 2;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
