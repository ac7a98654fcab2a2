//! Each block has the bits of a separate tensor, in any window, layout and format, on any number of threads.

use super::common::{KEY, SplitMix, assert_same, bits_of};
use crate::distr::Distribution;
use crate::fill::Options;
use crate::init::{Initializer, Orthogonal, VarianceScaling};
use crate::shape::{Blocks, Window};
use crate::{Bf16, Element, Error, F16};
use ndarray::{ArrayD, Axis, IxDyn, Slice};
use std::cell::Cell;
use std::num::NonZeroUsize;

const ROWS: usize = 143;

/// Uneven blocks, some of them empty, that begin at odd elements.
const SIZES: [usize; 9] = [0, 1, 70, 0, 3, 64, 0, 5, 0];

fn initializers() -> Vec<Initializer> {
    vec![
        Initializer::Constant(0.3),
        Initializer::Identity { gain: 0.7 },
        Distribution::Uniform { low: 1.0, high: 3.0 }.into(),
        Distribution::Normal { mean: 0.0, stddev: 1.0 }.into(),
        VarianceScaling::he_normal().into(),
        Initializer::Sparse { sparsity: 0.4, stddev: 1.0 },
        Orthogonal::default().gain(1.5).into(),
        Orthogonal::default().column_axis(0).into(),
    ]
}

fn bits<T: Element>(array: &ArrayD<T>) -> Vec<u64> {
    bits_of(&array.iter().copied().collect::<Vec<_>>())
}

/// A tensor whose blocks are filled one by one.
fn separate<T: Element>(initializer: &Initializer, axis: Axis) -> ArrayD<T> {
    let mut shape = [ROWS; 2];
    let mut all = ArrayD::<T>::default(IxDyn(&shape));
    let mut begin = 0;
    for (number, size) in SIZES.into_iter().enumerate() {
        shape[axis.index()] = size;
        let mut block = ArrayD::<T>::default(IxDyn(&shape));
        initializer.fill(block.view_mut(), KEY.block(number as u64), &Options::default()).unwrap();
        all.slice_axis_mut(axis, Slice::from(begin..begin + size)).assign(&block);
        begin += size;
    }
    all
}

fn blocks_equal_separate_tensors<T: Element>() {
    let mut random = SplitMix(5);
    for initializer in initializers() {
        for axis in [Axis(0), Axis(1)] {
            let expected = separate::<T>(&initializer, axis);
            let sizes = SIZES.map(|size| size as u64).to_vec();
            let blocks = initializer.clone().in_blocks(sizes, Some(axis.index() as i64));
            let plan = blocks.plan(&[ROWS as u64; 2], T::DTYPE).unwrap();
            for turn in 0..12 {
                let (mut start, mut extent) = ([0_u64; 2], [ROWS; 2]);
                let mut part = expected.view();
                for i in 0..2 * usize::from(turn > 0) {
                    let (a, b) = (random.below(ROWS + 1), random.below(ROWS + 1));
                    (start[i], extent[i]) = (a.min(b) as u64, a.abs_diff(b));
                    part.slice_axis_inplace(Axis(i), Slice::from(a.min(b)..a.max(b)));
                }
                let window = Window::new(plan.shape(), &start, &extent).unwrap();
                let mut memory = ArrayD::<T>::default(IxDyn(&[extent[1], extent[0]]));
                let mut out = memory.view_mut().reversed_axes();
                if turn % 2 == 1 {
                    out.invert_axis(Axis(0));
                }
                let threads = NonZeroUsize::new(1 + random.below(3));
                plan.fill(out.view_mut(), KEY, &window, &Options { threads, ..Options::default() }).unwrap();
                let what = format!("{initializer:?} {} along {axis:?}, {window:?}", T::DTYPE);
                assert_same(&bits(&out.to_owned()), &bits(&part.to_owned()), what);
            }
        }
    }
}

#[test]
fn blocks_equal_separate_tensors_in_every_format() {
    blocks_equal_separate_tensors::<f32>();
    blocks_equal_separate_tensors::<f64>();
    blocks_equal_separate_tensors::<F16>();
    blocks_equal_separate_tensors::<Bf16>();
}

