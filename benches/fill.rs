//! Fills of resident memory at every level, compared with a store-only fill of the same memory by the same
//! threads; outputs in other layouts and small windows; sparse and orthogonal matrices.
//!
//! Groups are `dtype/size`. In each, the first function of a level is `store`, the upper limit for the
//! others. Two transforms to normal samples: `normal` is that of Box and Muller, `normal_quantile` the
//! inverse distribution function (a truncated normal without bounds).
//!
//!     cargo bench --bench fill -- 'float32/256 MiB/avx512'
//!
//! The groups `dtype/layouts/size` compare layouts and windows with `contiguous`, on one thread, an element each.
//! `FASTINIT_SIMD` selects the level.
//!
//!     FASTINIT_SIMD=avx2 cargo bench --bench fill -- 'float32/layouts'

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastinit::{Bf16, Distribution, Element, F16, Initializer, Key, Level, Options, Orthogonal, Window};
use ndarray::{Array2, Array3, ArrayD, ArrayViewMut1, Axis, Slice};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

const SIZES: [(&str, usize); 3] = [("16 KiB", 16 << 10), ("4 MiB", 4 << 20), ("256 MiB", 256 << 20)];

fn distributions() -> Vec<(&'static str, Distribution)> {
    let truncated = |lower, upper| Distribution::TruncatedNormal { mean: 0.0, stddev: 0.02, lower, upper };
    vec![
        ("uniform", Distribution::Uniform { low: -0.05, high: 0.05 }),
        ("normal", Distribution::Normal { mean: 0.0, stddev: 0.02 }),
        ("normal_quantile", truncated(f64::NEG_INFINITY, f64::INFINITY)),
        ("truncated_2", truncated(-2.0, 2.0)),
        ("truncated_3", truncated(-3.0, 3.0)),
        ("truncated_one_sided", truncated(0.0, f64::INFINITY)),
    ]
}

/// The alignment of buffers.
const LINE: usize = 64;

/// Memory for `length` elements that begin at a cache line, and the number of the first of them.
fn aligned<T: Element>(length: usize) -> (Vec<T>, usize) {
    let memory = vec![T::default(); length + LINE / size_of::<T>()];
    let start = memory.as_ptr().align_offset(LINE);
    (memory, start)
}

fn fills<T: Element>(criterion: &mut Criterion) {
    for (size, bytes) in SIZES {
        let mut group = criterion.benchmark_group(format!("{}/{size}", T::DTYPE));
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
        let length = bytes / size_of::<T>();
        let window = Window::whole(&[length]).expect("a small shape");
        let (mut memory, start) = aligned::<T>(length);
        let memory = &mut memory[start..][..length];
        // All memory is resident before the first measurement.
        Initializer::ONES
            .fill(ArrayViewMut1::from(&mut *memory), Key::new(1), &Options::default())
            .expect("a fill");
        for &level in Level::available() {
            let options = Options::default().level(level);
            let mut bench = |name, initializer: Initializer| {
                let plan = initializer.plan(window.shape(), T::DTYPE).expect("valid parameters");
                group.bench_function(BenchmarkId::new(level.name(), name), |bencher| {
                    bencher.iter(|| {
                        let view = black_box(ArrayViewMut1::from(&mut *memory));
                        plan.fill(view, Key::new(1), &window, &options)
                    });
                });
            };
            bench("store", Initializer::ONES);
            for (name, distribution) in distributions() {
                bench(name, distribution.into());
            }
        }
        group.finish();
    }
}

fn small(criterion: &mut Criterion) {
    let mut values = [0.0_f32; 64];
    let window = Window::whole(&[64]).expect("a small shape");
    let normal = Initializer::from(Distribution::Normal { mean: 0.0, stddev: 1.0 });
    let plan = normal.plan(window.shape(), f32::DTYPE).expect("valid parameters");
    criterion.bench_function("float32/64 elements/normal", |bencher| {
        bencher.iter(|| {
            let view = black_box(ArrayViewMut1::from(&mut values[..]));
            plan.fill(view, Key::new(1), &window, &Options::default())
        });
    });
}

/// A window of a tensor, and where it goes: a part of memory with axes in any order.
struct Layout {
    name: String,
    shape: Vec<u64>,
    start: Vec<u64>,
    extent: Vec<usize>,
    /// The shape of the memory.
    memory: Vec<usize>,
    /// The step along each axis of memory; the window begins at its first element.
    steps: Vec<isize>,
    /// The axis of memory that is each axis of the window.
    order: Vec<usize>,
}

impl Layout {
    /// A whole tensor whose axes are in another order in memory.
    fn permuted<const N: usize>(name: impl Into<String>, extent: [usize; N], order: [usize; N]) -> Layout {
        let mut memory = vec![0; N];
        for (&size, &axis) in extent.iter().zip(&order) {
            memory[axis] = size;
        }
        let shape = extent.iter().map(|&size| size as u64).collect();
        let (start, steps) = (vec![0; N], vec![1; N]);
        Layout { name: name.into(), shape, start, extent: extent.into(), memory, steps, order: order.into() }
    }

