//! Orthogonal matrices have the same bits at every level, on any number of threads, in any window and layout.

use super::common::{KEY, SplitMix, assert_same, at, bits_of, levels, orthogonal};
use crate::fill::{self, Options};
use crate::init::{Initializer, Orthogonal};
use crate::shape::Window;
use crate::{Bf16, Element, Error, F16, Key, Level};
use ndarray::{ArrayD, Axis, IxDyn, ShapeBuilder, Slice};
use std::num::NonZeroUsize;

/// Shapes and the axis of the columns: one, two and more panels of 64 columns, tall and wide.
const CASES: [(&[usize], usize); 19] = [
    (&[1, 1], 1),
    (&[3, 3], 1),
    (&[1, 9], 1),
    (&[63, 64], 1),
    (&[65, 65], 1),
    (&[70, 66], 1),
    (&[66, 70], 0),
    (&[130, 129], 1),
    (&[64, 300], 1),
    (&[300, 128], 1),
    (&[330, 200], 1),
    (&[3, 5, 70], 2),
    (&[70, 3, 23], 0),
    (&[4, 66, 17], 1),
    // Streamed.
    (&[1025, 1], 1),
    (&[3, 1500], 1),
    (&[3, 400, 30], 2),
    (&[4100, 64], 1),
    (&[1100, 2, 3], 0),
];

fn shape_of(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&n| n as u64).collect()
}

/// The whole matrix.
fn whole<T: Element>(shape: &[usize], column_axis: usize, gain: f64, options: &Options<'_>) -> ArrayD<T> {
    let mut out = ArrayD::<T>::default(IxDyn(shape));
    let window = Window::whole(shape).unwrap();
    orthogonal(fill::as_uninit(out.view_mut()), &window, column_axis, gain, options).unwrap();
    out
}

fn bits<T: Element>(array: &ArrayD<T>) -> Vec<u64> {
    bits_of(&array.iter().copied().collect::<Vec<_>>())
}

fn levels_and_threads_agree<T: Element>() {
    for (shape, column_axis) in CASES {
        let one = Options { threads: NonZeroUsize::new(1), ..at(Level::Scalar) };
        let expected = bits(&whole::<T>(shape, column_axis, 1.0, &one));
        for &level in levels() {
            for threads in [1, 2, 3, 7] {
                let options = Options { threads: NonZeroUsize::new(threads), ..at(level) };
                let got = bits(&whole::<T>(shape, column_axis, 1.0, &options));
                assert_same(&got, &expected, format!("{level:?} {} {shape:?}, {threads} threads", T::DTYPE));
            }
        }
    }
}

#[test]
fn levels_and_threads_agree_f32() {
    levels_and_threads_agree::<f32>();
}

#[test]
fn levels_and_threads_agree_f64() {
    levels_and_threads_agree::<f64>();
}

#[test]
fn levels_and_threads_agree_f16() {
    levels_and_threads_agree::<F16>();
}

#[test]
fn levels_and_threads_agree_bf16() {
    levels_and_threads_agree::<Bf16>();
}

#[test]
fn rows_or_columns_are_orthonormal() {
    fn orthonormal<T: Element>(tolerance: f64) {
        for (shape, column_axis) in CASES {
            let columns = shape[column_axis];
            // The axis of the columns becomes the last one.
            let mut tensor = whole::<T>(shape, column_axis, 1.0, &Options::default()).mapv(|x| x.to_f64());
            for axis in column_axis..shape.len() - 1 {
                tensor.swap_axes(axis, axis + 1);
            }
            let rows = tensor.len() / columns;
            let elements = tensor.iter().copied().collect();
            let mut matrix = ndarray::Array2::from_shape_vec((rows, columns), elements).unwrap();
            if rows < columns {
                matrix = matrix.reversed_axes();
            }
            for ((i, j), product) in matrix.t().dot(&matrix).indexed_iter() {
                let exact = f64::from(i == j);
                let off = (product - exact).abs();
                assert!(off <= tolerance, "{} {shape:?}: columns {i} and {j} are {off:e} off", T::DTYPE);
            }
        }
    }
    orthonormal::<f32>(2e-6);
    orthonormal::<f64>(1e-14);
}

#[test]
fn halves_are_singles_rounded_to_nearest_even() {
    fn rounded<T: Element>(round: impl Fn(f32) -> u64) {
        for (shape, column_axis) in CASES {
            for gain in [1.0, -0.3, 1e4] {
                let single = whole::<f32>(shape, column_axis, gain, &Options::default());
                let half = whole::<T>(shape, column_axis, gain, &Options::default());
                let expected: Vec<u64> = single.iter().map(|&x| round(x)).collect();
                assert_same(&bits(&half), &expected, format!("{} {shape:?}, gain {gain}", T::DTYPE));
            }
        }
    }
    rounded::<F16>(|x| half::f16::from_f32(x).to_bits() as u64);
    rounded::<Bf16>(|x| half::bf16::from_f32(x).to_bits() as u64);
}

/// An index near the edge of a panel, or any other.
fn place(random: &mut SplitMix, size: usize) -> usize {
    let near = [0, 1, 63, 64, 65, 127, 128, 129, size][random.below(9)];
    if near <= size { near } else { random.below(size + 1) }
}

