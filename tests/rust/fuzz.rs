//! The properties of `properties.rs`, with the inputs that are kept in `tests/data/fuzz` and with random ones.
//! `make fuzz` looks for others.

use super::common::SplitMix;
use super::properties::{plans, windows};
use std::fs;
use std::path::Path;

fn run(name: &str, property: fn(&[u8]), random_inputs: usize) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name);
    let mut files: Vec<_> = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        property(&fs::read(file).unwrap());
    }
    let mut random = SplitMix(1);
    for _ in 0..random_inputs {
        let input: Vec<u8> = (0..8 + random.below(90)).map(|_| random.next() as u8).collect();
        println!("{input:?}");
        property(&input);
    }
}

#[test]
fn any_window_equals_that_part_of_the_whole() {
    run("windows", windows, 3000);
}

#[test]
fn any_plan_is_refused_or_filled() {
    run("plans", plans, 20_000);
}
