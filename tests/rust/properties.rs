//! Properties that hold for every input. An input is any bytes, from which the choices of a case are read.
//!
//! `tests/rust/fuzz.rs` runs them with kept inputs and with random ones, `fuzz/` with those that libFuzzer
//! finds. So only the public interface is used here.

use crate::{
    Blocks, Contents, Distribution, Dtype, Element, Error, FanMode, Initializer, KernelAxes, Key, Level,
    Options, Orthogonal, Plan, ScaledDistribution, VarianceScaling, Window,
};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};
use std::num::NonZeroUsize;

/// The choices of a case. Where the bytes end, all that follow are zero.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// From 0 to `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        if end <= 256 { self.byte() as usize % end } else { self.word() as usize % end }
    }

    /// Any number, or one near a power of two.
    fn word(&mut self) -> u64 {
        let shift = self.byte() % 128;
        if shift < 64 {
            return (1_u64 << shift).wrapping_add(self.byte() as u64).wrapping_sub(2);
        }
        u64::from_le_bytes(std::array::from_fn(|_| self.byte())) >> (shift - 64)
    }

    /// A number below `end` that is often 0, often `end - 1`, or near one of them.
    fn within(&mut self, end: u64) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => end - 1,
            2 => self.byte() as u64 % end,
            _ => self.word() % end,
        }
    }

    fn real(&mut self) -> f64 {
        const REALS: [f64; 12] = [
            1.0,
            0.0,
            -2.0,
            0.02,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            1e-40,
            6e4,
            3e38,
            1e308,
            f64::MIN_POSITIVE,
        ];
        match self.below(16) {
            i if i < REALS.len() => REALS[i],
            12 => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
            _ => (self.byte() as i8) as f64 / 16.0,
        }
    }

    fn key(&mut self) -> Key {
        Key::new(self.word()).with_stream(self.word())
    }

    fn options(&mut self) -> Options<'static> {
        let levels = Level::available();
        let threads = NonZeroUsize::MIN.saturating_add(self.below(4));
        Options::default().level(levels[self.below(levels.len())]).threads(threads)
    }

    fn dtype(&mut self) -> Dtype {
        [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16][self.below(4)]
    }

    fn axes(&mut self) -> Vec<i64> {
        (0..self.below(3)).map(|_| self.below(8) as i64 - 4).collect()
    }

    /// Parameters that are often valid.
    fn distribution(&mut self) -> Distribution {
        const BOUNDS: [f64; 8] = [-2.0, 2.0, -1.0, 3.0, f64::INFINITY, f64::NEG_INFINITY, 5.0, 0.0];
        match self.below(6) {
            0 => Distribution::Uniform { low: self.real(), high: self.real() },
            1 => Distribution::Uniform { low: -1.0, high: 1.0 },
            2 => Distribution::Normal { mean: 0.0, stddev: 1.0 },
            3 => Distribution::Normal { mean: self.real(), stddev: self.real() },
            4 => Distribution::TruncatedNormal {
                mean: 0.0,
                stddev: 1.0,
                lower: BOUNDS[self.below(8)],
                upper: BOUNDS[self.below(8)],
            },
            _ => Distribution::TruncatedNormal {
                mean: self.real(),
                stddev: self.real(),
                lower: self.real(),
                upper: self.real(),
            },
        }
    }

    /// An initializer, with the least and the most axes that suit it.
    fn initializer(&mut self) -> (Initializer, usize, usize) {
        match self.below(9) {
            0 => (self.distribution().into(), 0, 6),
            1 => (Initializer::Constant(self.real()), 0, 6),
            2 => (Initializer::Identity { gain: self.real() }, 2, 2),
            3 => (Initializer::Dirac { groups: self.below(5) as u64 }, 3, 5),
            4 => (Initializer::DeltaOrthogonal { gain: 1.0 }, 3, 5),
            5 => {
                let orthogonal =
                    Orthogonal::default().gain(self.real()).column_axis(self.below(6) as i64 - 3);
                (orthogonal.into(), 2, 4)
            }
            6 => (Initializer::Sparse { sparsity: self.below(10) as f64 / 8.0, stddev: 0.1 }, 2, 2),
            7 => (VarianceScaling::he_normal().into(), 2, 5),
            _ => {
                let mode = [FanMode::FanIn, FanMode::FanOut, FanMode::FanAvg, FanMode::FanGeoAvg];
                let distribution = [
                    ScaledDistribution::TruncatedNormal,
                    ScaledDistribution::UntruncatedNormal,
                    ScaledDistribution::Uniform,
                ];
                let axes = KernelAxes::default().in_axis(self.axes()).out_axis(self.axes());
                let axes = axes.batch_axis(self.axes()).groups(self.below(4) as u64);
                let (mode, distribution) = (mode[self.below(4)], distribution[self.below(3)]);
                (VarianceScaling::new(self.real(), mode, distribution).axes(axes).into(), 0, 5)
            }
        }
    }

    /// The same in blocks along an axis, of a tensor of this shape.
    fn in_blocks(&mut self, initializer: Initializer, shape: &[u64]) -> Initializer {
        let axis = self.below(6);
        let size = shape.get(axis).copied().unwrap_or(1);
        let blocks = match self.below(8) {
            0 => Blocks::Equal(1 + self.within(size.max(1))),
            1 => {
                let mut left = size;
                let mut sizes: Vec<u64> = (0..self.below(6))
                    .map(|_| {
                        let size = self.within(left.saturating_add(1).max(1));
                        left -= size.min(left);
                        size
                    })
                    .collect();
                sizes.push(left);
                Blocks::Sizes(sizes)
            }
            2 => Blocks::Equal(self.word()),
            3 => Blocks::Sizes((0..self.below(6)).map(|_| self.word()).collect()),
            _ => return initializer,
        };
        initializer.in_blocks(blocks, (self.below(4) > 0).then_some(axis as i64))
    }
}

