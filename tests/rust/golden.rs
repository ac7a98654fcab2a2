//! Golden values: they freeze the sample space of version [`crate::STREAM_VERSION`].
//!
//! A change in any bit of `tests/data/golden.txt` is a change of that version. After such a change, and only
//! then:
//!
//! ```text
//! cargo test -- --ignored write_golden
//! ```

use super::common::{KEY, at, bits_of, distributions_about, filled, levels, orthogonal};
use crate::distr::Distribution;
use crate::fill::{self, Options};
use crate::shape::Window;
use crate::{Bf16, Element, F16, Level, STREAM_VERSION};
use blake2::{Blake2b, Digest, digest::consts::U8};
use std::fmt::Write;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden.txt");

/// All matrices except the orthogonal ones have this many rows and columns.
const SIDE: usize = 256;

/// The shapes of the orthogonal matrices: square, tall, wide, and wider than a panel.
const ORTHOGONAL: [[usize; 2]; 4] = [[3, 3], [5, 2], [2, 5], [70, 66]];

/// The entry of a matrix: its first eight elements, and a hash of all.
fn digest(elements: &[u64], size: usize) -> String {
    let first: Vec<String> =
        elements[..8].iter().map(|x| format!("{x:0width$x}", width = 2 * size)).collect();
    let mut hash = Blake2b::<U8>::new();
    elements.iter().for_each(|x| hash.update(&x.to_le_bytes()[..size]));
    format!("{} {:016x}", first.join(","), u64::from_be_bytes(hash.finalize().into()))
}

fn distribution_line<T: Element>(distribution: &Distribution, options: &Options<'_>) -> String {
    let window = Window::whole(&[SIDE * SIDE]).unwrap();
    let elements = filled::<T>(SIDE * SIDE, |out| fill::sample(out, &window, KEY, distribution, options));
    let name = match *distribution {
        Distribution::Uniform { low, high } => format!("random_uniform {low:?},{high:?}"),
        Distribution::Normal { mean, stddev } => format!("random_normal {mean:?},{stddev:?}"),
        Distribution::TruncatedNormal { mean, stddev, lower, upper } => {
            format!("truncated_normal {mean:?},{stddev:?},{lower:?},{upper:?}")
        }
    };
    format!("{name} {} {}", T::DTYPE, digest(&bits_of(&elements), size_of::<T>()))
}

fn sparse_line<T: Element>(sparsity: f64, stddev: f64, options: &Options<'_>) -> String {
    let window = Window::whole(&[SIDE, SIDE]).unwrap();
    let zeros = (sparsity * SIDE as f64).ceil() as u64;
    let elements = filled::<T>(SIDE * SIDE, |out| {
        let out = out.into_shape_with_order(vec![SIDE, SIDE]).unwrap();
        fill::sparse(out, &window, KEY, stddev, zeros, options)
    });
    format!("sparse {sparsity:?},{stddev:?} {} {}", T::DTYPE, digest(&bits_of(&elements), size_of::<T>()))
}

fn orthogonal_line<T: Element>(shape: [usize; 2], options: &Options<'_>) -> String {
    let [rows, columns] = shape;
    let window = Window::whole(&shape).unwrap();
    let elements = filled::<T>(rows * columns, |out| {
        let out = out.into_shape_with_order(shape.to_vec()).unwrap();
        orthogonal(out, &window, 1, 1.0, options)
    });
    format!("orthogonal {rows}x{columns} {} {}", T::DTYPE, digest(&bits_of(&elements), size_of::<T>()))
}

fn lines_of<T: Element>(options: &Options<'_>) -> Vec<String> {
    let distributions = distributions_about(0.125, 0.75);
    let mut lines: Vec<String> = distributions.iter().map(|d| distribution_line::<T>(d, options)).collect();
    lines.push(sparse_line::<T>(0.3, 0.01, options));
    lines.extend(ORTHOGONAL.map(|shape| orthogonal_line::<T>(shape, options)));
    lines
}

fn golden(level: Level) -> String {
    let options = at(level);
    let window = Window::whole(&[SIDE * SIDE]).unwrap();
    let words = filled(SIDE * SIDE, |out| fill::bits_u32(out, &window, KEY, &options));
    let words: Vec<u64> = words.into_iter().map(u64::from).collect();
    let doubled = filled(SIDE * SIDE, |out| fill::bits_u64(out, &window, KEY, &options));

    let mut text = String::new();
    writeln!(
        text,
        "# Golden values of stream version {STREAM_VERSION}, seed {:#x}, stream {:#x}.",
        KEY.seed, KEY.stream
    )
    .unwrap();
    writeln!(
        text,
        "# Of {SIDE} x {SIDE} elements: function, parameters, dtype, the bits of the first eight in"
    )
    .unwrap();
    writeln!(
        text,
        "# hexadecimal, and the BLAKE2b of all in little-endian order, with a digest of eight bytes."
    )
    .unwrap();
    writeln!(text, "# Orthogonal matrices have the shape that stands for parameters.").unwrap();
    writeln!(text, "random_bits - uint32 {}", digest(&words, 4)).unwrap();
    writeln!(text, "random_bits - uint64 {}", digest(&doubled, 8)).unwrap();
    let of_dtypes = [
        lines_of::<f32>(&options),
        lines_of::<f64>(&options),
        lines_of::<F16>(&options),
        lines_of::<Bf16>(&options),
    ];
    for line in of_dtypes.iter().flatten() {
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn golden_values_are_the_same_on_every_level() {
    let expected = std::fs::read_to_string(PATH).unwrap();
    for &level in levels() {
        let got = golden(level);
        assert_eq!(got.lines().count(), expected.lines().count());
        for (got, expected) in got.lines().zip(expected.lines()) {
            assert_eq!(got, expected, "{level:?}");
        }
    }
}

#[test]
#[ignore = "overwrites the golden values"]
fn write_golden() {
    std::fs::write(PATH, golden(Level::Scalar)).unwrap();
}
