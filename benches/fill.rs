//! Fills of resident memory at every level, compared with a store-only fill of the same memory by the same
//! threads; and orthogonal matrices.
//!
//! Groups are `dtype/size`. In each, the first function of a level is `store`, the upper limit for the
//! others. Two transforms to normal samples: `normal` is that of Box and Muller, `normal_quantile` the
//! inverse distribution function (a truncated normal without bounds).
//!
//!     cargo bench --bench fill -- 'float32/256 MiB/avx512'

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastinit::{Bf16, Distribution, Element, F16, Initializer, Key, Level, Options, Orthogonal, Window};
use ndarray::{Array3, ArrayViewMut1};
use std::hint::black_box;
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
    matrices::<f32>,
    matrices::<f64>
);
criterion_main!(benches);