/// The part of the planned tensor that a window names, in the plainest layout.
fn plain<T: Element>(plan: &Plan, key: Key, window: &Window, options: &Options<'_>) -> Option<ArrayD<T>> {
    let mut out = ArrayD::from_elem(IxDyn(window.extent()), T::default());
    match plan.fill(out.view_mut(), key, window, options) {
        Ok(()) => Some(out),
        Err(Error::Memory { .. } | Error::MemoryLimit { .. }) => None,
        Err(error) => panic!("{error}, for a plan of shape {:?} and {window:?}", plan.shape()),
    }
}

fn assert_equal<T: Element>(got: &ArrayViewD<'_, T>, expected: &ArrayViewD<'_, T>, what: &str) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(got.to_bits() == expected.to_bits(), "{what}: element {i} is {got:?} and not {expected:?}");
    }
}

/// Calls a property for the element type that the input chooses.
macro_rules! in_a_dtype {
    ($property:ident, $data:expr) => {{
        let mut choices = Choices($data);
        match choices.dtype() {
            Dtype::F32 => $property::<f32>(choices),
            Dtype::F64 => $property::<f64>(choices),
            Dtype::F16 => $property::<crate::F16>(choices),
            _ => $property::<crate::Bf16>(choices),
        }
    }};
}

/// Any window of any small tensor, at any level, on any number of threads and in any layout, equals that part of
/// the whole tensor from the scalar level, and nothing beside it is written.
pub fn windows(data: &[u8]) {
    in_a_dtype!(a_window, data)
}