/// A window at a random position, written in a random layout, equals that part of the whole.
fn parts_equal_those_of_the_whole<T: Element>() {
    for (shape, column_axis) in CASES {
        let whole = whole::<T>(shape, column_axis, 0.7, &at(Level::Scalar));
        for &level in levels() {
            let mut random = SplitMix(11);
            for _ in 0..25 {
                let mut part = whole.view();
                let (mut start, mut extent) = (vec![], vec![]);
                for (axis, &size) in shape.iter().enumerate() {
                    let (a, b) = (place(&mut random, size), place(&mut random, size));
                    let (first, last) = if random.below(3) == 0 { (0, size) } else { (a.min(b), a.max(b)) };
                    part.slice_axis_inplace(Axis(axis), Slice::from(first..last));
                    start.push(first as u64);
                    extent.push(last - first);
                }
                let window = Window::new(&shape_of(shape), &start, &extent).unwrap();
                let threads = NonZeroUsize::new(1 + random.below(3));
                let first_axis_last = random.below(2) == 0;
                let mut out = ArrayD::<T>::default(IxDyn(&extent).set_f(first_axis_last));
                let mut view = out.view_mut();
                let turned = Axis(random.below(shape.len()));
                view.invert_axis(turned);
                let options = Options { threads, ..at(level) };
                orthogonal(fill::as_uninit(view), &window, column_axis, 0.7, &options).unwrap();
                out.invert_axis(turned);
                let expected = bits(&part.to_owned());
                assert_same(&bits(&out), &expected, format!("{level:?} {} {window:?}", T::DTYPE));
            }
        }
    }
}

#[test]
fn parts_in_any_layout_equal_those_of_the_whole() {
    parts_equal_those_of_the_whole::<f32>();
    parts_equal_those_of_the_whole::<f64>();
    parts_equal_those_of_the_whole::<F16>();
    parts_equal_those_of_the_whole::<Bf16>();
}

#[test]
fn few_rows_in_groups_of_columns_equal_those_of_the_whole() {
    // A column has 136 KB, so 140 of them do not fit 16 MiB. The groups do not begin with panels.
    let whole = whole::<f64>(&[17_000, 140], 1, 1.0, &Options::default());
    for (start, extent) in [([3, 0], [2, 140]), ([16_990, 9], [10, 131])] {
        let window = Window::new(&[17_000, 140], &start, &extent).unwrap();
        let mut out = ArrayD::<f64>::zeros(IxDyn(&extent));
        orthogonal(fill::as_uninit(out.view_mut()), &window, 1, 1.0, &Options::default()).unwrap();
        let mut part = whole.view();
        for axis in 0..2 {
            let first = start[axis] as usize;
            part.slice_axis_inplace(Axis(axis), Slice::from(first..first + extent[axis]));
        }
        assert_same(&bits(&out), &bits(&part.to_owned()), format!("{window:?}"));
    }
}

#[test]
fn blocks_are_the_matrices_of_their_keys_on_any_number_of_threads() {
    // Fewer and more blocks than twice the threads.
    for (shape, blocks, axis) in [([70, 280], 4, 1), ([90, 20], 30, 0), ([66, 70], 1, 0)] {
        let plain = Initializer::from(Orthogonal::default().gain(1.5));
        let initializer = plain.clone().in_blocks(blocks, Some(axis));
        for threads in [1, 2, 3, 7, usize::MAX] {
            let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
            let mut fused = ArrayD::<f32>::zeros(IxDyn(&shape));
            initializer.fill(fused.view_mut(), KEY, &options).unwrap();
            let size = shape[axis as usize] / blocks as usize;
            for (number, block) in fused.axis_chunks_iter(Axis(axis as usize), size).enumerate() {
                let key = if blocks == 1 { KEY } else { KEY.block(number as u64) };
                let mut alone = ArrayD::<f32>::zeros(block.raw_dim());
                plain.fill(alone.view_mut(), key, &Options::default()).unwrap();
                assert!(block == alone, "block {number} of {blocks} in {shape:?}, {threads} threads");
            }
        }
    }
    assert_eq!(Key::new(1).with_stream(7).block(3), Key::new(1).with_name("7[3]"));
}

#[test]
fn wrong_shapes_and_interrupts_of_matrices_are_errors() {
    let window = Window::whole(&[4, 6]).unwrap();
    let mut wrong = ArrayD::<f32>::ones(IxDyn(&[6, 4]));
    let out = fill::as_uninit(wrong.view_mut());
    let error = orthogonal(out, &window, 1, 1.0, &Options::default()).unwrap_err();
    assert_eq!(error, Error::OutputShape { shape: vec![6, 4], expected: vec![4, 6] });
    assert!(wrong.iter().all(|&x| x == 1.0), "something was written");

    let stop = || true;
    for (shape, blocks) in [([300, 300], 1), ([600, 30], 20)] {
        let initializer = Initializer::from(Orthogonal::default()).in_blocks(blocks, Some(0));
        for threads in [1, 3] {
            let options =
                Options { interrupt: Some(&stop), threads: NonZeroUsize::new(threads), ..Options::default() };
            let mut out = ArrayD::<f32>::zeros(IxDyn(&shape));
            assert_eq!(initializer.fill(out.view_mut(), KEY, &options), Err(Error::Interrupted));
        }
    }
}

#[test]
fn matrices_too_large_for_memory_are_errors() {
    let stop = || true;
    for shape in [[1 << 54, 100], [100, 1 << 54], [1 << 42, 1 << 20]] {
        for threads in [1, 3] {
            let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
            let element = |shape: &[u64], place: u64| {
                let window = Window::new(shape, &[place, place], &[1, 1]).unwrap();
                let mut out = ArrayD::<f64>::zeros(IxDyn(&[1, 1]));
                let options = Options { interrupt: Some(&stop), ..options };
                orthogonal(fill::as_uninit(out.view_mut()), &window, 1, 1.0, &options)
            };
            let result = element(&shape, 90);
            assert!(matches!(result, Err(Error::Memory { .. })), "{shape:?}: {result:?}");
            // A matrix of at most 64 columns needs none.
            assert_eq!(element(&[1 << 54, 64], 63), Err(Error::Interrupted));
        }
    }
}