#[test]
fn large_blocks_are_the_same_on_any_number_of_threads() {
    // One block is filled by all threads, the others by one each.
    let normal = Initializer::from(Distribution::Normal { mean: 0.0, stddev: 1.0 });
    for sizes in [vec![1_300_000, 1, 77], vec![300_001; 4]] {
        let length: u64 = sizes.iter().sum();
        let blocks = normal.clone().in_blocks(sizes, None);
        let filled = |threads| {
            let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
            let mut out = ArrayD::<f32>::zeros(IxDyn(&[length as usize]));
            blocks.fill(out.view_mut(), KEY, &options).unwrap();
            out
        };
        assert!(filled(1) == filled(3));
    }
}

#[test]
fn a_window_takes_only_the_blocks_that_it_touches() {
    let normal = Initializer::from(Distribution::Normal { mean: 0.0, stddev: 1.0 });
    let plan = normal.clone().in_blocks(1 << 40, Some(0)).plan(&[1 << 41, 8], f32::DTYPE).unwrap();
    let window = Window::new(plan.shape(), &[(1 << 41) - 3, 0], &[3, 8]).unwrap();
    let mut out = ArrayD::<f32>::zeros(IxDyn(&[3, 8]));
    plan.fill(out.view_mut(), KEY, &window, &Options::default()).unwrap();
    for (rows, skipped, number) in [(0..1, 1, (1 << 40) - 2), (1..3, 0, (1 << 40) - 1)] {
        let mut block = ArrayD::<f32>::zeros(IxDyn(&[2, 8]));
        normal.fill(block.view_mut(), KEY.block(number), &Options::default()).unwrap();
        assert_eq!(
            out.slice_axis(Axis(0), Slice::from(rows)),
            block.slice_axis(Axis(0), Slice::from(skipped..))
        );
    }
}

#[test]
fn tensors_without_elements_have_blocks() {
    let huge = 1 << 40;
    for initializer in initializers() {
        for (shape, blocks, axis) in [
            ([0, 6], Blocks::Equal(3), 0),
            ([0, 6], Blocks::Equal(3), 1),
            ([0, 6], Blocks::Sizes(vec![0, 0]), 0),
            ([6, 0], Blocks::Sizes(vec![1, 5]), 0),
            ([huge, 0], Blocks::Equal(huge as u64), 0),
        ] {
            let mut out = ArrayD::<f32>::zeros(IxDyn(&shape));
            let blocks = initializer.clone().in_blocks(blocks, Some(axis));
            blocks.fill(out.view_mut(), KEY, &Options::default()).unwrap();
            let plan = blocks.plan(&shape.map(|size| size as u64), f32::DTYPE).unwrap();
            assert_eq!(plan.contents().map(|(elements, _)| elements).sum::<u64>(), 0);
        }
    }
}

#[test]
fn memory_for_all_blocks_is_allocated_before_the_first_write() {
    for threads in [1, 3] {
        let sizes = vec![1, 1 << 56];
        let plan = Initializer::from(Orthogonal::default()).in_blocks(sizes, Some(1));
        let plan = plan.plan(&[100, (1 << 56) + 1], f64::DTYPE).unwrap();
        let window = Window::new(plan.shape(), &[0, 0], &[100, 2]).unwrap();
        let mut out = ArrayD::<f64>::ones(IxDyn(&[100, 2]));
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let result = plan.fill(out.view_mut(), KEY, &window, &options);
        assert!(matches!(result, Err(Error::Memory { .. })), "{result:?}");
        assert!(out.iter().all(|&x| x == 1.0), "something was written");
    }
}

#[test]
fn fills_of_many_small_blocks_can_be_interrupted() {
    let normal = Initializer::from(Distribution::Normal { mean: 0.0, stddev: 1.0 });
    for (blocks, size) in [(100_000, 8), (500, 4096)] {
        for threads in [1, 3] {
            let calls = Cell::new(0);
            let interrupt = || {
                calls.set(calls.get() + 1);
                calls.get() > 2
            };
            let options = Options {
                interrupt: Some(&interrupt),
                threads: NonZeroUsize::new(threads),
                ..Options::default()
            };
            let mut out = ArrayD::<f32>::zeros(IxDyn(&[blocks * size]));
            let initializer = normal.clone().in_blocks(blocks as u64, None);
            assert_eq!(initializer.fill(out.view_mut(), KEY, &options), Err(Error::Interrupted));
        }
    }
}
