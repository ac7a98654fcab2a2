//! The value of an element does not depend on where it is stored or which part of the tensor is filled.

use super::common::{
    KEY, SplitMix, assert_same, at, bits_of, filled, levels, part_of_the_largest, sample_bits,
};
use crate::distr::Distribution;
use crate::fill::{self, Options};
use crate::shape::{MAX_ELEMENTS, Window};
use crate::{Bf16, Element, F16, Level};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

const DISTRIBUTION: Distribution = Distribution::Normal { mean: 0.0, stddev: 1.0 };

/// The whole tensor, from the scalar level, as a plain array.
fn whole<T: Element>(shape: &[usize]) -> ArrayD<T> {
    let length = shape.iter().product();
    let elements = filled(length, |out| {
        fill::sample(out, &part_of_the_largest(0, length), KEY, &DISTRIBUTION, &at(Level::Scalar))
    });
    ArrayD::from_shape_vec(IxDyn(shape), elements).unwrap()
}

/// A view of `memory` with the shape `extent`, whose axes are in random order in memory, some of them
/// reversed or with gaps.
fn random_layout<'a, T>(
    random: &mut SplitMix,
    memory: &'a mut Vec<MaybeUninit<T>>,
    extent: &[usize],
) -> ArrayViewMutD<'a, MaybeUninit<T>> {
    let ndim = extent.len();
    let mut order: Vec<usize> = (0..ndim).collect();
    if random.below(2) == 0 {
        (1..ndim).for_each(|i| order.swap(i, random.below(i + 1)));
    }
    // In memory the axes are in this order, each extended by a gap and a step.
    let (steps, gaps): (Vec<_>, Vec<_>) = order
        .iter()
        .map(|_| if random.below(2) == 0 { (1, 0) } else { (1 + random.below(3), random.below(3)) })
        .unzip();
    let sizes: Vec<usize> = (0..ndim).map(|i| extent[order[i]] * steps[i] + gaps[i]).collect();
    memory.resize_with(sizes.iter().product(), MaybeUninit::uninit);
    let mut view = ArrayViewMutD::from_shape(IxDyn(&sizes), memory).unwrap();
    for i in 0..ndim {
        let end = (gaps[i] + extent[order[i]] * steps[i]) as isize;
        view.slice_axis_inplace(Axis(i), Slice::new(gaps[i] as isize, Some(end), steps[i] as isize));
        if random.below(3) == 0 {
            view.invert_axis(Axis(i));
        }
    }
    let mut back = vec![0; ndim];
    (0..ndim).for_each(|i| back[order[i]] = i);
    view.permuted_axes(IxDyn(&back))
}