fn a_window<T: Element>(mut choices: Choices<'_>) {
    let (initializer, least, most) = choices.initializer();
    // Orthogonal matrices take longer, and only large outputs of the others are split between threads.
    let plain_samples = matches!(initializer, Initializer::Random(_) | Initializer::Constant(_));
    let mut left = if plain_samples && choices.byte() >= 254 { 1 << 20 } else { 1 << 12 };
    let mut shape = vec![];
    for _ in 0..least + choices.below(most - least + 1) {
        shape.push(choices.below(left.min(256) + 1) as u64);
        left /= (*shape.last().unwrap() as usize).max(1);
    }
    if let Some(last) = shape.last_mut().filter(|_| left >= 256) {
        *last *= 1 + choices.below(left) as u64;
    }
    let initializer = choices.in_blocks(initializer, &shape);
    let Ok(plan) = initializer.plan(&shape, T::DTYPE) else { return };
    let key = choices.key();
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    let one = Options::default().level(Level::Scalar).threads(NonZeroUsize::MIN);
    let whole = plain::<T>(&plan, key, &Window::whole(&sizes).unwrap(), &one);
    let Some(whole) = whole else { return };

    let mut expected = whole.view();
    let (mut start, mut extent) = (vec![], vec![]);
    for (axis, &size) in sizes.iter().enumerate() {
        let from = choices.within(size as u64 + 1) as usize;
        let length = (size - from).saturating_sub(choices.within((size - from) as u64 + 1) as usize);
        expected.slice_axis_inplace(Axis(axis), Slice::from(from..from + length));
        start.push(from as u64);
        extent.push(length);
    }
    let window = Window::new(&shape, &start, &extent).unwrap();
    let options = choices.options();

    // Memory with room on both sides.
    const ROOM: usize = 80;
    let beside = T::from_f64(-7.25);
    let Layout { order, steps, gaps, sizes, reversed } = Layout::new(&mut choices, &extent);
    let offset = choices.below(ROOM);
    let length = sizes.iter().product::<usize>();
    let mut memory = vec![beside; length + ROOM];
    let mut out = ArrayViewMutD::from_shape(IxDyn(&sizes), &mut memory[offset..offset + length]).unwrap();
    for i in 0..extent.len() {
        let end = gaps[i] + extent[order[i]] * steps[i];
        out.slice_axis_inplace(Axis(i), Slice::new(gaps[i] as isize, Some(end as isize), steps[i] as isize));
        if reversed[i] {
            out.invert_axis(Axis(i));
        }
    }
    let mut back = vec![0; order.len()];
    (0..order.len()).for_each(|i| back[order[i]] = i);
    let mut out = out.permuted_axes(IxDyn(&back));
    let what = format!("{initializer:?} {} {window:?} {options:?} strides {:?}", T::DTYPE, out.strides());
    plan.fill(out.view_mut(), key, &window, &options).unwrap();
    assert_equal(&out.view(), &expected, &what);
    out.fill(beside);
    assert!(memory.iter().all(|x| x.to_bits() == beside.to_bits()), "{what}: something beside was written");
}

/// A view in memory: the axes in this order, with steps and gaps, some of them reversed.
struct Layout {
    order: Vec<usize>,
    steps: Vec<usize>,
    gaps: Vec<usize>,
    sizes: Vec<usize>,
    reversed: Vec<bool>,
}

impl Layout {
    fn new(choices: &mut Choices<'_>, extent: &[usize]) -> Layout {
        let mut order: Vec<usize> = (0..extent.len()).collect();
        let (mut steps, mut gaps) = (vec![1; extent.len()], vec![0; extent.len()]);
        let mut reversed = vec![false; extent.len()];
        let kind = choices.byte();
        if kind & 1 != 0 {
            (1..extent.len()).for_each(|i| order.swap(i, choices.below(i + 1)));
        }
        for i in 0..extent.len() {
            if kind & 2 != 0 {
                (steps[i], gaps[i]) = (1 + choices.below(3), choices.below(3));
            }
            reversed[i] = kind & 4 != 0 && choices.byte() & 1 != 0;
        }
        let sizes = (0..extent.len()).map(|i| extent[order[i]] * steps[i] + gaps[i]).collect();
        Layout { order, steps, gaps, sizes, reversed }
    }
}

/// Any shape, axes, blocks, parameters and window are refused with an error or filled. What is filled does not
/// depend on the level, and a part of a part equals the part. An element of a tensor of samples is the one with
/// its number in a tensor of one axis.
pub fn plans(data: &[u8]) {
    in_a_dtype!(a_plan, data)
}

