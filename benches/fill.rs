//! Fills of resident memory, on every level, beside a store-only fill of the same memory with the same threads; and orthogonal
//! matrices.
//!
//! Groups are `dtype/size`; in each the first function of a level is `store`, the ceiling that the others are a share of.
//! The normal transforms that were weighed stand side by side: `normal` is Box and Muller's, `normal_quantile` the inverse distribution
//! function by way of a logarithm (a truncated normal without bounds).
//!
//!     cargo bench --no-default-features --bench fill -- 'float32/256 MiB/avx512'

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastinit::distr::Distribution;
use fastinit::fill::{Options, as_uninit, buffer::Buffer, constant, sample};
use fastinit::linalg::orthogonal;
use fastinit::shape::Window;
use fastinit::{Bf16, Element, F16, Key, Level};
use ndarray::{Array2, ArrayViewMutD};
use std::hint::black_box;
use std::mem::MaybeUninit;
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

/// All of a buffer as one row.
fn view<T>(buffer: &mut Buffer) -> ArrayViewMutD<'_, MaybeUninit<T>> {
    let elements = buffer.as_uninit_slice();
    ArrayViewMutD::from_shape(vec![elements.len()], elements).expect("as many elements as the shape has")
}

fn fills<T: Element>(criterion: &mut Criterion) {
    for (size, bytes) in SIZES {
        let mut group = criterion.benchmark_group(format!("{}/{size}", T::DTYPE));
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(400));
        let length = bytes / size_of::<T>();
        let window = Window::whole(&[length]).expect("a small shape");
        let mut buffer = Buffer::new(bytes).expect("memory");
        // All of the memory is there before the first measurement.
        buffer.as_uninit_slice::<u8>().fill(MaybeUninit::new(0));
        for &level in Level::available() {
            let options = Options { level: Some(level), ..Options::default() };
            group.bench_function(BenchmarkId::new(level.name(), "store"), |bencher| {
                bencher.iter(|| constant(black_box(view::<T>(&mut buffer)), T::from_f64(1.0), &options));
            });
            for (name, distribution) in distributions() {
                group.bench_function(BenchmarkId::new(level.name(), name), |bencher| {
                    bencher.iter(|| {
                        sample(
                            black_box(view::<T>(&mut buffer)),
                            &window,
                            Key::new(1),
                            &distribution,
                            &options,
                        )
                    });
                });
            }
        }
        group.finish();
    }
}

fn small(criterion: &mut Criterion) {
    let mut values = [0.0_f32; 64];
    let window = Window::whole(&[64]).expect("a small shape");
    let normal = Distribution::Normal { mean: 0.0, stddev: 1.0 };
    criterion.bench_function("float32/64 elements/normal", |bencher| {
        bencher.iter(|| {
            let view = ArrayViewMutD::from_shape(vec![64], &mut values[..]).expect("64 elements");
            sample(as_uninit(black_box(view)), &window, Key::new(1), &normal, &Options::default())
        });
    });
}

/// Orthogonal matrices; the throughput is in operations, of which there are 4/3 n^3.
fn matrices<T: Element>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("orthogonal/{}", T::DTYPE));
    group.sample_size(10).measurement_time(Duration::from_millis(400));
    for size in [64_usize, 256, 1024] {
        group.throughput(Throughput::Elements(4 * (size as u64).pow(3) / 3));
        let window = Window::whole(&[size, size]).expect("a small shape");
        let mut matrix = Array2::<T>::default((size, size));
        for &level in Level::available() {
            let options = Options { level: Some(level), ..Options::default() };
            group.bench_function(BenchmarkId::new(level.name(), size), |bencher| {
                bencher.iter(|| {
                    let view = as_uninit(black_box(matrix.view_mut()).into_dyn());
                    orthogonal(view, &window, 1, Key::new(1), 1.0, &options)
                });
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