/// A window at a random position, written in a random layout, equals that part of the whole.
fn parts_equal_those_of_the_whole<T: Element>() {
    let wholes = [vec![100_003], vec![257, 391], vec![31, 5, 211], vec![3, 1, 70, 6, 17]]
        .map(|shape| whole::<T>(&shape));
    for &level in levels() {
        let mut random = SplitMix(7);
        for turn in 0..300 {
            let whole = &wholes[turn % wholes.len()];
            let shape: Vec<u64> = whole.shape().iter().map(|&n| n as u64).collect();
            let mut part: ArrayViewD<'_, T> = whole.view();
            let (mut start, mut extent) = (vec![], vec![]);
            for (i, &size) in whole.shape().iter().enumerate() {
                let first = if random.below(3) == 0 { 0 } else { random.below(size + 1) };
                let last = if random.below(3) == 0 { size } else { first + random.below(size - first + 1) };
                part.slice_axis_inplace(Axis(i), Slice::from(first..last));
                start.push(first as u64);
                extent.push(last - first);
            }
            let window = Window::new(&shape, &start, &extent).unwrap();
            let threads = NonZeroUsize::new(1 + random.below(3));
            let mut memory = Vec::new();
            let mut out = random_layout(&mut random, &mut memory, &extent);
            let strides = out.strides().to_vec();
            fill::sample(out.view_mut(), &window, KEY, &DISTRIBUTION, &Options { threads, ..at(level) })
                .unwrap();
            for (got, expected) in out.iter().zip(&part) {
                // SAFETY: the fill has written every element of the view.
                let got: T = unsafe { got.assume_init() };
                assert_eq!(
                    got.to_bits(),
                    expected.to_bits(),
                    "{level:?} {} {window:?} with strides {strides:?}",
                    T::DTYPE
                );
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

/// A window of a matrix whose columns are at `distance` in memory and whose rows follow each other, or the other
/// way around, equals that part of the whole. The memory between is not written.
fn matrix_equals_the_whole<T: Element>(level: Level, first: [u64; 2], extent: [usize; 2], padding: usize) {
    const COLUMNS: u64 = 1 << 20;
    let window = Window::new(&[MAX_ELEMENTS / COLUMNS, COLUMNS], &first, &extent).unwrap();
    let untouched = T::from_f64(-7.0);
    for transposed in [false, true] {
        for reversed in [false, true] {
            let (outer, inner) = (usize::from(transposed), usize::from(!transposed));
            let mut memory = ArrayD::from_elem(IxDyn(&[extent[outer], extent[inner] + padding]), untouched);
            let mut out = memory.slice_axis_mut(Axis(1), Slice::from(padding..)).into_dyn();
            if transposed {
                out = out.reversed_axes();
            }
            if reversed {
                out.invert_axis(Axis(outer));
            }
            fill::sample(fill::as_uninit(out.view_mut()), &window, KEY, &DISTRIBUTION, &at(level)).unwrap();
            for (row, got) in out.outer_iter().enumerate() {
                let first = (first[0] + row as u64) * COLUMNS + first[1];
                let expected = sample_bits::<T>(first, extent[1], &DISTRIBUTION, &at(Level::Scalar));
                let got: Vec<T> = got.iter().copied().collect();
                let what = format!("{level:?} {} row {row} of {window:?}, {transposed} {reversed}", T::DTYPE);
                assert_same(&bits_of(&got), &expected, what);
            }
            let gap = memory.slice_axis(Axis(1), Slice::from(..padding));
            assert!(gap.iter().all(|x| x.to_bits() == untouched.to_bits()), "{level:?}: a gap was written");
        }
    }
}

fn matrices_equal_the_whole<T: Element>() {
    for &level in levels() {
        // Fewer rows or columns than a register has elements, as many, and one more; long and short lines.
        for extent in
            [[1, 40], [40, 1], [3, 100], [100, 3], [7, 9], [8, 8], [9, 16], [17, 33], [300, 2], [2, 2600]]
        {
            for first in [[0, 0], [5, 3], [6, 4]] {
                for padding in [0, 5, 16] {
                    matrix_equals_the_whole::<T>(level, first, extent, padding);
                }
            }
        }
        // Tiles that are not whole, across and along.
        matrix_equals_the_whole::<T>(level, [1, 1], [150, 130], 3);
        // The upper halves of the numbers of the blocks differ.
        let row = (1 << 32) * 4 / (1 << 20);
        matrix_equals_the_whole::<T>(level, [row - 3, 2], [6, 5], 1);
        matrix_equals_the_whole::<T>(level, [row / 2 - 3, 2], [6, 5], 1);
        matrix_equals_the_whole::<T>(level, [row - 1, (1 << 20) - 3], [2, 3], 1);
    }
}

#[test]
fn small_windows_of_a_large_matrix_equal_the_whole() {
    matrices_equal_the_whole::<f32>();
    matrices_equal_the_whole::<f64>();
    matrices_equal_the_whole::<F16>();
    matrices_equal_the_whole::<Bf16>();
}

/// Axes in every order, all of whose lines are short.
#[test]
fn permuted_axes_equal_the_whole() {
    for shape in [[6, 5, 3, 3], [40, 3, 7, 7], [2, 70, 2, 2], [33, 17, 1, 5]] {
        let whole = whole::<f32>(&shape);
        for order in (0..256).map(|n| [n % 4, n / 4 % 4, n / 16 % 4, n / 64]) {
            let mut sorted = order;
            sorted.sort_unstable();
            if sorted != [0, 1, 2, 3] {
                continue;
            }
            let mut memory = ArrayD::<f32>::zeros(IxDyn(&order.map(|axis| shape[axis])));
            let mut back = [0; 4];
            (0..4).for_each(|i| back[order[i]] = i);
            let mut out = memory.view_mut().permuted_axes(IxDyn(&back));
            let window = Window::whole(&shape).unwrap();
            for &level in levels() {
                out.fill(0.0);
                fill::sample(fill::as_uninit(out.view_mut()), &window, KEY, &DISTRIBUTION, &at(level))
                    .unwrap();
                assert!(out == whole, "{level:?} {shape:?} in the order {order:?}");
            }
        }
    }
}

#[test]
fn constants_fill_any_layout_and_no_gaps() {
    let mut random = SplitMix(11);
    for turn in 0..200 {
        let extent = [[90, 70, 1], [3, 2, 1500], [700, 3, 2], [5, 6, 7]][turn % 4];
        for &level in levels() {
            let mut memory = vec![MaybeUninit::new(1.0_f32); 64 * extent.iter().product::<usize>() + 4096];
            let mut out = random_layout(&mut random, &mut memory, &extent);
            let what = format!("{level:?} {extent:?} with strides {:?}", out.strides());
            fill::constant(out.view_mut(), 2.0_f32, &at(level)).unwrap();
            // SAFETY: all of the memory was initialized when it was made.
            assert!(out.iter().all(|x| unsafe { x.assume_init() } == 2.0), "{what}");
            // SAFETY: as above.
            let written = memory.iter().filter(|x| unsafe { x.assume_init() } == 2.0).count();
            assert_eq!(written, extent.iter().product::<usize>(), "{what}");
        }
    }
}

/// Only the elements of the view are written.
#[test]
fn gaps_are_not_written() {
    for &level in levels() {
        for stride in [2, 3, 5] {
            let mut memory = vec![-7.0_f32; 3000];
            let mut view = ndarray::ArrayViewMut1::from(&mut memory[..]);
            view.slice_axis_inplace(Axis(0), Slice::new(10, Some(2990), stride));
            let window = Window::whole(&[view.len()]).unwrap();
            let out = fill::as_uninit(view.into_dyn());
            fill::sample(out, &window, KEY, &DISTRIBUTION, &at(level)).unwrap();
            for (i, &x) in memory.iter().enumerate() {
                let inside = (10..2990).contains(&i) && (i - 10) % stride as usize == 0;
                assert_eq!(x != -7.0, inside, "{level:?} stride {stride}: place {i}");
            }
        }
    }
}

/// Large strided and transposed outputs, split between threads.
#[test]
fn large_strided_fills_are_the_same_on_any_number_of_threads() {
    let (rows, columns) = (1100, 1300);
    let whole = whole::<f32>(&[rows, columns]);
    for &level in levels() {
        for threads in [1, 2, 3, 7] {
            let mut out = ArrayD::<f32>::zeros(IxDyn(&[columns, rows]));
            let mut view = out.view_mut().reversed_axes();
            view.invert_axis(Axis(0));
            let options = Options { threads: NonZeroUsize::new(threads), ..at(level) };
            let window = Window::whole(&[rows, columns]).unwrap();
            fill::sample(fill::as_uninit(view), &window, KEY, &DISTRIBUTION, &options).unwrap();
            let mut view = out.view().reversed_axes();
            view.invert_axis(Axis(0));
            assert!(view == whole, "{level:?}, {threads} threads");
        }
    }
}

#[test]
fn wrong_shapes_and_interrupts_of_fills_are_errors() {
    let window = Window::whole(&[4, 6]).unwrap();
    let mut wrong = ArrayD::<f32>::ones(IxDyn(&[6, 4]));
    let out = fill::as_uninit(wrong.view_mut());
    let error = fill::sample(out, &window, KEY, &DISTRIBUTION, &Options::default()).unwrap_err();
    assert_eq!(error, crate::Error::OutputShape { shape: vec![6, 4], expected: vec![4, 6] });
    assert!(wrong.iter().all(|&x| x == 1.0), "something was written");

    let stop = || true;
    let options = Options { interrupt: Some(&stop), ..Options::default() };
    let mut long = ArrayD::<f32>::zeros(IxDyn(&[1 << 22]));
    let window = Window::whole(&[1 << 22]).unwrap();
    let out = fill::as_uninit(long.view_mut());
    let result = fill::sample(out, &window, KEY, &DISTRIBUTION, &options);
    assert_eq!(result, Err(crate::Error::Interrupted));
}