fn a_plan<T: Element>(mut choices: Choices<'_>) {
    let (initializer, least, most) = choices.initializer();
    let ndim = match choices.below(16) {
        0 => choices.below(40),
        _ => least + choices.below(most - least + 1),
    };
    let shape: Vec<u64> = (0..ndim)
        .map(|_| if choices.below(4) == 0 { choices.word() } else { choices.byte() as u64 })
        .collect();
    let initializer = choices.in_blocks(initializer, &shape);
    // What `validate` refuses, a plan refuses too.
    let valid = initializer.validate();
    let planned = initializer.plan(&shape, T::DTYPE);
    if let Err(error) = valid.as_ref().and(planned.as_ref().map(|_| &())) {
        assert!(!error.to_string().is_empty());
    }
    assert!(valid.is_ok() || planned.is_err(), "{initializer:?} of {shape:?} is not valid, but has a plan");
    let (start, extent) = part(&mut choices, &shape);
    let key = choices.key();
    let options = choices.options();
    if choices.below(16) == 0 {
        // Anything at all; only the window is made.
        let start: Vec<u64> = (0..choices.below(5)).map(|_| choices.word()).collect();
        let extent: Vec<usize> = (0..choices.below(5)).map(|_| choices.word() as usize).collect();
        if let Ok(window) = Window::new(&shape, &start, &extent) {
            assert!(window.len() as u64 <= window.logical_len());
        }
    }
    let (Ok(plan), Ok(window)) = (planned, Window::new(&shape, &start, &extent)) else { return };
    let size = plan.contents().fold(0_u64, |total, (elements, _)| total.saturating_add(elements));
    assert!(size <= plan.elements(), "more elements in blocks than in the tensor");
    if !is_quick(&plan, &window) {
        return;
    }
    let Some(got) = plain::<T>(&plan, key, &window, &options) else { return };
    let what = format!("{initializer:?} {} {window:?} {options:?}", T::DTYPE);
    let scalar = plain::<T>(&plan, key, &window, &Options::default().level(Level::Scalar)).unwrap();
    assert_equal(&got.view(), &scalar.view(), &what);

    // A part of the part.
    let sizes: Vec<u64> = extent.iter().map(|&size| size as u64).collect();
    let (inner, inside) = part(&mut choices, &sizes);
    let first: Vec<u64> = start.iter().zip(&inner).map(|(a, b)| a + b).collect();
    let mut expected = got.view();
    for axis in 0..ndim {
        let from = inner[axis] as usize;
        expected.slice_axis_inplace(Axis(axis), Slice::from(from..from + inside[axis]));
    }
    let part = Window::new(&shape, &first, &inside).unwrap();
    let filled = plain::<T>(&plan, key, &part, &options).unwrap();
    assert_equal(&filled.view(), &expected, &format!("{what}, of which {part:?}"));

    // One element by its number.
    let mut contents = plan.contents();
    if let (Some((all, Contents::Random(distribution))), false, None) =
        (contents.next(), matches!(initializer, Initializer::Blocks { .. }), contents.next())
        && let Some((index, &element)) = filled.indexed_iter().last()
    {
        let number =
            (0..ndim).fold(0, |number, axis| number * shape[axis] + first[axis] + index[axis] as u64);
        let row = Initializer::from(distribution).plan(&[all], T::DTYPE).unwrap();
        let one = plain::<T>(&row, key, &Window::new(&[all], &[number], &[1]).unwrap(), &options).unwrap();
        assert_eq!(one[[0]].to_bits(), element.to_bits(), "{what}: element number {number}");
    }
}

/// A small part of a tensor of this shape.
fn part(choices: &mut Choices<'_>, shape: &[u64]) -> (Vec<u64>, Vec<usize>) {
    let mut left = 2000;
    shape
        .iter()
        .map(|&size| {
            let start = choices.within(size.saturating_add(1));
            let extent = choices.below(left.min(100) + 1).min((size - start).min(2000) as usize);
            left /= extent.max(1);
            (start, extent)
        })
        .unzip()
}

/// Whether a fill takes little time. Parts of orthogonal and sparse matrices need more than their own elements.
fn is_quick(plan: &Plan, window: &Window) -> bool {
    plan.contents().all(|(_, contents)| match contents {
        Contents::Orthogonal { rows, columns, .. } => rows.saturating_mul(columns) < 1 << 13,
        Contents::DeltaOrthogonal { inputs, outputs, .. } => inputs.saturating_mul(outputs) < 1 << 13,
        Contents::Sparse { rows, .. } => rows.saturating_mul(window.extent()[1] as u64) < 1 << 16,
        _ => true,
    })
}