    /// Layouts and windows of about `length` elements.
    fn all(length: usize) -> Vec<Layout> {
        let side = length.isqrt();
        let channels = (length / 9).isqrt();
        let cube = (length as f64).cbrt() as usize;
        let mut all = vec![
            Layout::permuted("contiguous", [length], [0]),
            Layout::permuted("transposed (n, n)", [side, side], [1, 0]),
            Layout::permuted("transposed (16, n)", [16, length / 16], [1, 0]),
            Layout::permuted("transposed (n, 16)", [length / 16, 16], [1, 0]),
            Layout::permuted("transposed (3, n)", [3, length / 3], [1, 0]),
            Layout::permuted("transposed (n, 3)", [length / 3, 3], [1, 0]),
            Layout::permuted("Fortran order (n, n, n)", [cube; 3], [2, 1, 0]),
            Layout::permuted("channels_last (n, n, 3, 3)", [channels, channels, 3, 3], [0, 3, 1, 2]),
            Layout::permuted("channels_last (n, 3, 7, 7)", [length / 147, 3, 7, 7], [0, 3, 1, 2]),
            Layout::permuted("(3, 3, n, n) in memory", [channels, channels, 3, 3], [3, 2, 0, 1]),
            Layout {
                memory: vec![2 * length],
                steps: vec![2],
                ..Layout::permuted("every second element", [length], [0])
            },
            Layout { steps: vec![-1], ..Layout::permuted("reversed", [length], [0]) },
            Layout {
                shape: vec![4 * side as u64; 2],
                start: vec![5, 7],
                ..Layout::permuted("transposed window (n, n)", [side; 2], [1, 0])
            },
        ];
        for columns in [1, 3, 8, 64, 257, 1024] {
            let rows = length / columns;
            all.push(Layout {
                shape: vec![rows as u64, 4099],
                start: vec![0, 5],
                ..Layout::permuted(format!("window of {columns} columns"), [rows, columns], [0, 1])
            });
            all.push(Layout {
                memory: vec![rows, columns + 13],
                ..Layout::permuted(format!("{columns} columns of a matrix"), [rows, columns], [0, 1])
            });
        }
        all
    }
}

fn layouts<T: Element>(criterion: &mut Criterion) {
    for (size, bytes) in [("256 KiB", 256 << 10), ("64 MiB", 64 << 20)] {
        let mut group = criterion.benchmark_group(format!("{}/layouts/{size}", T::DTYPE));
        group.sample_size(10).warm_up_time(Duration::from_millis(50));
        group.measurement_time(Duration::from_millis(200));
        let options = Options::default().threads(NonZeroUsize::MIN);
        for layout in Layout::all(bytes / size_of::<T>()) {
            let mut memory = ArrayD::<T>::default(&layout.memory[..]);
            let window = Window::new(&layout.shape, &layout.start, &layout.extent).expect("a valid window");
            group.throughput(Throughput::Elements(window.len() as u64));
            let constant = ("constant", Initializer::ONES);
            let random = distributions().into_iter().take(2).map(|(name, what)| (name, what.into()));
            for (name, initializer) in [constant].into_iter().chain(random) {
                let plan = initializer.plan(window.shape(), T::DTYPE).expect("valid parameters");
                group.bench_function(BenchmarkId::new(&layout.name, name), |bencher| {
                    bencher.iter(|| {
                        let mut view = black_box(memory.view_mut());
                        for (axis, &step) in layout.steps.iter().enumerate() {
                            let size =
                                layout.extent[layout.order.iter().position(|&i| i == axis).unwrap_or(0)];
                            let end = size as isize * step.abs();
                            view.slice_axis_inplace(Axis(axis), Slice::new(0, Some(end), step));
                        }
                        plan.fill(view.permuted_axes(&layout.order[..]), Key::new(1), &window, &options)
                    });
                });
            }
        }
        group.finish();
    }
}

/// Sparse matrices; `normal` is the plain one of the same size.
fn sparse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sparse/float32");
    group.sample_size(10).measurement_time(Duration::from_millis(400));
    let options = Options::default().threads(NonZeroUsize::MIN);
    for size in [512, 4096] {
        group.throughput(Throughput::Elements((size * size) as u64));
        let mut matrix = Array2::<f32>::default((size, size));
        let normal = Distribution::Normal { mean: 0.0, stddev: 0.01 }.into();
        let sparse = |sparsity| Initializer::Sparse { sparsity, stddev: 0.01 };
        for (name, initializer) in [("normal", normal), ("0.1", sparse(0.1)), ("0.9", sparse(0.9))] {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| initializer.fill(black_box(matrix.view_mut()), Key::new(1), &options));
            });
        }
    }
    group.finish();
}

/// Orthogonal matrices; the throughput is in operations, of which there are 2mn^2 - 2/3 n^3 for m rows and n
/// columns.
fn matrices<T: Element>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("orthogonal/{}", T::DTYPE));
    group.sample_size(10).measurement_time(Duration::from_millis(400));
    // The number of matrices, which are blocks of one tensor, and their size.
    let sizes = [(1, 16, 16), (1, 64, 64), (1000, 64, 64), (1, 256, 256), (1, 1024, 1024), (1, 4096, 256)];
    for (count, rows, columns) in sizes {
        let (m, n) = (rows as u64, columns as u64);
        group.throughput(Throughput::Elements(count as u64 * (2 * m * n * n - 2 * n * n * n / 3)));
        let orthogonal = Initializer::from(Orthogonal::default()).in_blocks(count as u64, Some(0));
        let mut matrices = Array3::<T>::default((count, rows, columns));
        for &level in Level::available() {
            let options = Options::default().level(level);
            let name = BenchmarkId::new(level.name(), format!("{count} x {rows} x {columns}"));
            group.bench_function(name, |bencher| {
                bencher.iter(|| orthogonal.fill(black_box(matrices.view_mut()), Key::new(1), &options));
            });
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    fills::<f32>,
    fills::<f64>,
    fills::<F16>,
    fills::<Bf16>,
    small,
    layouts::<f32>,
    layouts::<f64>,
    layouts::<Bf16>,
    sparse,
    matrices::<f32>,
    matrices::<f64>
);
criterion_main!(benches);
